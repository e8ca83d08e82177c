"""Vector clocks, and the hybrid clock whose stamps stand in them.

A stamp is the wall clock's ms with a count behind it that breaks ties, so that it always goes up and still tells the time
(hybrid logical clocks: Kulkarni et al., 2014). A vector clock of stamps says what a record has seen of each writer. As a writer's
stamps go up over all keys, none is ever used twice, even for a key whose record was forgotten (dotted version vectors: Almeida et
al., 2014, with the stamp as the dot).
"""

from __future__ import annotations

from collections.abc import Mapping

#: Bits of a stamp that count within one millisecond.
COUNT = 16
#: How far ahead of this machine's clock another's stamp may be, ms: a day. One further ahead would stay the last for ever.
AHEAD = 24 * 3_600_000

VectorClock = Mapping[str, int]


class Hybrid:
    """A clock whose stamps always go up.

    Args:
        last: a stamp that lies behind.
    """

    def __init__(self, last: int = 0) -> None:
        self._last = last

    def tick(self, now: int) -> int:
        """A new stamp, later than all that this clock gave or heard of. `now`: wall-clock ms."""
        self._last = max(self._last + 1, now << COUNT)
        return self._last

    def hear(self, stamp: int) -> None:
        """Takes note of a stamp of another clock: those given from now on are later."""
        self._last = max(self._last, stamp)


def when(stamp: int) -> int:
    """Wall-clock ms of a stamp, as good as its writer's clock."""
    return stamp >> COUNT


def merge(a: VectorClock, b: VectorClock) -> dict[str, int]:
    """What has seen all that either has seen."""
    if not a or not b:
        return dict(sorted((a or b).items()))
    return dict(sorted((writer, max(a.get(writer, 0), b.get(writer, 0))) for writer in {*a, *b}))


def seen(clock: VectorClock, writer: str, stamp: int) -> bool:
    """Whether a clock has seen what a writer wrote at a stamp."""
    return clock.get(writer, 0) >= stamp


def compare(a: VectorClock, b: VectorClock) -> str:
    """`same`, `before` (b has seen all of a, and more), `after`, or `beside`: each has seen what the other has not."""
    less = any(stamp > b.get(writer, 0) for writer, stamp in a.items())
    more = any(stamp > a.get(writer, 0) for writer, stamp in b.items())
    return {(False, False): "same", (False, True): "before", (True, False): "after", (True, True): "beside"}[less, more]
