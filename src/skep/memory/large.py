"""Large values of machines that share a store: no machine's collection removes what another one remembers.

Each is listed when it is put. Nobody knows all who may still name one (machines that are off, copies of earlier states), so those
that are listed stay for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skep.store import Blobs

if TYPE_CHECKING:
    from skep.redis.connect import Link

#: The digests, as one set.
KEY = "skep:memory:blobs"


class Listed:
    """The port `Blobs` over other ones, with the list.

    Args:
        link: the way to the list; it is ended with this.
    """

    def __init__(self, blobs: Blobs, link: Link) -> None:
        self._blobs, self._link = blobs, link

    async def listed(self) -> set[str]:
        """The digests of all that any machine ever put."""
        return {digest.decode(errors="replace") for digest in await self._link.call("SMEMBERS", KEY)}

    async def put(self, data: bytes) -> str:
        """See `Blobs.put`."""
        digest = await self._blobs.put(data)
        await self._link.call("SADD", KEY, digest)
        return digest

    async def put_file(self, path: str) -> tuple[str, int]:
        """See `Blobs.put_file`."""
        digest, size = await self._blobs.put_file(path)
        await self._link.call("SADD", KEY, digest)
        return digest, size

    async def get(self, digest: str) -> bytes:
        """See `Blobs.get`."""
        return await self._blobs.get(digest)

    async def unpin(self, digest: str) -> None:
        """See `Blobs.unpin`."""
        await self._blobs.unpin(digest)

    async def sweep(self, marked: frozenset[str], older_than: int) -> int:
        """See `Blobs.sweep`. What is listed stays."""
        return await self._blobs.sweep(marked | await self.listed(), older_than)

    async def close(self) -> None:
        """Ends the way to the list."""
        await self._link.close()
