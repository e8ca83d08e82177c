"""The loop without time: what the simulator itself stands on."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.simulation.virtual import Life, Stuck, VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop(limit=10_000.0)
    yield made
    made.close()


async def tick(loop: VirtualLoop, heard: list[float]) -> None:
    while True:
        await asyncio.sleep(1.0)
        heard.append(loop.time())


def test_time_jumps_to_the_next_timer(loop: VirtualLoop) -> None:
    begun = time.monotonic()
    loop.complete(asyncio.sleep(5_000.0))
    assert loop.time() == 5_000.0
    assert time.monotonic() - begun < 5.0


def test_what_goes_round_for_ever_is_stuck_though_a_little_time_passes() -> None:
    loop = VirtualLoop(most=1_000)
    with pytest.raises(Stuck, match="1000 steps"):
        loop.complete(tick(loop, []))
    loop.close()


def test_timers_fire_in_order_and_cancelled_ones_never(loop: VirtualLoop) -> None:
    heard: list[str] = []

    async def main() -> None:
        loop.call_later(2.0, heard.append, "second")
        loop.call_later(1.0, heard.append, "first")
        loop.call_later(1.5, heard.append, "never").cancel()
        await asyncio.sleep(3.0)

    loop.complete(main())
    assert heard == ["first", "second"]


def test_a_killed_life_takes_no_further_step_and_cleans_nothing_up(loop: VirtualLoop) -> None:
    heard: list[float] = []
    tidied: list[str] = []

    async def work() -> None:
        try:
            await tick(loop, heard)
        finally:
            tidied.append("not while the world goes on")

    async def main() -> None:
        life = Life("a", loop)
        life.run(work())
        await asyncio.sleep(2.5)
        life.kill()
        await life.died
        await asyncio.sleep(5.0)
        assert not tidied

    loop.complete(main())
    assert heard == [1.0, 2.0]


def test_a_paused_life_goes_on_where_it_was(loop: VirtualLoop) -> None:
    heard: list[float] = []

    async def main() -> None:
        life = Life("a", loop)
        life.run(tick(loop, heard))
        await asyncio.sleep(1.5)
        life.pause()
        await asyncio.sleep(5.0)
        life.resume()
        await asyncio.sleep(1.25)

    loop.complete(main())
    assert heard == [1.0, 6.5, 7.5]


def test_what_a_life_starts_belongs_to_it_and_its_callers_do_not(loop: VirtualLoop) -> None:
    heard: list[float] = []

    async def start() -> None:
        await asyncio.get_running_loop().create_task(tick(loop, heard))

    async def main() -> None:
        life = Life("a", loop)
        life.run(start())
        answer: asyncio.Future[str] = loop.create_future()
        loop.call_later(2.0, answer.set_result, "from outside", context=life.context())
        await asyncio.sleep(1.5)
        life.kill()
        await life.died
        await asyncio.sleep(10.0)
        assert not answer.done()

    loop.complete(main())
    assert heard == [1.0]


def test_a_fuse_blows_at_its_step(loop: VirtualLoop) -> None:
    heard: list[float] = []

    async def main() -> None:
        life = Life("a", loop, fuse=4)
        life.run(tick(loop, heard))
        await life.died
        assert life.blown
        assert life.steps == 4

    loop.complete(main())
    assert len(heard) < 4


def test_an_error_that_ends_any_task_ends_the_world(loop: VirtualLoop) -> None:
    async def fail() -> None:
        raise ValueError("lost")

    async def main() -> None:
        task = loop.create_task(fail())
        await asyncio.sleep(1.0)
        assert not task

    with pytest.raises(ValueError, match="lost"):
        loop.complete(main())


def test_waiting_for_nothing_is_noticed(loop: VirtualLoop) -> None:
    async def main() -> None:
        await loop.create_future()

    with pytest.raises(Stuck, match="nothing happens"):
        loop.complete(main())


def test_a_loop_without_end_is_noticed(loop: VirtualLoop) -> None:
    def again() -> None:
        loop.call_soon(again)

    async def main() -> None:
        again()
        await loop.create_future()

    with pytest.raises(Stuck, match="no end"):
        loop.complete(main())


def test_what_tidies_up_when_the_world_is_over_begins_nothing() -> None:
    begun = []

    async def more() -> None:
        begun.append(1)

    async def under_way() -> None:
        try:
            await asyncio.sleep(1.0)
        finally:
            await asyncio.gather(more())

    def world() -> None:
        loop = VirtualLoop()
        loop.create_task(under_way())
        loop.complete(asyncio.sleep(0.5))
        with warnings.catch_warnings(record=True) as said:
            loop.close()
        assert not said

    # A thread has no loop of its own; with one, what is gathered would wait there, and be complained of whenever it is collected.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(world).result()
    assert not begun
