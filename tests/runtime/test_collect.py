"""Blobs that no log names are removed, and no others."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

import skep
from skep import config
from skep.core.fleet import SYSTEM
from skep.memory.draft import Draft
from skep.memory.limits import INLINE
from skep.runtime import copies
from skep.runtime.checkup import checkup
from skep.runtime.collect import DAY, MARK, collect
from skep.runtime.parcel import Parcel
from skep.runtime.parts import Parts
from skep.runtime.shared import CHORES, Shared
from skep.store import Append, Log, Packed, Recorded, SessionRow
from skep.store.ephemeral import EphemeralDisk, EphemeralLog
from skep.store.ephemeral_shared import EphemeralInbox, EphemeralLeases, EphemeralListing, EphemeralRecordings
from skep.wiring import assemble
from tests.workspace.repository import Repository

TASK = skep.Task(run="echo $$ > $SKEP_OUT/o", outputs={"o": "o"}, mode="none")


class Reading:
    """A log that says who read it."""

    def __init__(self, log: Log, owner: str, readers: list[str]) -> None:
        self._log, self._owner, self._readers = log, owner, readers

    async def sessions(self) -> list[SessionRow]:
        self._readers.append(self._owner)
        return await self._log.sessions()

    async def read(self, session: str, after: int, limit: int) -> list[Append]:
        return await self._log.read(session, after=after, limit=limit)


@asynccontextmanager
async def opened(repo: Repository) -> AsyncIterator[Parts]:
    """The parts of an owner whose last collection is two days ago, beside blobs that are as old."""
    parts = await assemble(repo.top, config.load(repo.top))
    try:
        (parts.state / MARK).touch()
        for path in (parts.state / MARK, *(parts.state / "blobs").glob("??/*")):
            age(path)
        yield parts
    finally:
        await parts.close()


def age(path: Path) -> None:
    """As if it had been made two days ago."""
    past = path.stat().st_mtime - 2 * DAY / 1000
    os.utime(path, (past, past))


def path_of(parts: Parts, digest: str) -> Path:
    return parts.state / "blobs" / digest[:2] / digest[2:]


async def made(repo: Repository) -> list[str]:
    """The outputs of a session, and of its fork."""
    async with skep.open(repo.top) as hive:
        session = await hive.session("origin")
        first = await (await session.submit(TASK)).result()
        fork = await session.fork()
        await fork.resume()
        second = await (await fork.submit(TASK)).result()
        return [first.outputs["o"].digest, second.outputs["o"].digest]


async def test_what_attempts_printed_stays_with_their_session(repo: Repository) -> None:
    await made(repo)
    async with opened(repo) as parts:
        sent, gone = [await parts.blobs.put(data) for data in (b"sent", b"gone")]
        for digest in (sent, gone):
            await parts.blobs.unpin(digest)
            age(path_of(parts, digest))
        origin, disk = (await parts.log.sessions())[0].session, EphemeralDisk()
        for session, digest in ((origin, sent), ("dropped", gone)):
            await EphemeralLog(disk).create(session, 0)
            await EphemeralRecordings(disk, parts.clock.now).put(session, "t1", 1, "", Recorded(digest, 4, "east"))
        assert await collect(msgspec.structs.replace(parts, recordings=EphemeralRecordings(disk, parts.clock.now))) == 1
        assert path_of(parts, sent).exists()
        assert not path_of(parts, gone).exists()


class Comparing:
    """Stands for a memory that others have too: says whether it could compare with them."""

    def __init__(self) -> None:
        self.trouble = ""

    async def sync(self) -> int:
        if self.trouble:
            raise skep.Unavailable(self.trouble)
        return 1

    async def close(self) -> None:
        """Nothing was opened."""


async def test_large_values_of_memory_stay(repo: Repository) -> None:
    async with opened(repo) as parts:
        value = "x" * (INLINE + 1)
        entry = await parts.bank.store(Draft(namespace="project", key="k", value=value))
        age(path_of(parts, entry.blob))
        assert await collect(parts) == 0
        assert (await parts.bank.get("k", namespace="project")).value == value
        await parts.bank.delete("k", namespace="project")
        age(parts.state / MARK)
        assert await collect(parts) == 1


async def test_nothing_is_removed_while_it_is_not_known_what_the_memories_of_others_keep(repo: Repository) -> None:
    async with opened(repo) as parts:
        theirs = await parts.blobs.put(b"another machine keeps this")
        await parts.blobs.unpin(theirs)
        age(path_of(parts, theirs))
        there: Any = Comparing()
        there.trouble = "node east does not answer"
        parts.bank.replication = there
        leases = EphemeralLeases(EphemeralDisk(), lambda: 0)
        shared = Shared(inbox=EphemeralInbox(EphemeralDisk()), leases=leases, owner="this")
        parts_shared = msgspec.structs.replace(parts, shared=shared)
        with pytest.raises(skep.Unavailable, match="node east"):
            await collect(parts_shared)
        assert path_of(parts, theirs).exists()
        assert await collect(parts_shared) == 0, "not again today"
        there.trouble = ""
        age(parts.state / MARK)
        assert await leases.hold(f"{CHORES}/{MARK}", "this", DAY), "nobody was kept from it"
        assert await collect(parts_shared) == 1


async def test_a_session_that_was_not_made_to_its_end_goes_after_a_day(repo: Repository) -> None:
    await made(repo)
    async with opened(repo) as parts:
        there = {row.session for row in await parts.log.sessions()}
        now = parts.clock.now()
        for name, created in (("half", now - DAY - 1), ("being-made", now - DAY + 60_000), (SYSTEM, 0)):
            await parts.log.create(name, created)
        await collect(parts)
        assert {row.session for row in await parts.log.sessions()} == there | {"being-made", SYSTEM}


class Spoilt(EphemeralListing):
    """A list in which one entry is damaged."""

    async def blobs(self, session: str) -> tuple[set[str], list[str]]:
        return (await super().blobs(session))[0], ["1" * 40, "\x1b[2J\n\ufffd" + "x" * 1_000]


async def test_what_commits_are_sent_in_stays_with_their_session(repo: Repository) -> None:
    await made(repo)
    async with opened(repo) as parts:
        sent, gone = [await parts.blobs.put(data) for data in (b"sent", b"gone")]
        for digest in (sent, gone):
            await parts.blobs.unpin(digest)
            age(path_of(parts, digest))
        listing = EphemeralListing(EphemeralDisk())
        origin = (await parts.log.sessions())[0].session
        await listing.put(origin, "1" * 40, Packed(sent))
        await listing.put("dropped", "2" * 40, Packed(gone))
        assert await collect(msgspec.structs.replace(parts, listing=listing)) == 1
        assert path_of(parts, sent).exists()
        assert not path_of(parts, gone).exists()


async def test_a_damaged_entry_of_the_list_of_commits_is_passed_over_and_told(repo: Repository) -> None:
    await made(repo)
    async with opened(repo) as parts:
        listing = Spoilt(EphemeralDisk())
        orphan = await parts.blobs.put(b"orphan")
        await parts.blobs.unpin(orphan)
        age(path_of(parts, orphan))
        assert await collect(msgspec.structs.replace(parts, listing=listing)) == 1
        (finding,) = [one for one in checkup(repo.top) if one.name == "collection"]
        session = (await parts.log.sessions())[0].session
        assert (finding.state, f"session {session}: where commit {'1' * 40} lies" in finding.text) == ("warning", True)
        assert (finding.text.isprintable(), len(finding.text) < 500) == (True, True), "whoever wrote the name"
        age(parts.state / MARK)
        leases = EphemeralLeases(EphemeralDisk(), lambda: 0)
        assert await leases.hold(f"chore/{MARK}", "another", DAY)
        elsewhere = Shared(inbox=EphemeralInbox(EphemeralDisk()), leases=leases, owner="this")
        assert await collect(msgspec.structs.replace(parts, listing=listing, shared=elsewhere)) == 0
        (finding,) = [one for one in checkup(repo.top) if one.name == "collection"]
        assert finding.state == "ok", "another collects now, and says what it passes over"


async def test_what_a_log_names_stays_and_an_old_orphan_goes(repo: Repository) -> None:
    named = await made(repo)
    assert len(set(named)) == 2
    async with opened(repo) as parts:
        old, young, pinned = [await parts.blobs.put(data) for data in (b"old", b"young", b"pinned")]
        for digest in (old, young):
            await parts.blobs.unpin(digest)
        for digest in (old, pinned):
            age(path_of(parts, digest))
        assert await collect(parts) == 1
        assert not path_of(parts, old).exists()
        assert all(path_of(parts, digest).exists() for digest in (*named, young, pinned))
        await parts.blobs.unpin(pinned)
        assert await collect(parts) == 0, "at most once a day"
        age(parts.state / MARK)
        assert await collect(parts) == 1
        assert not path_of(parts, pinned).exists()


async def test_of_those_who_share_a_store_one_reads_all_logs_a_day(repo: Repository) -> None:
    await made(repo)
    disk, now, read = EphemeralDisk(), 0, list[str]()
    leases = EphemeralLeases(disk, lambda: now)
    async with opened(repo) as parts:

        async def collected(owner: str) -> int:
            """How many blobs a process removed, whose own last collection is two days ago."""
            state = parts.state / owner
            state.mkdir(exist_ok=True)
            (state / MARK).touch()
            age(state / MARK)
            shared = Shared(inbox=EphemeralInbox(disk), leases=leases, owner=owner)
            log: Any = Reading(parts.log, owner, read)
            return await collect(msgspec.structs.replace(parts, state=state, shared=shared, log=log))

        orphan = await parts.blobs.put(b"old")
        await parts.blobs.unpin(orphan)
        age(path_of(parts, orphan))
        assert (await collected("a"), await collected("b"), read) == (1, 0, ["a"])
        now = DAY + 1
        assert (await collected("b"), read) == (0, ["a", "b"])


async def test_outputs_of_an_import_that_failed_go_like_any_other(repo: Repository, tmp_path: Path) -> None:
    named, file = await made(repo), tmp_path / "origin.skep"
    async with skep.open(repo.top) as hive:
        await (await hive.find("origin")).export(file)
    async with opened(Repository(tmp_path / "other")) as parts:
        parcel = Parcel(file, parts.log.seal)
        carried = copies.read(parcel)
        carried.state.tip = "0" * 40
        with pytest.raises(skep.SkepError):
            await copies.load(parts, parcel, carried, "s", "")
        parcel.close()
        assert path_of(parts, named[0]).exists()
        age(path_of(parts, named[0]))
        assert await collect(parts) == 1
        assert not path_of(parts, named[0]).exists()


async def test_nothing_is_removed_while_a_log_cannot_be_read(repo: Repository) -> None:
    named = await made(repo)
    with closing(sqlite3.connect(repo.top / ".skep" / "skep.db", isolation_level=None)) as database:
        database.execute("UPDATE log SET blob = x'00' WHERE place = (SELECT max(place) FROM log)")
    async with opened(repo) as parts:
        orphan = await parts.blobs.put(b"old")
        await parts.blobs.unpin(orphan)
        age(path_of(parts, orphan))
        with pytest.raises(skep.SkepError):
            await collect(parts)
        assert all(path_of(parts, digest).exists() for digest in (*named, orphan))


async def test_an_owner_collects_when_it_begins_to_carry_sessions_out(repo: Repository) -> None:
    await made(repo)
    async with opened(repo) as parts:
        orphan = await parts.blobs.put(b"old")
        age(path_of(parts, orphan))
    before = (parts.state / MARK).stat().st_mtime
    async with skep.open(repo.top) as hive:
        session = await hive.session("origin")
        # The logs are read while sessions go on; each task gives the loop another turn.
        for _ in range(50):
            assert (await (await session.submit(TASK)).result()).ok
            if not path_of(parts, orphan).exists():
                break
    assert not path_of(parts, orphan).exists()
    assert (parts.state / MARK).stat().st_mtime > before
