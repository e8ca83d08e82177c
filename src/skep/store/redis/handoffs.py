"""What one process lays down for another, on Redis: a key for each, which ends by itself."""

from __future__ import annotations

from skep.store.redis.connect import Link
from skep.store.redis.keys import encoded


class RedisHandoffs:
    """The port `Handoffs` over a Redis.

    Args:
        link: the way to it; it is ended by the log.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    async def put(self, name: str, data: bytes, ttl: int) -> None:
        """See `Handoffs.put`."""
        await self._link.call("SET", _key(name), data, "PX", ttl)

    async def take(self, name: str) -> bytes | None:
        """See `Handoffs.take`."""
        found: bytes | None = await self._link.call("GETDEL", _key(name))
        return found


def _key(name: str) -> str:
    return f"skep:handoff:{encoded(name)}"
