"""Bytes of any size in a hash, in pieces, so that no request and no reply is large."""

from __future__ import annotations

from collections.abc import Iterable

from skep.redis.connect import Link
from skep.store.redis.entries import number

#: Bytes of a piece; how many are asked for at once.
PIECE, AT_ONCE = 2**20, 8
#: Seconds after which what was never finished is gone.
UNFINISHED = 600


async def put_pieces(link: Link, draft: str, pieces: Iterable[bytes]) -> None:
    """Writes pieces of `PIECE` bytes (the last one: the rest) into a hash that ends by itself unless a script keeps it."""
    await link.batch(draft, [("HSET", draft, "draft", 1), ("EXPIRE", draft, UNFINISHED)])
    for n, piece in enumerate(pieces):
        await link.call("HSET", draft, n, piece)


async def get_pieces(link: Link, key: str, size: bytes | None) -> bytes:
    """The bytes of a hash that says to have `size` of them, up to the first piece that is missing."""
    found: list[bytes] = []
    numbers = range((number(size) + PIECE - 1) // PIECE)
    for start in range(0, len(numbers), AT_ONCE):
        some = await link.batch(key, [("HGET", key, n) for n in numbers[start : start + AT_ONCE]])
        if None in some:
            break
        found += some
    return b"".join(found)


def cut(data: bytes) -> Iterable[bytes]:
    """Bytes in pieces."""
    return (data[start : start + PIECE] for start in range(0, len(data), PIECE))
