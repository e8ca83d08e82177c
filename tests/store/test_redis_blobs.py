"""Blobs on Redis: the contract on each engine, and what only a server can do wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skep.errors import NotFound
from skep.store.redis.pieces import PIECE
from tests import servers
from tests.contracts.blobs import LATER, BlobsContract
from tests.store.redis_homes import ClusterBlobsHome, RedisBlobsHome, ValkeyBlobsHome


class OnRedis(BlobsContract):
    """The contract, with connections that are ended."""

    @pytest.fixture
    async def place(self, tmp_path: Path) -> AsyncIterator[RedisBlobsHome]:
        home = self.home(tmp_path / "home")
        assert isinstance(home, RedisBlobsHome)
        yield home
        await home.close()

    async def test_what_is_large_comes_in_pieces_and_is_there_when_it_is_whole(
        self, place: RedisBlobsHome, tmp_path: Path
    ) -> None:
        blobs = place.open(largest=4 * PIECE)
        data = bytes(range(256)) * (3 * PIECE // 256) + b"rest"
        (tmp_path / "file").write_bytes(data)
        digest, size = await blobs.put_file(str(tmp_path / "file"))
        assert (await blobs.put(data), size) == (digest, len(data))
        assert await blobs.get(digest) == data

    async def test_many_blobs_are_swept_in_pages_and_leave_nothing(self, place: RedisBlobsHome) -> None:
        blobs = place.open()
        digests = [await blobs.put(b"%d" % n) for n in range(30)]
        for digest in digests[5:]:
            await blobs.unpin(digest)
        assert await blobs.sweep(frozenset(digests[5:10]), LATER) == 20
        assert [await blobs.get(digest) for digest in digests[:10]] == [b"%d" % n for n in range(10)]
        with place.home.client() as client:
            assert client.zcard("skep:blobs") == 10


class TestOnRedis(OnRedis):
    home = RedisBlobsHome


class TestOnValkey(OnRedis):
    home = ValkeyBlobsHome


class TestOnCluster(OnRedis):
    home = ClusterBlobsHome


async def test_a_blob_that_was_begun_by_a_process_that_died_is_absent(tmp_path: Path) -> None:
    home = ValkeyBlobsHome(tmp_path)
    blobs = home.open(largest=4 * PIECE)
    digest = await blobs.put(b"x" * 2 * PIECE)
    server = servers.valkey_server()
    server.tell("RENAME", f"skep:blob:{{{digest}}}", f"skep:blob:{{{digest}}}:draft:1")  # as if it had gone no further
    with pytest.raises(NotFound):
        await blobs.get(digest)
    assert await blobs.put(b"x" * 2 * PIECE) == digest
    assert len(await blobs.get(digest)) == 2 * PIECE
    await home.close()
