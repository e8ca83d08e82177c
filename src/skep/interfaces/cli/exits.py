"""With what a command ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skep.runtime.views import SessionView

FAILED, BAD_INPUT, LIMIT, NEEDS_YOU, BUG, INTERRUPTED, UNREAD = 1, 2, 3, 4, 70, 130, 141
#: For `skep --help` and the manual. Where several hold: 130, 4, 3, 1.
EXITS: dict[int, str] = {
    0: "every task succeeded (of commands that run nothing: it was done)",
    FAILED: "a task failed, or what was asked for was refused",
    BAD_INPUT: "bad input; nothing was changed",
    LIMIT: "a limit was reached",
    NEEDS_YOU: "a person is needed to go on",
    BUG: "a bug in Skep; the message names a file to send",
    INTERRUPTED: "interrupted; `skep resume` goes on",
    UNREAD: "nobody read the output to its end; nothing is wrong",
}


def exit_code(view: SessionView, interrupted: bool = False, refused: int = 0) -> int:
    """The exit code for a session in which nothing goes on any more.

    Args:
        interrupted: whether the user asked the command to end.
        refused: how often something was refused because nobody is asked.
    """
    if view.state == "completed":  # also with its last report beyond a limit, which then is said
        return LIMIT if view.limit else 0
    if interrupted or (view.state == "paused" and not view.limit):
        return INTERRUPTED
    if refused or view.counts.get("needs-you"):
        return NEEDS_YOU
    if view.limit or view.causes.get("limit"):
        return LIMIT
    bad = view.causes.get("needs") or any(view.counts.get(kind) for kind in ("failed", "gave-up", "cancelled"))
    return 0 if view.state == "closed" and not bad else FAILED
