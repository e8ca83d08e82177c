"""Removes what was never finished: blobs that no log names, whose reports were not accepted, and half-made sessions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from skep.core.fleet import SYSTEM
from skep.errors import Conflict, NotFound, SkepError
from skep.runtime.parts import Parts
from skep.runtime.shared import CHORES
from skep.store import Append, codec

#: A blob younger than this stays, named or not, ms: its append may be on its way.
DAY = 24 * 3_600_000
#: Its time is that of the last collection; of a shared store the lease of that name says that it was done today.
MARK = "collected"
#: What was passed over that is named.
NAMED = 100
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

    Of the processes that share a store one does it, each day: what a log names that it has not read it would remove. One that was
    only invited cannot read them all, and does not.

    What memory keeps stays. Where machines each have a memory of their own, it has to be known first what the others keep: who
    cannot compare with all that are there removes nothing that day.

    What the commits of sessions are sent in, and what their attempts printed, stays as long as the session is there. Entries of
    the list of commits that are damaged name nothing any more: they are passed over, and the mark's file says which.

    What sessions that are gone have in a shared repository goes too.

    What is put meanwhile stays: it is pinned until its append is read from the log, and younger than a day. A session that was
    not made to its end within a day goes: whoever made it was killed, or lost the store, and nobody was told of it.

    Returns:
        how many blobs were removed.

    Raises:
        SkepError: a log cannot be read, or the memory of another machine that is there; then nothing is removed, because it may
            name anything.
    """
    if parts.shared is not None and parts.shared.invited:
        return 0
    mark, now = parts.state / MARK, parts.clock.now()
    if not mark.exists():
        mark.touch()
    if mark.stat().st_mtime * 1000 > now - DAY:
        return 0
    mark.write_bytes(b"")  # what was passed over is said by whoever collects now
    mark.touch()
    shared = parts.shared
    if parts.bank.replication is not None:
        await parts.bank.replication.sync()  # before the lease: if it fails, another one may collect today
    if shared is not None and not await shared.leases.hold(f"{CHORES}/{MARK}", shared.owner, DAY):
        return 0
    named, passed = set[str](), list[str]()
    for row in await parts.log.sessions():  # those that are still being made too
        if not row.note and row.session != SYSTEM and row.created < now - DAY:
            with contextlib.suppress(Conflict, NotFound):  # it is being made after all
                await parts.log.drop(row.session, row.head)
                await parts.workspace.forget(row.session)
                continue
        seq = 0
        while page := await parts.log.read(row.session, after=seq, limit=PAGE):
            named |= await asyncio.to_thread(_named, page)
            seq = page[-1].last
        if parts.listing is not None:
            digests, damaged = await parts.listing.blobs(row.session)
            named |= digests
            # Somebody else may have written the name, too.
            passed += [f"session {row.session}: where commit {ascii(commit[:64])[1:-1]} lies" for commit in damaged[:NAMED]]
        if parts.recordings is not None:
            named |= await parts.recordings.blobs(row.session)
    named |= await parts.bank.blobs()
    await asyncio.to_thread(mark.write_text, "\n".join(passed[:NAMED]), "utf-8")
    swept = await parts.blobs.sweep(frozenset(named), now - DAY)
    if parts.commits is not None:
        await parts.commits.collect(lambda: _there(parts))
    return swept


async def _there(parts: Parts) -> set[str]:
    return {row.session for row in await parts.log.sessions()}


def _named(page: Sequence[Append]) -> set[str]:
    """The blobs that these appends name: whatever has outputs names them in a field of that name."""
    events = (event for append in page for event in codec.decode(append.blob))
    return {output.digest for event in events for output in (getattr(event, "outputs", None) or {}).values()}
