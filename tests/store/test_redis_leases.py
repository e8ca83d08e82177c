"""Leases on Redis pass what all leases do, on each engine."""

from __future__ import annotations

import pytest

from skep.errors import Unavailable
from skep.store import Leases
from skep.store.redis.leases import RedisLeases
from tests.contracts.leases import LONG, LeasesContract
from tests.store.engines import Engine, OnCluster, OnRedis, OnValkey


class LeasesOn(Engine):
    """Leases on an engine; its clock is that of the machine."""

    async def open(self) -> Leases:
        return RedisLeases(self.link())

    async def elapse(self, ms: int) -> None:
        end = self._now() + ms
        while self._now() < end:
            pass

    def _now(self) -> float:
        times = []
        for node in self.nodes:
            with node.client() as client:
                seconds, micros = client.time()
                times.append(seconds * 1000 + micros / 1000)
        return min(times)


class RedisLeasesHome(LeasesOn, OnRedis):
    pass


class ValkeyLeasesHome(LeasesOn, OnValkey):
    pass


class ClusterLeasesHome(LeasesOn, OnCluster):
    pass


class TestOnRedis(LeasesContract):
    home = RedisLeasesHome


class TestOnValkey(LeasesContract):
    home = ValkeyLeasesHome

    async def test_those_that_are_over_leave_the_server_when_they_are_read(self, place: ValkeyLeasesHome) -> None:
        leases = await place.open()
        for n in range(2500):
            await leases.hold(f"node/{n}", "a", 1 if n else LONG)
        await place.elapse(2)
        assert list(await leases.held("node")) == ["0"]
        assert place.nodes[0].tell("HLEN", "skep:leases:node") == 1

    async def test_what_is_no_lease_hides_none(self, place: ValkeyLeasesHome) -> None:
        leases = await place.open()
        await leases.hold("node/1", "a", LONG)
        for name, said in ((b"\xff", "9999999999999 x {}"), (b"two", "soon x {}"), (b"three", b"9999999999999 x \xff")):
            place.nodes[0].tell("HSET", "skep:leases:node", name, said)
        assert list(await leases.held("node")) == ["1"]

    async def test_a_server_that_is_away_is_said_to_be(self, place: ValkeyLeasesHome) -> None:
        leases = await place.open()
        await place.close()
        with pytest.raises(Unavailable):
            await leases.hold("node/1", "a", LONG)


class TestOnCluster(LeasesContract):
    home = ClusterLeasesHome
