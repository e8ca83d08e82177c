"""Where commits can be had, on each engine: the contract, and what only a server can do wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skep.errors import Invalid
from skep.redis.connect import Link
from skep.store import Listing, Packed
from skep.store.redis.keys import of_session
from skep.store.redis.listing import RedisListing
from skep.store.redis.log import RedisLog
from skep.store.ring import HiveRing
from tests.contracts.listing import COMMIT, PACKED, ListingContract
from tests.store.redis_homes import KEY, ClusterHome, RedisHome, ValkeyHome


class RedisListingHome:
    """A Redis 7.0, emptied."""

    at: type[RedisHome] = RedisHome

    def __init__(self, folder: Path) -> None:
        self.home = self.at(folder)
        self.links: list[Link] = []

    def link(self) -> Link:
        self.links.append(Link(self.home.url, {}))
        return self.links[-1]

    async def open(self) -> Listing:
        return RedisListing(self.link())

    async def close(self) -> None:
        for link in self.links:
            await link.close()


class ValkeyListingHome(RedisListingHome):
    """A Valkey 9, emptied."""

    at = ValkeyHome


class ClusterListingHome(RedisListingHome):
    """A Cluster, emptied."""

    at = ClusterHome


class OnRedis(ListingContract):
    """The contract, with connections that are ended."""

    @pytest.fixture
    async def place(self, tmp_path: Path) -> AsyncIterator[RedisListingHome]:
        home = self.home(tmp_path / "home")
        assert isinstance(home, RedisListingHome)
        yield home
        await home.close()

    async def test_what_others_wrote_there_is_refused(self, place: RedisListingHome, listing: Listing) -> None:
        with place.home.client() as client:
            client.hset(of_session("s", "commits"), COMMIT, "{}")
        for call in (listing.get("s", COMMIT), listing.all("s"), listing.put("s", COMMIT, PACKED)):
            with pytest.raises(Invalid, match="damaged"):
                await call
        await listing.put("s", "b" * 40, PACKED)
        assert await listing.blobs("s") == ({PACKED.digest}, [COMMIT])

    async def test_more_than_a_page_is_listed_whole(self, listing: Listing) -> None:
        wanted = {f"{n:040x}": Packed("d" * 64, (), n) for n in range(1200)}
        for commit, packed in wanted.items():
            await listing.put("s", commit, packed)
        assert await listing.all("s") == wanted

    async def test_it_goes_with_the_log_of_its_session(self, place: RedisListingHome, listing: Listing) -> None:
        log = await RedisLog.open(place.link(), HiveRing(KEY))
        await log.create("s", 0)
        await listing.put("s", COMMIT, PACKED)
        await log.drop("s")
        assert await listing.all("s") == {}
        await log.close()


class TestRedisListing(OnRedis):
    home = RedisListingHome


class TestValkeyListing(OnRedis):
    home = ValkeyListingHome


class TestClusterListing(OnRedis):
    home = ClusterListingHome
