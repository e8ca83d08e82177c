"""The store of the simulated world: the ephemeral one, honest as its contract suite shows, with faults in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from skep.errors import Unavailable
from skep.store import Append, Head, SessionRow, Taken, codec
from skep.store.ephemeral import EphemeralDisk, EphemeralLog
from tests.simulation.virtual import Life
from tests.simulation.world import World


class Disk:
    """What outlives every process, watched from outside: whatever appears on it is told to the world's chronicle.

    Args:
        world: whose disk it is.
        kept: what lies on it already.
    """

    def __init__(self, world: World, kept: EphemeralDisk | None = None) -> None:
        self.kept = kept or EphemeralDisk()
        self._world = world
        self._seen = 0

    def watch(self) -> None:
        """Looks at what was added to the log since the last look."""
        session = self.kept.sessions.get(self._world.session)
        log = session.log if session is not None else []
        self._world.check(len(log) >= self._seen, f"the log had {self._seen} appends and has {len(log)}")
        for append in log[self._seen :]:
            self._world.chronicle.appended(append.epoch, append.first, append.batch, codec.decode(append.blob))
        self._seen = len(log)

    def crashed(self) -> None:
        """A process that had it open died. What was written stays; a snapshot may have been hit."""
        session = self.kept.sessions.get(self._world.session)
        if session is not None and session.snapshots and self._world.faults.strikes("snapshot spoiled"):
            newest = max(session.snapshots)
            sealed, blob = session.snapshots[newest]
            at = self._world.random.randrange(len(blob))
            session.snapshots[newest] = (sealed, blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :])
        self.watch()


class FaultyLog:
    """The port `Log` as one process has it open.

    Args:
        world: whose faults strike.
        disk: what outlives the process.
        life: the process, which may crash in the middle of any call.
    """

    lacks = EphemeralLog.lacks

    def __init__(self, world: World, disk: Disk, life: Life) -> None:
        self._world = world
        self._faults = world.faults
        self._disk = disk
        self._life = life
        self._kept = EphemeralLog(disk.kept)
        self._writing = False

    async def _travel(self) -> None:
        await self._world.pass_time(0.0001, 0.005)

    async def _ask(self) -> None:
        """The way to the store, for what changes no log."""
        await self._travel()
        if self._faults.strikes("store silent"):
            raise Unavailable("the store does not answer")

    async def _crash_if(self, kind: str) -> None:
        if self._faults.strikes(kind):
            self._life.kill()
            await asyncio.sleep(0)

    async def append(
        self,
        session: str,
        epoch: int,
        seq: int,
        batch: bytes,
        count: int,
        blob: bytes,
        archive: Sequence[tuple[str, bytes]] = (),
        taken: Sequence[Taken] = (),
    ) -> Head:
        """See `Log.append`."""
        self._world.check(not self._writing, "two appends are in flight at once")
        self._writing = True
        try:
            return await self._append(session, epoch, seq, batch, count, blob, archive, taken)
        finally:
            self._writing = False

    async def _append(
        self,
        session: str,
        epoch: int,
        seq: int,
        batch: bytes,
        count: int,
        blob: bytes,
        archive: Sequence[tuple[str, bytes]],
        taken: Sequence[Taken],
    ) -> Head:
        await self._travel()
        if self._faults.strikes("append slow"):
            await self._world.pass_time(1.0, 10.0)
        await self._crash_if("crash before the append")
        if self._faults.strikes("append fails"):
            raise Unavailable("the disk did not take it")
        head = await self._kept.append(session, epoch, seq, batch, count, blob, archive, taken)
        self._disk.watch()
        await self._crash_if("crash after the append")
        await self._travel()
        if self._faults.strikes("append repeated by the driver"):
            head = await self._kept.append(session, epoch, seq, batch, count, blob, archive, taken)
            self._disk.watch()
        if self._faults.strikes("append kept, reply lost"):
            raise Unavailable("the reply was lost")
        return head

    async def create(self, session: str, at: int) -> None:
        """See `Log.create`."""
        await self._ask()
        await self._kept.create(session, at)

    async def acquire(self, session: str, owner: str = "", after: int = -1) -> Head:
        """See `Log.acquire`."""
        await self._ask()
        head = await self._kept.acquire(session, owner, after)
        self._world.chronicle.acquired(head.epoch)
        return head

    async def read(self, session: str, after: int = 0, limit: int = 1000) -> list[Append]:
        """See `Log.read`."""
        await self._ask()
        return await self._kept.read(session, after, limit)

    def follows(self, session: str, head: Head, append: Append) -> bool:
        """See `Log.follows`."""
        return self._kept.follows(session, head, append)

    def seal(self, text: bytes) -> bytes:
        """See `Log.seal`."""
        return self._kept.seal(text)

    def seal_to(self, node: str, text: bytes) -> bytes:
        """See `Log.seal_to`."""
        return self._kept.seal_to(node, text)

    async def verify(self, session: str) -> Head:
        """See `Log.verify`."""
        return await self._kept.verify(session)

    async def snapshot(self, session: str, seq: int, blob: bytes) -> None:
        """See `Log.snapshot`."""
        await self._travel()
        if self._faults.strikes("snapshot fails"):
            raise Unavailable("the snapshot was not written")
        await self._kept.snapshot(session, seq, blob)

    async def latest(self, session: str) -> tuple[int, bytes] | None:
        """See `Log.latest`."""
        await self._ask()
        return await self._kept.latest(session)

    async def archived(self, session: str, tasks: Sequence[str]) -> dict[str, bytes]:
        """See `Log.archived`."""
        await self._ask()
        return await self._kept.archived(session, tasks)

    async def archive(self, session: str, after: str = "", limit: int = 1000) -> AsyncIterator[tuple[str, bytes]]:
        """See `Log.archive`."""
        async for found in self._kept.archive(session, after, limit):
            yield found

    async def sessions(self, after: str = "") -> list[SessionRow]:
        """See `Log.sessions`."""
        await self._ask()
        return await self._kept.sessions(after)

    async def awake(self) -> list[SessionRow]:
        """See `Log.awake`."""
        await self._ask()
        return await self._kept.awake()

    async def rest(self, session: str) -> None:
        """See `Log.rest`. Nobody shares this store."""

    async def row(self, session: str) -> SessionRow:
        """See `Log.row`."""
        await self._ask()
        return await self._kept.row(session)

    async def annotate(self, session: str, note: str) -> None:
        """See `Log.annotate`."""
        await self._kept.annotate(session, note)

    async def drop(self, session: str, head: Head | None = None) -> None:
        """See `Log.drop`."""
        await self._kept.drop(session, head)

    async def close(self) -> None:
        """See `Log.close`."""
        await self._kept.close()
