"""What can be read of a session by key: which keys there are, and what stands in them. All commands are for one key each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec import Struct

from skep.core import events as ev
from skep.core.model import TERMINAL, Agent, Entry
from skep.core.state import State
from skep.observe import records as rec
from skep.observe.catalogue import digest, digests
from skep.observe.naming import escaped, within
from skep.observe.payloads import Status

#: Version of the records.
VERSION = 1
#: Events that a task's history keeps.
HISTORY = 100
#: The field of a hash that says at which event it stands; no task and no agent is called so.
AT = ":sequence"

Command = tuple[Any, ...]


class Key(Struct, frozen=True):
    """A kind of keys: its name, of which type of Redis it is (`kind`), what stands in it."""

    name: str
    kind: Literal["string", "hash", "sorted set"]
    record: type[Struct] | None
    about: str


KEYS: tuple[Key, ...] = (
    Key("swarm:{id}:state", "string", rec.SwarmState, ""),
    Key("swarm:{id}:config", "string", rec.SwarmConfig, ""),
    Key("swarm:{id}:agents", "hash", None, f"agent -> `idle`, `busy` or `gone`; `{AT}`: the event at which it stands"),
    Key("swarm:{id}:tasks", "hash", None, f"task that is not finished -> its state; `{AT}`: the event at which it stands"),
    Key("swarm:{id}:published", "string", rec.Report, ""),
    Key("agent:{id}:state", "string", rec.AgentState, ""),
    Key("agent:{id}:config", "string", rec.AgentConfig, ""),
    Key("agent:{id}:tasks", "string", rec.AgentTasks, ""),
    Key("task:{id}:state", "string", rec.TaskNow, ""),
    Key("task:{id}:config", "string", rec.TaskConfig, ""),
    Key("task:{id}:results", "string", rec.TaskResults, ""),
    Key("task:{id}:history", "sorted set", rec.Step, f"its newest {HISTORY} events, by their numbers"),
)
#: Keys that are not written yet, with what will.
MISSING: dict[str, str] = {
    "agent:{id}:memory": "what an agent remembers, as a readable key",
    "performance:state": "monitoring",
    "performance:metrics:{timestamp}": "monitoring",
    "performance:alerts": "alerts",
    "metrics:{type}:{timestamp}": "monitoring",
    "fleet:state": "fleets",
    "fleet:resources": "fleets",
    "fleet:allocations": "fleets",
    "alert-rules:{id}": "alerts",
    "alerts:{id}": "alerts",
    "encryption:{id}": "the vault",
}
_encode = msgspec.json.Encoder().encode


def of_swarm(session: str, part: str) -> str:
    """A key of a session."""
    return f"swarm:{escaped(session)}:{part}"


def of_task(session: str, task: str, part: str) -> str:
    """A key of a task."""
    return f"task:{within(session, task)}:{part}"


def of_agent(session: str, agent: str, part: str) -> str:
    """A key of an agent."""
    return f"agent:{within(session, agent)}:{part}"


def status_of(state: State) -> Status:
    """The one word for a session."""
    if state.closed:
        return "closed"
    if not state.counter:
        return "paused" if state.paused else "initializing"
    if state.open_tasks == 0:
        return "failed" if any(state.counts.get(kind) for kind in ("failed", "gave-up", "cancelled")) else "completed"
    return "paused" if state.paused else "active"


def swarm(state: State, consensus: Iterable[str], keep: int) -> list[Command]:
    """The session itself.

    Args:
        state: as it stands.
        consensus: tasks whose ballot is open.
        keep: how long a closed session can be read, ms.
    """
    gone = {kind: count for kind, count in state.counts.items() if count}
    limits = state.plan.limits
    now = rec.SwarmState(
        id=state.session,
        sequence=state.seq,
        status=status_of(state),
        topology=state.plan.topology.kind,
        agents=rec.Crew(total=len(state.agents), busy=state.running),
        tasks=rec.Counts(total=state.counter, open=state.open_tasks, finished=gone),
        consensus=tuple(consensus),
        performance=rec.Performance(worked=state.worked, cost=state.cost),
        metadata=rec.Stamp(created=state.opened, updated=state.at, version=VERSION, session=state.session),
    )
    config = rec.SwarmConfig(
        id=state.session,
        sequence=state.seq,
        name=state.plan.name,
        fingerprint=state.plan.fingerprint,
        objective=digest(state.plan.objective),
        origin=state.origin,
        base=state.base,
        kinds=tuple(state.specs),
        phases=tuple(state.phases),
        agents=limits.agents,
        time=limits.time,
        usd=limits.cost_usd,
        tokens=limits.tokens,
        rehearsal=state.plan.rehearsal,
    )
    until = state.at + keep if state.closed else 0
    commands = [_set(of_swarm(state.session, "state"), now, until), _set(of_swarm(state.session, "config"), config, until)]
    for part in ("agents", "tasks"):
        key = of_swarm(state.session, part)
        commands += [("HSET", key, AT, state.seq), _expire(key, until)]
    return commands


def gone_at(entry: Entry, keep: int) -> int:
    """When a finished task cannot be read any more (wall-clock ms), `keep` ms after its end; 0 = it is not finished."""
    return entry.ended + keep if entry.state in TERMINAL else 0


def task(session: str, sequence: int, entry: Entry, keep: int, now: int) -> list[Command]:
    """A task as it stands after event `sequence`, its history excepted. `keep`: see `gone_at`; `now`: wall-clock ms."""
    name, until = entry.task.id, gone_at(entry, keep)
    if until and until <= now:
        return [("HDEL", of_swarm(session, "tasks"), name), ("UNLINK", of_task(session, name, "history"))]
    attempt = entry.attempt
    about = rec.TaskNow(
        id=name,
        sequence=sequence,
        session=session,
        state=entry.state,
        since=entry.since,
        attempt=entry.attempts,
        agent=entry.agent,
        node=attempt.node if attempt is not None else "",
        cause=entry.cause,
        until=entry.until,
        submitted=entry.submitted,
        started=entry.started,
        ended=entry.ended,
        cost=entry.cost,
    )
    results = rec.TaskResults(
        id=name,
        sequence=sequence,
        session=session,
        state=entry.state,
        exit_code=entry.exit_code,
        commit=entry.commit,
        merged=entry.merged,
        result=digest(entry.result),
        outputs=digests(entry.outputs),
    )
    tasks = of_swarm(session, "tasks")
    return [
        _set(of_task(session, name, "state"), about, until),
        _set(of_task(session, name, "config"), _config(session, sequence, entry), until),
        _set(of_task(session, name, "results"), results, until),
        ("HDEL", tasks, name) if until else ("HSET", tasks, name, entry.state),
        _expire(of_task(session, name, "history"), until),
    ]


def _config(session: str, sequence: int, entry: Entry) -> rec.TaskConfig:
    asked = entry.task
    return rec.TaskConfig(
        id=asked.id,
        sequence=sequence,
        session=session,
        type=asked.type,
        priority=asked.priority,
        deadline=asked.deadline,
        objective=digest(asked.objective),
        work=digest(asked.run or asked.call or asked.prompt),
        needs=asked.needs,
        capabilities=asked.capabilities,
        agent=asked.agent,
        phase=asked.phase,
        parent=asked.parent,
    )


def agent(state: State, found: Agent, tasks: Iterable[str], keep: int) -> list[Command]:
    """An agent, with the tasks that it works at. `keep`: as for `swarm`."""
    until = state.at + keep if state.closed else 0
    session, sequence, spec = state.session, state.seq, state.specs.get(found.spec)
    status = "busy" if found.load else "idle" if found.max_load else "gone"
    now = rec.AgentState(
        id=found.id,
        sequence=sequence,
        session=session,
        node=found.node,
        status=status,
        load=found.load,
        done=found.done,
        failed=found.failed,
        cost=found.cost,
    )
    config = rec.AgentConfig(
        id=found.id,
        sequence=sequence,
        session=session,
        kind=found.spec,
        type=spec.type if spec is not None else "",
        runtime=spec.runtime if spec is not None else "",
        model=spec.model if spec is not None else "",
        capabilities=spec.capabilities if spec is not None else (),
        max_load=found.max_load,
    )
    at_work = rec.AgentTasks(id=found.id, sequence=sequence, session=session, tasks=tuple(tasks))
    return [
        _set(of_agent(session, found.id, "state"), now, until),
        _set(of_agent(session, found.id, "config"), config, until),
        _set(of_agent(session, found.id, "tasks"), at_work, until),
        ("HSET", of_swarm(session, "agents"), found.id, status),
    ]


def all_of_task(session: str, task: str) -> list[str]:
    """The keys of a task, its history last."""
    return [of_task(session, task, part) for part in ("state", "config", "results", "history")]


def all_of_agent(session: str, agent: str) -> list[str]:
    """The keys of an agent."""
    return [of_agent(session, agent, part) for part in ("state", "config", "tasks")]


def history(session: str, task: str, steps: list[tuple[int, ev.Event]]) -> list[Command]:
    """Adds events to a task's history: each once, however often this is done."""
    key, pairs = of_task(session, task, "history"), list[Any]()
    for number, event in steps[-HISTORY:]:
        step = rec.Step(
            sequence=number,
            at=event.at,
            event=str(event.__struct_config__.tag),
            attempt=getattr(event, "n", 0),
            agent=getattr(event, "agent", ""),
            state=getattr(event, "then", getattr(event, "state", "")),
            outcome=getattr(event, "outcome", ""),
            cause=getattr(event, "cause", ""),
        )
        pairs += (number, _encode(step))
    return [("ZADD", key, *pairs), ("ZREMRANGEBYRANK", key, 0, -HISTORY - 1)]


def tasks_of(event: ev.Event) -> tuple[str, ...]:
    """The tasks of whose history an event is part."""
    if isinstance(event, ev.TasksSubmitted):
        return tuple(task.id for task in event.tasks)
    if isinstance(event, ev.TaskExpanded):
        return (event.task, *(task.id for task in event.children))
    if isinstance(event, ev.MergeStarted):
        return tuple(candidate.task for candidate in event.intent.stack)
    if isinstance(event, ev.BallotOpened):
        return (event.task, *(task.id for task in event.voters))
    if isinstance(event, ev.MergeFailed) and event.resolver is not None:
        return (event.task, event.resolver.id)
    name = getattr(event, "task", "")
    return (name,) if name else ()


def changes_all(event: ev.Event) -> bool:
    """Whether an event may change any task or agent without naming it."""
    kinds = (ev.SessionOpened, ev.SessionForked, ev.PlanChanged, ev.AgentsDeclared, ev.NodeJoined, ev.NodeLost)
    return isinstance(event, kinds)


def _set(key: str, value: Struct, until: int) -> Command:
    """Writes a value that goes at wall-clock ms `until`, 0 = never."""
    return ("SET", key, _encode(value), *(("PXAT", until) if until else ()))


def _expire(key: str, until: int) -> Command:
    return ("PEXPIREAT", key, until) if until else ("PERSIST", key)
