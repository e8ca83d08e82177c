"""What the events of what attempts ask leave for do to a state: the part of `core.apply` that concerns them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skep.core import clocks
from skep.core import events as ev
from skep.core.rules import Asking, waiting
from skep.core.state import State


def _asked(s: State, e: ev.ApprovalAsked) -> None:
    entry = s.entries[e.task]
    attempt = entry.attempt
    assert attempt is not None
    entry.asked = e.number
    if e.verdict:
        return
    if attempt.asks is None:
        attempt.asks = {}
    attempt.asks[e.number] = Asking(
        number=e.number,
        key=e.key,
        tool=e.tool,
        about=e.about,
        digest=e.digest,
        shape=e.shape,
        at=e.at,
        until=e.until,
        arguments=e.arguments,
    )
    clocks.halt(s, entry, e.at)
    if s.live:
        s.due.watch(entry)


def _answered(s: State, e: ev.ApprovalAnswered) -> None:
    asking = _asking(s, e)
    asking.said, asking.comment, asking.by, asking.arguments = "yes" if e.allowed else "no", e.comment, e.by, ""
    entry = s.entries[e.task]
    if entry.attempt is not None and not waiting(entry.attempt.asks):
        clocks.start(s, entry, e.at)
    if e.always:
        s.standing[asking.shape] = f"{asking.tool} {asking.about}"


def _used(s: State, e: ev.ApprovalUsed) -> None:
    _asking(s, e).said = "used"


def _asking(s: State, e: ev.ApprovalAnswered | ev.ApprovalUsed) -> Asking:
    attempt = s.entries[e.task].attempt
    assert attempt is not None
    assert attempt.asks is not None
    return attempt.asks[e.number]


APPLY: dict[type, Callable[[State, Any], None]] = {
    ev.ApprovalAsked: _asked,
    ev.ApprovalAnswered: _answered,
    ev.ApprovalUsed: _used,
}
