"""`python -m tests.simulation.crowd --nodes 200 --sessions 20000`: many processes and sessions at one store, in virtual time.

Production `Membership`, `Live`, `Loop` and `Replica` over a store in memory that counts what it is asked. Most sessions rest,
some have tasks; nodes and a leader with its share of sessions die. Without further faults: these are for `hive`.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import click
from msgspec import Struct

from skep.core import inputs as inp
from skep.core.commands import StartAttempt
from skep.core.model import AgentSpec, Limits, Plan, Task
from skep.store import SessionRow
from skep.store.ephemeral import EphemeralSession
from tests.simulation.hive import Hive, Machine
from tests.simulation.ledger import Ledger

#: Seconds until all is at rest, and for which it is counted then.
REST, COUNTED = 25.0, 20.0
#: Tasks of a session that is at work, and seconds after which processes die over them.
TASKS, KILLED_AFTER = 40, 8.0
#: Seconds that a call takes.
CALL = 0.001
#: Seconds after which what has not come to its end will not.
LONG = 300.0


class Figures(Struct, kw_only=True):
    """What a crowd came to. A second is one of the world's, but for `took`; `memory` is that of the whole world, in bytes."""

    calls: float
    rows: float
    inboxes: float
    leases: float
    memory: float
    #: Seconds until the log said that a node is gone, of each session at work; until somebody else wrote those of the leader.
    lost: list[float]
    taken: list[float]
    #: Calls of all processes in the ten seconds after the deaths; sessions that rested, whose writer died, and were opened anew.
    after: int
    disturbed: int
    #: Seconds until a task in one of those was begun.
    woken: float
    took: float
    #: The most memory that this process had, bytes, and what it used of a core, seconds.
    most: int
    processor: float


class Unwatched(Ledger):
    """Keeps no account: there are many sessions, and one is followed by `Hive`."""

    def acquired(self, owner: str, before: int, known: int) -> None:
        """See `Ledger.acquired`."""

    def begun(self, node: str, boots: Sequence[str], command: StartAttempt) -> None:
        """See `Ledger.begun`."""

    def reported(self, command: StartAttempt) -> None:
        """See `Ledger.reported`."""

    def watch(self, sessions: dict[str, EphemeralSession]) -> None:
        """See `Ledger.watch`."""


class Crowd(Hive):
    """One world. `figures` is there when it has gone to its end.

    Args:
        nodes: processes that carry attempts out.
        leaders: processes that write sessions, each its share.
        sessions: how many.
        busy: how many of them have tasks; half of them are of the leader that dies.
    """

    def __init__(self, nodes: int, leaders: int, sessions: int, busy: int) -> None:
        super().__init__(seed=1, calm=True)
        self.ledger = self.store.ledger = Unwatched()
        self.counts: Counter[str] = Counter()
        self.figures: Figures | None = None
        self._nodes, self._leaders, self._many, self._busy = nodes, leaders, sessions, busy

    def run(self) -> Figures:
        """Runs it. Raises AssertionError when something did not come to its end."""
        try:
            self.loop.complete(self._main())
        finally:
            self.loop.close()
        assert self.figures is not None
        return self.figures

    async def _main(self) -> None:
        began, worked = time.perf_counter(), time.process_time()
        leaders = [await self._come(f"l{number}", "boss") for number in range(self._leaders)]
        before = _memory()
        shares = [range(number, self._many, self._leaders) for number in range(self._leaders)]
        await asyncio.gather(*(one.life.run(self._make(one, share)) for one, share in zip(leaders, shares, strict=True)))
        await asyncio.sleep(REST)
        memory = (_memory() - before) / self._many
        gc.freeze()  # it is all kept: looking through it again and again would be most of the time
        nodes = [await self._come(f"n{number}", "worker") for number in range(self._nodes)]
        self.machines = [*leaders, *nodes]
        await asyncio.sleep(REST)
        self.counts.clear()
        await asyncio.sleep(COUNTED)
        still = {name: count / COUNTED for name, count in self.counts.items()}

        victim, dying = leaders[0], nodes[:: max(len(nodes) // 20, 2)]
        at_work = self._at_work(shares[0], [number for share in shares[1:] for number in share])
        await self._submit_all(at_work, leaders)
        await asyncio.sleep(KILLED_AFTER)
        owned = [name for name in at_work if self._kept(name).owner == victim.life.name]
        epochs = {f"s{number}": self._kept(f"s{number}").head.epoch for number in shares[0]}
        assert owned
        self.counts.clear()
        for machine in (victim, *dying):
            machine.life.kill()
        gone = {machine.node for machine in dying}
        ours = [name for name in at_work if name not in owned]
        lost, taken, after = await asyncio.gather(self._lost(gone, ours), self._taken(owned), self._later())
        await self._until(lambda: all(self._done(name, TASKS) for name in at_work), "all tasks are done")
        disturbed = sum(self._kept(name).head.epoch != epoch for name, epoch in epochs.items() if name not in at_work)
        woken = await self._wake(f"s{shares[0][-1]}", leaders[1])
        self.figures = Figures(
            calls=still.get("calls", 0.0),
            rows=still.get("rows", 0.0),
            inboxes=still.get("inboxes", 0.0),
            leases=still.get("leases", 0.0),
            memory=memory,
            lost=lost,
            taken=taken,
            after=after,
            disturbed=disturbed,
            woken=woken,
            took=time.perf_counter() - began,
            most=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            processor=time.process_time() - worked,
        )

    async def _come(self, name: str, role: str) -> Machine:
        """One more process; they come one after the other, so that they do not all look at the same moment."""
        machine = self._start(name, role)
        way: Any = machine.way
        way.read = way.write = self._count
        await asyncio.sleep(self.random.uniform(0.0, 2.0 / (self._nodes + self._leaders)))
        return machine

    async def _count(self, act: Callable[[], Awaitable[Any]]) -> Any:
        """A call of some process: it takes its time, and is counted."""
        self.counts["calls"] += 1
        await asyncio.sleep(CALL)
        found = await act()
        if isinstance(found, dict):
            self.counts["leases"] += len(found)
        elif isinstance(found, list) and found and isinstance(found[0], SessionRow):
            self.counts["rows"] += len(found)
        return found

    async def _make(self, leader: Machine, share: Sequence[int]) -> None:
        """Sessions of a leader, at rest."""
        inbox: Any = leader.membership._shared.inbox
        waiting = inbox.waiting

        async def counted(sessions: Sequence[str]) -> set[str]:
            self.counts["inboxes"] += len(sessions)
            found: set[str] = await waiting(sessions)
            return found

        inbox.waiting = counted
        agents = (AgentSpec(name="shell", runtime="shell", count=0),)
        for number in share:
            name = f"s{number}"
            await leader.log.create(name, leader.clock.now())
            session = await leader.live.loop(name, hands=False)
            plan = Plan(name=name, agents=agents, limits=Limits(agents=8))
            await session.tell(inp.OpenSession(at=0, session=name, plan=plan))
            await session.tell(inp.Pause(at=0, stop=False, why="", by=""))
            await leader.log.annotate(name, "{}")
            await leader.live.loop(name, hands=True)

    def _at_work(self, first: Sequence[int], others: Sequence[int]) -> list[str]:
        half = self._busy // 2
        return [f"s{number}" for number in (*first[:half], *others[: self._busy - half])]

    async def _submit_all(self, names: Sequence[str], leaders: Sequence[Machine]) -> None:
        """Tasks for sessions that rested, told by those who write them."""
        for name in names:
            leader = leaders[int(name[1:]) % len(leaders)]
            await leader.life.run(_submit(leader, name, TASKS))

    def _kept(self, name: str) -> EphemeralSession:
        return self.store.disk.sessions[name]

    def _written(self, name: str) -> Iterator[Any]:
        """The sessions of that name as their writers have them that are there."""
        for machine in self.machines[: self._leaders]:
            session = machine.live.get(name)
            if not machine.life.dead and session is not None and machine.live.writes(name):
                yield session

    def _done(self, name: str, count: int) -> bool:
        ends = ("done", "failed", "gave-up")
        return any(sum(session.state.counts.get(end, 0) for end in ends) >= count for session in self._written(name))

    async def _until(self, holds: Callable[[], bool], what: str) -> float:
        """Waits for something; returns how long it took, seconds."""
        began = self.loop.time()
        while not holds():
            assert self.loop.time() - began < LONG, f"after {LONG} s it is not so that {what}"
            await asyncio.sleep(0.05)
        return self.loop.time() - began

    async def _lost(self, gone: set[str], names: Sequence[str]) -> list[float]:
        def known(name: str) -> bool:
            return any(all(session.state.nodes[node].lost for node in gone) for session in self._written(name))

        return await self._each(known, names, "knows who is gone")

    async def _taken(self, names: Sequence[str]) -> list[float]:
        return await self._each(lambda name: any(self._written(name)), names, "has a writer")

    async def _each(self, holds: Callable[[str], bool], names: Sequence[str], what: str) -> list[float]:
        return await asyncio.gather(*(self._until(partial(holds, name), f"{name} {what}") for name in names))

    async def _later(self) -> int:
        await asyncio.sleep(10.0)
        return self.counts["calls"]

    async def _wake(self, name: str, leader: Machine) -> float:
        """A task for a session that rests and has no writer, told by another leader."""
        began = self.loop.time()
        await leader.life.run(_submit(leader, name, 1))
        await self._until(lambda: any(session.state.running for session in self._written(name)), f"the task of {name} is begun")
        return self.loop.time() - began


async def _submit(machine: Machine, name: str, count: int) -> None:
    session = await machine.live.loop(name, hands=False)
    tasks = tuple(Task(id=f"{name}.{number}", run="true", objective=name) for number in range(count))
    await session.tell(inp.Submit(at=0, tasks=tasks, key=f"{name}-{count}"))
    await session.tell(inp.Resume(at=0, by=""))


def _memory() -> int:
    """Bytes that this process has in memory (Linux)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@click.command()
@click.option("--nodes", default=200, show_default=True, help="Processes that carry attempts out.")
@click.option("--leaders", default=20, show_default=True, help="Processes that write sessions.")
@click.option("--sessions", default=20_000, show_default=True, help="How many, most of them at rest.")
@click.option("--busy", default=4, show_default=True, help="How many of them have tasks.")
def main(nodes: int, leaders: int, sessions: int, busy: int) -> None:
    """Runs a crowd and prints its figures."""
    world = Crowd(nodes, leaders, sessions, busy)
    found = world.run()
    click.echo(f"{nodes} nodes, {leaders} leaders, {sessions} sessions, {busy} of them at work, Python {sys.version.split()[0]}")
    each = found.calls / (nodes + leaders)
    click.echo(f"at rest, a second: {found.calls:.0f} calls, {each:.2f} of each process; {found.leases:.0f} leases told,")
    click.echo(f"  {found.rows:.1f} sessions listed, {found.inboxes:.0f} inboxes asked for")
    click.echo(f"memory of the world for each session: {found.memory / 1000:.1f} kB")
    click.echo(f"a node is known to be gone after {max(found.lost):.2f} s at most; {after(found)}")
    click.echo(f"a task in a session that rests and has no writer is begun after {found.woken:.2f} s")
    took = f"{found.took:.0f} s, {found.processor:.0f} s of a core, and {found.most / 1e9:.1f} GB"
    click.echo(f"{world.loop.time():.0f} s of the world took {took}")


def after(found: Figures) -> str:
    """What came of the leader's death, in words."""
    taken = f"the sessions at work of a leader go on after {max(found.taken):.2f} s at most"
    return f"{taken}; {found.after} calls in 10 s then, {found.disturbed} of its other sessions were touched"


if __name__ == "__main__":
    main()
