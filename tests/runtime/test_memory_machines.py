"""Memory of machines that share a store, as whoever opens a workspace sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

import skep
from skep.config import Config, MemoryConfig, StoreConfig
from skep.errors import Unavailable
from skep.memory.limits import INLINE
from skep.wiring import assemble
from tests import servers
from tests.workspace.repository import Repository


async def test_who_waits_until_others_have_a_value_finds_it_there_at_once(tmp_path: Path) -> None:
    server = servers.valkey_server()
    server.tell("FLUSHALL")
    first, second = Repository(tmp_path / "first"), Repository(tmp_path / "second")
    key = tmp_path / "key"
    config = Config(store=StoreConfig(url=server.url, key=str(key)))
    async with skep.open(first.top, Config(store=StoreConfig(url=server.url))) as one:
        key.write_bytes((first.top / ".skep" / "key").read_bytes())
        key.chmod(0o600)
        async with skep.open(second.top, config) as two:
            await one.memory.store("style", "spaces", replicated=True)
            assert (await two.memory.get("style")).value == "spaces"


async def test_no_machine_removes_the_large_values_of_one_that_is_off(tmp_path: Path) -> None:
    server = servers.valkey_server()
    server.tell("FLUSHALL")
    config = Config(store=StoreConfig(url=server.url))
    first, second = Repository(tmp_path / "first"), Repository(tmp_path / "second")
    alone = Config(store=config.store, memory=MemoryConfig(store="sqlite"))  # the other one never hears of what it keeps
    async with skep.open(first.top, alone) as one:
        await one.memory.store("large", "x" * (2 * INLINE))
    (second.top / ".skep").mkdir(mode=0o700)
    (second.top / ".skep" / "key").write_bytes((first.top / ".skep" / "key").read_bytes())
    (second.top / ".skep" / "key").chmod(0o600)
    parts = await assemble(second.top, config)
    try:
        assert await parts.blobs.sweep(frozenset(await parts.bank.blobs()), parts.clock.now() + 1) == 0
        assert await parts.blobs.sweep(frozenset(), parts.clock.now() + 1) == 1, "nothing else kept it"
    finally:
        await parts.close()


async def test_where_nothing_is_shared_nobody_waits_for_others(tmp_path: Path) -> None:
    repo = Repository(tmp_path / "alone")
    async with skep.open(repo.top) as hive:
        with pytest.raises(Unavailable, match="not replicated here"):
            await hive.memory.store("style", "spaces", replicated=True)
        assert await hive.memory.list() == []
