"""Blobs of a shared store in two places: small ones where the logs are, large ones in a place that all machines share."""

from __future__ import annotations

import os

from skep.errors import NotFound
from skep.store import Blobs


class SplitBlobs:
    """The port `Blobs` over two of them.

    Args:
        small: for at most `most` bytes.
        large: for all others.
    """

    def __init__(self, small: Blobs, large: Blobs, most: int) -> None:
        self._small = small
        self._large = large
        self._most = most

    async def put(self, data: bytes) -> str:
        """See `Blobs.put`."""
        return await (self._small if len(data) <= self._most else self._large).put(data)

    async def put_file(self, path: str) -> tuple[str, int]:
        """See `Blobs.put_file`. What is no file is refused by either."""
        try:
            size = os.lstat(path).st_size
        except OSError:
            size = 0
        return await (self._small if size <= self._most else self._large).put_file(path)

    async def get(self, digest: str) -> bytes:
        """See `Blobs.get`."""
        try:
            return await self._small.get(digest)
        except NotFound:
            return await self._large.get(digest)

    async def unpin(self, digest: str) -> None:
        """See `Blobs.unpin`. It is pinned in one of them, and the other does not mind."""
        await self._small.unpin(digest)
        await self._large.unpin(digest)

    async def sweep(self, marked: frozenset[str], older_than: int) -> int:
        """See `Blobs.sweep`."""
        return await self._small.sweep(marked, older_than) + await self._large.sweep(marked, older_than)
