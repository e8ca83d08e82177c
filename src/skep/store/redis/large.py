"""Where a store on Redis keeps its large blobs: a folder or what fsspec reaches. It belongs to one store, and all nodes see it.

The place carries a mark that only who has the store's key can make, and the Redis remembers that it does. So a machine whose
folder is not the shared one, or whose bucket is another store's, is told before anything is put there, read or swept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from skep.errors import Denied, Unavailable
from skep.redis.connect import Link
from skep.store import Blobs
from skep.store.blobs import FileBlobs

#: In Redis: that the place of large blobs carries the store's mark.
CLAIMED = "skep:blobs:place"


class Place(Blobs, Protocol):
    """Blobs in a place that one store claims for itself."""

    async def claimed(self) -> str:
        """The mark of the store that it belongs to; "" if it is nobody's."""

    async def claim(self, mark: str) -> None:
        """Leaves a mark there, durably."""


def place(where: str, workspace: Path, scratch: Path) -> Place:
    """The place that `[store] blobs` names.

    Args:
        where: a folder, `file://...`, or any other URL that fsspec knows.
        workspace: from which relative folders begin.
        scratch: a folder for copies of what is being sent.

    Raises:
        Unavailable: what it needs is not installed, or the folder cannot be made.
        Invalid: no such URL.
    """
    if "://" not in where or where.startswith("file://"):
        return FileBlobs(workspace / where.removeprefix("file://"))
    from skep.store.objects import ObjectBlobs

    return ObjectBlobs(where, scratch)


class LargeBlobs:
    """The port `Blobs` over the place of one store, which is checked when it is first used.

    Args:
        make: gives the place.
        where: what it is called in messages.
        link: the way to the Redis.
        mark: of the store.
    """

    def __init__(self, make: Callable[[], Place], where: str, link: Link, mark: str) -> None:
        self._make = make
        self.where = where
        self._link = link
        self._mark = mark
        self._place: Place | None = None
        self._checking = asyncio.Lock()

    async def ready(self) -> Place:
        """The place, if it is the one of this store.

        Raises:
            Denied: it is another store's, or refuses us.
            Unavailable: it does not answer, or others keep the blobs of this store elsewhere.
        """
        async with self._checking:
            if self._place is None:
                found = await asyncio.to_thread(self._make)
                await self._check(found)
                self._place = found
            return self._place

    async def tried(self) -> bool:
        """Writes its mark anew and reads it; False if the place is nobody's yet: then nothing is written. Raises as `ready`."""
        found = await asyncio.to_thread(self._make)
        if not await self._ours(found):
            return False
        await found.claim(self._mark)
        return await self._ours(found)

    async def _check(self, found: Place) -> None:
        if not await self._ours(found):
            await found.claim(self._mark)
            await self._ours(found)
        await self._link.call("SET", CLAIMED, "1")

    async def _ours(self, found: Place) -> bool:
        """Whether it carries the store's mark; False if it is nobody's, and this store was never seen to have another one."""
        mark = await found.claimed()
        if mark not in ("", self._mark):
            raise Denied(
                f"{self.where} belongs to another store, which would remove what this one puts there",
                "Give each store a folder or prefix of its own: [store] blobs.",
            )
        if not mark and await self._link.call("EXISTS", CLAIMED):
            raise Unavailable(
                f"{self.where} is not where this store keeps its large blobs: its mark (file `store`) is not there",
                "Mount the shared folder, or name the same place on all machines; after moving it, move all of it.",
            )
        return bool(mark)

    async def put(self, data: bytes) -> str:
        """See `Blobs.put`."""
        return await (await self.ready()).put(data)

    async def put_file(self, path: str) -> tuple[str, int]:
        """See `Blobs.put_file`."""
        return await (await self.ready()).put_file(path)

    async def get(self, digest: str) -> bytes:
        """See `Blobs.get`."""
        return await (await self.ready()).get(digest)

    async def unpin(self, digest: str) -> None:
        """See `Blobs.unpin`. What was never used pinned nothing."""
        if self._place is not None:
            await self._place.unpin(digest)

    async def sweep(self, marked: frozenset[str], older_than: int) -> int:
        """See `Blobs.sweep`."""
        return await (await self.ready()).sweep(marked, older_than)
