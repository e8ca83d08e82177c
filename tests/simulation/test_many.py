"""What processes ask of their store while nothing goes on: neither grows it with the sessions, nor squared with nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from skep.core import inputs as inp
from skep.core.model import Limits, Plan
from skep.runtime import membership
from tests.simulation.hive import Hive, Machine

#: Seconds until all is at rest, and for which it is counted.
REST, COUNTED = 60.0, 120.0


class Still(Hive):
    """A writer, nodes, sessions in which nothing goes on; how often they ask for something, of how many leases they hear.

    Args:
        counted: for how long, seconds.
    """

    def __init__(self, sessions: int, nodes: int, counted: float) -> None:
        super().__init__(seed=1, calm=True)
        self.asked = self.leases = 0
        self._many, self._nodes, self._counted = sessions, nodes, counted

    async def _main(self) -> None:
        ledger: Any = self.ledger
        ledger.watch = lambda sessions: None  # it knows one session
        boss = self._start("boss", "boss")
        self.machines = [boss, *(self._start(f"n{number}", "worker") for number in range(self._nodes))]
        await asyncio.sleep(1.0)
        await boss.life.run(self._make(boss))
        await asyncio.sleep(REST)
        for machine in self.machines:
            way: Any = machine.way
            way.read = self._counting(way.read)
        await asyncio.sleep(self._counted)

    async def _make(self, boss: Machine) -> None:
        for number in range(self._many):
            name = f"s{number}"
            await boss.log.create(name, boss.clock.now())
            session = await boss.live.loop(name, hands=False)
            await session.tell(inp.OpenSession(at=0, session=name, plan=Plan(name=name, limits=Limits(agents=1))))
            await session.tell(inp.Pause(at=0, stop=False, why="", by=""))
            await boss.log.annotate(name, "{}")
            await boss.live.loop(name, hands=True)

    def _counting(self, read: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counted(act: Callable[[], Awaitable[Any]]) -> Any:
            self.asked += 1
            found = await read(act)
            self.leases += len(found) if isinstance(found, dict) else 0
            return found

        return counted


def still(sessions: int, nodes: int = 1, counted: float = COUNTED) -> Still:
    """Such a world, at its end."""
    world = Still(sessions, nodes, counted)
    try:
        world.loop.complete(world._main())
    finally:
        world.loop.close()
    return world


def test_sessions_at_rest_cost_nothing_each() -> None:
    assert still(100).asked <= 1.02 * still(5).asked


def test_what_processes_are_told_of_each_other_does_not_grow_with_their_square(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(membership, "FEW", 10)
    few, many = still(1, nodes=12), still(1, nodes=36)
    assert many.asked <= 3.1 * few.asked
    assert many.leases <= 4.5 * few.leases, "three times as many would be told nine times as much"
