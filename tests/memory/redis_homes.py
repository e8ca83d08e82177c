"""Where the tests of memory over a Redis keep it."""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path

from skep.memory.redis import RedisStore
from skep.redis.connect import Link
from skep.store import chain
from tests.store import redis_homes
from tests.store.redis_homes import KEY

#: What seals records, as the log of a hive with this key does.
SEAL = partial(chain.seal_text, KEY)


class RedisMemoryHome:
    """A Redis 7.0, emptied."""

    at: type[redis_homes.RedisHome] = redis_homes.RedisHome
    replicas = 0

    def __init__(self, folder: Path) -> None:
        self.home = self.at(folder)

    async def open(self) -> RedisStore:
        return RedisStore(Link(self.home.url, {}), SEAL, secrets.token_hex(8), self.replicas)

    async def close(self) -> None:
        """All that it opened was closed by whoever had it."""


class ValkeyMemoryHome(RedisMemoryHome):
    """A Valkey 9, emptied."""

    at = redis_homes.ValkeyHome


class ClusterMemoryHome(RedisMemoryHome):
    """A Cluster, emptied."""

    at = redis_homes.ClusterHome


class ReplicatedMemoryHome(RedisMemoryHome):
    """A Valkey 9 with a replica that must have what is written."""

    at = redis_homes.ReplicatedHome
    replicas = 1
