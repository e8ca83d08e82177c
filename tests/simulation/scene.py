"""A world with its disk, its owners and its users: how it comes to rest, and what must be true when it has."""

from __future__ import annotations

import asyncio
from random import Random

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.apply import replay
from skep.core.model import Plan, Task
from skep.core.state import State, unpack
from tests.simulation.chronicle import OVER
from tests.simulation.disk import Disk
from tests.simulation.invariants import broken
from tests.simulation.owners import Owner, Owners
from tests.simulation.users import Call, User, answers, questions
from tests.simulation.workload import Workload
from tests.simulation.world import World

#: Seconds after which everything must be over in a healed world, wall clocks that jumped by hours included.
LONG = 40_000.0
#: Seconds in which whoever waits for something that has happened must have heard of it.
SOON = 120.0


class Scene:
    """The parts of one simulated session.

    Args:
        world: the outside.
        disk: with the session's log, if there is one already.
        plan: what the session is opened with.
        users: how many there are.
        snapshot_every: events between two snapshots.
    """

    def __init__(self, world: World, disk: Disk, plan: Plan, users: int, snapshot_every: int) -> None:
        self.world = world
        self.disk = disk
        self.owners = Owners(world, disk, plan, snapshot_every)
        self.calls: list[Call] = []
        workload = Workload(world.random, plan)
        self.users = [User(f"u{n}", world, self.owners, workload, self.calls) for n in range(users)]
        self.merged_before = len(world.chronicle.merges)

    @property
    def random(self) -> Random:
        """Of the world."""
        return self.world.random

    async def suffer(self) -> None:
        """Users use it while things go wrong; then the world is healed, and only its last owner is left."""
        world = self.world
        world.run(self.owners.succeed_each_other())
        trouble = world.run(self.owners.suffer())
        await asyncio.wait([world.run(user.act(self.random.randrange(5, 25))) for user in self.users])
        world.faults.heal()
        await asyncio.wait({trouble})
        for owner in self.owners.former:
            if owner is not self.owners.current:
                owner.life.kill()

    async def rest(self) -> None:
        """Waits until all is quiet, then checks everything that was promised."""
        try:
            await asyncio.wait_for(self._settle(), LONG)
        except TimeoutError:
            left = [(told.task.id, told.state) for told in self.world.chronicle.unfinished()]
            self.world.object(f"some tasks never end: {left}")
        owner = await self.owners.reach()
        self._check_books(owner.session.state)
        self._check_attempts()
        await self._check_log(owner)
        await self._check_tasks(owner)
        await self._check_told()

    async def end(self) -> None:
        """Sometimes its work is brought to a branch of the user's, and the session is closed."""
        said, world = self.users[0], self.world
        if self.random.random() < 0.5:
            await said.call(inp.Landed(at=world.now(), branch="main", commit=world.git.ref, tip=world.git.ref, by=said.name))
            await said.insist(inp.Close(at=world.now(), by=said.name))  # its owner may crash over it
            late = await said.call(inp.Submit(at=world.now(), tasks=(Task(id="late", run="work"),)))
            world.check(late.status != "ok", "a closed session takes tasks")

    async def _settle(self) -> None:
        """Somebody resumes what is paused and answers what is asked until nothing is open and nothing is owed."""
        owners, said = self.owners, self.users[0]
        while True:
            paused, asked, busy = await owners.ask(lambda state: (state.paused, questions(state), bool(state.due.owed)))
            if paused:
                await said.go_on()
            for name, question in asked:
                await said.say(name, question, [answer for answer in answers(question) if answer != "reject"])
            for question in self.world.leaves.open_ones():
                await said.permit(question)
            if not (paused or asked or busy or self.world.chronicle.unfinished()):
                return
            await self.world.pass_time(1.0, 5.0)

    def _check_books(self, state: State) -> None:
        """Every ledger is back at nothing, in the state and in the world."""
        world = self.world
        for message in broken(state, settled=True):
            world.object(message)
        left = {"owed": state.due.owed, "locks": state.locks, "merges": state.merge_queue, "running": state.running}
        for witness in world.witnesses:
            witness.rest(state)
        for kind, what in left.items():
            world.check(not what, f"{kind} is not empty at the end: {what}")
        for node in state.nodes.values():
            used = (node.used_slots, node.used_cpu, node.used_memory, node.used_storage)
            world.check(not any(used), f"node {node.id} still books {used}")
        tasks = [process.task.id for process in world.processes if process.stage != "gone"]
        world.check(not tasks, f"processes are left of {tasks}")
        merges = world.chronicle.merges[self.merged_before :]
        world.check(world.git.moves == merges, "the branch moved otherwise than the log says")
        for name, told in world.chronicle.tasks.items():
            world.check(
                not told.merged or world.git.contains(world.git.ref, told.merged), f"what {name} merged is not on the branch"
            )

    def _check_attempts(self) -> None:
        """Every outcome in the log is one that a process had."""
        for event in self.world.chronicle.events[self.world.begun_at :]:
            if isinstance(event, ev.AttemptEnded) and event.outcome in ("ok", "failed"):
                had = self.world.reported.get((event.task, event.n), set())
                self.world.check(
                    event.outcome in had, f"attempt {event.n} of {event.task} is {event.outcome}, its process was {had}"
                )

    async def _check_log(self, owner: Owner) -> None:
        """The chain is whole, and a replay from nothing gives the live state."""
        world = self.world
        head = await owner.log.verify(world.session)
        world.check(head.seq == len(world.chronicle.events), f"the log ends at {head.seq}")
        state = State()
        replay(state, world.chronicle.events)
        world.check(state.digest() == owner.session.state.digest(), "a replay of the log gives another state than the live one")

    async def _check_tasks(self, owner: Owner) -> None:
        """Every task that a user was told of exists and is over, in the state or in the archive."""
        world = self.world
        found = {name: unpack(blob) async for name, blob in owner.log.archive(world.session)}
        found |= owner.session.state.entries
        for user in self.users:
            for name in user.accepted:
                world.check(name in found, f"task {name} was accepted and is nowhere")
        for name, told in world.chronicle.tasks.items():
            state = found[name].state if name in found else "lost"
            world.check(state in OVER and state == told.state, f"task {name} is {state} at the end, and {told.state} by the log")

    async def _check_told(self) -> None:
        """Whoever waits for a task has heard of its end."""
        waiting = [ended for user in self.users for ended in user.waiting.values()]
        if waiting:
            await asyncio.wait(waiting, timeout=SOON)
        for user in self.users:
            missed = [name for name, ended in user.waiting.items() if not ended.done()]
            self.world.check(not missed, f"{user.name} was never told of the end of {missed}")
