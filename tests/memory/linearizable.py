"""Whether what was read of a key can have come of what was written to it, one thing after the other (Wing and Gong, 1993)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Call(NamedTuple):
    """One call of a client. `value`: what it wrote, or read; None = deleted, or nothing there. Every value is written once.

    `begun`, `over`: when, by one clock of all clients; a write of which nobody knows how it ended is never over.
    """

    writes: bool
    value: str | None
    begun: float
    over: float = math.inf


def linearizable(calls: Sequence[Call]) -> bool:
    """Whether there is an order in which each call has its effect at one moment between its beginning and its end.

    Writes that are never over may have had theirs at any time after they began, or never.
    """
    calls = sorted(calls, key=lambda call: call.begun)
    known = sum(1 << n for n, call in enumerate(calls) if call.over < math.inf)
    tried = set[tuple[int, str | None]]()
    open_: list[tuple[int, str | None]] = [(0, None)]
    while open_:
        done, state = open_.pop()
        if (done, state) in tried:
            continue
        tried.add((done, state))
        if done & known == known:
            return True
        left = [n for n in range(len(calls)) if not done >> n & 1]
        first = min(calls[n].over for n in left)
        for n in left:
            call = calls[n]
            if call.begun > first:
                break
            if call.writes:
                open_.append((done | 1 << n, call.value))
            elif call.value == state:
                open_.append((done | 1 << n, state))
    return False
