"""The store in memory passes what every store passes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from skep.errors import Invalid
from skep.store import Append, Blobs, Handoffs, Leases, Listing, Log, chain, letters
from skep.store.ephemeral import EphemeralBlobs, EphemeralDisk, EphemeralLog
from skep.store.ephemeral_shared import (
    EphemeralHandoffs,
    EphemeralInbox,
    EphemeralLeases,
    EphemeralListing,
    EphemeralRecordings,
)
from tests.contracts.blobs import BlobsContract
from tests.contracts.handoffs import HandoffsContract
from tests.contracts.inbox import InboxContract, Shared
from tests.contracts.leases import LeasesContract
from tests.contracts.listing import ListingContract
from tests.contracts.log import LogContract, new_session
from tests.contracts.recordings import Kept, RecordingsContract


class EphemeralHome:
    """A disk in memory; the folder stays unused."""

    def __init__(self, folder: Path) -> None:
        self.disk = EphemeralDisk()

    async def open(self) -> Log:
        return EphemeralLog(self.disk)

    def rows(self, session: str) -> list[Append]:
        return list(self.disk.sessions[session].log)

    def rewrite(self, session: str, rows: Sequence[Append]) -> None:
        self.disk.sessions[session].log = list(rows)

    def spoil_snapshot(self, session: str, seq: int) -> None:
        sealed, blob = self.disk.sessions[session].snapshots[seq]
        self.disk.sessions[session].snapshots[seq] = sealed, blob[:-1]

    def spoil_archived(self, session: str, task: str) -> None:
        sealed, blob = self.disk.sessions[session].archive[task]
        self.disk.sessions[session].archive[task] = sealed, blob + b"!"


class EphemeralBlobsHome:
    """A disk in memory, and a clock that stands still."""

    def __init__(self, folder: Path) -> None:
        self.disk = EphemeralDisk()

    def open(self, largest: int = 2**20) -> Blobs:
        return EphemeralBlobs(self.disk, now=lambda: 1000, largest=largest)

    def spoil(self, digest: str) -> None:
        data, at = self.disk.blobs[digest]
        self.disk.blobs[digest] = data[:-1], at


class EphemeralInboxHome:
    """A disk in memory."""

    def __init__(self, folder: Path) -> None:
        self.disk = EphemeralDisk()

    async def open(self, most: int = letters.MAX_LETTERS, unread: int = letters.MAX_ANSWERS) -> Shared:
        return Shared(EphemeralLog(self.disk), EphemeralInbox(self.disk, most, unread))

    async def close(self) -> None:
        """Nothing is open."""


class EphemeralRecordingsHome:
    """A disk in memory."""

    def __init__(self, folder: Path) -> None:
        self.disk = EphemeralDisk()

    async def open(self) -> Kept:
        return Kept(EphemeralLog(self.disk), EphemeralRecordings(self.disk, lambda: time.time_ns() // 1_000_000))

    async def close(self) -> None:
        """Nothing is open."""


class EphemeralHandoffsHome:
    """A disk in memory."""

    def __init__(self, folder: Path) -> None:
        self.disk = EphemeralDisk()

    async def open(self) -> Handoffs:
        return EphemeralHandoffs(self.disk, lambda: time.time_ns() // 1_000_000)

    async def close(self) -> None:
        """Nothing is open."""


class EphemeralListingHome:
    """A disk in memory."""

    def __init__(self, folder: Path) -> None:
        self.disk = EphemeralDisk()

    async def open(self) -> Listing:
        return EphemeralListing(self.disk)


class EphemeralLeasesHome:
    """A disk in memory, and a clock that goes when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.disk = EphemeralDisk()
        self.time = 1000

    async def open(self) -> Leases:
        return EphemeralLeases(self.disk, now=lambda: self.time)

    async def elapse(self, ms: int) -> None:
        self.time += ms

    async def close(self) -> None:
        """Nothing is open."""


class TestEphemeralLog(LogContract):
    home = EphemeralHome
    may_lack = frozenset({"durable"})

    async def test_logs_on_one_disk_fence_each_other(self) -> None:
        disk = EphemeralDisk()
        dead, heir = EphemeralLog(disk), EphemeralLog(disk)
        pen = await new_session(dead)
        await pen.write(b"from the dead")
        head = await heir.acquire("s")
        assert [row.blob for row in await heir.read("s")] == [b"from the dead"]
        assert head.epoch == pen.head.epoch + 1

    async def test_the_same_calls_give_the_same_bytes(self) -> None:
        disks = [EphemeralDisk(), EphemeralDisk()]
        for disk in disks:
            pen = await new_session(EphemeralLog(disk))
            await pen.write(b"events", batch=bytes(16), archive=[("t", b"entry")])
        assert disks[0].sessions == disks[1].sessions

    async def test_another_key_makes_another_chain(self) -> None:
        heads = []
        for key in (bytes(32), b"k" * 32):
            pen = await new_session(EphemeralLog(EphemeralDisk(key)))
            heads.append(await pen.write(batch=bytes(16)))
        assert heads[0] != heads[1]

    async def test_a_log_cannot_be_rolled_back_with_a_head_of_ones_own_making(self) -> None:
        disk = EphemeralDisk()
        pen = await new_session(EphemeralLog(disk))
        older = await pen.write()
        await pen.write()
        kept = disk.sessions["s"]
        kept.log.pop()
        kept.head = replace(kept.head, seq=older.seq, hash=older.hash)
        kept.sealed = chain.seal_head(b"guess", "s", kept.head)
        with pytest.raises(Invalid, match="seal of the log's end"):
            await EphemeralLog(disk).read("s")


class TestEphemeralBlobs(BlobsContract):
    home = EphemeralBlobsHome


class TestEphemeralInbox(InboxContract):
    home = EphemeralInboxHome


class TestEphemeralLeases(LeasesContract):
    home = EphemeralLeasesHome

    async def test_it_is_over_at_the_very_millisecond(self) -> None:
        home = EphemeralLeasesHome(Path())
        leases = await home.open()
        await leases.hold("node/1", "a", 3000)
        await home.elapse(2999)
        assert (await leases.held("node"))["1"].left == 1
        assert not await leases.hold("node/1", "b", 3000)
        await home.elapse(1)
        assert await leases.held("node") == {}
        assert await leases.hold("node/1", "b", 3000)


class TestEphemeralRecordings(RecordingsContract):
    home = EphemeralRecordingsHome


class TestEphemeralHandoffs(HandoffsContract):
    home = EphemeralHandoffsHome


class TestEphemeralListing(ListingContract):
    home = EphemeralListingHome
