"""The processes that own the session, one after the other, and what happens to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from skep.core import inputs as inp
from skep.core.apply import replay
from skep.core.model import TERMINAL, Plan
from skep.core.state import State
from skep.errors import Conflict, SkepError, Unavailable
from skep.runtime.loop import Loop
from skep.runtime.session import Query
from tests.simulation.disk import Disk, FaultyLog
from tests.simulation.hands import SimHands
from tests.simulation.invariants import broken
from tests.simulation.virtual import Life
from tests.simulation.world import CAPACITY, Process, World

#: Seconds that a client waits for an answer.
PATIENCE = 60.0


class Owner:
    """One process that owns the session: the production loop, on the world's store, with the world's hands.

    Args:
        number: how many came before; names it, and its boot.
        snapshot_every: events between two snapshots.
    """

    def __init__(self, world: World, disk: Disk, plan: Plan, number: int, snapshot_every: int) -> None:
        self.world = world
        self.plan = plan
        self.number = number
        fuse = world.random.randrange(1, 1_500) if world.faults.may("crash at a step") else 0
        self.life = Life(f"owner {number}", world.loop, fuse)
        self.log = FaultyLog(world, disk, self.life)
        self.hands = SimHands(world, self.life)
        self.session = Loop(world.session, self.log, self, self.hands)
        self.session.snapshot_every = snapshot_every
        self.session.turned = self._check_told
        #: Who waits here for the end of which task.
        self.waiting: list[tuple[str, asyncio.Future[str]]] = []
        self.started = False
        self.superseded: asyncio.Future[None] = world.loop.create_future()
        self._stopping = False

    def now(self) -> int:
        """See `Clock.now`."""
        return self.world.now()

    def random(self, size: int) -> bytes:
        """See `Clock.random`."""
        return self.world.random.randbytes(size)

    async def main(self) -> None:
        """Takes the session over, goes on with it, follows it until it ends."""
        try:
            if not await self.log.sessions():
                await self.log.create(self.world.session, self.now())
            await self.session.start()
        except (Unavailable, Conflict):
            self.life.kill()
            return
        self._check_recovered()
        root, state = self.world.git.root, self.session.state
        if not state.session:
            base = root if self.world.random.random() < 0.5 else ""
            self.session.report(inp.OpenSession(at=self.now(), session=self.world.session, plan=self.plan, base=base, kind="git"))
        if not state.base:
            self.session.report(inp.SetBase(at=self.now(), base=root, kind="git"))
        self.session.report(self._join())
        self.started = True
        try:
            async for seq, event in self.session.follow(max(0, self.session.head.seq - 20)):
                events = self.world.chronicle.events
                self.world.check(seq <= len(events) and events[seq - 1] == event, f"a follower was told {event} as event {seq}")
        except SkepError as error:
            told = "another owner" in error.message
            self.world.check(isinstance(error, Unavailable), f"the session ended with {error}")
            self.world.check(not told or self.world.chronicle.epoch > self.session.head.epoch, "there is no other owner")
        if not self._stopping:
            self.life.kill()

    def _join(self) -> inp.JoinNode:
        return inp.JoinNode(
            at=self.now(), node="here", boot=f"boot-{self.number}", capacity=CAPACITY, slots=self.world.slots, labels={}
        )

    def _check_recovered(self) -> None:
        """What was loaded, be it from a snapshot and what came after, is what a replay of the whole log gives."""
        state = State()
        replay(state, self.world.chronicle.events)
        self.world.check(state.digest() == self.session.state.digest(), "the state that was loaded is not that of the log")
        for message in broken(self.session.state, settled=False):
            self.world.object(message)

    def _check_told(self) -> None:
        """Who waits here for a task has heard of its end when a turn is over that knows it, also of one that it did not see."""
        if self.session.failure is not None:
            return
        self.waiting = [(task, heard) for task, heard in self.waiting if not heard.done()]
        entries = self.session.state.entries
        for task, _ in self.waiting:
            known = task not in entries or entries[task].state in TERMINAL
            self.world.check(not known, f"owner {self.number} knows the end of {task}, and did not tell who waits for it")

    async def stop(self) -> None:
        """Ends in order, as a command that is done does."""
        self._stopping = True
        try:
            await self.session.stop()
        except Unavailable:
            self.world.faults.counts["snapshot fails at the end"] += 1
        self.life.kill()

    async def reach(self, answer: Awaitable[Any]) -> tuple[str, Any]:
        """Waits for an answer of this process: ("ok", value), ("failed", error) or ("unknown", why)."""
        future = asyncio.ensure_future(answer)
        await asyncio.wait({future, self.life.died}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            return "unknown", "no answer"
        error = future.exception()
        if error is None:
            return "ok", future.result()
        return ("unknown" if isinstance(error, Unavailable) else "failed"), error


class Owners:
    """Starts an owner whenever there is none, and lets happen to them what the world has in store.

    Args:
        snapshot_every: events between two snapshots.
    """

    def __init__(self, world: World, disk: Disk, plan: Plan, snapshot_every: int) -> None:
        self.world = world
        self.disk = disk
        self.plan = plan
        self.current: Owner | None = None
        self.former: list[Owner] = []
        self._snapshot_every = snapshot_every
        world.late = self._late

    async def succeed_each_other(self) -> None:
        """Never ends: where an owner died or was taken for dead, the next one takes over."""
        while True:
            owner = self.current = Owner(self.world, self.disk, self.plan, len(self.former), self._snapshot_every)
            self.former.append(owner)
            self.world.owner = owner.life
            owner.life.run(owner.main())
            self.world.run(self._bury(owner))
            await asyncio.wait({owner.life.died, owner.superseded}, return_when=asyncio.FIRST_COMPLETED)
            await self.world.pass_time(0.1, 3.0)

    async def _bury(self, owner: Owner) -> None:
        await asyncio.wait({owner.life.died})
        if owner.life.blown:
            self.world.faults.counts["crash at a step"] += 1
        self.world.owner_died(owner.life)
        self.disk.crashed()

    async def reach(self) -> Owner:
        """The owner that answers now; waits for one."""
        while self.current is None or not self.current.started or self.current.life.dead or self.current.session.failure:
            await self.world.pass_time(0.1, 0.3)
        return self.current

    def stale(self) -> Owner | None:
        """An owner that was superseded and does not know it."""
        return next((o for o in self.former if o is not self.current and not o.life.dead and o.started), None)

    async def ask(self, query: Query) -> Any:
        """What a query gives; asks until there is an answer."""
        while True:
            owner = await self.reach()
            status, answer = await owner.reach(owner.session.ask(query))
            if status == "ok":
                return answer
            self.world.check(status == "unknown", f"a query was refused: {answer}")
            await self.world.pass_time(0.1, 0.3)

    def _late(self, process: Process) -> None:
        """A process that outlived its owner is done; somebody may hear of it."""
        owner = self.current
        if owner is None or not owner.started or not self.world.faults.strikes("orphan reports"):
            return
        named = {"task": process.task.id, "n": process.n, "nonce": process.nonce}
        if process.task.verify is None or process.stage == "gone":
            owner.session.report(owner.hands.result(process, named, False))

    async def suffer(self) -> None:
        """Lets things happen to owners, clocks and the branch until the world is healed."""
        world = self.world
        while not world.faults.healed:
            await world.pass_time(0.5, 15.0)
            owner = self.current
            if owner is not None and owner.started and not owner.life.dead and not owner.life.paused:
                await self._happen(owner)
            for kind, sign in (("clock forward", 1), ("clock back", -1)):
                if world.faults.strikes(kind):
                    world.skew += sign * world.random.choice((1_000, 60_000, 3_600_000))
            if world.faults.strikes("report of old"):
                self._repeat()
            # Who tampers while a merge is half done must be helped by hand: Skep stops merging and says so.
            intent = world.chronicle.intent
            quiet = self.stale() is None and (intent is None or world.git.ref == intent.base)
            if quiet and world.faults.strikes("ref moved by a stranger"):
                await self._tamper()

    async def _happen(self, owner: Owner) -> None:
        world = self.world
        if world.faults.strikes("owner paused"):
            owner.life.pause()
            await world.pass_time(1.0, 40.0)
            owner.life.resume()
        elif world.faults.strikes("owner superseded"):
            owner.life.pause()
            owner.superseded.set_result(None)
            await world.pass_time(1.0, 40.0)
            owner.life.resume()
            await world.pass_time(0.0, 10.0)
        elif world.faults.strikes("owner stopped in order"):
            owner.life.run(owner.stop())

    def _repeat(self) -> None:
        """A report of an attempt that is long over arrives."""
        owner, told = self.current, self.world.processes
        if owner is None or not owner.started or not told:
            return
        process = self.world.random.choice(told)
        if process.stage == "gone" and process.outcome in ("ok", "failed"):
            named = {"task": process.task.id, "n": process.n, "nonce": process.nonce}
            owner.session.report(owner.hands.result(process, named, False))

    async def _tamper(self) -> None:
        """Somebody moves the session's branch, and puts it back."""
        git = self.world.git
        mine, theirs = git.ref, git.commit((git.ref,), dict(git.commits[git.ref].tree), f"stranger {self.world.loop.time()}")
        git.ref = theirs
        await self.world.pass_time(0.5, 5.0)
        self.world.check(git.ref == theirs, "the branch moved from where a stranger had put it")
        git.ref = mine
