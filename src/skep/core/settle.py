"""The end of a turn: whatever follows from the state without anybody saying so."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from skep.core import approvals, budgets, candidates, conditions, gates, merges, messages, references, resolving
from skep.core import events as ev
from skep.core.closing import close
from skep.core.due import conversation_of
from skep.core.model import Agent, Entry, Task
from skep.core.retry import retries_of
from skep.core.scope import failed, lookup, without
from skep.core.state import State
from skep.core.turn import Turn, is_open
from skep.errors import Invalid

#: Assignments in one turn: the append stays small, and the next turn goes on.
MAX_ASSIGNMENTS = 1_024
#: Why a session is paused whose time is used up.
TIME_LIMIT = "time limit reached"


def settle(turn: Turn, hands: bool) -> bool:
    """Wakes what is due, judges what waits, begins the next merge, assigns what can be assigned.

    Returns whether there is more to assign than one turn takes.
    """
    wake(turn)
    judge(turn)
    gates.follow(turn)
    if not hands:
        return False
    merges.start(turn)
    return assign(turn)


def wake(turn: Turn) -> None:
    """Time has passed: parked tasks go on, deadlines and the session's time limit are held."""
    state = turn.state
    limit = state.time_limit_at
    if limit and turn.at >= limit:
        stop(turn, TIME_LIMIT, by="")
    if not (state.paused or state.closed) and (why := budgets.used_up(state, turn.at)):
        stop(turn, why, by="")
    messages.expire(turn)
    for name in state.due.elapsed(turn.at):
        entry = state.entries.get(name)
        if entry is None or not is_open(entry):
            continue
        late = 0 < entry.task.deadline <= turn.at
        if late and not state.stacked(name):
            close(turn, entry, "deadline", "its deadline has passed")
        elif entry.state == "parked" and entry.until <= turn.at:
            turn.emit(ev.TaskReady(turn.at, name))
        elif entry.state == "ready" and min((entry.avoids or {}).values(), default=turn.at + 1) <= turn.at:
            turn.emit(ev.TaskReady(turn.at, name))  # a kind of agent that refused it may have it again
        elif entry.state == "expanded":
            state.due.pending[name] = None
        elif budgets.ends(entry) and (why := budgets.over(entry, turn.at)):
            close(turn, entry, "limit", why)
        else:
            approvals.expire(turn, entry)


def stop(turn: Turn, why: str, by: str) -> None:
    """Nothing new starts, and what runs is interrupted. Verifications stay owed: they lose nothing by being begun again."""
    state = turn.state
    if not state.paused:
        turn.emit(ev.SessionPaused(turn.at, True, why, by))
    for entry in list(state.entries.values()):
        if entry.attempt is not None and entry.attempt.stage in ("starting", "working"):
            turn.emit(ev.AttemptEnding(turn.at, entry.task.id, entry.attempt.n, "stopped"))


def limited(state: State) -> bool:
    """Whether it is paused because a limit was reached: nobody resumes it before that is raised."""
    return state.paused and state.why.partition(": ")[0] in (TIME_LIMIT, *budgets.REASONS)


def halted(state: State) -> bool:
    """Whether it is paused, and what ran when that was said has come to its end."""
    return state.paused and not state.running and state.intent is None


def judge(turn: Turn) -> None:
    """Looks at the waiting tasks of which a need became known: ready, expanded, asked about, or skipped."""
    state = turn.state
    pending = state.due.pending
    while pending:
        # In rounds: taking the first out of a dict over and over is quadratic.
        names = list(pending)
        pending.clear()
        for name in names:
            entry = state.entries.get(name)
            if entry is None:
                continue
            if entry.state == "expanded":
                gathering(entry.task)(turn, entry)
            elif entry.state == "waiting":
                consider(turn, entry)


def gathering(task: Task) -> Callable[[Turn, Entry], None]:
    """What decides a task whose work others do, as far as it can be decided."""
    if task.gate:
        return gates.gather
    return candidates.gather if task.candidates else gather if task.foreach is not None else resolving.gather


def consider(turn: Turn, entry: Entry) -> None:
    """Decides a waiting task as far as it can be decided."""
    state, task = turn.state, entry.task
    if task.gate:
        gates.consider(turn, entry)
        return
    bad = without(state, entry)
    if bad:
        culprit = next((need for need in bad if failed(state, entry, need)), "")
        why = gates.missing(state, entry, culprit or bad[0])
        # What an `if` left out is nobody's failure, and neither is what falls away with it.
        turn.emit(ev.TaskClosed(turn.at, task.id, "skipped", "needs" if culprit else "condition", why))
        return
    if entry.unmet:
        return
    if task.condition and not conditions.evaluate(conditions.parse(task.condition), lookup(state, entry)):
        turn.emit(ev.TaskClosed(turn.at, task.id, "skipped", "condition", f"if: {task.condition}"))
    elif task.approve == "before" and not entry.approved:
        turn.emit(ev.TaskAsked(turn.at, task.id, "approve before"))
    elif task.foreach is not None:
        expand(turn, entry)
    elif task.candidates:
        candidates.expand(turn, entry)
    else:
        turn.emit(ev.TaskReady(turn.at, task.id))


def expand(turn: Turn, entry: Entry) -> None:
    """Makes one task per item; the same list makes the same tasks, also after a crash."""
    state, task = turn.state, entry.task
    assert task.foreach is not None
    find = lookup(state, entry)
    try:
        source = references.parse_path(task.foreach.source)
        items = references.items(find(source), task.foreach)
    except LookupError:
        turn.emit(ev.TaskClosed(turn.at, task.id, "failed", "error", f"{task.foreach.source} is not there"))
        return
    except Invalid as error:
        turn.emit(ev.TaskClosed(turn.at, task.id, "failed", "error", error.message))
        return
    children = tuple(child(task, key, item) for key, item in items)
    taken = next((c.id for c in children if c.id in state.entries and state.entries[c.id].state != "replaced"), "")
    if taken:
        turn.emit(ev.TaskClosed(turn.at, task.id, "failed", "error", f"a task '{taken}' exists already"))
        return
    turn.emit(ev.TaskExpanded(turn.at, task.id, children))


def child(task: Task, key: str, item: object) -> Task:
    """The task of one item. That its needs are met, or need not be, was decided for all items together."""
    return msgspec.structs.replace(
        task,
        id=references.child_id(task.id, key),
        item=item,
        parent=task.id,
        foreach=None,
        condition="always()" if task.condition else "",
        approve="" if task.approve == "before" else task.approve,
    )


def gather(turn: Turn, entry: Entry) -> None:
    """A foreach is over when all its items are; the first failure ends the others if it says so."""
    state, task = turn.state, entry.task
    assert task.foreach is not None
    if entry.open_children and not task.foreach.fail_fast:
        return
    found = [state.entries[name] for name in entry.children if name in state.entries]
    culprit = next((other.task.id for other in found if other.state in ("failed", "gave-up")), "")
    if culprit and entry.open_children:
        for other in found:
            if is_open(other) and not state.stacked(other.task.id):
                for made in other.children:
                    if is_open(state.entries[made]):
                        close(turn, state.entries[made], "cancelled", f"{culprit} failed and fail_fast is set")
                close(turn, other, "cancelled", f"{culprit} failed and fail_fast is set")
    if entry.open_children:
        return
    bad = [other.task.id for other in found if other.state != "done"]
    if bad:
        names = ", ".join(bad[:5])
        turn.emit(
            ev.TaskClosed(turn.at, task.id, "failed", "needs", f"{len(bad)} of {len(entry.children)} items failed: {names}")
        )
    else:
        turn.emit(ev.TaskClosed(turn.at, task.id, "done"))


def assign(turn: Turn) -> bool:
    """Assigns ready tasks, highest priority and oldest first, until agents, room or the limit are used up."""
    state = turn.state
    if state.paused or state.closed:
        return False
    for _ in range(MAX_ASSIGNMENTS):
        if state.running >= state.limit or (placed := state.queue.place()) is None:
            return False
        entry, agent, score, node, reserved = placed
        held = budgets.reserve(state, entry, state.specs[agent.spec])
        if held is None and budgets.waits_for_its_kind(state, agent):
            state.queue.put_off(entry)
            continue
        if held is None:
            state.queue.push(entry)
            if not state.held:
                stop(turn, budgets.COST_LIMIT, by="")
            return False
        task, n = entry.task, entry.attempts + 1
        nonce, slot = turn.nonce(task.id, n), state.queue.slot
        turn.emit(
            ev.TaskAssigned(
                turn.at,
                task.id,
                n,
                nonce,
                agent.id,
                node.id,
                slot,
                round(score, 4),
                base_of(turn, entry, agent),
                reserved,
                held,
            )
        )
    return True


def base_of(turn: Turn, entry: Entry, agent: Agent) -> str:
    """The commit that the next attempt starts from. What did not merge is never built upon: it would not merge again.
    Nor is what was begun before something that the task needs went round again: it lacks what that has done since.

    A client that goes on in its thread finds what it left: its thread speaks of it.
    """
    goes_on = retries_of(entry.task).start == "last" or conversation_of(entry, agent.spec)
    if entry.wip and goes_on and not (entry.conflicts or entry.outdated):
        return entry.wip
    return turn.state.tip
