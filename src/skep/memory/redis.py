"""Records on Redis, for machines that share one memory: a commit compares and sets at the primary, reads ask the primary.

All of a namespace and of its copies (`name@...`) lie under one hash tag, so that a Cluster keeps them on one node. Each record
is sealed with the key of the hive, together with its namespace and key: who can only write to the Redis can remove records, and
put a key back to what it was, but not make one, change one or move it to another key.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from functools import cache

from skep.errors import Bug, Invalid
from skep.memory import Change, Record
from skep.memory.ephemeral import changed
from skep.memory.limits import COPY
from skep.memory.records import decode, digest, encode
from skep.memory.sealing import sealed_text
from skep.redis.connect import Link
from skep.redis.quorum import Quorum
from skep.redis.script import Script, read

#: All namespaces. One is listed before it is there, so none is overlooked.
NAMESPACES = "skep:memory:namespaces"
#: Records that are asked for at once: none has more than some values of 64 KiB, so no reply is large.
PAGE = 50
#: Bytes of a record's digest (hex) and of its seal, in front of what is kept of it.
DIGEST, SEAL = 32, 32
#: For how long the count of places is kept of a namespace that was dropped, ms: 30 days.
COUNTED = 30 * 86_400_000


@cache
def load(name: str) -> Script:
    """The script of `scripts/<name>.lua`."""
    return read("skep.memory", name)


class RedisStore:
    """The port `MemoryStore` over a Redis.

    Args:
        link: the way to it; it is ended with the store.
        seal: of a text, with the key of the hive. Raises Denied for who does not have it.
        writer: who writes here, a name that no other process has at the same time: two that had the same could write the same
            stamp to a key in one moment, and each would take what the other wrote for its own.
        replicas: how many must have a commit before it counts; and then reads are confirmed by as many, so that none is
            answered by a server that is not the primary any more. Too few: Unavailable, outcome unknown.
    """

    lacks = frozenset({"private"})

    def __init__(self, link: Link, seal: Callable[[bytes], bytes], writer: str, replicas: int = 0) -> None:
        self._link = link
        self._quorum = Quorum(link, replicas)
        self._seal = seal
        self.writer = writer
        self._listed: set[str] = set()

    async def get(self, namespace: str, key: str) -> Record | None:
        """See `MemoryStore.get`. Raises Invalid for what nobody with the key of the hive wrote."""
        name = _key(namespace, "records")
        if self._quorum.replicas:
            found = await self._quorum.run(load("read"), [name, _key(namespace, "asked")], [key.encode()])
        else:
            found = await self._link.call("HGET", name, key.encode())
        return None if found is None else self._opened(namespace, key, found)

    async def commit(self, changes: Sequence[Change]) -> None:
        """See `MemoryStore.commit`."""
        if not changes:
            return
        closed = [self._closed(change.record) for change in changes]  # first: it refuses what cannot be written
        names = list(dict.fromkeys(change.record.namespace for change in changes))
        if len({_base(name) for name in names}) > 1:
            raise Bug(f"a commit of the namespaces {names}")
        await self._list(names)
        keys = [_key(names[0], "count")]
        keys += [_key(name, part) for name in names for part in ("records", "keys", "places")]
        told: list[bytes | str | int] = []
        for change, kept in zip(changes, closed, strict=True):
            record = change.record
            told += (names.index(record.namespace) + 1, record.key.encode(), change.expect, digest(record), kept)
        outcome = await self._quorum.run(load("commit"), keys, told)
        if isinstance(outcome, bytes):
            raise changed(next(change.record for change in changes if change.record.key.encode() == outcome))
        if outcome:  # it was empty, so somebody may have dropped it after it was listed
            self._listed.difference_update(names)
            await self._list(names)

    async def page(self, namespace: str, after: str = "", limit: int = 1000) -> list[Record]:
        """See `MemoryStore.page`."""
        start = b"(" + after.encode() if after else b"-"
        keys = await self._link.call("ZRANGEBYLEX", _key(namespace, "keys"), start, "+", "LIMIT", 0, limit)
        return [record for _, record in await self._records(namespace, keys)]

    async def changes(self, namespace: str, after: int = 0, limit: int = 1000) -> list[tuple[int, Record]]:
        """See `MemoryStore.changes`. What was changed again since its place was read comes once more."""
        name = _key(namespace, "places")
        rows = await self._link.call("ZRANGEBYSCORE", name, f"({after}", "+inf", "WITHSCORES", "LIMIT", 0, limit)
        places = {rows[at]: int(rows[at + 1]) for at in range(0, len(rows), 2)}
        return [(places[key], record) for key, record in await self._records(namespace, list(places))]

    async def heads(self) -> dict[str, int]:
        """See `MemoryStore.heads`."""
        names = sorted(name.decode(errors="replace") for name in await self._link.call("SMEMBERS", NAMESPACES))
        commands = [("ZREVRANGE", _key(name, "places"), 0, 0, "WITHSCORES") for name in names]
        found = zip(names, await self._link.many(commands), strict=True)
        return {name: int(last[1]) for name, last in found if last}

    async def drop(self, namespace: str) -> None:
        """See `MemoryStore.drop`. The server frees what is large beside its work."""
        keys = [_key(namespace, part) for part in ("count", "records", "keys", "places")]
        await self._quorum.run(load("forget"), keys, [COUNTED])
        self._listed.discard(namespace)
        await self._link.call("SREM", NAMESPACES, namespace.encode())
        if await self._link.call("EXISTS", keys[1]):  # somebody wrote to it meanwhile
            await self._list([namespace])

    async def close(self) -> None:
        """See `MemoryStore.close`."""
        await self._link.close()

    async def _list(self, names: Sequence[str]) -> None:
        new = [name for name in names if name not in self._listed]
        if new:
            await self._link.call("SADD", NAMESPACES, *[name.encode() for name in new])
            self._listed.update(new)

    async def _records(self, namespace: str, keys: Sequence[bytes]) -> list[tuple[bytes, Record]]:
        """The records of keys, of those that are there, in the same order."""
        found: list[tuple[bytes, Record]] = []
        for start in range(0, len(keys), PAGE):
            some = keys[start : start + PAGE]
            values = await self._link.call("HMGET", _key(namespace, "records"), *some)
            for key, value in zip(some, values, strict=True):
                if value is not None:  # else it was dropped meanwhile
                    found.append((key, self._opened(namespace, key.decode(errors="replace"), value)))
        return found

    def _closed(self, record: Record) -> bytes:
        """What is kept of a record: its digest, by which commits compare, the seal, the record."""
        said = digest(record).encode(), encode(record)
        return said[0] + self._seal(sealed_text("memory record", record.namespace, record.key, *said)) + said[1]

    def _opened(self, namespace: str, key: str, value: bytes) -> Record:
        """The record that is kept so. Raises Invalid unless somebody with the key of the hive kept it under this very key."""
        said, seal, body = value[:DIGEST], value[DIGEST : DIGEST + SEAL], value[DIGEST + SEAL :]
        if not hmac.compare_digest(seal, self._seal(sealed_text("memory record", namespace, key, said, body))):
            raise Invalid(
                f"what the memory has of '{key[:80]}' in '{namespace[:80]}' was not written by this hive",
                "See who else can write to the Redis; put the memory back from a backup.",
            )
        return decode(body)


def _base(namespace: str) -> str:
    """The namespace that one is a copy of, or itself."""
    return namespace.partition(COPY)[0]


def _key(namespace: str, part: str) -> str:
    """Of a namespace. Names come in by their hashes, so that none can be of another shape, or too long."""
    base = _base(namespace)
    copy = "" if base == namespace or part == "count" else f":{_hash(namespace)}"
    return f"skep:memory:{{{_hash(base)}}}:{part}{copy}"


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]
