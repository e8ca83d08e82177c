"""What the outside sees of a session: plain records, the same for every face. Their JSON form is version 1 of `--json`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from skep.core.envelope import QUESTION
from skep.core.estimates import Estimate
from skep.core.messages import inbox
from skep.core.model import PRIORITY_RANK, TERMINAL, Cost, Entry, Limits, Output
from skep.core.placement import INPROCESS, lacks
from skep.core.references import spell
from skep.core.retry import retries_of
from skep.core.rules import waiting
from skep.core.settle import limited
from skep.core.state import State
from skep.core.topology import PERSON
from skep.runtime.phases import PhaseView, phase_views

#: What programs are called that nothing confines.
UNCONFINED = "unconfined"
#: Version of the JSON that these records become.
VERSION = 1
#: States of the core that a person sees under another name.
SHOWN = {"expanded": "running", "merging": "running"}


class AskView(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """What an attempt asks a person: may it use `tool` so? Answered by `id`. Times are wall-clock ms; after `until` it is a no.

    `about` is one line; `arguments` all of it as JSON, cut where it is very long; `digest` that of tool and arguments.
    """

    id: str
    tool: str
    about: str
    arguments: str
    digest: str
    at: int
    until: int


class TaskView(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A task as a person sees it. Times are wall-clock ms, 0 = not yet; `since` is when its state last changed.

    `confinement` says how its last process was confined, empty before there is one.
    `started` and `ended` are the whole task's. `spent`: ms in attempts that are over; `begun`: when the one under way began.
    `proposes`: ids of the tasks that it proposes, while nobody has decided about them. `phase`: the phase it belongs to; `gate`:
    whether it is the gate of that.
    """

    id: str
    title: str
    state: str
    stage: str = ""
    agent: str = ""
    attempts: int = 0
    most: int = 1
    cause: str = ""
    detail: str = ""
    question: str = ""
    needs: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    parent: str = ""
    submitted: int = 0
    started: int = 0
    ended: int = 0
    spent: int = 0
    begun: int = 0
    since: int = 0
    until: int = 0
    exit_code: int | None = None
    result: Any = None
    commit: str = ""
    merged: str = ""
    wip: str = ""
    base: str = ""
    pid: int = 0
    score: float = 0.0
    outputs: dict[str, Output] = {}
    cost: Cost | None = None
    asks: tuple[AskView, ...] = ()
    confinement: str = ""
    proposes: tuple[str, ...] = ()
    phase: str = ""
    gate: bool = False

    def took(self, now: int) -> int:
        """Ms that its attempts took together, without the time between them; of a foreach, from its beginning to its end."""
        if not self.attempts:
            return max(0, (self.ended or now) - self.started) if self.started else 0
        return self.spent + (max(0, now - self.begun) if self.begun else 0)


class Asked(Struct, frozen=True, kw_only=True):
    """What an agent asks a person, since when (wall-clock ms): answered by `skep tell AGENT TEXT --answers ID`."""

    id: str
    agent: str
    text: str
    since: int


class SessionView(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A session as a person sees it. `counts` are by shown state; `idle` says why nothing goes on although tasks are open.

    `limit`: it is paused because a limit was reached. `live`: somebody carries it out.
    `estimate`: what it was foretold to cost, in the answer to its creation alone.
    `untold`: what went wrong with notifications since somebody carries it out.
    `unpublished`: what is in the way of publishing it for others to see.
    `unread`: which letter to it is passed over, as nobody with the key of the hive put it there.
    `worked`: ms at work before it was paused last; `resumed`: since when it is at work (ms), 0 while it is paused.
    `rehearsal`: stand-ins take the place of the agents.
    """

    version: int = VERSION
    session: str
    name: str
    objective: str = ""
    state: str = "active"
    why: str = ""
    limit: bool = False
    live: bool = False
    idle: str = ""
    untold: str = ""
    unpublished: str = ""
    unread: str = ""
    estimate: Estimate | None = None
    seq: int = 0
    opened: int = 0
    worked: int = 0
    resumed: int = 0
    kind: str = ""
    branch: str = ""
    base: str = ""
    tip: str = ""
    landed: bool = False
    rehearsal: bool = False
    confinement: str = ""
    agents: int = 0
    source: str = ""
    origin: str = ""
    notes: tuple[str, ...] = ()
    counts: dict[str, int] = {}
    causes: dict[str, int] = {}
    checkpoints: dict[str, int] = {}
    cost: Cost = field(default_factory=Cost)
    limits: Limits = Limits()
    questions: tuple[Asked, ...] = ()
    phases: tuple[PhaseView, ...] = ()
    tasks: list[TaskView] = field(default_factory=list)


class ClaimView(Struct, frozen=True, kw_only=True):
    """A task held by hand. `path` is its worktree, `nonce` settles it; `until` (wall-clock ms) it runs out unless renewed.

    `env`: variables with which programs of the task are started.
    """

    session: str
    name: str
    task: str
    attempt: int
    path: str
    prompt: str
    nonce: str
    until: int
    env: dict[str, str]


class InquiryView(Struct, frozen=True, kw_only=True):
    """What the agent of a task answered after its end, and what that cost."""

    session: str
    name: str
    task: str
    agent: str
    answer: str
    cost: Cost


class Need(Struct, frozen=True, kw_only=True):
    """Something that waits for a person. `id` answers it: of a task that asks, or of what an attempt asks leave for.

    Of what an agent asks of a person, `question` is `escalation`, `about` the text, and no task is named; otherwise
    `question` is a task's; `tool`, `about` and `arguments` are an attempt's. `since`, `until`: wall-clock ms, 0 = for ever.
    """

    session: str
    name: str
    id: str
    task: str
    agent: str = ""
    question: str = ""
    tool: str = ""
    about: str = ""
    arguments: str = ""
    digest: str = ""
    since: int = 0
    until: int = 0
    live: bool = False


class Brief(Struct, frozen=True, kw_only=True):
    """One line of `skep session list`."""

    session: str
    name: str
    state: str
    opened: int
    tasks: int
    done: int
    live: bool
    objective: str = ""


class Landing(Struct, frozen=True, kw_only=True):
    """Where a session's work is now: its commit, and the branch that was moved there ("" for a folder that is no repository).

    `head`: the branch that is checked out, "" if HEAD is detached; the user's files followed only if it is the one that moved.
    """

    commit: str
    branch: str
    head: str


class Result(Struct, frozen=True, kw_only=True):
    """How a task ended. `value` is what a callable returned, or the last lines of a command's output."""

    id: str
    state: str
    value: Any = None
    exit_code: int | None = None
    cause: str = ""
    detail: str = ""
    attempts: int = 0
    agent: str = ""
    commit: str = ""
    seconds: float = 0.0
    outputs: dict[str, Output] = {}

    @property
    def ok(self) -> bool:
        """Whether it is done."""
        return self.state == "done"


def result_of(entry: Entry) -> Result:
    """The result of a finished task."""
    return Result(
        id=entry.task.id,
        state=entry.state,
        value=entry.result,
        exit_code=entry.exit_code,
        cause=entry.cause,
        detail=entry.detail,
        attempts=entry.attempts,
        agent=entry.agent,
        commit=entry.merged or entry.commit,
        seconds=(entry.spent if entry.attempts else max(0, entry.ended - entry.started) if entry.started else 0) / 1000,
        outputs=entry.outputs or {},
    )


def task_view(state: State, entry: Entry) -> TaskView:
    """A task, shown."""
    task, attempt, asks = entry.task, entry.attempt, asks_of(entry)
    stage: str = attempt.stage if attempt is not None else entry.state if entry.state in SHOWN else ""
    if entry.state == "expanded" and entry.cause == "conflict":
        stage = "resolving"
    waits = tuple(need for need in task.needs if state.fate(entry, need) not in TERMINAL) if entry.state == "waiting" else ()
    return TaskView(
        id=task.id,
        title=task.objective,
        state=state_of(entry),
        stage=stage,
        agent=entry.agent,
        attempts=entry.attempts,
        most=retries_of(task).max + 1,
        cause=entry.cause,
        detail=entry.detail,
        question=entry.question,
        needs=task.needs,
        waits=waits,
        parent=task.parent,
        submitted=entry.submitted,
        started=entry.started,
        ended=entry.ended,
        spent=entry.spent,
        begun=attempt.started if attempt is not None and entry.state == "running" else 0,
        since=asks[0].at if asks else entry.since,
        until=entry.until,
        exit_code=entry.exit_code,
        result=entry.result,
        commit=entry.commit,
        merged=entry.merged,
        wip=entry.wip,
        base=attempt.base if attempt is not None else "",
        pid=attempt.pid if attempt is not None else 0,
        score=attempt.score if attempt is not None else 0.0,
        outputs=entry.outputs or {},
        cost=entry.cost,
        asks=asks,
        confinement=entry.confinement,
        proposes=tuple(one.id for one in entry.proposal.tasks) if entry.proposal is not None else (),
        phase=task.phase,
        gate=task.gate,
    )


def asks_of(entry: Entry) -> tuple[AskView, ...]:
    """What a task's attempt asks and nobody answered yet, oldest first."""
    return tuple(
        AskView(
            id=f"{entry.task.id}/{asking.number}",
            tool=asking.tool,
            about=asking.about,
            arguments=asking.arguments,
            digest=asking.digest,
            at=asking.at,
            until=asking.until,
        )
        for asking in (waiting(entry.attempt.asks) if entry.attempt is not None else ())
    )


def needs(state: State, name: str, live: bool) -> list[Need]:
    """What waits for a person in a session."""
    found = []
    for entry in state.entries.values():
        need = Need(session=state.session, name=name, id=entry.task.id, task=entry.task.id, agent=entry.agent, live=live)
        if entry.state == "needs-you":
            found.append(replace(need, question=entry.question, about=entry.detail, since=entry.since))
        for ask in asks_of(entry):
            said = {"tool": ask.tool, "about": ask.about, "arguments": ask.arguments, "digest": ask.digest}
            found.append(replace(need, id=ask.id, since=ask.at, until=ask.until, **said))
    for asked in questions(state):
        need = Need(session=state.session, name=name, id=asked.id, task="", agent=asked.agent, live=live)
        found.append(replace(need, question="escalation", about=asked.text, since=asked.since))
    return found


def questions(state: State) -> tuple[Asked, ...]:
    """What agents ask a person, oldest first; nothing once nobody is there any more who would go on by the answer."""
    waiting = inbox(state, PERSON) if state.open_tasks and not state.closed else ()
    return tuple(
        Asked(id=message.id, agent=message.source, text=spell(message.payload), since=message.timestamp)
        for message in waiting
        if message.type == QUESTION
    )


def state_of(entry: Entry) -> str:
    """The state that a person sees: who asks while it works needs somebody, too."""
    if asks_of(entry):
        return "needs-you"
    return SHOWN.get(entry.state, entry.state)


def brief(state: State, session: str, name: str, opened: int, live: bool) -> Brief:
    """A session in one line."""
    tasks, done = state.counter - state.counts.get("replaced", 0), state.counts.get("done", 0)
    about = state.plan.objective
    return Brief(
        session=session, name=name, state=status_of(state), opened=opened, tasks=tasks, done=done, live=live, objective=about
    )


def status_of(state: State) -> str:
    """The one word for a session."""
    if state.closed:
        return "closed"
    if state.open_tasks == 0 and state.counter:
        bad = any(state.counts.get(kind) for kind in ("failed", "gave-up", "cancelled"))
        return "failed" if bad or _skipped_for_want(state) else "completed"
    return "paused" if state.paused else "active"


def goes_on(state: State) -> bool:
    """Whether something may be done in a session, so that somebody must carry it out."""
    return status_of(state) == "active"


def _skipped_for_want(state: State) -> bool:
    return any(entry.state == "skipped" and entry.cause == "needs" for entry in state.entries.values())


def idle_reason(state: State, live: bool) -> str:
    """Why nothing goes on although tasks are open; empty while something does.

    Args:
        live: whether somebody carries the session out.
    """
    if state.open_tasks == 0:
        return ""
    if live and (state.running or state.intent is not None):
        held = [e for e in state.entries.values() if e.attempt is not None] if state.intent is None else []
        asks = [f"{e.task.id}/{one.number}" for e in held if e.attempt is not None for one in waiting(e.attempt.asks)[:1]]
        return f"needs you: {', '.join(asks[:5])}" if asks and len(asks) == len(held) else ""
    if state.paused:
        return f"paused: {state.why}" if state.why else "paused"
    entries = [entry for entry in state.entries.values() if entry.state not in TERMINAL]
    asking = [entry.task.id for entry in entries if entry.state == "needs-you"]
    if asking and (live or all(entry.state in ("needs-you", "waiting") for entry in entries)):
        return f"needs you: {', '.join(asking[:5])}"
    if not live:
        return "nobody carries it out; go on with `skep resume`"
    parked = [entry for entry in entries if entry.state == "parked"]
    if parked:
        first = min(parked, key=lambda entry: entry.until)
        until = datetime.fromtimestamp(first.until / 1000).astimezone().isoformat(timespec="seconds")
        return f"{first.task.id} waits until {until}"
    ready = min((e for e in entries if e.state == "ready"), key=lambda e: (-PRIORITY_RANK[e.task.priority], e.seq), default=None)
    return "" if ready is None else f"{ready.task.id} waits: {lacks(state, ready)}"


def confinement_of(state: State, expected: Mapping[str, str]) -> str:
    """How the programs of a session ran confined, as recorded; where nothing ran yet, how they would be.

    Args:
        expected: name of an agent -> how its programs would be confined.
    """
    ran = [(entry.confinement, entry.agent) for entry in state.entries.values() if entry.confinement]
    by: dict[str, list[str]] = {}
    for how, agent in ran or [(how, agent) for agent, how in expected.items()]:
        if agent not in by.setdefault(how, []):
            by[how].append(agent)
    if INPROCESS in state.specs:  # the caller's own code
        by.setdefault(UNCONFINED, []).append("callables in this process")
    if len(by) <= 1:
        return "".join(by)
    return "; ".join(f"{how}: {', '.join(sorted(agents)[:3])}" for how, agents in sorted(by.items()))


def session_view(
    state: State, name: str, tasks: bool = True, live: bool = False, expected: Mapping[str, str] = MappingProxyType({})
) -> SessionView:
    """A session, shown, with the tasks of its live state in order of submission; replaced ones are the log's alone."""
    entries = [e for e in sorted(state.entries.values(), key=lambda entry: entry.seq) if e.state != "replaced"]
    counts = {kind: count for kind, count in state.counts.items() if count and kind != "replaced"}
    causes: dict[str, int] = {}
    for entry in entries:
        if entry.state not in TERMINAL:
            shown = state_of(entry)
            counts[shown] = counts.get(shown, 0) + 1
        elif entry.state != "done" and entry.cause:
            causes[entry.cause] = causes.get(entry.cause, 0) + 1
    return SessionView(
        session=state.session,
        name=name,
        objective=state.plan.objective,
        state=status_of(state),
        why=state.why,
        limit=limited(state),
        live=live,
        idle=idle_reason(state, live),
        seq=state.seq,
        opened=state.opened,
        worked=state.worked,
        resumed=0 if state.paused else state.resumed,
        kind=state.kind,
        branch=state.branch,
        base=state.base,
        tip=state.tip,
        confinement=confinement_of(state, expected),
        rehearsal=state.plan.rehearsal,
        landed=bool(state.tip) and state.landed == state.tip,
        agents=state.limit,
        source=state.plan.source,
        origin=state.origin,
        counts=counts,
        causes=causes,
        checkpoints=dict(state.marks),
        cost=state.cost,
        limits=state.plan.limits,
        questions=questions(state),
        phases=phase_views(state),
        tasks=[task_view(state, entry) for entry in entries] if tasks else [],
    )
