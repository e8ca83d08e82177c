"""Where recordings of attempts are, on Redis: a hash for each session, each field sealed. It goes with the session's log."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from skep.errors import Invalid
from skep.redis.connect import Link
from skep.store import Recorded, chain
from skep.store.redis.keys import encoded, of_session
from skep.store.ring import Ring

#: Fields that are asked for at once.
PAGE = 1000
_SEAL = 32
_decode = msgspec.json.Decoder(Recorded).decode


class RedisRecordings:
    """The port `Recordings` over a Redis.

    Args:
        link: the way to it; it is ended by the log.
        ring: the keys of this process. What an invited node puts is sealed with that node's own secret.
    """

    def __init__(self, link: Link, ring: Ring) -> None:
        self._link = link
        self._ring = ring

    async def put(self, session: str, task: str, n: int, part: str, recorded: Recorded) -> None:
        """See `Recordings.put`."""
        if not await self._link.call("EXISTS", of_session(session, "head")):
            raise chain.missing(session)
        field, body = _field(task, n, part), msgspec.json.encode(recorded)
        await self._link.call("HSET", _key(session), field, self._seal(self._ring.node, session, field, body) + body)

    async def get(self, session: str, task: str, of: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Recorded]:
        """See `Recordings.get`."""
        found = {}
        for start in range(0, len(of), PAGE):
            some = of[start : start + PAGE]
            fields = [_field(task, n, part) for n, part in some]
            values = await self._link.call("HMGET", _key(session), *fields)
            for key, field, value in zip(some, fields, values, strict=True):
                if value is None:
                    continue
                recorded = self._opened(session, field, value)
                why = f"where it is, {len(value)} bytes, was not written by this hive: see who else can write to the store"
                found[key] = recorded or Recorded("", 0, "", doubt=why)
        return found

    async def show(self, session: str, task: str, n: int, data: bytes, ttl: int) -> None:
        """See `Recordings.show`."""
        key = _shown(session, task, n)
        await self._link.call("SET", key, self._seal(self._ring.node, session, key, data) + data, "PX", ttl)

    async def shown(self, session: str, task: str, n: int, node: str = "") -> bytes:
        """See `Recordings.shown`."""
        key = _shown(session, task, n)
        found: bytes = await self._link.call("GET", key) or b""
        sealed, data = found[:_SEAL], found[_SEAL:]
        seals = [self._seal(who, session, key, data) for who in dict.fromkeys(("", node))]
        if found and not any(hmac.compare_digest(sealed, seal) for seal in seals):
            why = f"what attempt {n} of '{task}' shows was not written by this hive"
            raise Invalid(f"session {session}: {why}", "See who else can write to the store.")
        return data

    async def blobs(self, session: str) -> set[str]:
        """See `Recordings.blobs`. What others wrote there names nothing of ours."""
        named: set[str] = set()
        cursor = b"0"
        while True:
            cursor, pairs = await self._link.call("HSCAN", _key(session), cursor, "COUNT", PAGE)
            opened = (self._opened(session, pairs[at].decode(errors="replace"), pairs[at + 1]) for at in range(0, len(pairs), 2))
            named |= {recorded.digest for recorded in opened if recorded is not None and recorded.digest}
            if int(cursor) == 0:
                return named

    def _seal(self, node: str, session: str, field: str, body: bytes) -> bytes:
        """The seal of an invited node, or with "" that of the hive."""
        return chain.seal(self._ring.secret(node) if node else self._ring.key, "recording", session, field, body)

    def _opened(self, session: str, field: str, value: bytes) -> Recorded | None:
        """What somebody with the key put there, or the invited node that it names; None if nobody of them did."""
        sealed, body = value[:_SEAL], value[_SEAL:]
        if hmac.compare_digest(sealed, self._seal("", session, field, body)):
            return _decode(body)
        try:
            said = _decode(body)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):  # nobody here wrote that
            return None
        ours = said.node and hmac.compare_digest(sealed, self._seal(said.node, session, field, body))
        return replace(said, invited=True) if ours else None


def _key(session: str) -> str:
    return of_session(session, "recordings")


def _shown(session: str, task: str, n: int) -> str:
    return of_session(session, "shown", task, str(n))


def _field(task: str, n: int, part: str) -> str:
    return f"{encoded(task)}:{n}:{part}"
