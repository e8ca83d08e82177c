"""Leases on Redis: a hash for each kind, by the clock of the server that holds it."""

from __future__ import annotations

import contextlib

from skep.redis.connect import Link
from skep.store import Lease, letters
from skep.store.redis.keys import decoded, encoded
from skep.store.redis.script import load

_HOLD, _RELEASE, _HELD = load("lease", "hold"), load("lease", "release"), load("lease", "held")


class RedisLeases:
    """The port `Leases` over a Redis."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def hold(self, name: str, holder: str, ttl: int, note: str = "") -> bool:
        """See `Leases.hold`."""
        kind, rest = letters.check_lease(name, holder, ttl, note)
        said = note.encode("utf-8", "surrogatepass")
        held = (await self._link.run(_HOLD, [_key(kind)], [rest, encoded(holder), ttl, said, letters.MAX_LEASES]))[0]
        if held < 0:
            raise letters.too_many_leases(kind)
        return bool(held)

    async def release(self, name: str, holder: str) -> None:
        """See `Leases.release`."""
        kind, rest = letters.split_lease(name)
        await self._link.run(_RELEASE, [_key(kind)], [rest, encoded(holder)])

    async def held(self, kind: str) -> dict[str, Lease]:
        """See `Leases.held`."""
        now, all_ = (await self._link.run(_HELD, [_key(kind)], []))[0]
        found = {}
        for rest, lease in zip(all_[::2], all_[1::2], strict=True):
            with contextlib.suppress(ValueError):  # somebody else put it there: it is no lease
                ends, holder, note = lease.split(b" ", 2)
                left = int(ends) - int(now)
                found[rest.decode()] = Lease(decoded(holder), left, note.decode("utf-8", "surrogatepass"))
        return dict(sorted(found.items()))


def _key(kind: str) -> str:
    """Where the leases of a kind lie."""
    return f"skep:leases:{encoded(kind)}"
