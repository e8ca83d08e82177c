"""A bound on terminals: who waits, who is refused, and what is measured."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from skep.errors import Exhausted, Invalid, Unavailable
from skep.terminals import Terminals
from skep.terminals.native import Native
from skep.terminals.pool import Latency, Pool, Series
from tests.contracts.terminal import Screen, TerminalContract, profile, run
from tests.terminals.processes import kill


class TestPool(TerminalContract):
    async def open(self) -> Terminals:
        return Pool(Native(), 100)


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    source = Pool(Native(), size=2, waiting=3)
    yield source
    await source.close()


async def turns() -> None:
    """Lets everything that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_more_than_its_size_wait_in_turn_and_more_than_may_wait_are_refused(pool: Pool) -> None:
    first, second = [await pool.create(profile("true", ""), Screen()) for _ in range(2)]
    order: list[int] = []

    async def queue(number: int) -> None:
        terminal = await pool.create(profile("true", ""), Screen())
        order.append(number)
        await terminal.end()

    queued = [asyncio.ensure_future(queue(number)) for number in range(3)]
    await turns()
    assert (pool.stats().open, pool.stats().waiting) == (2, 3)
    with pytest.raises(Exhausted, match="2 terminals are open and 3 callers wait"):
        await pool.create(profile("true", ""), Screen())
    await first.end()
    await first.end()
    await asyncio.gather(*queued)
    await second.end()
    assert order == [0, 1, 2]
    stats = pool.stats()
    assert (stats.size, stats.open, stats.opened, stats.waiting, stats.waited, stats.refused) == (2, 0, 5, 0, 3, 1)


async def test_a_place_is_taken_until_the_processes_are_gone_not_just_the_first(pool: Pool) -> None:
    terminal = await pool.create(profile("sleep 600 & exit 0"), Screen())
    terminal.release()
    await terminal.wait()
    assert pool.stats().open == 1
    await terminal.end(0)
    assert pool.stats().open == 0


async def test_whoever_stops_waiting_leaves_the_place_to_the_next(pool: Pool) -> None:
    one, other = [await pool.create(profile("true", ""), Screen()) for _ in range(2)]
    impatient, early, patient = [asyncio.ensure_future(pool.create(profile("true", ""), Screen())) for _ in range(3)]
    await turns()
    impatient.cancel()
    await one.end()
    early.cancel()  # in the very moment in which the place became its own
    await (await patient).end()
    await other.end()
    assert pool.stats().open == 0
    assert impatient.cancelled()
    assert early.cancelled()


async def test_what_cannot_be_started_gives_its_place_back(pool: Pool) -> None:
    for _ in range(5):
        with pytest.raises(Invalid):
            await pool.create(profile("no-such-program", ""), Screen())
    assert pool.stats().open == 0


async def test_closing_refuses_those_who_wait_and_those_who_come(pool: Pool) -> None:
    for _ in range(2):
        await pool.create(profile("true", ""), Screen())
    waiting = asyncio.ensure_future(pool.create(profile("true", ""), Screen()))
    await turns()
    await pool.close()
    with pytest.raises(Unavailable, match="closed"):
        await waiting
    with pytest.raises(Unavailable, match="closed"):
        await pool.create(profile("true", ""), Screen())


async def test_spawning_answering_and_commands_are_measured_once_each(pool: Pool) -> None:
    terminal = await pool.create(profile("echo a; sleep 0.05; echo b"), Screen())
    terminal.release()
    await terminal.wait()
    await terminal.wait()
    await terminal.end()
    await run(pool, profile("true", ""))
    gated = await pool.create(profile("true", ""), Screen())
    kill(gated.pid)
    await gated.wait()
    await gated.end()
    stats = pool.stats()
    assert (stats.spawn.count, stats.answer.count, stats.command.count) == (3, 1, 2)
    assert 0 < stats.answer.p50 < stats.command.p99 < 60
    assert stats.command.p99 >= 0.05


def test_quantiles_are_those_of_the_last_thousand() -> None:
    series = Series()
    assert series.latency() == Latency()
    series.add(3.0)
    assert series.latency() == Latency(1, 3.0, 3.0, 3.0, 3.0)
    for number in range(2_001):
        series.add(float(number))
    assert series.latency() == Latency(2_002, 1_501.0, 1_900.0, 1_950.0, 1_990.0)
