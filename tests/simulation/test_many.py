"""What processes ask of their store while nothing goes on: neither grows it with the sessions, nor squared with nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from skep.core import inputs as inp
from skep.core.model import AgentSpec, Limits, Plan, Task
from skep.runtime import membership
from skep.runtime.session import Session
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


class Late(Still):
    """A node that comes when all is at rest, and what it asks for."""

    async def _main(self) -> None:
        await super()._main()
        late = self._start("late", "worker")
        way: Any = late.way
        way.read, self.asked = self._counting(way.read), 0
        await asyncio.sleep(self._counted)


def late(sessions: int) -> int:
    """What such a node asks for in a minute."""
    world = Late(sessions, 1, 60.0)
    try:
        world.loop.complete(world._main())
    finally:
        world.loop.close()
    return world.asked


def test_a_node_that_comes_reads_no_session_that_rests() -> None:
    assert late(60) <= 1.02 * late(5)


class Unlisted(Still):
    """A session in which something goes on, and which the list of those has lost; a node that comes then."""

    async def _main(self) -> None:
        await super()._main()
        boss = self.machines[0]
        session = await boss.live.loop("s0", hands=True)
        task = Task(id="t", run="true", objective="wait", constraints={"at": "nowhere"})
        shell = AgentSpec(name="shell", runtime="shell", count=0)
        told = inp.DeclareAgents(at=0, specs=(shell,)), inp.Submit(at=0, tasks=(task,)), inp.Resume(at=0, by="")
        await boss.life.run(_told(session, *told))
        await asyncio.sleep(2.0)
        self.store.disk.sessions["s0"].awake = 0
        late = self._start("late", "worker")
        await asyncio.sleep(membership.PATROL + 2.0)
        assert late.live.knows("s0")


async def _told(session: Session, *given: inp.Input) -> None:
    for one in given:
        await session.tell(one)


def test_a_session_that_goes_on_and_is_not_listed_is_called_out() -> None:
    world = Unlisted(1, 1, 1.0)
    try:
        world.loop.complete(world._main())
    finally:
        world.loop.close()
