"""What each event does to a state: the only mutator of the live state, and all that a replay needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from skep.core import asking, clocks, delivery, formed, landing, opening, polls, resources
from skep.core import events as ev
from skep.core.due import attempt_key
from skep.core.model import GUEST, LEFT, Agent, Attempt, Cost, Entry, Node, TaskState
from skep.core.placement import refusing
from skep.core.queue import Queue
from skep.core.retry import retries_of
from skep.core.senders import Senders
from skep.core.state import State, made_of_others, needs_judgement

#: Models whose cost is added up apart, and the name of the rest.
MAX_MODELS = 64
OTHER_MODELS = "others"
#: Task types of which an agent's record is kept apart.
MAX_TYPES = 256


def apply(state: State, event: ev.Event) -> None:
    """Takes one event in. Raises Bug if it does not fit the state: then the state must be dropped and loaded again."""
    state.seq += 1
    _APPLY[event.__class__](state, event)
    state.at = event.at


def replay(state: State, events: list[ev.Event]) -> None:
    """Takes many in, without keeping what is derived; call `state.rebuild()` after the last."""
    table = _APPLY
    for event in events:
        state.seq += 1
        table[event.__class__](state, event)
        state.at = event.at


def _opened(s: State, e: ev.SessionOpened) -> None:
    s.session, s.opened, s.resumed = e.session, e.at, e.at
    s.idle = e.at if e.plan.limits.time else 0
    s.plan, s.base, s.tip, s.kind, s.branch = e.plan, e.base, e.base, e.kind, e.branch
    s.specs = {spec.name: spec for spec in e.plan.agents}
    s.staff()


def _based(s: State, e: ev.SessionBased) -> None:
    s.base, s.tip, s.kind, s.branch = e.base, e.base, e.kind, e.branch


def _forked(s: State, e: ev.SessionForked) -> None:
    s.origin, s.session = e.origin, e.session
    for entry in s.entries.values():
        entry.approved = entry.talking = False
        if entry.attempt is not None:
            clocks.halt(s, entry, s.at)
            s.release(entry)
        asks = entry.task.approve == "before" and entry.state in ("ready", "parked")
        if entry.task.candidates and entry.children and (entry.state == "merging" or entry.question):
            # Ballots are void, and so is what was chosen.
            entry.state, entry.question = "expanded", ""
        elif entry.state in ("running", "merging") or asks or (entry.state == "needs-you" and entry.question == "approve before"):
            entry.state, entry.question = "waiting", ""
        if entry.state == "expanded":
            polls.afresh(entry)
    s.intent, s.merge_queue, s.nodes, s.agents = None, [], {}, {}
    s.senders = Senders()
    s.worked, s.idle, s.standing = s.at_work(s.at), e.at if s.idle else 0, {}
    s.paused, s.why, s.closed, s.resumed, s.keys, s.keyed = False, "", False, e.at, {}, 0
    if s.live:
        s.rebuild()


def _paused(s: State, e: ev.SessionPaused) -> None:
    s.worked = s.at_work(e.at)
    s.paused, s.why = True, e.why


def _resumed(s: State, e: ev.SessionResumed) -> None:
    s.paused, s.why, s.resumed = False, "", e.at
    s.idle = e.at if s.idle else 0


def _closed(s: State, e: ev.SessionClosed) -> None:
    s.closed = True


def _landed(s: State, e: ev.SessionLanded) -> None:
    s.landed = e.tip


def _marked(s: State, e: ev.SessionMarked) -> None:
    s.marks[e.name] = s.seq


def _plan_changed(s: State, e: ev.PlanChanged) -> None:
    s.plan = e.plan
    s.specs = {spec.name: spec for spec in e.plan.agents}
    s.staff()


def _declared(s: State, e: ev.AgentsDeclared) -> None:
    s.specs.update((spec.name, spec) for spec in e.specs)
    s.staff()


def _joined(s: State, e: ev.NodeJoined) -> None:
    node = s.nodes.get(e.node)
    if node is None:
        s.nodes[e.node] = Node(id=e.node, boot=e.boot, capacity=e.capacity, slots=e.slots, labels=e.labels)
    else:
        if node.boot != e.boot:
            _restarted(s, node.id, e.at)
        node.boot, node.capacity, node.slots, node.labels, node.lost = e.boot, e.capacity, e.slots, e.labels, False
        node.credit, node.gone = None, 0
    s.staff()


def _granted(s: State, e: ev.NodeGranted) -> None:
    s.nodes[e.node].credit = e.credit
    if s.live:
        s.queue.look_again("node", e.node)


def _restarted(s: State, node: str, at: int) -> None:
    """A node came back with nothing in hand: what it owes it is told again. While nobody was there no time was used."""
    if not (s.paused or s.idle) and all(other.lost or other.id == node for other in s.nodes.values()):
        s.resumed += at - s.at
    for entry in s.entries.values():
        if entry.attempt is None or entry.attempt.node != node:
            continue
        clocks.forgive(s, entry, at - s.at)
        if s.live and (key := attempt_key(entry)) is not None:
            s.due.add(key)


def _letters(s: State, e: ev.LettersTaken) -> None:
    s.senders.take(e.letters, s.seq)


def _lost(s: State, e: ev.NodeLost) -> None:
    node = s.nodes[e.node]
    node.lost, node.gone = True, 0 if e.why in (LEFT, GUEST) else e.at


def _submitted(s: State, e: ev.TasksSubmitted) -> None:
    s.add(e.tasks, e.at, e.fates)
    if e.key:
        s.remember(e.key, tuple(task.id for task in e.tasks))


def _expanded(s: State, e: ev.TaskExpanded) -> None:
    parent = s.entries[e.task]
    parent.children = tuple(task.id for task in e.children)
    parent.open_children = len(e.children)
    s.move(parent, "expanded", e.at)
    parent.started = e.at
    s.add(e.children, e.at, parent.fates)
    if s.live:
        s.due.pending[e.task] = None


def _ready(s: State, e: ev.TaskReady) -> None:
    entry = s.entries[e.task]
    entry.until = 0
    _avoid(entry, {}, e.at)
    s.move(entry, "ready", e.at)


def _assigned(s: State, e: ev.TaskAssigned) -> None:
    entry = s.entries[e.task]
    s.move(entry, "running", e.at)
    entry.attempts, entry.agent, entry.outdated = e.n, e.agent, False
    # An attempt that starts from what the last one left is still a change of what that one began with.
    if not entry.wip or e.base != entry.wip:
        entry.base = e.base
    if not entry.started:
        entry.started = e.at
    entry.attempt = Attempt(
        n=e.n,
        nonce=e.nonce,
        agent=e.agent,
        node=e.node,
        slot=e.slot,
        started=e.at,
        base=e.base,
        score=e.score,
        reserved=e.reserved,
        locks=tuple(resources.locks_of(s, entry)),
        held=e.held,
    )
    s.running += 1
    s.held += e.held
    agent = s.agents[e.agent]
    agent.node = e.node
    agent.load += 1
    agent.held += e.held
    resources.take(s.nodes[e.node], e.reserved)
    clocks.start(s, entry, e.at)
    for name in entry.attempt.locks:
        s.locks.setdefault(name, []).append(e.task)
    if s.live:
        s.queue.take_slot(e.slot)
        s.queue.changed(agent)
        s.due.add(("start", e.task, e.n))


def _spawned(s: State, e: ev.AttemptSpawned) -> None:
    entry = s.entries[e.task]
    assert entry.attempt is not None
    entry.attempt.pid, entry.attempt.stage = e.pid, "working"
    entry.confinement = e.confinement


def _spoke(s: State, e: ev.AttemptSpoke) -> None:
    entry = s.entries[e.task]
    assert entry.attempt is not None
    entry.conversation, entry.talker, entry.talking = e.conversation, s.agents[entry.attempt.agent].spec, True


def _spent(s: State, e: ev.AttemptSpent) -> None:
    entry = s.entries[e.task]
    attempt = entry.attempt
    assert attempt is not None
    attempt.cost, entry.cost = attempt.cost or Cost(), entry.cost or Cost()
    agent = s.agents[attempt.agent]
    agent.cost = agent.cost or Cost()
    by_kind = s.kinds.setdefault(agent.spec, Cost())
    for total in (attempt.cost, entry.cost, agent.cost, s.cost, by_kind, _model(s, e.model)):
        total.add(e.cost)
    attempt.told, attempt.owing = e.number or attempt.told, e.owing


def _model(s: State, name: str) -> Cost:
    """What a model has cost the session."""
    return s.costs.setdefault(name if name in s.costs or len(s.costs) < MAX_MODELS else OTHER_MODELS, Cost())


def _inquired(s: State, e: ev.TaskInquired) -> None:
    s.cost.add(e.cost)
    _model(s, e.model).add(e.cost)
    entry = s.entries.get(e.task)
    if entry is None:  # it left for the archive
        return
    entry.cost = entry.cost or Cost()
    entry.cost.add(e.cost)
    agent = s.agents.get(entry.agent)
    if agent is not None:
        agent.cost = agent.cost or Cost()
        agent.cost.add(e.cost)
        s.kinds.setdefault(agent.spec, Cost()).add(e.cost)


def _worked(s: State, e: ev.AttemptWorked) -> None:
    entry = s.entries[e.task]
    attempt = entry.attempt
    assert attempt is not None
    if s.live:
        s.unowe(entry)
    clocks.halt(s, entry, e.at)
    attempt.stage, attempt.commit, attempt.ending, attempt.asks = "verifying", e.commit, "", None
    entry.result, entry.exit_code, entry.outputs, entry.commit = e.result, e.exit_code, e.outputs, e.commit
    if s.live:
        s.due.add(("verify", e.task, e.n))


def _ended(s: State, e: ev.AttemptEnded) -> None:
    entry = s.entries[e.task]
    attempt = entry.attempt
    assert attempt is not None
    if s.live:
        s.unowe(entry)
    if entry.talking and e.outcome != "interrupted":
        # A failure that starts afresh is told in the prompt; the thread that led to it is left behind.
        entry.talking = e.outcome == "failed" and retries_of(entry.task).start == "last"
    if e.outcome == "ok":
        entry.result, entry.exit_code, entry.outputs, entry.commit = e.result, e.exit_code, e.outputs, e.commit
        entry.cause, entry.detail, entry.feedback = "", e.detail, ""
    else:
        entry.result, entry.outputs, entry.commit = None, None, ""
        entry.cause, entry.detail, entry.exit_code = e.cause, e.detail, e.exit_code
        entry.feedback = e.feedback
        entry.wip = e.commit or entry.wip
        entry.proposal = None
        if e.counted:
            entry.failures += e.outcome == "failed"
            entry.interruptions += e.outcome == "interrupted"
    refused = e.outcome == "interrupted" and e.until and (e.cause == "limit" or (e.cause == "login" and e.then == "ready"))
    _avoid(entry, dict.fromkeys(refusing(s, s.agents[attempt.agent].spec, e.cause), e.until) if refused else {}, e.at)
    _refused(entry, s.agents[attempt.agent].spec, bool(refused))
    # It waits for whichever of the kinds that refuse it comes back first.
    until = min(entry.avoids.values()) if refused and entry.avoids else e.until
    entry.until, entry.question = until if e.then == "parked" else 0, e.question
    entry.spent += max(0, e.at - attempt.started)
    clocks.halt(s, entry, e.at)
    _record(s, s.agents[attempt.agent], entry.task.type, e.outcome)
    if e.gone:
        s.release(entry)
    else:
        attempt.stage, attempt.ending, attempt.asks = "ending", e.cause or "ended", None
        if s.live:
            s.due.add(("end", e.task, e.n))
    s.move(entry, e.then, e.at)
    if e.then == "merging":
        s.merge_queue.append(e.task)


def _avoid(entry: Entry, more: dict[str, int], at: int) -> None:
    """Adds kinds of agents whose provider refuses the task until a time, and forgets those whose time has come."""
    found = {name: until for name, until in {**(entry.avoids or {}), **more}.items() if until > at}
    entry.avoids = found or None


def _refused(entry: Entry, kind: str, refused: bool) -> None:
    """Counts how often in a row the provider of a kind of agents refused the task."""
    counts = dict(entry.refusals or {})
    before = counts.pop(kind, 0)
    entry.refusals = ({**counts, kind: before + 1} if refused else counts) or None


def _record(s: State, agent: Agent, kind: str, outcome: str) -> None:
    if outcome not in ("ok", "failed"):
        return
    failed = outcome == "failed"
    agent.failed += failed
    agent.done += not failed
    if kind and (kind in agent.types or len(agent.types) < MAX_TYPES):
        agent.types.setdefault(kind, [0, 0])[failed] += 1


def _ending(s: State, e: ev.AttemptEnding) -> None:
    entry = s.entries[e.task]
    attempt = entry.attempt
    assert attempt is not None
    if s.live:
        s.unowe(entry)
    clocks.halt(s, entry, e.at)
    attempt.stage, attempt.ending, attempt.asks = "ending", e.why, None
    if s.live:
        s.due.add(("end", e.task, e.n))


def _gone(s: State, e: ev.AttemptGone) -> None:
    entry = s.entries[e.task]
    if s.live:
        s.unowe(entry)
    if entry.attempt is not None and entry.attempt.ending != "replaced":
        entry.wip = e.wip or entry.wip
    clocks.halt(s, entry, e.at)
    s.release(entry)


def _task_closed(s: State, e: ev.TaskClosed) -> None:
    entry = s.entries[e.task]
    if entry.state == "running" and entry.attempt is not None:
        entry.spent += max(0, e.at - entry.attempt.started)
    if entry.state == "merging":
        s.merge_queue.remove(e.task)
    entry.cause, entry.detail, entry.question, entry.proposal = e.cause, e.detail, "", None
    s.move(entry, e.state, e.at)


def _asked(s: State, e: ev.TaskAsked) -> None:
    entry = s.entries[e.task]
    entry.question, entry.detail = e.question, e.detail
    s.move(entry, "needs-you", e.at)


def _answered(s: State, e: ev.TaskAnswered) -> None:
    entry = s.entries[e.task]
    entry.approved = entry.approved or e.answer == "approve"
    entry.question, entry.proposal = "", None
    if e.comment:
        entry.feedback = e.comment
    s.move(entry, e.then, e.at)
    if e.then == "merging":
        s.merge_queue.append(e.task)


def _retried(s: State, e: ev.TaskRetried) -> None:
    entry = s.entries[e.task]
    entry.failures = entry.interruptions = entry.conflicts = 0
    entry.cause, entry.question, entry.until, entry.ended, entry.talking, entry.proposal = "", "", 0, 0, False, None
    polls.afresh(entry)
    parent = s.entries.get(entry.task.parent)
    if parent is not None and parent.task.candidates:
        parent.poll = None  # the votes were for other work
    if e.comment:
        entry.feedback = e.comment
    if 0 < entry.task.deadline <= e.at:
        entry.task = replace(entry.task, deadline=0)
    if e.agent:
        entry.task = replace(entry.task, agent=e.agent)
    to: TaskState = "waiting"
    if entry.children and made_of_others(entry.task):
        to = "expanded"
    elif entry.unmet == 0 and not needs_judgement(entry.task) and not s.failed_needs(entry):
        to = "ready"
    s.move(entry, to, e.at)
    if s.live:
        if e.agent:
            # It may still stand in the queue among those that want what it wanted before.
            s.queue = Queue(s)
        if entry.task.deadline:
            s.due.watch(entry)
        if entry.children:
            s.due.pending[e.task] = None


def _proposed(s: State, e: ev.TaskProposed) -> None:
    s.entries[e.task].proposal = None if e.refused else e.proposal


def _accepted(s: State, e: ev.ProposalAccepted) -> None:
    entry = s.entries[e.task]
    proposal, entry.proposal = entry.proposal, None
    assert proposal is not None
    s.proposed += proposal.amount
    if proposal.verify is not None:
        s.plan = replace(s.plan, verify=proposal.verify)
    s.add(proposal.tasks, e.at, None)


_APPLY: dict[type, Callable[[State, Any], None]] = {
    ev.SessionOpened: _opened,
    ev.SessionBased: _based,
    ev.SessionForked: _forked,
    ev.SessionPaused: _paused,
    ev.SessionResumed: _resumed,
    ev.SessionClosed: _closed,
    ev.SessionLanded: _landed,
    ev.SessionMarked: _marked,
    ev.PlanChanged: _plan_changed,
    ev.AgentsDeclared: _declared,
    ev.NodeJoined: _joined,
    ev.LettersTaken: _letters,
    ev.NodeGranted: _granted,
    ev.NodeLost: _lost,
    ev.TasksSubmitted: _submitted,
    ev.TaskExpanded: _expanded,
    ev.TaskReady: _ready,
    ev.TaskAssigned: _assigned,
    ev.AttemptSpawned: _spawned,
    ev.AttemptSpoke: _spoke,
    ev.AttemptSpent: _spent,
    ev.TaskInquired: _inquired,
    ev.AttemptWorked: _worked,
    ev.AttemptEnded: _ended,
    ev.AttemptEnding: _ending,
    ev.AttemptGone: _gone,
    ev.TaskClosed: _task_closed,
    ev.TaskAsked: _asked,
    ev.TaskAnswered: _answered,
    ev.TaskRetried: _retried,
    ev.TaskProposed: _proposed,
    ev.ProposalAccepted: _accepted,
    **asking.APPLY,
    **landing.APPLY,
    **polls.APPLY,
    **delivery.APPLY,
    **opening.APPLY,
    **formed.APPLY,
}
