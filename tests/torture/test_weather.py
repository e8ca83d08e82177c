"""Ways to the Redis that are slow, late, lossy, or come and go, between machines that work on one session: all is done once.

The ways are the kernel's own: each machine has a network namespace, whose traffic goes by a queueing discipline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests import servers
from tests.servers import DURABLE, Server
from tests.torture.amounts import amount, is_long, timeout
from tests.torture.machines import FEW, Hive
from tests.torture.networks import HERE, Place, network

LONG = "tests/torture/test_machines.py has slow ways by a proxy; `make torture` has this too"
pytestmark = [timeout("weather-tasks"), pytest.mark.skipif(not is_long("weather-tasks"), reason=LONG)]

WEATHER = {
    "slow": "tbf rate 1mbit burst 16kb latency 400ms",
    "late": "netem delay 100ms 50ms",
    "lossy": "netem loss 10% duplicate 2% reorder 5% delay 10ms",
}


@pytest.fixture
def places() -> Iterator[list[Place]]:
    """Two places on a network of the test's own."""
    with network() as places:
        places += [Place(number) for number in range(2)]
        yield places


@pytest.fixture
def server(places: list[Place]) -> Iterator[Server]:
    """A durable server that all places reach."""
    server = Server(servers.valkey_binary(), (*DURABLE, "--bind", "0.0.0.0", "--protected-mode", "no"))
    yield server
    server.remove()


async def joined(server: Server, places: list[Place], folder: Path, effects: Path, stack: AsyncExitStack) -> Hive:
    """A machine in each place."""
    hive = Hive(server.url, folder, effects, stack)
    await asyncio.gather(*(hive.join(f"redis://{HERE}:{server.port}", place.within) for place in places))
    return hive


@pytest.mark.parametrize("weather", WEATHER)
async def test_in_bad_weather_all_is_done_once(
    weather: str, server: Server, places: list[Place], tmp_path: Path, effects: Path, stack: AsyncExitStack
) -> None:
    for place in places:
        place.weather(*WEATHER[weather].split())
    hive = await joined(server, places, tmp_path, effects, stack)
    await hive.work(await hive.left("load"), amount("weather-tasks"))
    assert await hive.check("load") == []


async def test_with_cables_that_come_and_go_all_is_done_once(
    server: Server, places: list[Place], tmp_path: Path, effects: Path, stack: AsyncExitStack
) -> None:
    hive = await joined(server, places, tmp_path, effects, stack)
    session = await hive.left("load")
    enough = asyncio.Event()

    async def trouble() -> None:
        for number in range(amount("flaps") or 1):
            await hive.until(done=hive.done + FEW)
            place = places[number % 2]
            place.cut()
            for _ in range(number % 10):  # for as long as some questions take
                await hive.there()
            place.mend()
        enough.set()

    await asyncio.gather(hive.feed(session, enough), trouble())
    assert await hive.check("load") == []
