"""Removes blobs that no log names: what attempts left whose reports were never accepted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from skep.errors import SkepError
from skep.runtime.parts import Parts
from skep.store import Append, codec

#: A blob younger than this stays, named or not, ms: its append may be on its way.
DAY = 24 * 3_600_000
#: Its time is that of the last collection.
MARK = "collected"
#: Appends read at a time: whatever else goes on waits no longer than for these.
PAGE = 50


async def collect_daily(parts: Parts) -> None:
    """Collects whenever a day has passed since it was done last, until cancelled. What fails waits for tomorrow."""
    while True:
        with contextlib.suppress(SkepError, OSError):
            await collect(parts)
        await asyncio.sleep(DAY / 1000)


async def collect(parts: Parts) -> int:
    """Reads all logs, at most once a day, and removes what none of them names: a session can be forked from any point.

    What is put meanwhile stays: it is pinned until its append is read from the log, and younger than a day.

    Returns:
        how many blobs were removed.

    Raises:
        SkepError: a log cannot be read; then nothing is removed, because it may name anything.
    """
    mark, now = parts.state / MARK, parts.clock.now()
    if not mark.exists():
        mark.touch()
    if mark.stat().st_mtime * 1000 > now - DAY:
        return 0
    mark.touch()
    named: set[str] = set()
    for row in await parts.log.sessions():  # those that are still being made too
        seq = 0
        while page := await parts.log.read(row.session, after=seq, limit=PAGE):
            named |= await asyncio.to_thread(_named, page)
            seq = page[-1].last
    return await parts.blobs.sweep(frozenset(named), now - DAY)


def _named(page: Sequence[Append]) -> set[str]:
    """The blobs that these appends name: whatever has outputs names them in a field of that name."""
    events = (event for append in page for event in codec.decode(append.blob))
    return {output.digest for event in events for output in (getattr(event, "outputs", None) or {}).values()}
