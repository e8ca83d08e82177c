"""What is handed from one process to another, on each engine: the contract, and that nothing of it is left."""

from __future__ import annotations

from pathlib import Path

from skep.redis.connect import Link
from skep.redis.listen import Channels
from skep.store import Handoffs
from skep.store.redis.handoffs import RedisHandoffs
from tests.contracts.handoffs import LONG, HandoffsContract
from tests.store.redis_homes import ClusterHome, RedisHome, ValkeyHome


class RedisHandoffsHome:
    """A Redis 7.0, emptied."""

    at: type[RedisHome] = RedisHome

    def __init__(self, folder: Path) -> None:
        self.home = self.at(folder)
        self.opened: list[Link | Channels] = []

    async def open(self) -> Handoffs:
        link = Link(self.home.url, {})
        channels = Channels(link)
        self.opened += [channels, link]
        return RedisHandoffs(link, channels)

    async def close(self) -> None:
        for each in self.opened:
            await each.close()


class ValkeyHandoffsHome(RedisHandoffsHome):
    """A Valkey 9, emptied."""

    at = ValkeyHome


class ClusterHandoffsHome(RedisHandoffsHome):
    """A Cluster, emptied."""

    at = ClusterHome


class TestRedisHandoffs(HandoffsContract):
    home = RedisHandoffsHome


class TestValkeyHandoffs(HandoffsContract):
    home = ValkeyHandoffsHome

    async def test_nothing_is_left_of_what_was_taken_and_what_nobody_takes_ends(self, tmp_path: Path) -> None:
        place = ValkeyHandoffsHome(tmp_path)
        handoffs = await place.open()
        with place.home.client() as client:
            await handoffs.put("{a} b", b"it", LONG)
            (key,) = client.keys("*")
            assert key == b"skep:handoff:%7Ba%7D%20b", "below the keys that Skep's user may touch"
            assert 0 < client.pttl(key) <= LONG
            assert await handoffs.take("{a} b") == b"it"
            assert client.keys("*") == []
        await place.close()


class TestClusterHandoffs(HandoffsContract):
    home = ClusterHandoffsHome
