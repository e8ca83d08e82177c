"""Snapshots on Redis: pieces in a hash, put into their place when all are there. A cache: what is missing is replayed."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

from skep.redis.connect import Link
from skep.store import chain
from skep.store.redis.entries import entry
from skep.store.redis.keys import of_session
from skep.store.redis.pieces import cut, get_pieces, put_pieces
from skep.store.redis.script import load
from skep.store.ring import Ring, snapshot_text

_KEEP = load("keep")


class Snapshots:
    """The snapshots of all sessions.

    Args:
        link: the way to the server.
        ring: the keys of this process.
    """

    def __init__(self, link: Link, ring: Ring) -> None:
        self._link = link
        self._ring = ring

    async def put(self, session: str, seq: int, blob: bytes) -> None:
        """See `Log.snapshot`. Keeps the newest two that are whole."""
        key = self._ring.key
        there = await self._hash_at(session, seq)
        if there is None:
            raise chain.no_boundary(session, seq)
        draft = of_session(session, "snapshot", "draft", secrets.token_hex(8))
        sealed = chain.seal_snapshot(key, session, seq, there, blob)
        signed = self._ring.sign(snapshot_text(session, seq, there, blob))
        await put_pieces(self._link, draft, cut(blob))
        keys = [of_session(session, "head"), _list(session), draft, _place(session, seq)]
        if (await self._link.run(_KEEP, keys, [seq, sealed, len(blob), signed]))[0] != 1:
            raise chain.missing(session)
        whole: set[int] = set()
        async for found, _ in self._whole(session):
            whole.add(found)
            if len(whole) == 2:
                break
        for old in await self._listed(session):
            if old not in whole:
                await self._link.batch(_list(session), [("ZREM", _list(session), old), ("UNLINK", _place(session, old))])

    async def latest(self, session: str) -> tuple[int, bytes] | None:
        """See `Log.latest`."""
        if not await self._link.call("EXISTS", of_session(session, "head")):
            raise chain.missing(session)
        async for found in self._whole(session):
            return found
        return None

    async def _listed(self, session: str) -> list[int]:
        """After which events there are snapshots, newest first."""
        return [int(seq) for seq in await self._link.call("ZREVRANGE", _list(session), 0, -1)]

    async def _whole(self, session: str) -> AsyncIterator[tuple[int, bytes]]:
        """The snapshots that are what was written, newest first."""
        for seq in await self._listed(session):
            there = await self._hash_at(session, seq)
            sealed, signed, blob = await self._get(session, seq)
            if there is not None and self._ring.whole(session, seq, there, blob, sealed, signed):
                yield seq, blob

    async def _get(self, session: str, seq: int) -> tuple[bytes, bytes, bytes]:
        """Seal, signature and state of one, as they are."""
        place = _place(session, seq)
        sealed, signed, size = await self._link.call("HMGET", place, "seal", "sign", "size")
        return sealed or b"", signed or b"", await get_pieces(self._link, place, size)

    async def _hash_at(self, session: str, seq: int) -> bytes | None:
        """The hash of the session's append that ends with event `seq`."""
        head, log = of_session(session, "head"), of_session(session, "log")
        there, rows = await self._link.batch(head, [("EXISTS", head), ("XRANGE", log, max(seq, 0), max(seq, 0))])
        if not there:
            raise chain.missing(session)
        return entry(rows[0]).hash if seq > 0 and rows else None


def _list(session: str) -> str:
    return of_session(session, "snapshots")


def _place(session: str, seq: int) -> str:
    return of_session(session, "snapshot", str(seq))
