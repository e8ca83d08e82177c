"""A clock that is forty days ahead, for what is done with sessions that ended long ago."""

from __future__ import annotations

import time

from skep.runtime.node import SystemClock

#: ms.
AHEAD = 40 * 24 * 3_600_000


def ahead(_: SystemClock) -> int:
    """Milliseconds since the epoch, in forty days."""
    return time.time_ns() // 1_000_000 + AHEAD


def put_forward() -> None:
    """From now on the clock of this process is ahead."""
    setattr(SystemClock, "now", ahead)  # noqa: B010  # of every workspace that is opened
