"""The time that a session is told: the wall clock's, but it never goes back and never stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Pace:
    """Wall-clock time in ms. After the clock was put back it passes at half its speed until the clock has caught up.

    So a wait takes twice as long at most, whatever the clock was put back by, and the time comes right by itself.

    Args:
        now: the wall clock, ms; it may jump.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._at = 0
        #: What the monotonic clock said at that time, seconds.
        self._beat = 0.0

    def seen(self, at: int) -> None:
        """Something happened at this time: it is not earlier now."""
        if at > self._at:
            self._at, self._beat = at, asyncio.get_running_loop().time()

    def now(self) -> int:
        """The time in ms, never less than what it was before."""
        self.seen(max(self._now(), self._at + int((asyncio.get_running_loop().time() - self._beat) * 500)))
        return self._at
