"""Where the tests of the Redis store keep it, and the hands of someone who can write to the Redis but has no key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import redis

from skep.redis.connect import Link
from skep.store import Append, Blobs, Log
from skep.store.redis.blobs import RedisBlobs
from skep.store.redis.entries import entry
from skep.store.redis.keys import of_session
from skep.store.redis.log import RedisLog
from skep.store.ring import HiveRing
from tests import servers

KEY = b"k" * 32
RING = HiveRing(KEY)


class RedisHome:
    """A Redis 7.0, emptied."""

    def __init__(self, folder: Path) -> None:
        self.url = self.begin()

    def begin(self) -> str:
        """Empties the server; where it is."""
        server = servers.redis_server()
        server.tell("FLUSHALL")
        return server.url

    async def open(self) -> Log:
        return await RedisLog.open(Link(self.url, {}), RING)

    @contextmanager
    def client(self) -> Iterator[redis.Redis | redis.RedisCluster]:
        with redis.Redis.from_url(self.url, protocol=2) as client:
            yield client

    def rows(self, session: str) -> list[Append]:
        with self.client() as client:
            rows: Any = client.xrange(of_session(session, "log"))
        return [entry((place, [part for pair in fields.items() for part in pair])) for place, fields in rows]

    def rewrite(self, session: str, rows: Sequence[Append]) -> None:
        with self.client() as client:
            client.delete(of_session(session, "log"))
            for row in rows:
                fields: dict[Any, Any] = {
                    "first": row.first,
                    "epoch": row.epoch,
                    "batch": row.batch,
                    "hash": row.hash,
                    "blob": row.blob,
                }
                client.xadd(of_session(session, "log"), fields, f"{row.last}-0")

    def spoil_snapshot(self, session: str, seq: int) -> None:
        self.spoil(of_session(session, "snapshot", str(seq)), "0")

    def spoil_archived(self, session: str, task: str) -> None:
        self.spoil(of_session(session, "archive"), task)

    def spoil(self, key: str, field: str) -> None:
        with self.client() as client:
            value: Any = client.hget(key, field)
            client.hset(key, field, value[:-1] + bytes([value[-1] ^ 1]))


class ValkeyHome(RedisHome):
    """A Valkey 9, emptied."""

    def begin(self) -> str:
        server = servers.valkey_server()
        server.tell("FLUSHALL")
        return server.url


class ClusterHome(RedisHome):
    """A Cluster, emptied."""

    nodes: ClassVar[list[servers.Server]]

    def begin(self) -> str:
        cluster = servers.cluster()
        for node in cluster.nodes:
            node.tell("FLUSHALL")
        type(self).nodes = cluster.nodes
        return cluster.url

    @contextmanager
    def client(self) -> Iterator[redis.Redis | redis.RedisCluster]:
        with redis.RedisCluster(host="127.0.0.1", port=self.nodes[0].port, protocol=2) as client:
            yield client


class ReplicatedHome(RedisHome):
    """A Valkey 9 with a replica that must have what is written."""

    def begin(self) -> str:
        server = servers.replicated().primary
        server.tell("FLUSHALL")
        return server.url

    async def open(self) -> Log:
        return await RedisLog.open(Link(self.url, {}), RING, replicas=1)


class RedisBlobsHome:
    """A Redis 7.0, emptied, and a clock that stands still."""

    at: type[RedisHome] = RedisHome

    def __init__(self, folder: Path) -> None:
        self.home = self.at(folder)
        self.links: list[Link] = []

    def open(self, largest: int = 2**20) -> Blobs:
        self.links.append(Link(self.home.url, {}))
        return RedisBlobs(self.links[-1], now=lambda: 1000, largest=largest)

    def spoil(self, digest: str) -> None:
        self.home.spoil(f"skep:blob:{{{digest}}}", "0")

    async def close(self) -> None:
        for link in self.links:
            await link.close()


class ValkeyBlobsHome(RedisBlobsHome):
    """A Valkey 9, emptied."""

    at = ValkeyHome


class ClusterBlobsHome(RedisBlobsHome):
    """A Cluster, emptied."""

    at = ClusterHome
