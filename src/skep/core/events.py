"""What has happened: the only thing that changes a state, and the public event names.

Events are what a session's log holds. They are only ever added to: a new field goes last and has a default; a new meaning is a
new event; `store.codec` carries the format's version. `at` is wall-clock milliseconds, stamped by the input that caused it.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from skep.core.consensus import Ballot, Result
from skep.core.envelope import MessageDelivered as MessageDelivered
from skep.core.envelope import MessageExpired as MessageExpired
from skep.core.envelope import MessageSent as MessageSent
from skep.core.fleet import FleetEvent
from skep.core.intent import MergeIntent
from skep.core.leave import ApprovalAnswered as ApprovalAnswered
from skep.core.leave import ApprovalAsked as ApprovalAsked
from skep.core.leave import ApprovalUsed as ApprovalUsed
from skep.core.model import AgentSpec, Answer, Cause, Cost, Credit, Output, Plan, Proposal, Resources, Task, TaskState
from skep.core.phase import PhaseEnded as PhaseEnded
from skep.core.phase import PhaseOpened as PhaseOpened
from skep.core.senders import LettersTaken as LettersTaken

Outcome = Literal["ok", "failed", "interrupted", "cancelled"]


class SessionOpened(Struct, frozen=True, array_like=True, gc=False, tag="session.opened"):
    """A session begins. `base` is the commit it starts from, `kind` how its workspace is kept (git, git:<folder>, copy, none).

    `left_out`: files of the user's that are not committed and so not part of it.
    """

    at: int
    session: str
    plan: Plan
    base: str = ""
    kind: str = "none"
    branch: str = ""
    forked_from: str = ""
    by: str = ""
    left_out: int = 0


class SessionBased(Struct, frozen=True, array_like=True, gc=False, tag="session.based"):
    """The session's branch begins here: its first task that works in a worktree has come.

    `left_out`: files of the user's that are not committed and so not part of it.
    """

    at: int
    base: str
    kind: str
    branch: str = ""
    left_out: int = 0


class SessionForked(Struct, frozen=True, array_like=True, gc=False, tag="session.forked"):
    """This log continues as another session: attempts and approvals of the old one are void."""

    at: int
    session: str
    origin: str
    seq: int
    by: str = ""


class SessionPaused(Struct, frozen=True, array_like=True, gc=False, tag="session.paused"):
    """Nothing new starts. With `stop` what runs is interrupted, its work kept."""

    at: int
    stop: bool = False
    why: str = ""
    by: str = ""


class SessionResumed(Struct, frozen=True, array_like=True, gc=False, tag="session.resumed"):
    """Work goes on."""

    at: int
    by: str = ""


class SessionClosed(Struct, frozen=True, array_like=True, gc=False, tag="session.closed"):
    """The session has ended for good; its log stays readable."""

    at: int
    by: str = ""


class SessionLanded(Struct, frozen=True, array_like=True, gc=False, tag="session.landed"):
    """The session's work, up to `tip`, was brought to a branch of the user's, as `commit`."""

    at: int
    branch: str
    commit: str
    tip: str
    by: str = ""


class SessionMarked(Struct, frozen=True, array_like=True, gc=False, tag="session.checkpointed"):
    """A checkpoint: a name for this point of the log."""

    at: int
    name: str
    tip: str = ""
    by: str = ""


class PlanChanged(Struct, frozen=True, array_like=True, gc=False, tag="session.plan-changed"):
    """The session goes on with another version of its file (`resume --file`), or its name or limits changed."""

    at: int
    plan: Plan
    by: str = ""


class AgentsDeclared(Struct, frozen=True, array_like=True, gc=False, tag="agents.declared"):
    """These kinds of agents may work here."""

    at: int
    specs: tuple[AgentSpec, ...]


class NodeJoined(Struct, frozen=True, array_like=True, gc=False, tag="node.joined"):
    """A node hosts agents from now on. Attempts on it under another `boot` are lost."""

    at: int
    node: str
    boot: str
    capacity: Resources
    slots: int
    labels: dict[str, str] = field(default_factory=dict)


class NodeGranted(Struct, frozen=True, array_like=True, gc=False, tag="node.granted"):
    """The part of a node that this session may use changed; null is all of it. Other sessions use the rest."""

    at: int
    node: str
    credit: Credit | None


class NodeLost(Struct, frozen=True, array_like=True, gc=False, tag="node.lost"):
    """A node does not answer; its attempts are void."""

    at: int
    node: str
    why: str = ""


class TasksSubmitted(Struct, frozen=True, array_like=True, gc=False, tag="tasks.submitted"):
    """Tasks were accepted, in this order. The same `key` again is the same submission."""

    at: int
    tasks: tuple[Task, ...]
    key: str = ""
    by: str = ""
    fates: dict[str, TaskState] | None = None


class TaskExpanded(Struct, frozen=True, array_like=True, gc=False, tag="task.expanded"):
    """A foreach became one task per item, or a task with candidates one per candidate."""

    at: int
    task: str
    children: tuple[Task, ...]


class TaskReady(Struct, frozen=True, array_like=True, gc=False, tag="task.ready"):
    """A task may run: its `if` holds, or its time has come."""

    at: int
    task: str


class TaskAssigned(Struct, frozen=True, array_like=True, gc=False, tag="task.assigned"):
    """An attempt begins: the agent, its node and slot, the commit it starts from, the score that chose it,
    the dollars held for it."""

    at: int
    task: str
    n: int
    nonce: str
    agent: str
    node: str
    slot: int
    score: float
    base: str = ""
    reserved: Resources | None = None
    held: float = 0.0


class AttemptSpawned(Struct, frozen=True, array_like=True, gc=False, tag="attempt.spawned"):
    """The attempt's process exists and is about to be let go: pid and start time (clock ticks since boot) name it.

    `confinement` says how it is confined; nothing in logs of before that was recorded.
    """

    at: int
    task: str
    n: int
    pid: int
    born: int
    confinement: str = ""


class AttemptSpoke(Struct, frozen=True, array_like=True, gc=False, tag="attempt.spoke"):
    """The attempt works in this thread of its client's own; a later one can go on in it."""

    at: int
    task: str
    n: int
    conversation: str


class AttemptSpent(Struct, frozen=True, array_like=True, gc=False, tag="attempt.spent"):
    """The attempt has cost so much since its last such report. `number` is that of the report, 0 for what nobody reported.
    `owing`: these are tokens, and what they cost is told later.
    """

    at: int
    task: str
    n: int
    cost: Cost
    model: str = ""
    number: int = 0
    owing: bool = False


class TaskInquired(Struct, frozen=True, array_like=True, gc=False, tag="task.inquired"):
    """The agent of a task answered a question after its end, which has cost so much. The task stays as it is."""

    at: int
    task: str
    cost: Cost
    model: str = ""
    by: str = ""


class AttemptWorked(Struct, frozen=True, array_like=True, gc=False, tag="attempt.worked"):
    """The agent ended well and its commit is there; now it is verified."""

    at: int
    task: str
    n: int
    commit: str
    result: Any = None
    exit_code: int | None = None
    outputs: dict[str, Output] | None = None


class AttemptEnded(Struct, frozen=True, array_like=True, gc=False, tag="attempt.ended"):
    """How it ended, and its task's `then`. `gone` = no process of it is left. `until`: it is parked, or kept from that kind."""

    at: int
    task: str
    n: int
    outcome: Outcome
    then: TaskState
    gone: bool = True
    cause: Cause = ""
    detail: str = ""
    result: Any = None
    exit_code: int | None = None
    commit: str = ""
    outputs: dict[str, Output] | None = None
    until: int = 0
    question: str = ""
    feedback: str = ""
    counted: bool = True


class AttemptEnding(Struct, frozen=True, array_like=True, gc=False, tag="attempt.ending"):
    """An attempt must end before its time (cancelled, stopped, lost); what it holds returns when its processes are gone."""

    at: int
    task: str
    n: int
    why: str


class AttemptGone(Struct, frozen=True, array_like=True, gc=False, tag="attempt.gone"):
    """The last process of a decided attempt is gone: cpu, memory, slot and locks return. `wip` is a commit with what it left."""

    at: int
    task: str
    n: int
    wip: str = ""


class TaskClosed(Struct, frozen=True, array_like=True, gc=False, tag="task.closed"):
    """A task ends without an attempt of its own deciding it: cancelled, skipped, deadline, all items of a foreach known."""

    at: int
    task: str
    state: TaskState
    cause: Cause = ""
    detail: str = ""
    by: str = ""


class TaskAsked(Struct, frozen=True, array_like=True, gc=False, tag="task.needs-you"):
    """A task waits for a person."""

    at: int
    task: str
    question: str
    detail: str = ""


class TaskAnswered(Struct, frozen=True, array_like=True, gc=False, tag="task.answered"):
    """A person answered what the task asked; `then` is the state that follows."""

    at: int
    task: str
    answer: Answer
    then: TaskState
    comment: str = ""
    by: str = ""


class TaskRetried(Struct, frozen=True, array_like=True, gc=False, tag="task.retried"):
    """A person sends a task round again (dead letter, rejected result, other agent); its attempts count afresh."""

    at: int
    task: str
    comment: str = ""
    agent: str = ""
    by: str = ""


class BallotOpened(Struct, frozen=True, array_like=True, gc=False, tag="ballot.opened"):
    """The candidates of a task are voted on: the electorate is fixed. `options` says which candidate is behind each option.

    `voters`: one task per elector, in their order. `until`: when it is counted as it stands (ms), 0 = when all have voted.
    """

    at: int
    task: str
    ballot: Ballot
    options: dict[str, str]
    voters: tuple[Task, ...]
    until: int = 0


class VoteCast(Struct, frozen=True, array_like=True, gc=False, tag="vote.cast"):
    """An elector has voted, once; an empty choice is an abstention. `reason`: its own words, or why it counts as abstained."""

    at: int
    task: str
    ballot: str
    elector: str
    choice: str = ""
    reason: str = ""


class BallotClosed(Struct, frozen=True, array_like=True, gc=False, tag="ballot.closed"):
    """A ballot was counted."""

    at: int
    task: str
    result: Result


class CandidateChosen(Struct, frozen=True, array_like=True, gc=False, tag="candidate.chosen"):
    """A candidate's work is the task's work from now on; `then` is the state that follows for the task."""

    at: int
    task: str
    candidate: str
    then: TaskState
    question: str = ""
    why: str = ""
    by: str = ""


class CandidateRefused(Struct, frozen=True, array_like=True, gc=False, tag="candidate.refused"):
    """A person did not accept the chosen candidate; the next one is looked for."""

    at: int
    task: str
    candidate: str
    why: str = ""
    by: str = ""


class TaskProposed(Struct, frozen=True, array_like=True, gc=False, tag="task.proposed"):
    """An attempt proposes further tasks. They start only when the proposal is accepted; with `refused` it never is."""

    at: int
    task: str
    n: int
    proposal: Proposal
    refused: str = ""


class ProposalAccepted(Struct, frozen=True, array_like=True, gc=False, tag="proposal.accepted"):
    """What the task proposes belongs to the session from here on: approved by a person, or by the session's rule (`by` empty)."""

    at: int
    task: str
    fingerprint: str
    by: str = ""


class MergeStarted(Struct, frozen=True, array_like=True, gc=False, tag="merge.started"):
    """The intent, before anything is built: these tasks, one on the other. They stay in the queue until an event names them."""

    at: int
    intent: MergeIntent


class Merged(Struct, frozen=True, array_like=True, gc=False, tag="task.merged"):
    """The session's branch holds `commit`; the task is done. `detail` is for people. What was stacked upon it waits as before."""

    at: int
    task: str
    commit: str
    detail: str = ""


class MergeFailed(Struct, frozen=True, array_like=True, gc=False, tag="merge.failed"):
    """The task's commit was not merged. What was stacked upon it waits as before. `resolver` resolves the conflict."""

    at: int
    task: str
    cause: Cause
    detail: str
    then: TaskState
    question: str = ""
    feedback: str = ""
    until: int = 0
    resolver: Task | None = None


class ConflictResolved(Struct, frozen=True, array_like=True, gc=False, tag="conflict.resolved"):
    """The commit of the task `resolver` takes the place of the one that did not merge; `then` is the state that follows."""

    at: int
    task: str
    resolver: str
    then: TaskState
    question: str = ""


Event = (
    SessionOpened
    | SessionBased
    | SessionForked
    | SessionPaused
    | SessionResumed
    | SessionClosed
    | SessionLanded
    | SessionMarked
    | PlanChanged
    | AgentsDeclared
    | NodeJoined
    | NodeGranted
    | NodeLost
    | LettersTaken
    | TasksSubmitted
    | TaskExpanded
    | TaskReady
    | TaskAssigned
    | AttemptSpawned
    | AttemptSpoke
    | AttemptSpent
    | TaskInquired
    | ApprovalAsked
    | ApprovalAnswered
    | ApprovalUsed
    | AttemptWorked
    | AttemptEnded
    | AttemptEnding
    | AttemptGone
    | TaskClosed
    | TaskAsked
    | TaskAnswered
    | TaskRetried
    | BallotOpened
    | VoteCast
    | BallotClosed
    | CandidateChosen
    | CandidateRefused
    | MessageSent
    | MessageDelivered
    | MessageExpired
    | TaskProposed
    | ProposalAccepted
    | MergeStarted
    | Merged
    | MergeFailed
    | ConflictResolved
    | PhaseOpened
    | PhaseEnded
    | FleetEvent
)
