# tidy: long because the nouns of the core stand together, and most of it says what they mean
"""The nouns: what a user hands over (Plan, Task, AgentSpec) and what the state keeps of it (Entry, Attempt, Agent, Node).

Definitions are frozen; the records of the live state are mutable and are changed by `core.state` alone.
Times are wall-clock milliseconds since the epoch, durations are seconds, sizes are bytes, unless a field says otherwise.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from skep.core.confinement import Confinement
from skep.core.consensus import Poll, Rule
from skep.core.rules import Asking, ToolRule
from skep.core.terms import Command, Notify, Placement, Proposals
from skep.core.topology import Shape

Priority = Literal["low", "normal", "high", "critical"]
#: Higher runs first.
PRIORITY_RANK: dict[str, int] = {"low": 0, "normal": 1, "high": 2, "critical": 3}

Mode = Literal["isolated", "shared", "none"]

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
    "infrastructure",  # setup, disk, a lost process: not the agent's doing
    "denied",
    "wedged",
    "conflict",  # its commit does not merge
    "interrupted",  # stopped, or its owner or node died
    "needs",  # something it needs did not succeed
    "condition",  # its `if` is false
    "cancelled",
    "deadline",
    "rejected",  # a person said no
    "undecided",  # a vote came to no decision
    "replaced",  # the plan was changed
    "error",  # the runtime or the callable raised
]

Answer = Literal["approve", "reject", "rerun", "skip", "merge", "choose"]


class Retries(Struct, frozen=True, omit_defaults=True, gc=False):
    """How often a failed task is tried again. `max` = 2 means three attempts.

    Args:
        max: further attempts after the first.
        backoff: seconds before the second attempt; doubles each time, at most 300, and up to a quarter more by chance.
        feedback: whether the next attempt is told why the last one failed.
        start: from a fresh base, or from what the last attempt left.
    """

    max: int = 0
    backoff: float = 0.0
    feedback: bool = True
    start: Literal["fresh", "last"] = field(default="fresh", name="from")


class Resources(Struct, frozen=True, omit_defaults=True, gc=False):
    """What an attempt reserves on its node: cpu in cores, memory and storage in bytes."""

    cpu: float = 0.0
    memory: int = 0
    storage: int = 0


class Credit(Resources, frozen=True, omit_defaults=True, gc=False):
    """What a session may have in use on a node at once: resources, and attempts (`slots`)."""

    slots: int = 0


class Budget(Struct, frozen=True, omit_defaults=True, gc=False):
    """What may be spent: dollars, and tokens read and written; 0 = no bound."""

    usd: float = 0.0
    tokens: int = 0


class Foreach(Struct, frozen=True, omit_defaults=True, gc=False):
    """One task per item of a list that an earlier task made.

    Args:
        source: path of the list, such as `needs.plan.outputs.list`.
        key: field of an item that names its task; without it the item itself (a scalar) or its index.
        max_items: more items than this fail the task.
        max_parallel: items under way at once; 0 = no limit of its own.
        fail_fast: whether one failed item cancels the others.
    """

    source: str = field(name="in")
    key: str = ""
    max_items: int = 100
    max_parallel: int = 0
    fail_fast: bool = True


class Vote(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How the best of several candidates is chosen.

    Args:
        by: name of a declared agent; each of its `count` has one vote.
        rule: how the votes are counted (`core.consensus`).
        threshold: share of the electorate that wins; empty = the rule's own.
        weights: elector (`judge-2`) -> whole number, for the rule weighted; who is not named has 1.
        otherwise: what happens without a decision: ask a person, or the task fails.
        timeout: seconds until the ballot is counted as it stands; 0 = when everybody has voted.
    """

    by: str
    rule: Rule = "quorum"
    threshold: str = ""
    weights: dict[str, int] = {}
    otherwise: Literal["ask", "fail"] = "ask"
    timeout: float = 0.0


class Task(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One piece of work, as handed over. Exactly one of `run`, `call`, `prompt` says what to do.

    Args:
        id: unique in its session; empty = given at submission (`t1`, `t2`, ...).
        run: a command (see `Command`).
        call: a Python callable, `module:function`, with `args` as keyword arguments.
        prompt: text for an agent; `${{ a.b }}` is looked up when the attempt starts.
        objective: title for people.
        type: task type, for the statistics; inferred when empty.
        agent: name of a declared agent; empty = the best one that fits.
        priority: order among the waiting.
        needs: ids of tasks that come first.
        condition: the `if` expression (`core.conditions`); empty = success().
        foreach: makes one task per item.
        capabilities: what its agent must be able to do.
        constraints: labels that its node must carry, name -> value.
        resources: reserved on the node while an attempt runs.
        budget: what all its attempts together may cost.
        locks: names of which it is the only holder while it runs.
        deadline: wall-clock milliseconds after which it is not worth finishing; 0 = none.
        timeout: seconds an attempt may take; 0 = no limit.
        retries: how often it is tried again.
        exit_codes: exit codes of `run` that are a success.
        mode: own worktree, the session's worktree under a lock, or none; empty = isolated for run and prompt, none for call.
        setup: commands that prepare its worktree.
        env: environment variables, on top of the allow-list.
        secrets: names of secrets that reach this task only.
        verify: command that must succeed in a clean checkout of its commit.
        protect: glob patterns of paths that it must not change.
        outputs: name -> file below $SKEP_OUT, kept as artifacts.
        merge: whether its commit goes to the session's branch by itself, never, or after a yes.
        on_conflict: what happens if it does not merge: an agent resolves it, or it runs again, once; or a person is asked.
        approve: a person's yes before it starts or before its result counts.
        recovery: after a crash with unknown outcome, run again or ask.
        item: the item, for a task made by a foreach.
        parent: the task that made it, of which it is an item, a candidate, a voter or the resolution of its conflict.
        options: what only its runtime knows.
        metadata: carried along, never interpreted.
        inferred: field -> from what it was inferred.
        candidates: agents that each carry it out apart from the others, empty names = the best that fits; one result is merged.
        vote: how that one is chosen; None = the first that is done, in the order of `candidates`.
        seat: the number of the agent that must have it; 0 = any of its kind.
        ballot: the ballot in which it is a vote.
        resolves: the commit that does not merge, for the task that resolves the conflict.
        plans: whether it is a planner's: it must leave a plan, and a person is always asked about that.
        generation: proposals that lie between it and what a person wrote.
    """

    id: str = ""
    run: Command | None = None
    call: str | None = None
    args: dict[str, Any] = {}
    prompt: str | None = None
    objective: str = ""
    type: str = ""
    complexity: Literal["", "low", "medium", "high"] = ""
    agent: str = ""
    priority: Priority = "normal"
    needs: tuple[str, ...] = ()
    condition: str = field(default="", name="if")
    foreach: Foreach | None = None
    capabilities: tuple[str, ...] = ()
    constraints: dict[str, str] = {}
    resources: Resources | None = None
    budget: Budget | None = None
    locks: tuple[str, ...] = ()
    deadline: int = 0
    timeout: float = 0.0
    retries: Retries | int = 0
    exit_codes: tuple[int, ...] = (0,)
    mode: Mode | Literal[""] = ""
    setup: tuple[Command, ...] = ()
    env: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    verify: Command | None = None
    protect: tuple[str, ...] = ()
    outputs: dict[str, str] = {}
    merge: Literal["auto", "never", "ask"] = "auto"
    on_conflict: Literal["task", "rerun", "ask"] = "rerun"
    approve: Literal["", "before", "after"] = ""
    recovery: Literal["rerun", "ask"] = "rerun"
    item: Any = None
    parent: str = ""
    options: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    inferred: dict[str, str] = {}
    candidates: tuple[str, ...] = ()
    vote: Vote | None = None
    seat: int = 0
    ballot: str = ""
    resolves: str = ""
    plans: bool = False
    generation: int = 0


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
        return sum(task.foreach.max_items if task.foreach is not None else 1 for task in self.tasks)


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
    """One try at a task, on one agent. `nonce` (32 hex digits) fences it: reports with another one are refused."""

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


class Entry(Struct, kw_only=True, omit_defaults=True, gc=False):
    """A task as it stands. `attempt` stays until its processes are gone, even when the task is already decided.

    `spent` is the time in attempts that are over, ms. `confinement` says how its last process was confined. Lists are None while
    empty: there may be a hundred thousand of these.
    `unmet` counts needs that are not terminal; `fates` holds how needs ended that left for the archive, if not with done.
    `conversation` is the thread of a coding client that the last attempt worked in, `talker` the kind of agent whose client that
    is, `talking` whether the next attempt goes on in it. Of a task with candidates: `chosen` is the one whose work it has now,
    `refused` those that were chosen and did not do (with the reason), `poll` the last ballot, `polls` how many there were.
    `outdated`: something that it needs went round again since its last attempt began. `asked`: questions of its attempts.
    `proposal` is what it proposes and nobody has decided yet.
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


class Node(Struct, kw_only=True, omit_defaults=True):
    """A process that hosts agents. `boot` changes with every start of it; what ran under another boot is lost.

    `credit` is the part of it that this session may use, None = all of it. It may be less than what is in use: then nothing
    more is placed there until enough has returned.
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
