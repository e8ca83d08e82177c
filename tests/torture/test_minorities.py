"""The primary and the machine that writes the session are cut off together, and on the other side a replica is promoted.

What was accepted is done once, and in the minority nothing is accepted; with settings that are too weak it is, and is lost. The
cut is a real one: three namespaces, in each a server, a Sentinel and a machine; the cable to one of them goes down.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests import servers
from tests.runtime.actors import Actor, running
from tests.servers import Spot, Watched, until
from tests.torture.amounts import amount, is_long, timeout
from tests.torture.machines import FEW, Hive
from tests.torture.networks import Place, network

CLIENT = Path(__file__).with_name("client.py")
ROUNDS = range(amount("minorities") or 1)
LONG = "it takes half a minute and more: `make torture` has it"
pytestmark = [
    timeout("minorities"),
    pytest.mark.skipif(not is_long("minorities"), reason=LONG),
    pytest.mark.parametrize("number", ROUNDS),
]

#: Both may be promoted.
REPLICAS = 2
#: Milliseconds until the Sentinels miss the primary.
DOWN_AFTER = 2_000
#: Tasks that are done before the cut, and after it is mended.
BEFORE, AFTER = 8, 8


@pytest.fixture
def places() -> Iterator[list[Place]]:
    """Three places on a network of the test's own."""
    with network() as places:
        places += [Place(number) for number in range(3)]
        yield places


@pytest.fixture
def watched(places: list[Place]) -> Iterator[Watched]:
    """A server and a Sentinel in each place; the first is the primary."""
    watched = Watched(servers.valkey_binary(), spots=[Spot(place.address, place.within) for place in places])
    for sentinel in watched.sentinels:
        sentinel.tell("SENTINEL", "SET", "main", "down-after-milliseconds", DOWN_AFTER)
    yield watched
    watched.remove()


class Parted:
    """A session that the machine beside the primary writes, and a client beside both.

    Args:
        watched, places: where it all is.
        hive: the machines, and a client on the other side.
    """

    def __init__(self, watched: Watched, places: list[Place], hive: Hive) -> None:
        self._watched, self._places = watched, places
        self.hive = hive
        self.client: Actor

    async def begin(self, stack: AsyncExitStack) -> None:
        """The first machine is alone when the session is left to it; then the others join."""
        hive, first = self.hive, self._places[0]
        await hive.join(within=first.within)
        self.session = await hive.left("load")
        await asyncio.gather(*(hive.join(within=place.within) for place in self._places[1:]))
        folder = hive.folder / "beside"
        folder.mkdir()
        words = (str(folder), hive.url, str(hive.key), str(hive.replicas), str(hive.effects), "load")
        self.client = await stack.enter_async_context(
            running(*first.within, sys.executable, "-m", "tests.torture.client", *words)
        )
        await self.client.said("open")

    def cut(self) -> None:
        """The primary's place is cut off."""
        self._places[0].cut()

    async def accepted(self, key: str) -> None:
        """The client beside the primary hands tasks over; returns when they are accepted."""
        self.client.tell(key)
        while await self.client.said(key) != "accepted":
            pass

    def refuses(self) -> bool:
        """Whether the primary has refused to write what no replica would have."""
        with self._places[0].inside():
            return "errorstat_NOREPLICAS" in self._watched.primary.tell("INFO", "errorstats")

    def promoted(self) -> bool:
        """Whether the other side has a primary of its own."""
        return self._watched.leading(but=self._watched.spots[0]) is not None

    async def mend(self) -> None:
        """The place is back: the old primary follows the new one."""
        self._places[0].mend()
        primary, new = self._watched.primary, self._watched.leading(but=self._watched.spots[0])
        assert new is not None
        primary.tell("REPLICAOF", new.host, new.port)  # the Sentinels would say so too, after a while
        await asyncio.to_thread(until, lambda: primary.tell("ROLE")[3] == b"connected", "the old primary does not follow")


async def test_what_was_accepted_is_done_once_and_the_minority_accepts_nothing(
    number: int, watched: Watched, places: list[Place], tmp_path: Path, effects: Path, stack: AsyncExitStack
) -> None:
    watched.make_durable()
    hive = Hive(watched.url, tmp_path, effects, stack, REPLICAS)
    parted = Parted(watched, places, hive)
    await parted.begin(stack)
    enough = asyncio.Event()

    async def trouble() -> None:
        await hive.until(done=BEFORE)
        assert await hive.leader("load") == hive.names[0]
        parted.cut()
        accepted = asyncio.create_task(parted.accepted("beside"))
        await asyncio.to_thread(until, parted.refuses, "nobody asks it to write")
        await asyncio.to_thread(until, parted.promoted, "no replica was promoted")
        assert not accepted.done()
        await parted.mend()
        await accepted
        hive.accepted["load"]["beside"] = tuple(task.id for task in hive.tasks("beside", FEW))
        await hive.until(done=hive.done + AFTER)
        enough.set()

    await asyncio.gather(hive.feed(parted.session, enough), trouble())
    assert await hive.check("load") == []


async def test_with_settings_that_are_too_weak_what_the_minority_accepted_is_lost(
    number: int, watched: Watched, places: list[Place], tmp_path: Path, effects: Path, stack: AsyncExitStack
) -> None:
    hive = Hive(watched.url, tmp_path, effects, stack)
    parted = Parted(watched, places, hive)
    await parted.begin(stack)
    await hive.submit(parted.session, BEFORE)
    parted.cut()
    await parted.accepted("beside")
    await asyncio.to_thread(until, parted.promoted, "no replica was promoted")
    await parted.mend()
    told = await hive.told("load")
    lost = [task.id for task in hive.tasks("beside", FEW) if task.id not in told.entries]
    assert len(lost) == FEW
