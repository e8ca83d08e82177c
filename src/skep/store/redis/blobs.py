"""Blobs on Redis: a hash for each, named by its digest, and a list of all by the time when they were put."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from typing import BinaryIO

from skep.errors import Exhausted, Invalid, Unavailable
from skep.redis.connect import Link
from skep.redis.quorum import Quorum
from skep.store.blobs import LARGEST_BLOB, check_digest, lost, open_regular, spoiled, too_large
from skep.store.redis.pieces import PIECE, cut, get_pieces, put_pieces
from skep.store.redis.script import load

_BLOB, _SWEEP, _UNLIST = load("blob"), load("sweep"), load("unlist")
#: All blobs, by when they were put. A blob is listed before it is there, so none is forgotten.
BLOBS = "skep:blobs"
#: Blobs that are looked at in one go when they are swept.
PAGE = 500


class RedisBlobs:
    """The port `Blobs` over a Redis. Pins are this process's own; other processes' blobs are kept by their age and marks.

    Args:
        link: the way to it; it is ended by the log.
        now: the time in ms, stamped on what is put.
        largest: bytes of one blob.
        replicas: how many must have a blob before `put` returns. Too few: Unavailable.
    """

    def __init__(self, link: Link, now: Callable[[], int], largest: int = LARGEST_BLOB, replicas: int = 0) -> None:
        self._link = link
        self._quorum = Quorum(link, replicas)
        self._now = now
        self._largest = largest
        self._pins: Counter[str] = Counter()
        #: Held while a pin is set and while an unpinned blob is removed, so that nothing is removed after it was pinned.
        self._guard = asyncio.Lock()

    async def put(self, data: bytes) -> str:
        """See `Blobs.put`. Raises Exhausted for more than `largest` bytes."""
        if len(data) > self._largest:
            raise too_large(len(data), self._largest)
        digest = hashlib.sha256(data).hexdigest()
        await self._put(digest, len(data), cut(data))
        return digest

    async def put_file(self, path: str) -> tuple[str, int]:
        """See `Blobs.put_file`. It is read twice: where it lies in a Cluster depends on its digest.

        Raises:
            Exhausted: it has more than `largest` bytes.
            Invalid: it is no regular file, or was changed meanwhile.
        """
        with open_regular(path) as file:
            digest, size = await asyncio.to_thread(_digest, file)
            if size > self._largest:
                raise Exhausted(
                    f"{path} has {size} bytes; at most {self._largest} fit into Redis",
                    fix="Name a folder that all machines share for what is large: [store] blobs.",
                )
            file.seek(0)
            again = hashlib.sha256()
            await self._put(digest, size, _pieces(file, size, again.update))
        if again.hexdigest() != digest:
            await self.unpin(digest)
            raise Invalid(f"{path} was changed while it was read", fix="Put it again when nobody writes to it.")
        return digest, size

    async def get(self, digest: str) -> bytes:
        """See `Blobs.get`."""
        check_digest(digest)
        size = await self._link.call("HGET", _key(digest), "size")
        if size is None:
            raise lost(digest)
        data = await get_pieces(self._link, _key(digest), size)
        if hashlib.sha256(data).hexdigest() != digest:
            raise spoiled(digest)
        return data

    async def unpin(self, digest: str) -> None:
        """See `Blobs.unpin`."""
        if self._pins[digest] <= 1:
            del self._pins[digest]
        else:
            self._pins[digest] -= 1

    async def sweep(self, marked: frozenset[str], older_than: int) -> int:
        """See `Blobs.sweep`."""
        swept = kept = 0
        while page := await self._link.call("ZRANGEBYSCORE", BLOBS, "-inf", f"({older_than}", "LIMIT", kept, PAGE):
            for digest in (each.decode() for each in page):
                removed = -1 if digest in marked else await self._remove(digest, older_than)
                kept += removed < 0
                swept += max(removed, 0)
        return swept

    async def _remove(self, digest: str, older_than: int) -> int:
        """Removes a blob that nobody needs and that is old; how many that were, or -1: it stays."""
        async with self._guard:
            if digest in self._pins:
                return -1
            removed = int((await self._link.run(_SWEEP, [_key(digest)], [older_than]))[0])
            if removed >= 0:
                await self._link.run(_UNLIST, [BLOBS], [digest, older_than])
            return removed

    async def _put(self, digest: str, size: int, pieces: Iterable[bytes]) -> None:
        """Pins it, lists it, then writes it, whole or not at all; also over one that is there and may be damaged."""
        async with self._guard:
            self._pins[digest] += 1
        at = self._now()
        try:
            await self._link.call("ZADD", BLOBS, at, digest)
            if size <= PIECE:
                await self._quorum.run(_BLOB, [_key(digest)], [at, size, b"".join(pieces)])
            else:
                draft = f"{_key(digest)}:draft:{secrets.token_hex(8)}"
                await put_pieces(self._link, draft, pieces)
                if await self._quorum.run(_BLOB, [_key(digest), draft], [at, size]) != 1:
                    raise Unavailable(f"a blob of {size} bytes took too long to write", fix="Put it again.")
        except BaseException:
            await self.unpin(digest)
            raise


def _key(digest: str) -> str:
    return f"skep:blob:{{{digest}}}"


def _digest(file: BinaryIO) -> tuple[str, int]:
    """The digest of a file and its size."""
    hashed, size = hashlib.sha256(), 0
    while piece := file.read(PIECE):
        hashed.update(piece)
        size += len(piece)
    return hashed.hexdigest(), size


def _pieces(file: BinaryIO, size: int, seen: Callable[[bytes], None]) -> Iterable[bytes]:
    """At most `size` bytes of a file, in pieces."""
    while size > 0 and (piece := file.read(min(PIECE, size))):
        seen(piece)
        size -= len(piece)
        yield piece
