"""What the messages on public channels carry: ids, numbers, states and digests. No prompts, commands, answers or outputs."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from skep.core.consensus import Rule
from skep.core.model import Answer, Cause, Priority, TaskState
from skep.core.phase import PhaseState

Stage = Literal["starting", "working", "verifying", "ending", "idle"]
Status = Literal["initializing", "active", "paused", "completed", "failed", "closed"]


class SwarmStatus(Struct, frozen=True, kw_only=True):
    """A session began, paused, went on or was closed."""

    status: Status


class SwarmForked(Struct, frozen=True, kw_only=True):
    """The session began as a copy of another one, up to that one's event `sequence`."""

    origin: str
    sequence: int


class PlanChanged(Struct, frozen=True, kw_only=True):
    """The session goes on with another version of its file, of which `fingerprint` is the SHA-256."""

    fingerprint: str


class Checkpoint(Struct, frozen=True, kw_only=True):
    """A name for this point of the session. `commit`: of its branch."""

    name: str
    commit: str


class WorkLanded(Struct, frozen=True, kw_only=True):
    """The session's work was brought to the user's branch as `commit`."""

    commit: str


class MergeStarted(Struct, frozen=True, kw_only=True):
    """So many tasks are being merged together onto the commit `base`."""

    base: str
    tasks: int


class TaskExpanded(Struct, frozen=True, kw_only=True):
    """A task became `count` others: its items or its candidates. Each is told of by `task_submitted`."""

    task: str
    count: int


class TaskSubmitted(Struct, frozen=True, kw_only=True):
    """A task was accepted. `objective`: SHA-256 of its title for people. `deadline`: wall-clock ms, 0 = none."""

    task: str
    type: str
    objective: str
    priority: Priority
    deadline: int
    needs: int
    phase: str
    parent: str


class TaskReady(Struct, frozen=True, kw_only=True):
    """A task may run: its condition holds, its time has come, or a person sent it round again."""

    task: str


class TaskAssignment(Struct, frozen=True, kw_only=True):
    """An attempt at a task begins. `objective`: SHA-256 of the task's title. `deadline`: wall-clock ms, 0 = none."""

    task: str
    type: str
    objective: str
    priority: Priority
    deadline: int
    attempt: int
    agent: str
    node: str
    score: float


class TaskStatus(Struct, frozen=True, kw_only=True):
    """A task came into a state. `attempt`: the one that did it, 0 = none."""

    task: str
    state: TaskState
    attempt: int = 0
    cause: Cause = ""
    until: int = 0


class TaskAnswered(Struct, frozen=True, kw_only=True):
    """A person answered what a task asked; `state` follows."""

    task: str
    answer: Answer
    state: TaskState


class TaskResult(Struct, frozen=True, kw_only=True):
    """An attempt is over, or a task ended. `state` is the task's.

    `commit`: what it made. `result`: SHA-256 of its result as JSON, empty if there is none. `outputs`: name -> digest of a blob.
    """

    task: str
    state: TaskState
    attempt: int = 0
    outcome: Literal["", "ok", "failed", "interrupted", "cancelled"] = ""
    cause: Cause = ""
    exit_code: int | None = None
    commit: str = ""
    result: str = ""
    outputs: dict[str, str] = {}


class ProposalMade(Struct, frozen=True, kw_only=True):
    """A task proposes `count` further tasks; `fingerprint` is the SHA-256 of the proposal."""

    task: str
    fingerprint: str
    count: int
    refused: bool


class ProposalAccepted(Struct, frozen=True, kw_only=True):
    """What a task proposed belongs to the session from here on."""

    task: str
    fingerprint: str


class ApprovalAsked(Struct, frozen=True, kw_only=True):
    """An attempt wants to use a tool: question `number` of its task. `digest`: of the tool and its arguments.

    `verdict` of a rule; empty: a person is asked, until wall-clock ms `until`.
    """

    task: str
    attempt: int
    number: int
    tool: str
    digest: str
    until: int
    verdict: Literal["", "yes", "no"]


class ApprovalAnswered(Struct, frozen=True, kw_only=True):
    """The answer to such a question that counts."""

    task: str
    attempt: int
    number: int
    allowed: bool


class ApprovalUsed(Struct, frozen=True, kw_only=True):
    """An attempt is about to do what was allowed, once."""

    task: str
    attempt: int
    number: int
    digest: str


class AgentKind(Struct, frozen=True, kw_only=True):
    """A kind of agent may work in the session; `count` at once, 0 = as many as the session's limit."""

    kind: str
    type: str
    runtime: str
    model: str
    capabilities: tuple[str, ...]
    count: int


class AgentStatus(Struct, frozen=True, kw_only=True):
    """What an agent does now, for which attempt. `agent` is empty where a later attempt is under way already."""

    agent: str
    task: str
    attempt: int
    stage: Stage


class MessageSent(Struct, frozen=True, kw_only=True):
    """Agents talk, or a person does: the message `id`, its own type, and the SHA-256 of its payload as JSON."""

    id: str
    type: str
    digest: str


class MessageGone(Struct, frozen=True, kw_only=True):
    """A message was delivered, or dropped undelivered as its time to live was over."""

    id: str


class BallotOpened(Struct, frozen=True, kw_only=True):
    """The candidates of a task are voted on. `until`: wall-clock ms when it is counted as it stands, 0 = when all have voted."""

    task: str
    ballot: str
    rule: Rule
    electors: int
    options: tuple[str, ...]
    until: int


class VoteCast(Struct, frozen=True, kw_only=True):
    """An elector voted; an empty choice is an abstention."""

    task: str
    ballot: str
    elector: str
    choice: str


class BallotClosed(Struct, frozen=True, kw_only=True):
    """A ballot was counted: votes and weights by option, and the share of `total` that was asked for."""

    task: str
    ballot: str
    reached: bool
    choice: str
    counts: dict[str, int]
    weights: dict[str, int]
    threshold: str
    total: int


class CandidateChosen(Struct, frozen=True, kw_only=True):
    """The work of a candidate is the task's from now on."""

    task: str
    candidate: str


class CandidateRefused(Struct, frozen=True, kw_only=True):
    """A person did not accept the chosen candidate."""

    task: str
    candidate: str


class Spent(Struct, frozen=True, kw_only=True):
    """What an attempt cost since its last such report (0: a question after its end): tokens, dollars as far as known."""

    task: str
    attempt: int
    model: str
    input: int
    cached: int
    output: int
    usd: float


class FleetFormed(Struct, frozen=True, kw_only=True):
    """A fleet is this from here on. `swarms`: name -> slots."""

    fleet: str
    swarms: dict[str, int]


class FleetRemoved(Struct, frozen=True, kw_only=True):
    """There is no such fleet any more."""

    fleet: str


class FleetRouted(Struct, frozen=True, kw_only=True):
    """A task of a fleet goes to a swarm. `key`: SHA-256 of the submission's key. `queued`: there is no free slot."""

    fleet: str
    key: str
    swarm: str
    session: str
    score: float
    queued: bool


class FleetHanded(Struct, frozen=True, kw_only=True):
    """The swarm's session has the task, under this id, or does not take it (`refused`)."""

    fleet: str
    key: str
    task: str
    refused: bool


class NodeJoined(Struct, frozen=True, kw_only=True):
    """A node carries out attempts of the session from now on. `memory`, `storage`: bytes."""

    node: str
    cpu: float
    memory: int
    storage: int
    slots: int


class NodeGranted(Struct, frozen=True, kw_only=True):
    """How many attempts at once the session may have on a node; null: as many as the node has slots."""

    node: str
    slots: int | None


class NodeLost(Struct, frozen=True, kw_only=True):
    """A node does not answer; its attempts are void and go to others."""

    node: str


class PhaseStatus(Struct, frozen=True, kw_only=True):
    """A phase opened, or ended."""

    phase: str
    state: PhaseState
