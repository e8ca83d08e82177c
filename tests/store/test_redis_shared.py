"""A workspace whose store is on Redis: the settings, the key, where blobs lie."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

import skep
from skep import nodes
from skep.config import Config, StoreConfig
from skep.errors import Denied, Exhausted, Invalid, Unavailable
from skep.runtime.node import Role
from skep.store import Blobs, Stores
from skep.store.blobs import FileBlobs
from skep.store.key import SIZE, shared_key
from skep.store.objects import ObjectBlobs
from skep.store.redis.doctor import examine
from skep.store.redis.findings import Finding
from skep.store.redis.shared import large_blobs, open_shared
from skep.store.redis.split import SplitBlobs
from tests import servers
from tests.contracts.blobs import BlobsContract
from tests.store.redis_homes import RedisBlobsHome, ValkeyBlobsHome, ValkeyHome

SMALL = StoreConfig().small


@pytest.fixture
def url(tmp_path: Path) -> str:
    return ValkeyHome(tmp_path).url


async def opened(config: StoreConfig, folder: Path) -> None:
    """Opens a store and closes it."""
    log = (await open_shared(config, folder / ".skep", lambda: 1)).log
    await log.close()


async def test_work_goes_on_in_another_workspace_with_the_same_store_and_key(url: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    config = Config(store=StoreConfig(url=url))
    async with skep.open(here, config) as hive:
        session = await hive.session("shared")
        result = await (await session.submit(skep.Task(run="echo x > $SKEP_OUT/o", outputs={"o": "o"}, mode="none"))).result()
        assert result.outputs["o"].text == "x\n"
    assert not (here / ".skep" / "skep.db").exists()
    with pytest.raises(Invalid, match="is missing") as caught:
        await opened(config.store, there)
    assert "[store] key" in caught.value.fix
    assert not (there / ".skep" / "key").exists()
    shutil.copy2(here / ".skep" / "key", there / "the-key")
    async with skep.open(there, Config(store=StoreConfig(url=url, key="the-key"))) as hive:
        assert [row.name for row in await hive.sessions()] == ["shared"]


async def test_a_key_of_another_store_is_refused(url: str, tmp_path: Path) -> None:
    await opened(StoreConfig(url=url), tmp_path)
    (tmp_path / "other").write_bytes(b"x" * SIZE)
    with pytest.raises(Denied, match="can be read or changed by others"):
        await opened(StoreConfig(url=url, key="other"), tmp_path)
    (tmp_path / "other").chmod(0o600)
    with pytest.raises(Denied, match="another key"):
        await opened(StoreConfig(url=url, key="other"), tmp_path)


async def test_all_who_begin_at_once_have_one_key(tmp_path: Path) -> None:
    keys = await asyncio.gather(*(asyncio.to_thread(shared_key, tmp_path / "state" / "key", True) for _ in range(20)))
    assert len(set(keys)) == 1


class SplitHome(ValkeyBlobsHome):
    """A Valkey for what is small, a folder for what is large."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder

    def open(self, largest: int = 2**20) -> Blobs:
        return SplitBlobs(super().open(largest), FileBlobs(self.folder / "large"), SMALL)


class TestSplit(BlobsContract):
    home = SplitHome

    @pytest.fixture
    async def place(self, tmp_path: Path) -> AsyncIterator[SplitHome]:
        home = SplitHome(tmp_path / "home")
        yield home
        await home.close()

    async def test_what_is_large_lies_in_the_folder(self, place: SplitHome, tmp_path: Path) -> None:
        blobs = place.open()
        data = b"x" * (SMALL + 1)
        (tmp_path / "file").write_bytes(data + b"y")
        digest, size = await blobs.put_file(str(tmp_path / "file"))
        assert (size, await blobs.get(digest)) == (SMALL + 2, data + b"y")
        assert await blobs.get(await blobs.put(data)) == data
        assert servers.valkey_server().tell("EXISTS", "skep:blobs") == 0


async def test_a_file_that_is_too_large_for_redis_says_where_it_could_lie(tmp_path: Path) -> None:
    home = RedisBlobsHome(tmp_path)
    (tmp_path / "file").write_bytes(b"x" * 11)
    with pytest.raises(Exhausted, match="at most 10") as caught:
        await home.open(largest=10).put_file(str(tmp_path / "file"))
    assert "[store] blobs" in caught.value.fix
    await home.close()


# The place of large blobs


class Machine:
    """A machine that shares a store: its own idea of where large blobs lie."""

    def __init__(self, url: str, where: str, folder: Path) -> None:
        self.config, self.state = StoreConfig(url=url, blobs=where, small=10, key="../hive.key"), folder / ".skep"
        self.state.mkdir(parents=True)
        key = folder.parent / "hive.key"
        if not key.exists():
            key.write_bytes(b"k" * SIZE)
            key.chmod(0o600)

    async def puts(self, data: bytes) -> str:
        """Keeps something."""
        stores = await self._open()
        try:
            digest = await stores.blobs.put(data)
            await stores.blobs.unpin(digest)
            return digest
        finally:
            await stores.close()

    async def gets(self, digest: str) -> bytes:
        stores = await self._open()
        try:
            return await stores.blobs.get(digest)
        finally:
            await stores.close()

    async def ready(self) -> None:
        stores = await self._open()
        try:
            assert stores.ready is not None
            await stores.ready()
        finally:
            await stores.close()

    async def looked_at(self) -> Finding:
        """What doctor says of the place."""
        large = partial(large_blobs, self.config, self.state)
        (found,) = (one for one in (await examine(self.config.url, 0, large=large)).findings if one.name == "blobs")
        return found

    async def _open(self) -> Stores:
        return await open_shared(self.config, self.state, lambda: 1)


LARGE = b"more than ten bytes"


@pytest.mark.parametrize("where", ["folder", "file", "memory"])
async def test_what_is_large_lies_where_all_machines_see_it(url: str, where: str, tmp_path: Path) -> None:
    place = {"folder": str(tmp_path / "p"), "file": f"file://{tmp_path}/p", "memory": f"memory://{tmp_path.name}-{where}"}[where]
    here, there = Machine(url, place, tmp_path / "here"), Machine(url, place, tmp_path / "there")
    digest = await here.puts(LARGE)
    assert await there.gets(digest) == LARGE
    assert servers.valkey_server().tell("EXISTS", "skep:blobs") == 0
    assert await there.gets(await here.puts(b"small")) == b"small"
    assert servers.valkey_server().tell("ZCARD", "skep:blobs") == 1


async def test_a_machine_that_does_not_see_the_place_is_told_before_it_puts_anything_there(url: str, tmp_path: Path) -> None:
    here, there = Machine(url, "blobs", tmp_path / "here"), Machine(url, "blobs", tmp_path / "there")  # each its own
    digest = await here.puts(LARGE)
    for tried in (there.puts(LARGE), there.gets(digest), there.ready()):
        with pytest.raises(Unavailable, match="not where this store keeps"):
            await tried
    assert list((tmp_path / "there/blobs").iterdir()) == []
    shutil.copytree(tmp_path / "here/blobs", tmp_path / "there/blobs", dirs_exist_ok=True)  # moved, all of it
    assert await there.gets(digest) == LARGE


async def test_a_node_that_does_not_see_the_place_does_not_join(url: str, tmp_path: Path) -> None:
    await Machine(url, "blobs", tmp_path / "here").puts(LARGE)
    config = Config(store=Machine(url, "blobs", tmp_path / "there").config)
    with pytest.raises(Unavailable, match="not where this store keeps"):
        async with nodes.join(tmp_path / "there", config, Role(serves=True, hosted=True)):
            pytest.fail("it joined")


async def test_a_place_of_another_store_is_refused_and_left_as_it_is(url: str, tmp_path: Path) -> None:
    here = Machine(url, str(tmp_path / "blobs"), tmp_path / "here")
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/store").write_text("another's")
    with pytest.raises(Denied, match="belongs to another store"):
        await here.puts(LARGE)
    assert (await here.looked_at()).state == "error"
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == ["store"]
    assert (tmp_path / "blobs/store").read_text() == "another's"


async def test_doctor_tells_whether_the_place_is_the_right_one(url: str, tmp_path: Path) -> None:
    here, there = Machine(url, "blobs", tmp_path / "here"), Machine(url, "blobs", tmp_path / "there")
    assert (await here.looked_at()).state == "unknown"
    assert list((tmp_path / "here/blobs").iterdir()) == []
    await here.puts(LARGE)
    before = sorted((tmp_path / "here/blobs").rglob("*"))
    found = await here.looked_at()
    assert (found.state, found.fix, "written and read" in found.text) == ("ok", "", True)
    assert sorted((tmp_path / "here/blobs").rglob("*")) == before
    assert ((await there.looked_at()).state, "mark" in (await there.looked_at()).text) == ("error", True)
    (tmp_path / "nowhere").mkdir()
    none = Machine(url, "", tmp_path / "nowhere/at-all")
    assert (await none.looked_at()).text == "all lie in the Redis"


async def test_backups_and_collection_know_what_lies_elsewhere(url: str, tmp_path: Path) -> None:
    place = f"memory://{tmp_path.name}-backup"
    config = Config(store=StoreConfig(url=url, blobs=place, small=10))
    async with skep.open(tmp_path, config) as hive:
        session = await hive.session("s")
        task = skep.Task(run="printf 'a large output' > $SKEP_OUT/o", outputs={"o": "o"}, mode="none")
        await (await session.submit(task)).result()
        (made,) = await hive.backup("s")
        assert made.trouble == ""
    blobs = ObjectBlobs(place, tmp_path)
    digest = hashlib.sha256(b"a large output").hexdigest()
    assert await blobs.get(digest) == b"a large output"
    assert await blobs.sweep(frozenset(), 2**42) == 1  # as if the bucket had been emptied
    async with skep.open(tmp_path, config) as hive:
        await hive.restore("s", made.path)
    assert await blobs.get(digest) == b"a large output"
