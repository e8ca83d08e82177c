"""Records on Redis: the contract on each engine, and what only a server, or somebody without the key, can do."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skep.errors import Conflict, Denied, Invalid, Unavailable
from skep.memory.records import digest, encode
from skep.memory.redis import RedisStore
from skep.redis.connect import Link
from skep.store import chain
from skep.store.ring import HiveRing, NodeRing
from tests import servers
from tests.contracts.memory import MemoryContract, after, fresh
from tests.memory.redis_homes import SEAL, ClusterMemoryHome, RedisMemoryHome, ReplicatedMemoryHome, ValkeyMemoryHome
from tests.store.redis_homes import KEY
from tests.wire import Wire


class TestOnRedis(MemoryContract):
    home = RedisMemoryHome
    may_lack = frozenset({"private"})
    shared = True


class TestOnValkey(MemoryContract):
    home = ValkeyMemoryHome
    may_lack = frozenset({"private"})
    shared = True


class TestOnCluster(MemoryContract):
    home = ClusterMemoryHome
    may_lack = frozenset({"private"})
    shared = True


class TestWithReplicas(MemoryContract):
    home = ReplicatedMemoryHome
    may_lack = frozenset({"private"})
    shared = True


@pytest.fixture
async def home(tmp_path: Path) -> ValkeyMemoryHome:
    return ValkeyMemoryHome(tmp_path)


@pytest.fixture
async def store(home: ValkeyMemoryHome) -> AsyncIterator[RedisStore]:
    store = await home.open()
    yield store
    await store.close()


async def test_a_commit_whose_reply_is_lost_is_made_once(store: RedisStore) -> None:
    async with Wire(servers.valkey_server().port) as wire:
        lossy = RedisStore(Link(wire.url, {}), SEAL, "w")
        first = fresh("k")
        await lossy.commit([first])
        wire.lose(b"EVALSHA")
        second = after(first.record)
        await lossy.commit([second])
        assert wire.lost == 1
        assert await store.get("n", "k") == second.record
        assert len(await store.changes("n")) == 1
        await lossy.close()


async def test_two_processes_see_each_others_commits_and_one_of_two_rivals_wins(
    home: ValkeyMemoryHome, store: RedisStore
) -> None:
    other = await home.open()
    first = fresh("k")
    await store.commit([first])
    assert await other.get("n", "k") == first.record
    await other.commit([after(first.record, 1)])
    with pytest.raises(Conflict):
        await store.commit([after(first.record, 2)])
    assert other.writer != store.writer
    await other.close()


def planted(home: ValkeyMemoryHome, change: Any) -> None:
    """Has the server do something behind Skep's back, to the records of namespace `n`."""
    with home.home.client() as client:
        keys: Any = client.keys("skep:memory:*")
        (name,) = (key for key in keys if key.endswith(b":records"))
        change(client, name)


def forged(value: bytes) -> bytes:
    """What somebody without the key puts in place of what is kept of a record."""
    record = fresh("k", "do as I say").record
    return digest(record).encode() + value[32:64] + encode(record)


@pytest.mark.parametrize(
    "change",
    [
        lambda client, name: client.hset(name, "k", forged(client.hget(name, "k"))),
        lambda client, name: client.hset(name, "k", client.hget(name, "k")[:-1] + b"?"),
        lambda client, name: client.hset(name, "k", client.hget(name, "other")),
        lambda client, name: client.hset(name, "k", b"0" * 32 + client.hget(name, "k")[32:]),
        lambda client, name: client.hset(name, "k", b""),
    ],
    ids=["forged", "edited", "of another key", "its digest changed", "empty"],
)
async def test_what_somebody_without_the_key_put_there_is_refused(home: ValkeyMemoryHome, store: RedisStore, change: Any) -> None:
    await store.commit([fresh("k"), fresh("other")])
    planted(home, change)
    for call in (store.get("n", "k"), store.page("n"), store.changes("n")):
        with pytest.raises(Invalid, match="'k' in 'n' was not written by this hive"):
            await call
    assert await store.get("n", "other") is not None


async def test_a_record_of_one_namespace_is_none_of_another(home: ValkeyMemoryHome, store: RedisStore) -> None:
    await store.commit([fresh("k", namespace="n@1")])
    await store.commit([fresh("k")])
    with home.home.client() as client:
        keys: Any = client.keys("skep:memory:*")
        names = sorted(key for key in keys if b":records" in key)
        value: Any = client.hget(names[1], "k")
        client.hset(names[0], "k", value)
    with pytest.raises(Invalid, match="'k' in 'n' was not written"):
        await store.get("n", "k")


async def test_who_was_only_invited_has_no_memory_there(home: ValkeyMemoryHome) -> None:
    ring = HiveRing(KEY)
    invited = NodeRing("east", ring.secret("east"), ring.public, ring.place)
    store = RedisStore(Link(home.home.url, {}), lambda text: chain.seal_text(invited.key, text), "w")
    with pytest.raises(Denied, match="needs the key of the store"):
        await store.commit([fresh("k")])
    await store.close()


async def test_with_too_few_replicas_neither_commits_nor_reads_count(tmp_path: Path) -> None:
    home = ReplicatedMemoryHome(tmp_path)
    store = await home.open()
    first = fresh("k")
    await store.commit([first])
    replica = servers.replicated().replicas[0].process
    replica.send_signal(signal.SIGSTOP)
    try:
        second = after(first.record)
        answers = await asyncio.gather(store.commit([second]), store.get("n", "k"), return_exceptions=True)
        assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
    finally:
        replica.send_signal(signal.SIGCONT)
    await store.commit([second])
    assert await store.get("n", "k") == second.record
    await store.close()


async def test_names_are_found_again_after_another_process_dropped_them(home: ValkeyMemoryHome, store: RedisStore) -> None:
    await store.commit([fresh("k")])
    other = await home.open()
    await other.drop("n")
    await store.commit([fresh("k")])
    assert list(await other.heads()) == ["n"]
    await other.close()
