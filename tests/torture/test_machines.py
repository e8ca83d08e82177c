"""Sessions over several machines and one Redis, while machines come, leave and die, and the Redis does too: all is done, once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from itertools import count as counting
from pathlib import Path
from random import Random

import pytest

from skep.errors import Unavailable
from tests import servers
from tests.servers import Cluster, Server
from tests.torture.amounts import amount, dice, is_long, timeout
from tests.torture.machines import Hive
from tests.wire import Wire

#: Calls that are not answered while a Redis is away for longer than any lease lasts: each is tried for most of a second.
UNANSWERED = 10
#: Of the replies to scripts, how many are lost; connections refused to a machine while it is given up.
LOST, REFUSED = 0.02, 30
#: The call of a script whose reply is lost for sure on each way.
SURE = 5


pytestmark = timeout("machine-tasks", "redis-tasks", "cluster-tasks", "wire-tasks")


@pytest.fixture
def server() -> Iterator[Server]:
    """A durable server that the test may kill."""
    server = Server(servers.valkey_binary())
    yield server
    server.remove()


async def test_machines_join_drain_and_die_and_every_task_is_done_once(
    server: Server, tmp_path: Path, effects: Path, stack: AsyncExitStack
) -> None:
    die, count, faults = dice("machine-faults"), amount("machine-tasks"), amount("machine-faults")
    hive = Hive(server.url, tmp_path, effects, stack)
    door = await hive.open()
    for _ in range(3):
        await hive.join()
    session = await hive.begin(door, "load")

    async def trouble() -> None:
        for fault in range(1, faults + 1):
            await hive.until(done=count * fault // (faults + 2))
            victim = die.choice(sorted(hive.machines))
            if fault % 3:
                await hive.kill(victim)
            else:
                await hive.drain(victim)
            await hive.join()

    await asyncio.gather(hive.work(session, count), trouble())
    assert await hive.check("load") == []


async def test_redis_is_killed_under_load_and_the_session_goes_on_when_it_is_back(
    server: Server, tmp_path: Path, effects: Path, stack: AsyncExitStack
) -> None:
    count, faults = amount("redis-tasks"), amount("redis-kills")
    hive = Hive(server.url, tmp_path, effects, stack)
    door = await hive.open()
    for _ in range(2):
        await hive.join()
    session = await hive.begin(door, "load")

    async def trouble() -> None:
        for fault in range(1, faults + 1):
            await hive.until(done=count * fault // (faults + 2))
            server.kill()
            if fault % 2 == 0:  # for longer than any lease lasts
                for _ in range(UNANSWERED):
                    with pytest.raises(Unavailable):
                        await hive.there()
            await asyncio.to_thread(server.start)

    await asyncio.gather(hive.work(session, count), trouble())
    assert await hive.check("load") == []


@pytest.mark.parametrize("replicas", [1] if is_long("cluster-tasks") else [0])
async def test_slots_are_moved_under_load_and_nobody_is_stuck(
    tmp_path: Path, effects: Path, stack: AsyncExitStack, replicas: int
) -> None:
    count, rounds = amount("cluster-tasks"), amount("cluster-rounds")
    cluster = Cluster(servers.valkey_binary(), replicas)
    stack.callback(cluster.remove)
    hive = Hive(cluster.url, tmp_path, effects, stack, replicas)
    door = await hive.open()
    for _ in range(2):
        await hive.join()
    sessions = [await hive.begin(door, name) for name in ("one", "two")]

    async def trouble() -> None:
        for number in range(1, rounds + 1):
            await hive.until(done=2 * count * number // (rounds + 2))
            for slot in await asyncio.to_thread(cluster.slots):
                await asyncio.to_thread(cluster.move, slot)

    await asyncio.gather(*(hive.work(session, count) for session in sessions), trouble())
    assert [await hive.check(session.name) for session in sessions] == [[], []]
    refused = {why: cluster.refused(why) for why in ("MOVED", "ASK", "TRYAGAIN")}
    print(f"refused: {refused}")
    assert refused["MOVED"] > 0


def losing(die: Random) -> Callable[[bytes], bool]:
    """Whether the reply to a request is lost: now and then, and once for sure."""
    calls = counting(1)
    return lambda said: b"EVALSHA" in said and (next(calls) == SURE or die.random() < LOST)


async def test_ways_that_are_slow_are_cut_and_lose_replies_lose_no_task(
    server: Server, tmp_path: Path, effects: Path, stack: AsyncExitStack
) -> None:
    die, count, cuts = dice("cuts"), amount("wire-tasks"), amount("cuts")
    hive = Hive(server.url, tmp_path, effects, stack)
    door = await hive.open()
    wires = [await stack.enter_async_context(Wire(server.port)) for _ in range(2)]
    for wire in wires:
        await hive.join(wire.url)
        wire.delay = 0.01
        wire.lose_some(losing(die))
    session = await hive.begin(door, "load")

    async def trouble() -> None:
        for number in range(1, cuts + 1):
            await hive.until(done=count * number // (cuts + 2))
            wire = wires[number % 2]
            if number % 4 == 3:  # for long enough to be given up
                wire.cut()
                await wire.until_refused(wire.refused + REFUSED)
                wire.mend()
            else:
                wire.break_off()

    await asyncio.gather(hive.work(session, count), trouble())
    for wire in wires:
        assert wire.lost > 0
        wire.lose_some(None)
    assert await hive.check("load") == []
