"""What every `Handoffs` does. A backend passes when `class TestX(HandoffsContract): home = XHome` does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from skep.store import Handoffs

#: Longer than any test, ms.
LONG = 3_600_000


class HandoffsHome(Protocol):
    """A shared store, which any number of processes open."""

    def __init__(self, folder: Path) -> None: ...

    async def open(self) -> Handoffs: ...

    async def close(self) -> None:
        """Ends all that was opened."""


class HandoffsContract:
    """Subclass it with `home`."""

    home: type[HandoffsHome]

    @pytest.fixture
    async def place(self, tmp_path: Path) -> AsyncIterator[HandoffsHome]:
        home = self.home(tmp_path)
        yield home
        await home.close()

    async def test_what_one_lays_down_another_takes_once(self, place: HandoffsHome) -> None:
        one, other = await place.open(), await place.open()
        assert await other.take("a") is None
        await one.put("a", b"first", LONG)
        await one.put("a", b"then \x00\xff", LONG)
        await one.put("a:b", b"of another name", LONG)
        assert await other.take("a") == b"then \x00\xff"
        assert await other.take("a") is None
        assert await one.take("a") is None
        assert await one.take("a:b") == b"of another name"

    async def test_of_two_that_take_at_once_one_gets_it(self, place: HandoffsHome) -> None:
        one, other = await place.open(), await place.open()
        await one.put("a", b"it", LONG)
        took = await asyncio.gather(*(each.take("a") for each in (one, other, one, other)))
        assert sorted(took, key=bool) == [None, None, None, b"it"]

    async def test_it_lies_there_for_a_moment_only(self, place: HandoffsHome) -> None:
        handoffs = await place.open()
        while True:
            await handoffs.put("a", b"gone", 1)
            await asyncio.sleep(0.002)  # tidy: sleeps because only time ends it
            if await handoffs.take("a") is None:
                break

    async def test_who_listens_to_a_name_hears_what_is_laid_down_there_and_who_rings(self, place: HandoffsHome) -> None:
        one, other = await place.open(), await place.open()
        heard, also, elsewhere = asyncio.Event(), asyncio.Event(), asyncio.Event()
        stops = [await other.listen("{a} b", heard.set), await one.listen("{a} b", also.set)]
        stops.append(await other.listen("c", elsewhere.set))
        for each in (heard, also, elsewhere):
            each.clear()
        while not (heard.is_set() and also.is_set()):
            await one.put("{a} b", b"it", LONG)
            await asyncio.sleep(0.002)  # tidy: sleeps because a ring may be lost
        assert await other.take("{a} b") == b"it"
        await stops[1]()
        for each in (heard, also):
            each.clear()
        while not heard.is_set():
            await one.ring("{a} b")
            await asyncio.sleep(0.002)  # tidy: sleeps because a ring may be lost
        assert not elsewhere.is_set()
        while not elsewhere.is_set():
            await other.ring("c")
            await asyncio.sleep(0.002)  # tidy: sleeps because a ring may be lost
        assert await other.take("c") is None
        assert not also.is_set()
        await asyncio.gather(stops[0](), stops[2]())
