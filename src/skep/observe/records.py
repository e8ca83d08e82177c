"""The values of the readable keys, JSON all of them. `sequence` is the number of the event at which the value stands."""

from __future__ import annotations

from msgspec import Struct

from skep.core.model import Cause, Cost, Priority, TaskState
from skep.observe.payloads import Status


class Counts(Struct, frozen=True, kw_only=True):
    """Tasks of a session: all that there ever were, those that are not finished, and the finished by their state."""

    total: int
    open: int
    finished: dict[str, int]


class Crew(Struct, frozen=True, kw_only=True):
    """Agents of a session, and attempts that are under way."""

    total: int
    busy: int


class Stamp(Struct, frozen=True, kw_only=True):
    """When a session began and when its last event was, wall-clock ms; `version` of these records."""

    created: int
    updated: int
    version: int
    session: str


class Performance(Struct, frozen=True, kw_only=True):
    """`worked`: ms at work before the session was paused last; `cost`: of everything."""

    worked: int
    cost: Cost


class SwarmState(Struct, frozen=True, kw_only=True):
    """A session as it stands. `consensus`: tasks whose ballot is open. `performance`: what it has cost, and ms at work."""

    id: str
    sequence: int
    status: Status
    topology: str
    agents: Crew
    tasks: Counts
    consensus: tuple[str, ...]
    performance: Performance
    metadata: Stamp


class SwarmConfig(Struct, frozen=True, kw_only=True):
    """What a session was asked for. `fingerprint`: SHA-256 of its file. `objective`: SHA-256 of the text. `base`: a commit.

    `agents`: attempts at once. `time`: seconds, `usd`, `tokens`: limits, 0 = none.
    """

    id: str
    sequence: int
    name: str
    fingerprint: str
    objective: str
    origin: str
    base: str
    kinds: tuple[str, ...]
    phases: tuple[str, ...]
    agents: int
    time: float
    usd: float
    tokens: int
    rehearsal: bool


class AgentState(Struct, frozen=True, kw_only=True):
    """An agent and how it has done."""

    id: str
    sequence: int
    session: str
    node: str
    status: str
    load: int
    done: int
    failed: int
    cost: Cost | None


class AgentConfig(Struct, frozen=True, kw_only=True):
    """What kind of agent it is."""

    id: str
    sequence: int
    session: str
    kind: str
    type: str
    runtime: str
    model: str
    capabilities: tuple[str, ...]
    max_load: int


class AgentTasks(Struct, frozen=True, kw_only=True):
    """The tasks that an agent works at."""

    id: str
    sequence: int
    session: str
    tasks: tuple[str, ...]


class TaskNow(Struct, frozen=True, kw_only=True):
    """A task as it stands. `agent`: who has it, or had it last. `attempt`: which try that is. Times are wall-clock ms."""

    id: str
    sequence: int
    session: str
    state: TaskState
    since: int
    attempt: int
    agent: str
    node: str
    cause: Cause
    until: int
    submitted: int
    started: int
    ended: int
    cost: Cost | None


class TaskConfig(Struct, frozen=True, kw_only=True):
    """What a task was asked for. `objective`: SHA-256 of its title, `work`: of its command, callable or prompt."""

    id: str
    sequence: int
    session: str
    type: str
    priority: Priority
    deadline: int
    objective: str
    work: str
    needs: tuple[str, ...]
    capabilities: tuple[str, ...]
    agent: str
    phase: str
    parent: str


class TaskResults(Struct, frozen=True, kw_only=True):
    """What came of a task so far. `merged`: the commit of the session's branch. `result`: SHA-256 of it as JSON, empty for none.

    `outputs`: name -> digest of the blob.
    """

    id: str
    sequence: int
    session: str
    state: TaskState
    exit_code: int | None
    commit: str
    merged: str
    result: str
    outputs: dict[str, str]


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event of a task's history, by its name in the events page. `at`: wall-clock ms. What does not apply is left out."""

    sequence: int
    at: int
    event: str
    attempt: int = 0
    agent: str = ""
    state: str = ""
    outcome: str = ""
    cause: str = ""


class Report(Struct, frozen=True, kw_only=True):
    """How far a session is published, as its publisher wrote it last.

    `sequence`: the last event that is. `behind`: events in the log after it, at that time. `lag`: ms since the oldest of them.
    `epoch`: of the log's writer. `told`: messages, `expired`: those that were dropped as it was too late for them.
    """

    session: str
    sequence: int
    epoch: int
    behind: int = 0
    lag: int = 0
    told: int = 0
    expired: int = 0
    at: int = 0
