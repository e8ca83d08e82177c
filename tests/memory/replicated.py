"""A simulated world of machines that each have a memory of their own, and what is true in it, told by nobody of them.

Each commit of a machine's user is noted where it is made, at the store: which values it made, and which it took away that were
there. So it is known without clocks or stamps what has to be there in the end: what was made and not taken away, nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from skep.errors import Conflict, NotFound, SkepError, Unavailable
from skep.memory import Change, Record
from skep.memory.bank import Bank
from skep.memory.draft import Draft
from skep.memory.ephemeral import EphemeralShelf, EphemeralStore
from skep.memory.records import decode, digest
from skep.memory.replicate import Replication
from skep.memory.sums import SummedStore
from tests.memory.lossy import LossyRelay, Switchboard
from tests.memory.redis_homes import SEAL
from tests.simulation.virtual import Life, VirtualLoop

#: Wall-clock ms at which a world begins.
BEGIN = 1_800_000_000_000
#: Seconds of its troubles, and until all hold the same after them: a question that was lost is waited for (10), then it is tried
#: again with the next comparison (31), which looks twice (1).
TROUBLES, PEACE = 50.0, 45.0
#: What the user of a machine does: adds so much to a counter, or something else; None = it is not the user who commits.
DOING: ContextVar[float | None] = ContextVar("doing", default=None)

#: A value that was made: its key, what it is, who wrote it when.
Made = tuple[str, str, Any, str, int]


class Broken(AssertionError):
    """What is promised is not so."""


class Truth:
    """What was committed by users, and what of it was taken away by who had seen it."""

    def __init__(self) -> None:
        self.made = set[Made]()
        self.gone = set[Made]()
        self.counted: dict[str, float] = {}
        #: Values that a machine forgot with their namespace, maybe before others had them, or forgot that they were gone.
        self.unsure = set[Made]()

    def committed(self, before: Record | None, after: Record, amount: float) -> None:
        """A user's commit."""
        old, new = values(before), values(after)
        if self.made & (new - old):
            raise Broken(f"a value was made twice: {self.made & (new - old)}")
        self.made |= new - old
        self.gone |= old - new
        if after.namespace == "c":
            self.counted[after.key] = self.counted.get(after.key, 0) + amount


def values(record: Record | None) -> set[Made]:
    """The values of a record; of a counter none, as one value takes in what was added to another."""
    if record is None or record.namespace == "c":
        return set()
    return {(record.namespace, record.key, str(one.value), one.writer, one.stamp) for one in record.entries}


class WatchedStore(EphemeralStore):
    """A store that takes its time, notes what users commit, and sometimes fails after a commit."""

    def __init__(self, shelf: EphemeralShelf, writer: str, truth: Truth, board: Switchboard) -> None:
        super().__init__(shelf, writer)
        self._truth, self._board = truth, board

    async def commit(self, changes: Sequence[Change]) -> None:
        """See `MemoryStore.commit`. Crashes come before or after it."""
        await self._pause()
        before = [await self.get(change.record.namespace, change.record.key) for change in changes]
        await super().commit(changes)
        amount = DOING.get()
        for old, change in zip(before, changes, strict=True):
            if amount is not None and digest(old) != digest(change.record):
                self._truth.committed(old, change.record, amount)
        await self._pause()
        if self._board.unlucky(0.02):
            raise Unavailable("the disk does not answer")

    async def page(self, namespace: str, after: str = "", limit: int = 1000) -> list[Record]:
        """See `MemoryStore.page`; pages are small."""
        found = await super().page(namespace, after, 2)
        await self._pause()
        return found

    async def _pause(self) -> None:
        await asyncio.sleep(self._board.dice.choice((0.0, 0.001, 0.01)))  # tidy: sleeps because time is virtual


class Node:
    """A machine: what it keeps stays when it crashes."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.shelf = EphemeralShelf()
        self.relay = LossyRelay(name, world.board)
        # Who forgets, and is then behind the stamps that it went on from, may write one twice: `Bank.forget` is not for that.
        skews = (0, 0, 3_600_000, -3_600_000, world.dice.randint(-20_000, 20_000))
        self.skew = 0 if world.forgets else world.dice.choice(skews)
        self.life: Life | None = None
        self.bank: Bank | None = None
        self.replication: Replication | None = None

    def now(self) -> int:
        """Its wall clock, which is wrong."""
        return BEGIN + int(self.world.loop.time() * 1000) + self.skew

    async def start(self) -> None:
        """Begins, again if it crashed."""
        dice = self.world.dice
        self.life = Life(self.name, self.world.loop, 0 if self.world.board.calm else dice.randint(1, 4_000))
        self.relay = LossyRelay(self.name, self.world.board)
        store = SummedStore(WatchedStore(self.shelf, self.name, self.world.truth, self.world.board))
        self.bank = Bank(store, self.now)
        self.replication = Replication(self.bank, store, self.relay, SEAL)
        self.life.run(self.replication.start())
        self.life.run(self._use(self.bank, self.replication))

    async def _use(self, bank: Bank, replication: Replication) -> None:
        """The user."""
        dice = self.world.dice
        while not self.world.board.calm:
            await asyncio.sleep(dice.expovariate(1.5))  # tidy: sleeps because time is virtual
            DOING.set(0.0)
            try:
                await self._do(bank, replication)
            except (Conflict, NotFound, Unavailable):
                continue
            except SkepError as error:
                raise Broken(f"{self.name}: {error}") from error

    async def _do(self, bank: Bank, replication: Replication) -> None:
        dice = self.world.dice
        key = f"k{dice.randrange(4)}"
        what = dice.choices(
            ("store", "delete", "settle", "unite", "last", "add", "forget"), (8, 4, 2, 2, 2, 4, self.world.forgets)
        )[0]
        if what == "add":
            amount = float(dice.randint(1, 9))
            DOING.set(amount)
            await bank.add(key, amount, namespace="c")
        elif what == "delete":
            await bank.delete(key, namespace=dice.choice("nu"))
        elif what == "settle":
            if found := await bank.siblings(key, namespace="n"):
                one = dice.choice(found)
                await bank.settle(key, (one.writer, one.stamp), namespace="n")
        elif what == "forget":
            self.world.truth.unsure |= {one for one in self.world.truth.made if one[0] == "n"}
            await bank.forget("n")
        else:
            namespace, rule = {"store": ("n", "siblings"), "unite": ("u", "union"), "last": ("l", "last")}[what]
            value: Any = self.world.number()
            ttl = dice.choice((0.0, 0.0, 5.0))
            draft = Draft(namespace=namespace, key=key, value=[value] if rule == "union" else value, rule=rule, ttl=ttl)
            entry = await bank.store(draft)
            name = (namespace, key, str(entry.value), entry.writer, entry.stamp)
            if name not in self.world.truth.made:
                raise Broken(f"{self.name} acknowledged what was not committed: {name}")
            if dice.random() < 0.2:
                await self._replicated(replication, namespace, key, name)

    async def _replicated(self, replication: Replication, namespace: str, key: str, name: Made) -> None:
        """All that are there have what it is said that they have, unless the relay itself went back to an earlier state."""
        there = Record(namespace=namespace, key=key, clock={name[3]: name[4]})
        with contextlib.suppress(Unavailable):
            await replication.replicated(there, 5.0)
            for node in self.world.nodes if self.world.board.whole and not self.world.forgets else ():
                kept = node.records().get((namespace, key))
                if node.name in self.relay.others and (kept is None or kept.clock.get(name[3], 0) < name[4]):
                    raise Broken(f"{node.name} does not have what {self.name} was told that it has: {name}")

    def records(self) -> dict[tuple[str, str], Record]:
        """All that it keeps."""
        return {(name, key): decode(data) for name, kept in self.shelf.namespaces.items() for key, (_, data) in kept.items()}


class Loop(VirtualLoop):
    """Where parts of a task may fail as things do: the task itself says what comes of it."""

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or not isinstance(task.exception(), SkepError):
            super()._ended(task)


class World:
    """Machines, a relay, and what goes wrong. All of it follows from the seed.

    Args:
        seed: of the dice.
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.loop = Loop(limit=10_000, most=2_000_000)
        self.truth, self.board = Truth(), Switchboard(self.dice)
        #: How often a namespace is forgotten by a machine: in most worlds never.
        self.forgets = 0.3 if self.dice.random() < 0.2 else 0.0
        self.nodes = [Node(self, name) for name in "abc"[: self.dice.choice((2, 3, 3))]]
        self._numbers = 0

    def number(self) -> int:
        """One that nobody had before."""
        self._numbers += 1
        return self._numbers

    def run(self) -> None:
        """Lives it to its end. Raises Broken."""
        state = random.getstate()
        random.seed(self.dice.random())  # replication spreads its tries by it
        try:
            self.loop.complete(self._live())
        finally:
            random.setstate(state)
            self.loop.close()

    async def _live(self) -> None:
        for node in self.nodes:
            await node.start()
        end = self.loop.time() + TROUBLES
        while self.loop.time() < end:
            await asyncio.sleep(self.dice.expovariate(0.8))  # tidy: sleeps because time is virtual
            await self._trouble()
        self.board.calm = True
        for node in self.nodes:
            node.relay.cut = False
            assert node.life is not None
            node.life.fuse = 0
            if node.life.dead:
                await node.start()
        await asyncio.sleep(PEACE)  # tidy: sleeps because time is virtual
        await self._check()

    async def _trouble(self) -> None:
        node = self.dice.choice(self.nodes)
        assert node.life is not None
        what = self.dice.choices(("crash", "start", "cut", "mend", "forget", "put back", "trim"), (1, 4, 2, 4, 0.3, 0.3, 0.5))[0]
        if what == "crash":
            node.life.kill()
        elif what == "start" and node.life.dead:
            if not self.forgets:
                node.skew = self.dice.choice((node.skew, 0, self.dice.randint(-600_000, 600_000)))
            await node.start()
        elif what in ("cut", "mend"):
            node.relay.cut = what == "cut"
        elif what == "forget":
            self.board.forget()
        elif what == "put back":
            self.board.put_back()
        elif what == "trim":
            self.board.entries = self.board.entries[-1:]

    async def _check(self) -> None:
        first = self.nodes[0].records()
        for node in self.nodes:
            if node.records() != first:
                raise Broken(f"{node.name} does not hold what {self.nodes[0].name} does")
            assert node.replication is not None
            if node.replication.suspicion:
                raise Broken(f"{node.name}: {node.replication.suspicion}")
        there = {one for record in first.values() for one in values(record)}
        truth = self.truth
        if lost := truth.made - truth.gone - there - truth.unsure:
            raise Broken(f"lost: {sorted(lost)}")
        if back := there - (truth.made - truth.gone) - truth.unsure:
            raise Broken(f"came back: {sorted(back)}")
        for node in self.nodes:
            await self._check_read(node, first)

    async def _check_read(self, node: Node, held: dict[tuple[str, str], Record]) -> None:
        """What is read is what is there, by the rules."""
        assert node.bank is not None
        for (namespace, key), record in held.items():
            now = [one for one in record.entries if not one.expires or one.expires > node.now()]
            try:
                value = (await node.bank.get(key, namespace=namespace)).value
            except NotFound:
                value = None
            wanted: Any = None
            if namespace == "c":
                wanted = self.truth.counted[key]
            elif namespace == "u" and now:
                wanted = sorted({item for one in now for item in one.value})
            elif now:
                wanted = max(now, key=lambda one: (one.stamp, one.writer)).value
            if value != wanted and not (namespace == "u" and sorted(value or []) == (wanted or [])):
                raise Broken(f"{node.name} reads {value} of {key} in {namespace}, not {wanted}")


def broken(seed: int) -> str:
    """What is broken in the world of a seed; empty = nothing."""
    try:
        World(seed).run()
    except (Broken, SkepError) as error:
        return str(error) or type(error).__name__
    return ""
