"""Which sessions there are on a Redis, and which of them do not rest: two lists, on one server of a Cluster."""

from __future__ import annotations

from skep.redis.connect import Link
from skep.store.redis.keys import decoded, encoded
from skep.store.redis.script import load

_LIST, _ROUSE, _REST = load("list"), load("rouse"), load("rest")
#: All sessions, in the order in which they were made; those that do not rest, by how often any session was put there before.
SESSIONS, AWAKE = "skep:sessions", "skep:awake:{skep:sessions}"


class Roll:
    """The lists. What rests is on the second list again before anything is written to it: it may have too many, never too few.

    Args:
        link: the way to the Redis.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        #: The sessions that this process has put on the list, and as the how many-th.
        self._roused: dict[str, bytes] = {}

    async def add(self, session: str) -> None:
        """Lists a session that is about to be made."""
        await self._link.run(_LIST, [SESSIONS], [encoded(session)])

    async def remove(self, session: str) -> None:
        """A session is gone."""
        self.forget(session)
        await self._link.call("ZREM", SESSIONS, encoded(session))
        await self._link.call("ZREM", AWAKE, encoded(session))

    def forget(self, session: str) -> None:
        """Others may have done something about a session since this process put it on the list."""
        self._roused.pop(session, None)

    async def rouse(self, session: str) -> None:
        """Something is about to be written to a session: it is put on the list, unless this process did so."""
        if session not in self._roused:
            self._roused[session] = (await self._link.run(_ROUSE, [AWAKE, SESSIONS], [encoded(session)]))[0]

    async def rest(self, session: str) -> None:
        """Nothing goes on in a session that this process writes, unless somebody else has put it on the list since."""
        roused = self._roused.pop(session, None)
        if roused is not None:
            await self._link.run(_REST, [AWAKE], [encoded(session), roused])

    async def all(self, after: str = "") -> list[str]:
        """The sessions, or those that were listed after one of them."""
        place = await self._link.call("ZSCORE", SESSIONS, encoded(after)) if after else None
        found = await self._link.call("ZRANGEBYSCORE", SESSIONS, "-inf" if place is None else b"(" + place, "+inf")
        return [decoded(name) for name in found]

    async def awake(self) -> list[str]:
        """The sessions that do not rest."""
        found = await self._link.call("ZRANGE", AWAKE, 0, -1)
        return [decoded(name) for name in found if name] if found else await self.all()
