"""The bank that the settings name, where the store is a Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from skep.config import MemoryConfig
from skep.errors import Denied, Invalid
from skep.memory import Filter, Search
from skep.memory.bank import Bank
from skep.memory.draft import Draft
from skep.memory.opening import Together, open_bank
from skep.store.ephemeral import EphemeralBlobs, EphemeralDisk
from tests.memory.machines import now
from tests.memory.redis_homes import SEAL, ValkeyMemoryHome

Open = Callable[..., Any]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens banks of machines that share a Redis and blobs; they end with the test."""
    url, disk = ValkeyMemoryHome(tmp_path).home.url, EphemeralDisk()
    async with AsyncExitStack() as stack:

        async def begin(name: str, store: Any = "", **rest: Any) -> Bank:
            together = Together(url, 0, **{"seal": SEAL, **rest})
            bank = await open_bank(MemoryConfig(store=store), tmp_path / name, now, EphemeralBlobs(disk, now), together)
            stack.push_async_callback(bank.close)
            return bank

        yield begin


async def test_without_a_word_machines_that_share_a_redis_share_what_they_remember(opened: Open) -> None:
    one, other = await opened("a"), await opened("b")
    large = "x" * 200_000
    await one.store(Draft(namespace="n", key="k", value="remembered"))
    await one.store(Draft(namespace="n", key="large", value=large))
    for bank in (one, other):
        assert await bank.replication.sync() in (0, 1)
    await other.replication.sync()
    assert (await other.get("k", namespace="n")).value == "remembered"
    assert (await other.get("large", namespace="n")).value == large
    found = await other.search(Search(text="remembered", filter=Filter(namespaces=("n",)), wait=True))
    assert [hit.entry.key for hit in found.hits][:1] == ["k"]


async def test_what_was_stored_last_is_told_before_it_ends(opened: Open) -> None:
    one, other = await opened("a"), await opened("b")
    await one.replication.sync()
    assert await other.replication.sync() == 1
    heard = asyncio.Event()
    wake = other.replication._bank._indexing.wake

    def told(name: str) -> None:
        wake(name)
        heard.set()

    other.replication._bank._indexing.wake = told
    await one.store(Draft(namespace="n", key="k", value=1))
    await one.replication.close()
    one.replication = None
    await heard.wait()
    assert (await other.get("k", namespace="n")).value == 1


async def test_all_use_one_memory_in_redis_and_find_what_others_put_there(opened: Open) -> None:
    one, other = await opened("a", "redis"), await opened("b", "redis")
    assert one.replication is None
    await one.store(Draft(namespace="n", key="k", value="the build needs make"))
    assert (await other.get("k", namespace="n")).value == "the build needs make"
    found = await other.search(Search(text="build", filter=Filter(namespaces=("n",)), wait=True))
    assert [hit.entry.key for hit in found.hits] == ["k"]
    await asyncio.gather(*(bank.add("c", 1, namespace="n") for bank in (one, other) for _ in range(5)))
    assert (await one.get("c", namespace="n")).value == 10
    first = one.store_below.writer
    await one.close()
    assert (await opened("a", "redis")).store_below.writer == first


@pytest.mark.parametrize("store", ["redis", "sqlite+redis"])
async def test_who_was_only_invited_has_a_memory_of_its_own_or_none(opened: Open, store: str) -> None:
    def seal(text: bytes) -> bytes:
        raise Denied("this needs the key of the store")

    with pytest.raises(Denied):
        await opened("a", store, seal=seal, invited=True)
    bank = await opened("a", seal=seal, invited=True)
    assert bank.replication is None
    assert (await bank.store(Draft(namespace="n", key="k", value=1))).value == 1


@pytest.mark.parametrize("store", ["redis", "sqlite+redis"])
async def test_memory_in_a_redis_needs_one(tmp_path: Path, store: Any) -> None:
    with pytest.raises(Invalid, match="needs a Redis"):
        await open_bank(MemoryConfig(store=store), tmp_path, now, EphemeralBlobs(EphemeralDisk(), now))
