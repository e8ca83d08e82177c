"""The nouns: what a user hands over (Plan, AgentSpec, and Task from `core.task`) and what the state keeps of it (Entry, Attempt,
Agent, Node).

Definitions are frozen; the records of the live state are mutable and are changed by `core.state` alone.
Times are wall-clock milliseconds since the epoch, durations are seconds, sizes are bytes, unless a field says otherwise.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from skep.core.confinement import Confinement
from skep.core.consensus import Poll
from skep.core.rules import Asking, ToolRule
from skep.core.task import PRIORITY_RANK as PRIORITY_RANK
from skep.core.task import Budget as Budget
from skep.core.task import Foreach as Foreach
from skep.core.task import Mode as Mode
from skep.core.task import Priority as Priority
from skep.core.task import Resources as Resources
from skep.core.task import Retries as Retries
from skep.core.task import Task as Task
from skep.core.task import Vote as Vote
from skep.core.terms import Command, MemoryGrant, Notify, Placement, Proposals, Service
from skep.core.topology import Shape

TaskState = Literal[
    "waiting",  # needs are not met
    "ready",  # may run, no agent or resource yet
    "running",  # an attempt is under way
    "expanded",  # its items, its candidates and their voters, or the resolution of its conflict are under way (shown as running)
    "merging",  # its commit waits for or is in the merge (shown as running)
    "needs-you",  # a person must say something
    "parked",  # waits for a time
    "done",
    "skipped",
    "failed",  # all attempts used up: a dead letter
    "gave-up",  # interrupted too often: a dead letter
    "cancelled",
    "replaced",  # the plan was changed, and this version of the task is no part of it
]
#: A task in one of these will not change unless a person asks for it.
TERMINAL: frozenset[str] = frozenset({"done", "skipped", "failed", "gave-up", "cancelled", "replaced"})

#: Why something did not succeed.
Cause = Literal[
    "",
    "exit",  # the command ended with another exit code than allowed
    "verify-failed",
    "no-changes",
    "protected",  # it changed a path that it must not change
    "timed-out",
    "limit",
    "login",  # its client is not logged in, or its provider refused the login
    "infrastructure",  # setup, disk, a lost process: not the agent's doing
    "denied",
    "wedged",
    "conflict",  # its commit does not merge
    "interrupted",  # stopped, or its owner or node died
    "needs",  # something it needs did not succeed
    "condition",  # its `if` is false
    "cancelled",
    "deadline",
    "rejected",  # a person, or a vote on a gate, said no
    "undecided",  # a vote came to no decision
    "replaced",  # the plan was changed
    "error",  # the runtime or the callable raised
]

Answer = Literal["approve", "reject", "rerun", "skip", "merge", "choose"]


class Credit(Resources, frozen=True, omit_defaults=True, gc=False):
    """What a session may have in use on a node at once: resources, and attempts (`slots`)."""

    slots: int = 0


class AgentSpec(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A kind of agent that a session may use; `count` of them may work at once, named `name-1`, `name-2`, ...

    Args:
        name: unique in the session.
        runtime: what carries it out (`shell`, `python`, later `claude`, `codex`, ...).
        type: an agent type (coder, tester, ...) that gives the fields left empty.
        capabilities: what it can do; empty = anything (the built-in shell and python).
        count: how many may work at once; 0 = as many as the session's limit.
        max_load: tasks one agent carries at a time.
        resources: placement weight and ceiling; reserved in full only with `strict`.
        reliability: prior of the success rate, 0 to 1.
        cost: relative price of a task, 0 = free.
        budget: what all attempts of this kind together may cost in a session.
        rules: what it may do, before those of the session.
        sandbox: how it is confined, on top of what the session says.
        memory: what it may remember and recall, in place of what the session says.
        options: what only the runtime knows (`with` in the workflow file).
    """

    name: str
    runtime: str
    type: str = ""
    model: str = ""
    capabilities: tuple[str, ...] = ()
    count: int = 1
    max_load: int = 1
    resources: Resources | None = None
    strict: bool = False
    reliability: float = 0.9
    cost: float = 0.0
    budget: Budget | None = None
    rules: tuple[ToolRule, ...] = ()
    sandbox: Confinement | None = None
    memory: MemoryGrant | None = None
    options: dict[str, Any] = field(default_factory=dict, name="with")


class Limits(Struct, frozen=True, omit_defaults=True, gc=False):
    """Bounds of a session; 0 = none, except for agents.

    Args:
        agents: at work at once; 0 = twice the cores.
        time: seconds of wall time in all.
        cost_usd: dollars in all.
        tokens: read and written, in all.
        reserve_usd: dollars that must be left for an attempt to begin; 0 = `budgets.RESERVE`.
        answer_within: seconds after which nobody's answer to what an agent asks is a no; 0 = `approvals.ANSWER_WITHIN`.
    """

    agents: int = 0
    time: float = 0.0
    cost_usd: float = 0.0
    tokens: int = 0
    reserve_usd: float = 0.0
    answer_within: float = 0.0


class Proposal(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Tasks that a task proposes, as they would be submitted. `fingerprint`: SHA-256 of the file: an approval is bound to it.
    `verify` (of a planner's plan only) judges every merge. `refused`: why it cannot be taken; then it has no tasks.
    """

    tasks: tuple[Task, ...] = ()
    fingerprint: str = ""
    verify: Command | None = None
    refused: str = ""

    @property
    def amount(self) -> int:
        """How many tasks it may become."""
        return sum(task.foreach.max_items if task.foreach is not None else 1 for task in self.tasks if not task.gate)


class Plan(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a workflow file says, checked and complete: what one session is opened with.

    Args:
        name: of the workflow; sessions are named `name-7`.
        inputs: the values the user gave, all text.
        verify: command that must succeed on the merged commit before the session's branch moves to it.
        setup: commands that prepare every worktree.
        rules: what agents may do; those of the configuration come last.
        sandbox: how its programs are confined.
        proposals: what its tasks may propose.
        source: the file it came from, absolute, or empty.
        fingerprint: SHA-256 of the file's bytes, hex.
        workspace: the folder it names to work in, or empty.
        topology: who may talk to whom.
        services: commands that run beside the tasks.
        elastic: whether nodes come and go: what none of them has now another may bring.
        memory: what agents may remember and recall where they do not say it; None = nobody said.
        rehearsal: whether stand-ins take the place of the agents; then nothing of it is ever brought to the user's branch.
    """

    name: str
    objective: str = ""
    inputs: dict[str, str] = {}
    limits: Limits = Limits()
    agents: tuple[AgentSpec, ...] = ()
    tasks: tuple[Task, ...] = ()
    verify: Command | None = None
    setup: tuple[Command, ...] = ()
    sandbox: Confinement | None = None
    notify: tuple[Notify, ...] = ()
    placement: Placement = Placement()
    rules: tuple[ToolRule, ...] = ()
    proposals: Proposals = Proposals()
    source: str = ""
    fingerprint: str = ""
    workspace: str = ""
    topology: Shape = Shape()
    services: tuple[Service, ...] = ()
    rehearsal: bool = False
    elastic: bool = False
    memory: MemoryGrant | None = None


class Output(Struct, frozen=True, omit_defaults=True, gc=False):
    """A file that an attempt left under $SKEP_OUT: its blob, its size, and the text itself if it is short."""

    digest: str
    size: int
    text: str | None = None


class Cost(Struct, omit_defaults=True, gc=False):
    """What was spent: tokens (`cached` came from a cache and are not in `input`), dollars as far as the price is known.

    `unpriced` counts the reports whose price nobody knew: then `usd` is too low, and every face says so. `estimated` is the part
    of `usd` that nobody reported: what was held for attempts that ended without telling their cost.
    """

    input: int = 0
    cached: int = 0
    output: int = 0
    usd: float = 0.0
    unpriced: int = 0
    estimated: float = 0.0

    @property
    def tokens(self) -> int:
        """Read and written."""
        return self.input + self.cached + self.output

    def add(self, more: Cost) -> None:
        """Adds it up."""
        self.input += more.input
        self.cached += more.cached
        self.output += more.output
        self.usd += more.usd
        self.unpriced += more.unpriced
        self.estimated += more.estimated


class Attempt(Struct, kw_only=True, omit_defaults=True, gc=False):
    """One try at a task, on one agent. `nonce` (32 hex digits) fences it: reports with another one are refused. `told`: the
    number of its last report of a cost. `owing`: it told tokens whose price it has not told yet. `since`: from when on its time
    counts (`core.clocks`), 0 = its clock stands.
    """

    n: int
    nonce: str
    agent: str
    node: str
    slot: int
    started: int
    stage: Literal["starting", "working", "verifying", "ending"] = "starting"
    base: str = ""
    pid: int = 0
    score: float = 0.0
    commit: str = ""
    ending: str = ""
    reserved: Resources | None = None
    locks: tuple[str, ...] = ()
    cost: Cost | None = None
    held: float = 0.0
    asks: dict[int, Asking] | None = None
    told: int = 0
    owing: bool = False
    since: int = 0


class Entry(Struct, kw_only=True, omit_defaults=True, gc=False):
    """A task as it stands. `attempt` stays until its processes are gone, even when the task is already decided.

    `spent` is the time in attempts that are over, ms; `worked` the part of it that counts against budgets (`core.clocks`).
    `confinement` says how its last process was confined. Lists are None while empty: there may be a hundred thousand of these.
    `unmet` counts needs that are not terminal; `fates` holds how needs ended that left for the archive, if not with done.
    `conversation` is the thread of a coding client that the last attempt worked in, `talker` the kind of agent whose client that
    is, `talking` whether the next attempt goes on in it. Of a task with candidates: `chosen` is the one whose work it has now,
    `refused` those that were chosen and did not do (with the reason), `poll` the last ballot, `polls` how many there were.
    `outdated`: something that it needs went round again since its last attempt began. `asked`: questions of its attempts.
    `proposal` is what it proposes and nobody has decided yet.
    `avoids`: kinds of agents whose provider refuses it for now, and until when. `refusals`: how often in a row, by kind.
    """

    task: Task
    seq: int
    submitted: int
    state: TaskState = "waiting"
    unmet: int = 0
    dependents: list[str] | None = None
    fates: dict[str, TaskState] | None = None
    children: tuple[str, ...] = ()
    open_children: int = 0
    attempts: int = 0
    failures: int = 0
    interruptions: int = 0
    conflicts: int = 0
    attempt: Attempt | None = None
    agent: str = ""
    until: int = 0
    question: str = ""
    since: int = 0
    cause: Cause = ""
    detail: str = ""
    feedback: str = ""
    approved: bool = False
    base: str = ""
    commit: str = ""
    wip: str = ""
    merged: str = ""
    outputs: dict[str, Output] | None = None
    result: Any = None
    exit_code: int | None = None
    started: int = 0
    ended: int = 0
    spent: int = 0
    worked: int = 0
    cost: Cost | None = None
    conversation: str = ""
    talker: str = ""
    talking: bool = False
    chosen: str = ""
    refused: dict[str, str] | None = None
    poll: Poll | None = None
    polls: int = 0
    outdated: bool = False
    asked: int = 0
    confinement: str = ""
    proposal: Proposal | None = None
    avoids: dict[str, int] | None = None
    refusals: dict[str, int] | None = None


class Agent(Struct, kw_only=True, omit_defaults=True):
    """One agent and how it has done: what placement looks at."""

    id: str
    spec: str
    node: str
    number: int
    max_load: int = 1
    load: int = 0
    done: int = 0
    failed: int = 0
    types: dict[str, list[int]] = {}
    cost: Cost | None = None
    held: float = 0.0


#: Why a node is lost that an operator told to leave.
LEFT = "it left"
#: The same of one that only worked for sessions of its own: no fleet counted on it.
GUEST = "whoever began it there is gone"


class Node(Struct, kw_only=True, omit_defaults=True):
    """A process that hosts agents. `boot` changes with every start of it; what ran under another boot is lost.

    `credit` is the part of it that this session may use, None = all of it. It may be less than what is in use: then nothing
    more is placed there until enough has returned. `gone`: when it was lost (ms); 0 = it is there, or nobody counted on it.
    """

    id: str
    boot: str
    capacity: Resources
    slots: int
    labels: dict[str, str] = {}
    used_cpu: float = 0.0
    used_memory: int = 0
    used_storage: int = 0
    used_slots: int = 0
    lost: bool = False
    credit: Credit | None = None
    gone: int = 0
