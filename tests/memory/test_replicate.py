"""Machines over a real Redis keep each other up to date, through partitions, losses and lies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import msgspec
import pytest
from msgspec.structs import replace

from skep.errors import Invalid, NotFound, Unavailable
from skep.memory import Entry, Record
from skep.memory.clocks import AHEAD, COUNT
from skep.memory.draft import Draft
from skep.memory.records import check_copy, encode, written
from skep.memory.replicate import EVERY, Told
from skep.memory.sqlite import SqliteStore
from tests import servers
from tests.contracts.memory import entry
from tests.memory.machines import Machine, agree, now, over_redis
from tests.memory.redis_homes import ValkeyMemoryHome
from tests.store.engines import OnCluster
from tests.wire import Wire

Start = Callable[..., Any]


@pytest.fixture
async def url(tmp_path: Path) -> str:
    return ValkeyMemoryHome(tmp_path).home.url


@pytest.fixture
async def start(url: str) -> AsyncIterator[Start]:
    """Starts machines, which end with the test."""
    async with AsyncExitStack() as stack:

        async def begin(name: str, at: str = url, **rest: Any) -> Machine:
            machine = await over_redis(name, at, **rest).start()
            stack.push_async_callback(machine.close)
            return machine

        yield begin


async def put(machine: Machine, key: str, value: object, **rest: Any) -> Entry:
    return await machine.bank.store(Draft(**{"namespace": "n", "key": key, "value": value, **rest}))


async def get(machine: Machine, key: str) -> Any:
    return (await machine.bank.get(key, namespace="n")).value


@pytest.mark.parametrize("where", ["one server", "Cluster"])
async def test_what_one_stores_all_have(start: Start, tmp_path: Path, where: str, url: str) -> None:
    at = OnCluster(tmp_path).url if where == "Cluster" else url
    machines = [await start(name, at) for name in "abc"]
    stored = [
        await put(machine, f"{number} of {machine.replication.node}", number) for machine in machines for number in range(50)
    ]
    held = await agree(machines, 150)
    assert {await machines[0].replication.replicated(one) for one in stored[:50]} == {2}
    assert {record.entries[0].value for record in held.values()} == set(range(50))
    await machines[1].bank.delete("7 of a", namespace="n")
    await agree(machines, 150)
    with pytest.raises(NotFound):
        await get(machines[2], "7 of a")


async def test_what_was_written_at_the_same_time_stays_side_by_side_until_somebody_decides(start: Start, url: str) -> None:
    async with Wire(servers.valkey_server().port) as wire:
        one, other = await start("a"), await start("b", wire.url)
        await one.replication.replicated(await put(one, "k", "before"))
        wire.cut()
        await put(one, "k", "here")
        await put(other, "k", "there")
        await put(one, "gone", 1)
        wire.mend()
        held = await agree([one, other], 2)
        assert {entry.value for entry in held["n", "k"].entries} == {"here", "there"}
        siblings = await other.bank.siblings("k", namespace="n")
        await other.bank.settle("k", (siblings[0].writer, siblings[0].stamp), namespace="n")
        assert len((await agree([one, other]))["n", "k"].entries) == 1


async def test_deletions_outlive_a_partition(start: Start, url: str) -> None:
    async with Wire(servers.valkey_server().port) as wire:
        one, other = await start("a"), await start("b", wire.url)
        for number in range(20):
            await put(one, f"k{number}", number)
        await agree([one, other], 20)
        wire.cut()
        for number in range(10):
            await one.bank.delete(f"k{number}", namespace="n")
        await put(other, "k0", "written again by somebody who did not know")
        await put(other, "mine", 1)
        wire.mend()
        held = await agree([one, other], 21)
        assert {key for (_, key), record in held.items() if not record.entries} == {f"k{number}" for number in range(1, 10)}


async def test_counters_and_sets_lose_nothing_that_was_added_on_either_side(start: Start, url: str) -> None:
    async with Wire(servers.valkey_server().port) as wire:
        one, other = await start("a"), await start("b", wire.url)
        await put(one, "count", 0, rule="counter")
        await put(one, "set", ["x"], rule="union")
        await agree([one, other], 2)
        wire.cut()
        for machine in (one, other):
            for _ in range(5):
                await machine.bank.add("count", 1, namespace="n")
            await put(machine, "set", ["x", machine.replication.node], rule="union")
        wire.mend()
        await agree([one, other])
        for machine in (one, other):
            assert await get(machine, "count") == 10
            assert sorted(await get(machine, "set")) == ["a", "b", "x"]


async def test_what_was_trimmed_meanwhile_is_found_by_comparing(start: Start, url: str) -> None:
    async with Wire(servers.valkey_server().port) as wire:
        one = await start("a", every=EVERY, bound=20_000)
        other = await start("b", wire.url, every=EVERY, bound=20_000)
        await put(one, "first", 1)
        await agree([one, other], 1)
        wire.cut()
        for number in range(300):
            await one.replication.replicated(await put(one, f"k{number}", "x" * 500), 30)
            if number == 0:
                await servers_forget(other)
        wire.mend()
        await agree([one, other], 301)
        assert other.replication.numbers.heard < 100


async def servers_forget(machine: Machine) -> None:
    """As after the seconds for which a machine counts as there that says nothing."""
    with servers.valkey_server().client() as client:
        client.zrem("skep:memory:{relay}:times", machine.replication.node)


async def test_what_is_missing_between_two_entries_is_found_at_once(start: Start, url: str) -> None:
    async with Wire(servers.valkey_server().port) as wire:
        one, other = await start("a", every=1e6), await start("b", wire.url, every=1e6)
        await one.replication.replicated(await put(one, "k0", 0))
        wire.cut()
        await servers_forget(other)
        for number in (1, 2, 3):
            await one.replication.replicated(await put(one, f"k{number}", number))
        server = servers.valkey_server()
        entries = server.tell("XRANGE", stream := "skep:memory:{relay}:stream", "-", "+")
        server.tell("XDEL", stream, entries[-2][0])
        wire.mend()
        await agree([one, other], 4)


async def test_a_redis_that_lost_everything_costs_nothing(start: Start, url: str) -> None:
    async with Wire(servers.valkey_server().port) as wire:
        one, other = await start("a", every=EVERY), await start("b", wire.url, every=EVERY)
        await one.replication.replicated(await put(one, "k0", 0))
        wire.cut()
        for number in range(1, 100):
            await put(one, f"k{number}", number)
        await servers_forget(other)
        await one.replication.replicated(await put(one, "last", 1))
        servers.valkey_server().tell("FLUSHALL")
        wire.mend()
        await put(one, "after", 1)
        held = await agree([one, other], 102)
        assert len(held) == 102


async def test_a_machine_that_comes_later_gets_all_ten_thousand_of_it(start: Start, tmp_path: Path) -> None:
    one = await start("a", store=await SqliteStore.open(tmp_path / "a"), every=EVERY)
    await asyncio.gather(*(put(one, f"k{number}", {"number": number}, namespace=f"n{number % 7}") for number in range(10_000)))
    other = await start("b", store=await SqliteStore.open(tmp_path / "b"), every=EVERY)
    await agree([one, other], 10_000)


async def test_replicated_says_who_does_not_have_it(start: Start, url: str) -> None:
    async with Wire(servers.valkey_server().port) as wire:
        one = await start("a")
        assert await one.replication.replicated(await put(one, "alone", 1)) == 0
        other = await start("b", wire.url)
        await agree([one, other], 1)
        assert await one.replication.replicated(await put(one, "k", 1)) == 1
        wire.cut()
        with pytest.raises(Unavailable, match="stored here, but: b does not have it yet"):
            await one.replication.replicated(await put(one, "k", 2), 0.3)
        wire.mend()
        assert await one.replication.replicated(await put(one, "k", 3)) == 1
        assert await get(other, "k") == 3


# What nobody of the hive wrote


async def test_a_forged_entry_is_passed_over_and_told_of(start: Start, url: str) -> None:
    one, other = await start("a", every=EVERY), await start("b", every=EVERY)
    await put(one, "k", "good")
    await agree([one, other], 1)
    server = servers.valkey_server()
    bad = encode(written(None, entry("k", "evil")))
    body = bytes(32) + msgspec.msgpack.encode(Told("a", [bad]))
    number = server.tell("HINCRBY", "skep:memory:{relay}:head", "last", 1)
    server.tell("XADD", "skep:memory:{relay}:stream", f"{number}-0", "body", body)
    await one.replication.replicated(await put(one, "next", 1))
    assert await get(other, "next") == 1
    assert await get(other, "k") == "good"
    assert other.replication.numbers.forged == 1
    assert "not of this hive" in other.replication.suspicion


async def test_a_copy_from_the_far_future_is_refused_and_told_of(start: Start, url: str) -> None:
    one, other = await start("a", every=EVERY), await start("b", every=EVERY)
    late = replace(entry("k", "for ever"), writer="a", stamp=(now() + AHEAD + 3_600_000) << COUNT)
    await put(one, "first", 1)
    await agree([one, other], 1)
    told = Told("a", [encode(written(None, late)), encode(written(None, entry("fine")))])
    await one.replication._relay.tell(one.replication._closed("told", told))
    await one.replication.replicated(await put(one, "next", 1))
    assert await get(other, "fine") == "value"
    with pytest.raises(NotFound):
        await get(other, "k")
    assert other.replication.numbers.refused == 1
    assert "hours in the future" in other.replication.suspicion


def nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


async def test_a_copy_that_nobody_can_read_holds_nothing_up(start: Start, url: str) -> None:
    one, other = await start("a", every=EVERY), await start("b", every=EVERY)
    await put(one, "first", 1)
    await agree([one, other], 1)
    bottomless = encode(written(None, entry("k", "HERE"))).replace(b"\xa4HERE", b"\x91" * 100_000 + b"\xc0")
    told = Told("a", [bottomless, encode(written(None, entry("fine")))])
    await one.replication._relay.tell(one.replication._closed("told", told))
    await one.replication.replicated(await put(one, "next", 1))
    assert await get(other, "fine") == "value"
    assert other.replication.numbers.refused == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda record: replace(record, clock={}),
        lambda record: replace(record, entries=record.entries * 2),
        lambda record: replace(record, entries=(replace(record.entries[0], key="other"),)),
        lambda record: replace(record, entries=(replace(record.entries[0], namespace="other"),)),
        lambda record: replace(record, key="\0"),
        lambda record: replace(record, namespace="n@1"),
        lambda record: replace(record, entries=(replace(record.entries[0], value=float("nan")),)),
        lambda record: replace(record, entries=(replace(record.entries[0], metadata={"deep": nested(101)}),)),
        lambda record: replace(record, entries=(replace(record.entries[0], updated=2**62),)),
        lambda record: replace(record, entries=(replace(record.entries[0], expires=-1),)),
    ],
)
async def test_a_copy_that_contradicts_itself_is_refused(change: Callable[[Record], Record]) -> None:
    record = written(None, entry("k"))
    check_copy(record, now())
    with pytest.raises(Invalid):
        check_copy(change(record), now())


async def test_a_namespace_that_was_dropped_does_not_come_back_from_others(start: Start) -> None:
    one, other = await start("a"), await start("b")
    await put(one, "from here", 1)
    await put(other, "from there", 2)
    await agree([one, other], 2)
    await one.bank.forget("n")
    held = await agree([one, other], 2)
    assert not any(record.entries for record in held.values())
    await one.replication.sync()
    await other.replication.sync()
    assert await one.bank.list() == await other.bank.list() == []
    await put(other, "from there", 3)
    await agree([one, other], 2)
    assert await get(one, "from there") == 3


async def test_sync_says_so_when_the_relay_goes_while_it_waits(start: Start) -> None:
    one = await start("a")
    refused = asyncio.Event()

    async def tell(body: bytes) -> tuple[bytes, int]:
        await refused.wait()
        raise Unavailable("the relay is gone")

    with patch.object(one.replication, "_relay", Mock(wraps=one.replication._relay, tell=tell)):
        await put(one, "k", 1)
        asked = asyncio.create_task(one.replication.sync())
        await asyncio.wait([asked], timeout=0)
        refused.set()
        with pytest.raises(Unavailable, match="gone"):
            async with asyncio.timeout(30):
                await asked
