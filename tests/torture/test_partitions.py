"""Machines that are cut off from the Redis, and so from all others: others do what they had in hand, and all is done once.

The cut is a real one: each machine has a network namespace, and the cable to it goes down. Nobody is told so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from skep.core.model import Task
from tests import servers
from tests.servers import DURABLE, Server, until
from tests.torture.amounts import amount, is_long, timeout
from tests.torture.machines import FEW, NOTE, Hive
from tests.torture.networks import HERE, Place, gone, network

LONG = "it takes half a minute and more: `make torture` has it"
pytestmark = [timeout("partitions"), pytest.mark.skipif(not is_long("partitions"), reason=LONG)]

#: Its first attempt says who it is and goes on until it is ended; the next one does nothing.
HANG = f"""{NOTE.format(what="begin")}
if [ "$SKEP_ATTEMPT" = 1 ]; then
  echo $$ > "$EFFECTS.pids/$SKEP_TASK.new"
  mv "$EFFECTS.pids/$SKEP_TASK.new" "$EFFECTS.pids/$SKEP_TASK"
  exec sleep 1000
fi
{NOTE.format(what="end")}"""


@pytest.fixture
def places() -> Iterator[list[Place]]:
    """A network of the test's own."""
    with network() as places:
        yield places


@pytest.fixture
def server(places: list[Place]) -> Iterator[Server]:
    """A durable server that all places reach."""
    server = Server(servers.valkey_binary(), (*DURABLE, "--bind", "0.0.0.0", "--protected-mode", "no"))
    yield server
    server.remove()


async def test_who_is_cut_off_ends_what_it_has_and_writes_nothing_and_all_is_done_once(
    server: Server, places: list[Place], tmp_path: Path, effects: Path, stack: AsyncExitStack
) -> None:
    hive = Hive(server.url, tmp_path, effects, stack)
    pids = Path(f"{effects}.pids")
    pids.mkdir()
    places += [Place(number) for number in range(3)]
    url = f"redis://{HERE}:{server.port}"
    joined = await asyncio.gather(*(hive.join(url, place.within) for place in places))
    at = dict(zip(joined, places, strict=True))
    session = await hive.left("load")
    enough = asyncio.Event()

    async def cut_off_who_has(task: str) -> None:
        """A node is cut off: it ends its attempt while it is alone, and another one does the task meanwhile."""
        hanging = Task(id=task, run=HANG, mode="none", env={"EFFECTS": str(effects)}, retries=0, timeout=600.0)
        await hive.hand_over(session, task, [hanging])
        await asyncio.to_thread(until, (pids / task).exists, f"{task} does not begin")
        pid = int((pids / task).read_text())
        place = next(place for place in places if place.has(pid))
        place.cut()
        await asyncio.to_thread(until, lambda: gone(pid), f"{task} goes on although its node was given up")
        await hive.until_finished(task)
        place.mend()

    async def cut_off_who_writes() -> None:
        """The leader is cut off: another one takes over, and what the old one says later is refused."""
        name = await hive.leader("load")
        at[name].cut()
        await hive.leader("load", but=name)
        await hive.until(done=hive.done + FEW)
        at[name].mend()

    async def trouble() -> None:
        for number in range(amount("partitions")):
            await hive.until(done=hive.done + FEW)
            await (cut_off_who_writes() if number % 2 else cut_off_who_has(f"hang-{number}"))
        enough.set()

    await asyncio.gather(hive.feed(session, enough), trouble())
    assert await hive.check("load") == []
    await asyncio.gather(*map(hive.drain, at))  # all came back
