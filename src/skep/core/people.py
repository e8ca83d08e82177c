"""What a person says to tasks: cancel, retry, an answer."""

from __future__ import annotations

from collections import deque

from msgspec.structs import replace

from skep.core import budgets, candidates, gates, graph, placement, proposals, resolving, voting
from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.closing import after_success, close
from skep.core.merges import refuse_stacked
from skep.core.model import TERMINAL, Answer, Entry, TaskState
from skep.core.retry import HELD
from skep.core.rules import waiting
from skep.core.scope import failed, without
from skep.core.turn import Turn, is_open
from skep.errors import Conflict, Invalid

#: Questions that a task in needs-you can hold -> the answers that fit.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "approve before": ("approve", "reject"),
    "approve": ("approve", "reject"),
    "gate": ("approve", "reject"),
    "merge": ("approve", "merge", "reject", "skip"),
    "conflict": ("rerun", "reject", "skip", "merge"),
    "rerun": ("rerun", "skip"),
    "held": ("approve", "rerun", "reject", "skip"),
    "login": ("approve", "rerun", "reject", "skip"),
    "vote": ("choose", "reject", "skip"),
    "plan": ("approve", "reject", "skip"),
    "proposal": ("approve", "reject", "skip"),
}


def cancel(turn: Turn, given: inp.Cancel) -> tuple[str, ...]:
    """Cancels tasks and what falls with them; returns all of them. Running ones end at once, their processes soon after.

    Raises:
        Conflict: one is finished, or its merge is under way.
    """
    state = turn.state
    for name in given.tasks:
        entry = turn.entry(name)
        if not is_open(entry):
            raise Conflict(f"task '{name}' is {entry.state} already", "There is nothing left to cancel.")
    falling = graph.fall(state, given.tasks, given.subtree)
    fell = set(falling)
    refuse_stacked(state, fell)
    # Dependents first: nobody must become ready or skipped on account of a task that falls later.
    for name in reversed(falling):
        entry = state.entries[name]
        if name in given.tasks:
            close(turn, entry, "cancelled", "cancelled", given.by)
        else:
            culprit = next((need for need in entry.task.needs if need in fell), entry.task.parent)
            close(turn, entry, "needs", f"needs {culprit}, which was cancelled", given.by)
    return tuple(falling)


def interrupt(turn: Turn, given: inp.Interrupt) -> str:
    """Ends the attempt under way; its work is kept, and the task asks a person how to go on. Returns the agent's id.

    Raises:
        Conflict: no agent is at work on it.
    """
    entry = turn.entry(given.task)
    if entry.state != "running" or entry.attempt is None or entry.attempt.stage not in ("starting", "working"):
        raise Conflict(f"no agent is at work on task '{given.task}'", "`skep status` shows who works on what.")
    turn.emit(ev.AttemptEnding(turn.at, given.task, entry.attempt.n, HELD))
    return entry.attempt.agent


def retry(turn: Turn, given: inp.Retry) -> None:
    """Sends a finished task round again, together with what was skipped for want of it.

    Raises:
        Conflict: it is not finished, or was replaced, or used up its budget, or what it needs did not succeed.
        Invalid: no such agent.
    """
    entry = turn.entry(given.task)
    if turn.state.closed:
        raise Conflict(f"session {turn.state.session} is closed", "Fork it to go on from where it ended.")
    if entry.task.ballot:
        raise Conflict(f"task '{given.task}' is a vote: the first one counts", f"Retry '{entry.task.parent}' for a new ballot.")
    if entry.task.resolves:
        raise Conflict(
            f"task '{given.task}' was to resolve a conflict", f"Retry '{entry.task.parent}': it runs again on the new tip."
        )
    if entry.state == "replaced":
        raise Conflict(f"task '{given.task}' is no part of the plan any more", "Add it to the workflow file again.")
    if is_open(entry) and entry.state not in ("needs-you", "parked"):
        raise Conflict(f"task '{given.task}' is {entry.state}", "Cancel it first, or wait for it.")
    if why := budgets.over(entry, turn.at):
        raise Conflict(f"task '{given.task}': {why}", "Raise its budget in the workflow file, then `skep resume --file`.")
    if entry.cause == "needs":
        culprit = next((need for need in without(turn.state, entry) if failed(turn.state, entry, need)), "")
        if culprit:
            raise Conflict(
                f"task '{given.task}' needs '{culprit}', which did not succeed", f"Retry '{culprit}': both go on then."
            )
    if given.agent:
        why = placement.impossible(turn.state, replace(entry.task, agent=given.agent), turn.state.specs)
        if why:
            raise Invalid(f"task '{given.task}' cannot go to agent '{given.agent}': {why}", "Name an agent that can do it.")
    again(turn, entry, given.comment, given.agent, given.by)


def again(turn: Turn, entry: Entry, comment: str, agent: str, by: str) -> None:
    """The task, its foreach, and everything that was skipped or cancelled because of it, start afresh."""
    state = turn.state
    parent = state.entries.get(entry.task.parent) if entry.task.parent else None
    others = _victims(turn, entry)
    if parent is not None and parent.state in TERMINAL:
        others += _victims(turn, parent)
        if parent.task.foreach is not None and parent.task.foreach.fail_fast:
            # One item that is still failed would end the others at once.
            others += parent.children
        turn.emit(ev.TaskRetried(turn.at, parent.task.id, by=by))
    rivals = [rival for rival in candidates.rivals(state, entry) if not is_open(rival)] if entry.task.candidates else []
    others += entry.children if entry.task.foreach is not None else ()
    passed = gates.behind(state, entry.task)
    resolving.dismiss(turn, entry)
    turn.emit(ev.TaskRetried(turn.at, entry.task.id, comment, "" if entry.task.candidates else agent, by))
    for name in dict.fromkeys(others):
        other = state.entries.get(name)
        if other is not None and other.state in TERMINAL and other.state != "done" and not budgets.over(other, turn.at):
            turn.emit(ev.TaskRetried(turn.at, name, by=by))
    for gate in passed:
        # They go by a result that counts no more.
        voting.dismiss(turn, state.entries[gate], "what it is about goes round again")
        turn.emit(ev.TaskRetried(turn.at, gate, by=by))
    for rival in rivals:
        # All of them, also those that were done: what comes of it is to be another choice. But none whose budget is used up.
        if not budgets.over(rival, turn.at):
            turn.emit(ev.TaskRetried(turn.at, rival.task.id, comment, agent, by))


def _victims(turn: Turn, entry: Entry) -> list[str]:
    """Tasks that ended only because of how this one did, nearest first. An item of a foreach that stays ended stays so too."""
    found: dict[str, None] = {}
    left = deque(entry.dependents or ())
    while left:
        name = left.popleft()
        other = turn.state.entries.get(name)
        if name in found or other is None or other.cause not in ("needs", "condition") or other.state not in TERMINAL:
            continue
        parent = turn.state.entries.get(other.task.parent)
        if parent is not None and parent.state in TERMINAL and parent.task.id not in found and parent is not entry:
            continue
        found[name] = None
        left.extend(other.dependents or ())
    return list(found)


def answer(turn: Turn, given: inp.Say) -> None:
    """A person's answer to a question.

    Raises:
        Conflict: the task asks nothing.
        Invalid: an answer that does not fit the question.
    """
    entry = turn.entry(given.task)
    if entry.attempt is not None and (asks := waiting(entry.attempt.asks)):
        names = " or ".join(f"{given.task}/{one.number}" for one in asks[:5])
        raise Conflict(f"task '{given.task}' is at work, and its agent asks leave", f"Answer by what it asks for: {names}.")
    if entry.state != "needs-you":
        raise Conflict(f"task '{given.task}' is {entry.state} and asks nothing", "`skep status` shows what asks.")
    fitting = QUESTIONS.get(entry.question, ())
    if given.answer not in fitting:
        raise Invalid(
            f"'{given.answer}' does not answer '{entry.question}' of task '{given.task}'", f"Say {' or '.join(fitting)}."
        )
    if entry.proposal is not None and given.fingerprint not in ("", entry.proposal.fingerprint):
        raise Conflict(f"task '{given.task}' proposes something else by now", "Look at it again: `skep plan`.")
    if entry.question == "login" and given.answer in ("approve", "rerun"):
        _logged_in(turn, entry, given)
    elif given.answer == "choose":
        candidates.choose(turn, entry, given)
    elif given.answer == "skip" and entry.question == "plan":
        close(turn, entry, "rejected", given.comment or "a person said no", given.by)
    elif entry.proposal is not None and given.answer != "reject":
        _decided(turn, entry, given)
    elif given.answer != "reject":
        turn.emit(ev.TaskAnswered(turn.at, given.task, given.answer, _follows(entry, given.answer), given.comment, given.by))
    elif entry.question in ("approve before", "gate", "login", "held"):
        close(turn, entry, "rejected", given.comment or "a person said no", given.by)
    elif entry.chosen:
        turn.emit(ev.CandidateRefused(turn.at, given.task, entry.chosen, given.comment or "a person said no", given.by))
    else:
        again(turn, entry, given.comment, "", given.by)


def _logged_in(turn: Turn, entry: Entry, given: inp.Say) -> None:
    """A person logged in: what waits for that login goes on, this task and all others whose agents have the same runtime."""
    state = turn.state

    def runtime(waiting: Entry) -> str:
        agent = state.agents.get(waiting.agent)
        spec = state.specs.get(agent.spec) if agent is not None else None
        return spec.runtime if spec is not None else ""

    others = [other for other in state.entries.values() if other.state == "needs-you" and other.question == "login"]
    for other in (entry, *(other for other in others if other is not entry and runtime(other) == runtime(entry) != "")):
        # Not "approve": that would also count as the yes that a task may want before it starts.
        turn.emit(ev.TaskAnswered(turn.at, other.task.id, "rerun", _follows(other, "rerun"), given.comment, given.by))


def _decided(turn: Turn, entry: Entry, given: inp.Say) -> None:
    """A person took what a task proposes, or left it; its own work goes on as if it had proposed nothing."""
    if given.answer == "approve":
        proposals.take(turn, entry, given.by or "a person")
    then, question = after_success(replace(entry, proposal=None), entry.commit)
    turn.emit(ev.TaskAnswered(turn.at, given.task, given.answer, then, given.comment, given.by))
    if question:
        turn.emit(ev.TaskAsked(turn.at, given.task, question))


def _follows(entry: Entry, said: Answer) -> TaskState:
    """The state that an answer leads to."""
    if said == "skip":
        return "skipped"
    if entry.question == "approve before":
        return "waiting"  # to be looked at again: a foreach is expanded now, not run
    if said == "rerun" or entry.question == "held":
        return "waiting" if entry.unmet else "ready"
    return "merging" if entry.commit and entry.task.merge != "never" else "done"
