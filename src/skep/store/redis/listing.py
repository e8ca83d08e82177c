"""Where commits can be had, on Redis: a hash for each session, a field for each commit. It goes with the session's log."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from skep.errors import Invalid
from skep.redis.connect import Link
from skep.store import Packed
from skep.store.redis.keys import of_session

#: Fields that are asked for at once.
PAGE = 1000
_decode = msgspec.json.Decoder(Packed).decode


class RedisListing:
    """The port `Listing` over a Redis.

    Args:
        link: the way to it; it is ended by the log.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    async def put(self, session: str, commit: str, packed: Packed) -> Packed:
        """See `Listing.put`."""
        if await self._link.call("HSETNX", _key(session), commit, msgspec.json.encode(packed)):
            return packed
        return await self.get(session, commit) or packed  # another one was there, or this very one: the reply was lost

    async def get(self, session: str, commit: str) -> Packed | None:
        """See `Listing.get`. Raises Invalid for what Skep would not have written."""
        found = await self._link.call("HGET", _key(session), commit)
        return None if found is None else _packed(session, found)

    async def blobs(self, session: str) -> tuple[set[str], list[str]]:
        """See `Listing.blobs`."""
        digests, damaged = set[str](), list[str]()
        async for commit, data in self._fields(session):
            try:
                digests.add(_packed(session, data).digest)
            except Invalid:
                damaged.append(commit)
        return digests, damaged

    async def all(self, session: str) -> dict[str, Packed]:
        """See `Listing.all`. Raises Invalid for what Skep would not have written."""
        return {commit: _packed(session, data) async for commit, data in self._fields(session)}

    async def drop(self, session: str) -> None:
        """See `Listing.drop`."""
        await self._link.call("UNLINK", _key(session))

    async def _fields(self, session: str) -> AsyncIterator[tuple[str, bytes]]:
        """Commits, and what stands there of each."""
        cursor = b"0"
        while True:
            cursor, pairs = await self._link.call("HSCAN", _key(session), cursor, "COUNT", PAGE)
            for at in range(0, len(pairs), 2):
                yield pairs[at].decode(errors="replace"), pairs[at + 1]
            if int(cursor) == 0:
                return


def _key(session: str) -> str:
    return of_session(session, "commits")


def _packed(session: str, data: bytes) -> Packed:
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Invalid(
            f"the list of commits of session {session} is damaged: {error}", "See who else can write to the store."
        ) from None
