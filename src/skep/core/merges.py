"""The session's branch: one stack of merges at a time, its intent in the log before anything is built."""

from __future__ import annotations

from collections.abc import Container

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core import resolving
from skep.core.attempts import MAX_FEEDBACK, again
from skep.core.closing import MAX_DETAIL
from skep.core.intent import Candidate, MergeIntent
from skep.core.model import Task, TaskState
from skep.core.placement import BY_HAND
from skep.core.retry import retries_of, wait
from skep.core.state import State
from skep.core.turn import Turn
from skep.errors import Conflict

#: Results that are merged, and verified, at once.
MAX_STACK = 5


def start(turn: Turn) -> None:
    """Begins to merge what waits, if nothing is being merged. While a session is paused no merge begins, but one goes on.

    What was claimed by hand while nothing else is carried out is merged all the same.
    """
    state = turn.state
    if state.intent is not None or not state.merge_queue or (state.paused and state.why != BY_HAND):
        return
    waiting = [state.entries[name] for name in state.merge_queue[:MAX_STACK]]
    stack = tuple(Candidate(entry.task.id, entry.attempts, entry.commit) for entry in waiting)
    turn.emit(ev.MergeStarted(turn.at, MergeIntent(base=state.tip, at=turn.at, stack=stack)))


def refuse_stacked(state: State, tasks: Container[str]) -> None:
    """Raises Conflict if one of these tasks is being merged."""
    for candidate in state.intent.stack if state.intent is not None else ():
        if candidate.task in tasks:
            raise Conflict(f"task '{candidate.task}' is being merged", "Try again in a moment.")


def ended(turn: Turn, report: inp.MergeEnded) -> None:
    """The lower part of the stack is on the branch, the candidate above it may be refused; the others wait as before."""
    stack, landed = report.intent.stack, len(report.commits)
    if turn.state.intent != report.intent or not 0 < landed + bool(report.cause) <= len(stack):
        raise Conflict(f"no such merge of {', '.join(c.task for c in stack)} is under way; its report is refused")
    for candidate, commit in zip(stack, report.commits, strict=False):
        turn.emit(ev.Merged(turn.at, candidate.task, commit, "" if report.cause else report.detail[-MAX_DETAIL:]))
    if report.cause:
        _refuse(turn, stack[landed].task, report)


def _refuse(turn: Turn, name: str, report: inp.MergeEnded) -> None:
    """A conflict is resolved, or reruns the task on the new tip, once and then asks; a failed verify is a failure, and so is a
    change of what is protected."""
    entry = turn.state.entries[name]
    task = entry.task
    then: TaskState = "needs-you"
    question, until = "merge", 0
    resolver: Task | None = None
    if task.candidates and report.cause in ("conflict", "verify-failed", "protected"):
        then, question = "expanded", ""  # the next candidate, if there is one
    elif report.cause == "conflict":
        question = "conflict"
        if entry.conflicts == 0 and task.on_conflict == "rerun":
            (then, until), question = again(entry), ""
        elif entry.conflicts == 0 and task.on_conflict == "task" and not resolving.impossible(turn.state, task, turn.state.specs):
            then, question, resolver = "expanded", "", resolving.resolver(entry, entry.commit)
    elif report.cause in ("verify-failed", "protected"):
        policy = retries_of(task)
        then, question = "failed", ""
        if entry.failures + 1 <= policy.max:
            delay = wait(policy, entry.failures + 1, turn.nonce(task.id, entry.attempts))
            then, until = again(entry, turn.at + delay if delay else 0)
    turn.emit(
        ev.MergeFailed(
            turn.at,
            name,
            report.cause,
            report.detail[-MAX_DETAIL:],
            then,
            question,
            report.feedback[-MAX_FEEDBACK:] if retries_of(task).feedback else "",
            until,
            resolver,
        )
    )
