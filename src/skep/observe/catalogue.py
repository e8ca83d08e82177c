"""The public channels: which event is told where, as what. One table, from which the reference page comes, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct

from skep.core import events as ev
from skep.core.fleet import FleetFormed, FleetHanded, FleetRemoved, FleetRouted
from skep.core.model import Output, Priority, Task, TaskState
from skep.observe import payloads as pay

_json = msgspec.json.Encoder(order="deterministic")


class Known(Struct, frozen=True):
    """What is known of a task beside the event: the task, its last agent, and the number of that agent's attempt."""

    task: Task
    agent: str = ""
    attempt: int = 0


class Said(Struct, frozen=True):
    """A payload with what else differs from message to message; `id` stands for the `{id}` of its channel."""

    payload: Struct
    source: str = ""
    target: str | None = None
    priority: Priority = "normal"
    correlation: str | None = None
    id: str = ""


About = Mapping[str, Known]
Tell = Callable[[Any, About], Iterable[Said]]


class Row(Struct, frozen=True):
    """Messages of one type, `kind`: on which channel, what they carry, of which event they tell, how they are made from it."""

    channel: str
    kind: str
    payload: type[Struct]
    event: type[Struct]
    tell: Tell


def digest(value: Any) -> str:
    """SHA-256 of a text, or of a value as JSON; empty for nothing."""
    if value is None or value == "":
        return ""
    return sha256(value.encode() if isinstance(value, str) else _json.encode(value)).hexdigest()


def digests(outputs: dict[str, Output] | None) -> dict[str, str]:
    """The blobs of an attempt's outputs, by name."""
    return {name: output.digest for name, output in (outputs or {}).items()}


def _like(payload: type[Struct], **others: str) -> Tell:
    """A message whose fields are those of its event; `others` are called otherwise there."""
    names = [(name, others.get(name, name)) for name in payload.__struct_fields__]

    def tell(event: Any, about: About) -> Iterable[Said]:
        known = about.get(getattr(event, "task", ""))
        said = payload(**{name: getattr(event, there) for name, there in names})
        return (Said(said, priority=known.task.priority if known is not None else "normal"),)

    return tell


def _status(status: pay.Status) -> Tell:
    return lambda event, about: (Said(pay.SwarmStatus(status=status)),)


def _state(state: TaskState) -> Tell:
    def tell(event: Any, about: About) -> Iterable[Said]:
        return (Said(pay.TaskStatus(task=event.task, state=state, attempt=getattr(event, "n", 0))),)

    return tell


def _submitted(tasks: Iterable[Task]) -> Iterable[Said]:
    for task in tasks:
        payload = pay.TaskSubmitted(
            task=task.id,
            type=task.type,
            objective=digest(task.objective),
            priority=task.priority,
            deadline=task.deadline,
            needs=len(task.needs),
            phase=task.phase,
            parent=task.parent,
        )
        yield Said(payload, priority=task.priority)


def _assigned(event: ev.TaskAssigned, about: About) -> Iterable[Said]:
    known = about.get(event.task)
    task = known.task if known is not None else Task(id=event.task)
    payload = pay.TaskAssignment(
        task=event.task,
        type=task.type,
        objective=digest(task.objective),
        priority=task.priority,
        deadline=task.deadline,
        attempt=event.n,
        agent=event.agent,
        node=event.node,
        score=round(event.score, 4),
    )
    yield Said(payload, target=event.agent, priority=task.priority)


def _result(event: ev.AttemptEnded, about: About) -> Iterable[Said]:
    payload = pay.TaskResult(
        task=event.task,
        state=event.then,
        attempt=event.n,
        outcome=event.outcome,
        cause=event.cause,
        exit_code=event.exit_code,
        commit=event.commit,
        result=digest(event.result),
        outputs=digests(event.outputs),
    )
    yield Said(payload, source=_agent(event, about))


def _closed(event: ev.TaskClosed, about: About) -> Iterable[Said]:
    yield Said(pay.TaskResult(task=event.task, state=event.state, cause=event.cause))


def _merged(event: ev.Merged, about: About) -> Iterable[Said]:
    yield Said(pay.TaskResult(task=event.task, state="done", outcome="ok", commit=event.commit))


def _not_merged(event: ev.MergeFailed, about: About) -> Iterable[Said]:
    yield Said(pay.TaskStatus(task=event.task, state=event.then, cause=event.cause, until=event.until))


def _resolved(event: ev.ConflictResolved, about: About) -> Iterable[Said]:
    yield Said(pay.TaskStatus(task=event.task, state=event.then))


def _replanned(event: ev.PlanChanged, about: About) -> Iterable[Said]:
    yield Said(pay.PlanChanged(fingerprint=event.plan.fingerprint))


def _expanded(event: ev.TaskExpanded, about: About) -> Iterable[Said]:
    yield Said(pay.TaskExpanded(task=event.task, count=len(event.children)))


def _agent(event: Any, about: About) -> str:
    """Whose attempt it is: nobody's, if a later one is under way."""
    known = about.get(event.task)
    return known.agent if known is not None and known.attempt == event.n else ""


def _stage(stage: pay.Stage) -> Tell:
    def tell(event: Any, about: About) -> Iterable[Said]:
        agent = getattr(event, "agent", "") or _agent(event, about)
        now: pay.Stage = "ending" if stage == "idle" and not getattr(event, "gone", True) else stage
        yield Said(pay.AgentStatus(agent=agent, task=event.task, attempt=event.n, stage=now), source=agent)

    return tell


def _kinds(event: ev.AgentsDeclared, about: About) -> Iterable[Said]:
    for spec in event.specs:
        yield Said(
            pay.AgentKind(
                kind=spec.name,
                type=spec.type,
                runtime=spec.runtime,
                model=spec.model,
                capabilities=spec.capabilities,
                count=spec.count,
            )
        )


def _opened(event: ev.SessionOpened, about: About) -> Iterable[Said]:
    return _kinds(ev.AgentsDeclared(event.at, event.plan.agents), about)


def _message(event: ev.MessageSent, about: About) -> Iterable[Said]:
    message = event.message
    payload = pay.MessageSent(id=message.id, type=message.type, digest=digest(message.payload))
    correlation = message.metadata.correlation or None
    yield Said(payload, message.source, message.target, message.priority, correlation)


def _gone(event: ev.MessageDelivered | ev.MessageExpired, about: About) -> Iterable[Said]:
    yield Said(pay.MessageGone(id=event.id), target=event.target, correlation=event.id)


def _ballot(event: ev.BallotOpened, about: About) -> Iterable[Said]:
    ballot = event.ballot
    payload = pay.BallotOpened(
        task=event.task,
        ballot=ballot.id,
        rule=ballot.rule,
        electors=len(ballot.electors),
        options=ballot.options,
        until=event.until,
    )
    yield Said(payload)


def _counted(event: ev.BallotClosed, about: About) -> Iterable[Said]:
    result = event.result
    payload = pay.BallotClosed(
        task=event.task,
        ballot=result.ballot,
        reached=result.reached,
        choice=result.choice,
        counts=result.counts,
        weights=result.weights,
        threshold=result.threshold,
        total=result.total,
    )
    yield Said(payload)


def _proposed(event: ev.TaskProposed, about: About) -> Iterable[Said]:
    proposal = event.proposal
    payload = pay.ProposalMade(
        task=event.task, fingerprint=proposal.fingerprint, count=proposal.amount, refused=bool(event.refused or proposal.refused)
    )
    yield Said(payload)


def _spent(event: ev.AttemptSpent | ev.TaskInquired, about: About) -> Iterable[Said]:
    cost = event.cost
    payload = pay.Spent(
        task=event.task,
        attempt=getattr(event, "n", 0),
        model=event.model,
        input=cost.input,
        cached=cost.cached,
        output=cost.output,
        usd=cost.usd,
    )
    yield Said(payload, source=_agent(event, about) if isinstance(event, ev.AttemptSpent) else "")


def _merging(event: ev.MergeStarted, about: About) -> Iterable[Said]:
    yield Said(pay.MergeStarted(base=event.intent.base, tasks=len(event.intent.stack)))


def _joined(event: ev.NodeJoined, about: About) -> Iterable[Said]:
    has = event.capacity
    payload = pay.NodeJoined(node=event.node, cpu=has.cpu, memory=has.memory, storage=has.storage, slots=event.slots)
    yield Said(payload, source=event.node)


def _granted(event: ev.NodeGranted, about: About) -> Iterable[Said]:
    slots = None if event.credit is None else event.credit.slots
    yield Said(pay.NodeGranted(node=event.node, slots=slots), source=event.node)


def _phase(event: ev.PhaseOpened | ev.PhaseEnded, about: About) -> Iterable[Said]:
    state = event.state if isinstance(event, ev.PhaseEnded) else "open"
    yield Said(pay.PhaseStatus(phase=event.phase, state=state), id=event.phase)


def _fleet(event: FleetFormed, about: About) -> Iterable[Said]:
    slots = {swarm.name: swarm.slots for swarm in event.fleet.swarms}
    yield Said(pay.FleetFormed(fleet=event.fleet.name, swarms=slots))


def _removed(event: FleetRemoved, about: About) -> Iterable[Said]:
    yield Said(pay.FleetRemoved(fleet=event.fleet))


def _routed(event: FleetRouted, about: About) -> Iterable[Said]:
    route = event.route
    payload = pay.FleetRouted(
        fleet=event.fleet,
        key=digest(route.key),
        swarm=route.swarm,
        session=route.session,
        score=route.score,
        queued=bool(route.queued),
    )
    yield Said(payload, target=route.session)


def _handed(event: FleetHanded, about: About) -> Iterable[Said]:
    yield Said(pay.FleetHanded(fleet=event.fleet, key=digest(event.key), task=event.id, refused=bool(event.refused)))


#: Every message that is told.
ROWS: tuple[Row, ...] = (
    Row("swarm:status", "swarm_status", pay.SwarmStatus, ev.SessionOpened, _status("active")),
    Row("swarm:status", "swarm_status", pay.SwarmStatus, ev.SessionPaused, _status("paused")),
    Row("swarm:status", "swarm_status", pay.SwarmStatus, ev.SessionResumed, _status("active")),
    Row("swarm:status", "swarm_status", pay.SwarmStatus, ev.SessionClosed, _status("closed")),
    Row("swarm:coordination", "plan_changed", pay.PlanChanged, ev.PlanChanged, _replanned),
    Row("swarm:coordination", "task_expanded", pay.TaskExpanded, ev.TaskExpanded, _expanded),
    Row("swarm:coordination", "proposal_made", pay.ProposalMade, ev.TaskProposed, _proposed),
    Row("swarm:coordination", "proposal_accepted", pay.ProposalAccepted, ev.ProposalAccepted, _like(pay.ProposalAccepted)),
    Row("swarm:coordination", "merge_started", pay.MergeStarted, ev.MergeStarted, _merging),
    Row("swarm:coordination", "work_landed", pay.WorkLanded, ev.SessionLanded, _like(pay.WorkLanded)),
    Row("swarm:consensus", "ballot_opened", pay.BallotOpened, ev.BallotOpened, _ballot),
    Row("swarm:consensus", "vote_cast", pay.VoteCast, ev.VoteCast, _like(pay.VoteCast)),
    Row("swarm:consensus", "ballot_closed", pay.BallotClosed, ev.BallotClosed, _counted),
    Row("swarm:consensus", "candidate_chosen", pay.CandidateChosen, ev.CandidateChosen, _like(pay.CandidateChosen)),
    Row("swarm:consensus", "candidate_refused", pay.CandidateRefused, ev.CandidateRefused, _like(pay.CandidateRefused)),
    Row("tasks:queue", "task_submitted", pay.TaskSubmitted, ev.TasksSubmitted, lambda event, about: _submitted(event.tasks)),
    Row("tasks:queue", "task_submitted", pay.TaskSubmitted, ev.TaskExpanded, lambda event, about: _submitted(event.children)),
    Row("tasks:queue", "task_ready", pay.TaskReady, ev.TaskReady, _like(pay.TaskReady)),
    Row("tasks:queue", "task_retried", pay.TaskReady, ev.TaskRetried, _like(pay.TaskReady)),
    Row("tasks:status", "task_assignment", pay.TaskAssignment, ev.TaskAssigned, _assigned),
    Row("tasks:status", "task_status", pay.TaskStatus, ev.AttemptSpawned, _state("running")),
    Row("tasks:status", "task_status", pay.TaskStatus, ev.TaskAsked, _state("needs-you")),
    Row("tasks:status", "task_status", pay.TaskStatus, ev.MergeFailed, _not_merged),
    Row("tasks:status", "task_status", pay.TaskStatus, ev.ConflictResolved, _resolved),
    Row("tasks:status", "task_answered", pay.TaskAnswered, ev.TaskAnswered, _like(pay.TaskAnswered, state="then")),
    Row("tasks:status", "approval_asked", pay.ApprovalAsked, ev.ApprovalAsked, _like(pay.ApprovalAsked, attempt="n")),
    Row("tasks:status", "approval_answered", pay.ApprovalAnswered, ev.ApprovalAnswered, _like(pay.ApprovalAnswered, attempt="n")),
    Row("tasks:status", "approval_used", pay.ApprovalUsed, ev.ApprovalUsed, _like(pay.ApprovalUsed, attempt="n")),
    Row("tasks:results", "task_result", pay.TaskResult, ev.AttemptEnded, _result),
    Row("tasks:results", "task_result", pay.TaskResult, ev.TaskClosed, _closed),
    Row("tasks:results", "task_result", pay.TaskResult, ev.Merged, _merged),
    Row("agents:registry", "agent_kind", pay.AgentKind, ev.SessionOpened, _opened),
    Row("agents:registry", "agent_kind", pay.AgentKind, ev.AgentsDeclared, _kinds),
    Row("agents:status", "agent_status", pay.AgentStatus, ev.TaskAssigned, _stage("starting")),
    Row("agents:status", "agent_status", pay.AgentStatus, ev.AttemptSpawned, _stage("working")),
    Row("agents:status", "agent_status", pay.AgentStatus, ev.AttemptWorked, _stage("verifying")),
    Row("agents:status", "agent_status", pay.AgentStatus, ev.AttemptEnding, _stage("ending")),
    Row("agents:status", "agent_status", pay.AgentStatus, ev.AttemptEnded, _stage("idle")),
    Row("agents:status", "agent_status", pay.AgentStatus, ev.AttemptGone, _stage("idle")),
    Row("agents:messages", "message_sent", pay.MessageSent, ev.MessageSent, _message),
    Row("agents:messages", "message_delivered", pay.MessageGone, ev.MessageDelivered, _gone),
    Row("agents:messages", "message_expired", pay.MessageGone, ev.MessageExpired, _gone),
    Row("performance:metrics", "spent", pay.Spent, ev.AttemptSpent, _spent),
    Row("performance:metrics", "spent", pay.Spent, ev.TaskInquired, _spent),
    Row("fleet:resources", "node_joined", pay.NodeJoined, ev.NodeJoined, _joined),
    Row("fleet:resources", "node_granted", pay.NodeGranted, ev.NodeGranted, _granted),
    Row("fleet:status", "fleet_formed", pay.FleetFormed, FleetFormed, _fleet),
    Row("fleet:status", "fleet_removed", pay.FleetRemoved, FleetRemoved, _removed),
    Row("fleet:coordination", "fleet_routed", pay.FleetRouted, FleetRouted, _routed),
    Row("fleet:coordination", "fleet_handed", pay.FleetHanded, FleetHanded, _handed),
    Row("recovery:state", "node_lost", pay.NodeLost, ev.NodeLost, _like(pay.NodeLost)),
    Row("recovery:state", "swarm_forked", pay.SwarmForked, ev.SessionForked, _like(pay.SwarmForked, sequence="seq")),
    Row("persistence:backup", "checkpoint", pay.Checkpoint, ev.SessionMarked, _like(pay.Checkpoint, commit="tip")),
    Row("phase:{id}:coordination", "phase_status", pay.PhaseStatus, ev.PhaseOpened, _phase),
    Row("phase:{id}:status", "phase_status", pay.PhaseStatus, ev.PhaseOpened, _phase),
    Row("phase:{id}:status", "phase_status", pay.PhaseStatus, ev.PhaseEnded, _phase),
)  # fmt: skip
#: Channels on which nothing is told yet, with what will.
MISSING: dict[str, str] = {
    "performance:alerts": "alerts, which are not there yet",
    "phase:{id}:docs": "documents of phases, which are not there yet",
    "memory:updates": "messages for others; machines that share a memory wake each other on `skep:memory:updates`",
}
#: Events of which nothing is told, and why.
UNTOLD: dict[type[Struct], str] = {
    ev.SessionBased: "where the branch begins is in the key swarm:{id}:config",
    ev.LettersTaken: "how letters travel between processes is nobody else's business",
    ev.AttemptSpoke: "the name of a client's own thread is nobody else's business",
}
