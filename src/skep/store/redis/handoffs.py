"""What one process lays down for another, on Redis: a key for each, which ends by itself, and a channel that tells of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from skep.redis.connect import Link
from skep.redis.listen import Channels
from skep.store.redis.keys import encoded


class RedisHandoffs:
    """The port `Handoffs` over a Redis.

    Args:
        link: the way to it; it is ended by the log.
        channels: through which it is heard; they are closed by who opened them.
    """

    def __init__(self, link: Link, channels: Channels) -> None:
        self._link = link
        self._channels = channels

    async def put(self, name: str, data: bytes, ttl: int) -> None:
        """See `Handoffs.put`."""
        key = _key(name)
        await self._link.batch(key, [("SET", key, data, "PX", ttl), ("PUBLISH", key, b"")])

    async def take(self, name: str) -> bytes | None:
        """See `Handoffs.take`."""
        found: bytes | None = await self._link.call("GETDEL", _key(name))
        return found

    async def ring(self, name: str) -> None:
        """See `Handoffs.ring`."""
        await self._link.call("PUBLISH", _key(name), b"")

    async def listen(self, name: str, hear: Callable[[], None]) -> Callable[[], Awaitable[None]]:
        """See `Handoffs.listen`."""
        return await self._channels.listen(_key(name), lambda _: hear())


def _key(name: str) -> str:
    """Where it lies, and the channel that tells of it."""
    return f"skep:handoff:{encoded(name)}"
