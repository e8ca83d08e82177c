"""Where recordings are, on each engine: the contract, and what somebody without the key can do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skep.errors import Invalid
from skep.redis.connect import Link
from skep.store import Recorded
from skep.store.redis.keys import of_session
from skep.store.redis.log import RedisLog
from skep.store.redis.recordings import RedisRecordings
from skep.store.ring import HiveRing
from tests.contracts.recordings import ONE, Kept, RecordingsContract
from tests.store.redis_homes import KEY, ClusterHome, RedisHome, ValkeyHome


class RedisRecordingsHome:
    """A Redis 7.0, emptied."""

    at: type[RedisHome] = RedisHome

    def __init__(self, folder: Path) -> None:
        self.home = self.at(folder)
        self.logs: list[RedisLog] = []

    async def open(self) -> Kept:
        link = Link(self.home.url, {})
        self.logs.append(await RedisLog.open(link, HiveRing(KEY)))
        return Kept(self.logs[-1], RedisRecordings(link, HiveRing(KEY)))

    async def close(self) -> None:
        for log in self.logs:
            await log.close()


class ValkeyRecordingsHome(RedisRecordingsHome):
    """A Valkey 9, emptied."""

    at = ValkeyHome


class ClusterRecordingsHome(RedisRecordingsHome):
    """A Cluster, emptied."""

    at = ClusterHome


class OnRedis(RecordingsContract):
    """The contract, with connections that are ended."""

    @pytest.fixture
    async def place(self, tmp_path: Path) -> AsyncIterator[RedisRecordingsHome]:
        home = self.home(tmp_path / "home")
        assert isinstance(home, RedisRecordingsHome)
        yield home
        await home.close()

    async def test_what_was_put_without_the_key_is_in_doubt_and_keeps_no_blob(
        self, place: RedisRecordingsHome, kept: Kept
    ) -> None:
        await kept.recordings.put("s", "api", 1, "", ONE)
        key = of_session("s", "recordings")
        with place.home.client() as client:
            sealed = client.hget(key, "api:1:")
            assert isinstance(sealed, bytes)
            client.hset(key, "api:2:", sealed)  # of another attempt
            client.hset(key, "api:3:", sealed.replace(b"1" * 64, b"2" * 64))
            client.hset(key, "api:4:", b"{}")
        found = await kept.recordings.get("s", "api", [(n, "") for n in range(1, 6)])
        assert found.pop((1, "")) == ONE
        assert list(found) == [(2, ""), (3, ""), (4, "")]
        assert all(one.doubt and not one.digest for one in found.values())
        assert "2 bytes, was not written by this hive" in found[4, ""].doubt
        assert await kept.recordings.blobs("s") == {ONE.digest}

    async def test_what_is_shown_without_the_key_or_of_another_is_refused(self, place: RedisRecordingsHome, kept: Kept) -> None:
        await kept.recordings.show("s", "api", 1, b"mine", 60_000)
        with place.home.client() as client:
            sealed = client.get(of_session("s", "shown", "api", "1"))
            assert isinstance(sealed, bytes)
            client.set(of_session("s", "shown", "api", "2"), sealed)
            client.set(of_session("s", "shown", "api", "3"), b"x")
        for n in (2, 3):
            with pytest.raises(Invalid, match=f"attempt {n} of 'api'"):
                await kept.recordings.shown("s", "api", n)

    async def test_more_than_a_page_is_found_whole(self, kept: Kept) -> None:
        numbers = range(1, 1201)
        for n in numbers:
            await kept.recordings.put("s", "api", n, "", Recorded(f"{n:064x}", n, "east"))
        assert set(await kept.recordings.get("s", "api", [(n, "") for n in numbers])) == {(n, "") for n in numbers}
        assert await kept.recordings.blobs("s") == {f"{n:064x}" for n in numbers}


class TestRedisRecordings(OnRedis):
    home = RedisRecordingsHome


class TestValkeyRecordings(OnRedis):
    home = ValkeyRecordingsHome


class TestClusterRecordings(OnRedis):
    home = ClusterRecordingsHome
