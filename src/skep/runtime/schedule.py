"""When something is due that is done again and again, such as backups, and how the last time went."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from skep.disk.durable import Draft
from skep.errors import SkepError

#: Sessions that are named with what failed.
NAMED = 100


class Last(Struct, frozen=True):
    """The last time: when it began (wall-clock ms), and why it failed for sessions, by name ("": for all of them)."""

    at: int
    failed: dict[str, str] = {}


def last(mark: Path) -> Last | None:
    """How it went the last time, by the file that keeps it; None if there was none (or nobody can tell)."""
    try:
        return msgspec.json.decode(mark.read_bytes(), type=Last)
    except (OSError, msgspec.MsgspecError):
        return None


class Schedule:
    """Does something again and again, also across restarts: a file keeps when it was done last.

    Args:
        every: seconds between.
        mark: the file.
        now: wall-clock ms.
        work: does it; returns why it failed, by session.
        sleep: waits for some seconds.
    """

    def __init__(
        self,
        every: int,
        mark: Path,
        now: Callable[[], int],
        work: Callable[[], Awaitable[dict[str, str]]],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._every = every * 1000
        self._mark = mark
        self._now = now
        self._work = work
        self._sleep = sleep

    async def run(self) -> None:
        """Until it is cancelled. What fails is told, and tried again when it is due next."""
        while True:
            before = last(self._mark)
            began = self._now()
            # What was done later than now was done by a clock that was put back since: when is not known.
            left = before.at + self._every - began if before is not None and before.at <= began else 0
            if left > 0:
                await self._sleep(left / 1000)
                continue
            try:
                failed = await self._work()
            except SkepError as error:
                failed = {"": error.message}
            except OSError as error:
                failed = {"": str(error.strerror)}
            if not await asyncio.to_thread(self._note, Last(began, dict(list(failed.items())[:NAMED]))):
                await self._sleep(self._every / 1000)

    def _note(self, told: Last) -> bool:
        with contextlib.suppress(OSError), Draft(self._mark.parent) as draft:
            draft.file.write(msgspec.json.encode(told))
            draft.keep(self._mark)
            return True
        return False
