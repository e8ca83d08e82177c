"""The clock of a session when the machine's is put back: waits stay bounded, and time never goes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Literal

import pytest

from skep.core import inputs as inp
from skep.core.commands import Owed, StartAttempt
from skep.core.model import AgentSpec, Entry, Limits, Plan, Resources, Retries, Task
from skep.runtime.loop import Loop
from skep.runtime.pace import Pace
from skep.runtime.session import MAX_SLEEP, Session
from skep.store.ephemeral import EphemeralDisk, EphemeralLog
from tests.simulation.virtual import VirtualLoop

DAY = 86_400_000


class Machine:
    """A clock that can be put back, and hands whose first two attempts at everything fail at once."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.skew = 10 * DAY
        self.begun: list[float] = []

    def now(self) -> int:
        return int(self.loop.time() * 1000) + self.skew

    def random(self, size: int) -> bytes:
        return len(self.begun).to_bytes(size, "big")

    def hand_over(self, session: Session, agent: str) -> None:
        raise AssertionError("nobody writes here")

    def perform(self, session: Session, command: Owed, entry: Entry) -> None:
        assert isinstance(command, StartAttempt)
        self.begun.append(self.loop.time())
        outcome: Literal["ok", "failed"] = "failed" if command.n < 3 else "ok"
        session.report(inp.Ended(at=0, task=entry.task.id, n=command.n, nonce=command.nonce, outcome=outcome))


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop(limit=100_000.0)
    yield made
    made.close()


async def open_session(machine: Machine, disk: EphemeralDisk) -> Loop:
    session = Loop("s", EphemeralLog(disk), machine, machine)
    await session.start()
    return session


def test_a_retry_comes_after_twice_its_wait_at_most_however_far_the_clock_is_put_back(loop: VirtualLoop) -> None:
    machine, disk = Machine(loop), EphemeralDisk()

    async def main() -> None:
        await EphemeralLog(disk).create("s", 0)
        session = await open_session(machine, disk)
        plan = Plan(name="p", limits=Limits(agents=1), agents=(AgentSpec(name="shell", runtime="shell", count=1),))
        await session.tell(inp.OpenSession(at=0, session="s", plan=plan))
        room = Resources(cpu=1.0, memory=1 << 30, storage=1 << 30)
        await session.tell(inp.JoinNode(at=0, node="n", boot="b", capacity=room, slots=9))
        await session.tell(inp.Submit(at=0, tasks=(Task(id="a", run="x", retries=Retries(max=2, backoff=10.0)),)))
        machine.skew -= DAY
        await until(session, 2)
        # Whoever owns it next finds events of a time that has not come yet.
        await session.stop()
        session = await open_session(machine, disk)
        await session.tell(inp.JoinNode(at=0, node="n", boot="b2", capacity=room, slots=9))
        await until(session, 3)
        await session.stop()

    async def until(session: Loop, count: int) -> None:
        while len(machine.begun) < count:
            await session.moved(session.head.seq)

    loop.complete(main())
    first, second, third = machine.begun
    assert 10.0 <= second - first <= 25.0 + MAX_SLEEP
    assert 20.0 <= third - second <= 50.0 + MAX_SLEEP


def test_time_passes_at_half_its_speed_until_the_clock_has_caught_up(loop: VirtualLoop) -> None:
    machine = Machine(loop)

    async def main() -> list[int]:
        pace = Pace(machine.now)
        seen = [pace.now()]
        machine.skew -= 60_000
        for _ in range(199):
            await asyncio.sleep(1.0)
            seen.append(pace.now())
        return seen

    seen = loop.complete(main())
    assert seen == sorted(seen)
    assert seen[100] - seen[0] == pytest.approx(50_000, abs=200)
    assert seen[-1] == machine.now(), "it has caught up"
