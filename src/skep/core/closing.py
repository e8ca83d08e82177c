"""The end of a task, with a result or without."""

from __future__ import annotations

from skep.core import events as ev
from skep.core.model import Cause, Entry, TaskState
from skep.core.turn import Turn

#: Longest `detail` that the log takes, characters; what is longer keeps its end.
MAX_DETAIL = 2_000


def close(turn: Turn, entry: Entry, cause: Cause, detail: str, by: str = "") -> None:
    """Decides a task without a result; what runs of it is to end."""
    no = entry.task.gate and cause == "rejected"
    to: TaskState = "failed" if no or cause in ("deadline", "limit") else "replaced" if cause == "replaced" else "cancelled"
    if entry.attempt is not None and entry.attempt.stage != "ending":
        turn.emit(ev.AttemptEnding(turn.at, entry.task.id, entry.attempt.n, "cancelled" if cause == "needs" else cause))
    turn.emit(ev.TaskClosed(turn.at, entry.task.id, to, cause, detail, by))


def after_success(entry: Entry, commit: str) -> tuple[TaskState, str]:
    """The state that follows a success, and the question if it is one for a person."""
    if entry.task.gate and entry.outdated:
        return "waiting", ""  # what it was about went round again meanwhile
    if entry.proposal is not None:
        return "needs-you", "plan" if entry.task.plans else "proposal"
    if entry.task.approve == "after":
        return "needs-you", "gate" if entry.task.gate else "approve"
    if commit and entry.task.merge == "ask":
        return "needs-you", "merge"
    if commit and entry.task.merge == "auto":
        return "merging", ""
    return "done", ""
