"""A store that several simulated processes share: the ephemeral one behind ways that lose, repeat and delay what travels on them.

What is written waits, under some faults, until the replicas of the store have it: until then nobody reads it or hears of it, and
a failover may take it back. Whoever wrote it is then told that the outcome is unknown, as the settings for Redis promise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from random import Random
from typing import Any, TypeVar

from msgspec.structs import replace

from skep.errors import Unavailable
from skep.runtime.shared import NODES
from skep.store import Answer, Append, Head, Heard, Lease, Letter, SessionRow, Taken
from skep.store.ephemeral import EphemeralDisk, EphemeralLog, EphemeralSession
from skep.store.ephemeral_mail import Ears
from skep.store.ephemeral_shared import EphemeralInbox, EphemeralLeases
from tests.simulation.faults import Faults
from tests.simulation.ledger import Ledger
from tests.simulation.virtual import Life, VirtualLoop

T = TypeVar("T")
#: The session that lives in it.
SESSION = "s"


class HeldEars(Ears):
    """As `Ears`; while `held` is a list, nobody hears anything: it is kept there."""

    held: list[Callable[[], None]] | None = None

    def letter(self, session: str, letter: Letter) -> None:
        """See `Ears.letter`."""
        self._tell(partial(super().letter, session, letter))

    def append(self, session: str, append: Append) -> None:
        """See `Ears.append`."""
        self._tell(partial(super().append, session, append))

    def answer(self, session: str, sender: str, answer: Answer) -> None:
        """See `Ears.answer`."""
        self._tell(partial(super().answer, session, sender, answer))

    def _tell(self, tell: Callable[[], None]) -> None:
        if self.held is None:
            tell()
        else:
            self.held.append(tell)


class SharedStore:
    """What outlives every process.

    Args:
        random: where all chance comes from.
        faults: what goes wrong.
        ledger: is told of everything that is committed.
    """

    def __init__(self, loop: VirtualLoop, random: Random, faults: Faults, ledger: Ledger) -> None:
        self.loop = loop
        self.random = random
        self.faults = faults
        self.ledger = ledger
        #: What the one that takes writes holds, and what readers see of it.
        self.disk = EphemeralDisk()
        self.shown = EphemeralDisk()
        self.disk.ears = self.shown.ears = self._ears = HeldEars()
        self.shown.sessions, self.shown.leases = self.disk.sessions, self.disk.leases
        self._fate: asyncio.Future[bool] | None = None

    @property
    def session(self) -> EphemeralSession:
        """What is committed of the session."""
        return self.shown.sessions[SESSION]

    def now(self) -> int:
        """The clock by which leases end, ms."""
        return int(self.loop.time() * 1000)

    async def write(self, act: Callable[[], Awaitable[T]]) -> T:
        """Changes the session, and returns when that is committed. Raises Unavailable when a failover took it back."""
        if self._fate is None and SESSION in self.disk.sessions and self.faults.strikes("replicas behind"):
            self._fall_behind()
        result = await act()
        if self._fate is not None:
            if not await asyncio.shield(self._fate):
                raise Unavailable("outcome unknown: too few replicas have it")
        else:
            self.ledger.watch(self.disk.sessions)
        return result

    def _fall_behind(self) -> None:
        """From now on replicas do not have what is written; in a while they do, or one of them takes over without it."""
        self._fate = self.loop.create_future()
        self._ears.held = []
        self.shown.sessions = {name: copied(kept) for name, kept in self.disk.sessions.items()}
        self.loop.call_later(self.random.choice((0.01, 0.5, 3.0)), self._decide, context=Context())

    def _decide(self) -> None:
        assert self._fate is not None
        assert self._ears.held is not None
        held, self._ears.held = self._ears.held, None
        fate, self._fate = self._fate, None
        kept = not self.faults.strikes("failover")
        if not kept:
            self.disk.sessions = self.taken_back(self.shown.sessions)
        self.shown.sessions = self.disk.sessions
        self.ledger.watch(self.disk.sessions)
        if kept:
            for tell in held:
                tell()
        fate.set_result(kept)

    def repeat(self, sender: str, number: int, body: bytes) -> None:
        """Somebody without the key, who may write to the store, puts a letter into the inbox that was put there before."""
        mail = self.disk.sessions[SESSION].mail
        mail.places += 1
        letter = Letter(f"{mail.places:016}", sender, number, body)
        mail.inbox[letter.place] = letter
        self._ears.letter(SESSION, letter)

    def taken_back(self, committed: dict[str, EphemeralSession]) -> dict[str, EphemeralSession]:
        """What is left after a failover."""
        return committed


def copied(kept: EphemeralSession) -> EphemeralSession:
    """All that is kept of a session, as it is now."""
    mail = kept.mail
    answers = {sender: dict(left) for sender, left in mail.answers.items()}
    mail = replace(mail, inbox=dict(mail.inbox), counts=dict(mail.counts), answers=answers)
    return replace(kept, mail=mail, log=list(kept.log), snapshots=dict(kept.snapshots), archive=dict(kept.archive))


class Way:
    """How one process reaches the store. `cut` it, and nothing goes through.

    Args:
        life: the process, which may die in the middle of any call.
    """

    def __init__(self, store: SharedStore, life: Life) -> None:
        self.store = store
        self.life = life
        #: The epoch that this process knows of: it must not take the session from anybody who came after that.
        self.known = 0
        #: Since when it has the lease of its node, on the world's clock.
        self.taken = 0.0
        self._cut = False
        self._hears: list[Callable[[Heard], None]] = []

    async def read(self, act: Callable[[], Awaitable[T]]) -> T:
        """A call that changes nothing."""
        return await self._call(act)

    async def write(self, act: Callable[[], Awaitable[T]]) -> T:
        """A call that changes the session."""
        return await self._call(lambda: self.store.write(act))

    async def _call(self, act: Callable[[], Awaitable[T]]) -> T:
        store, faults = self.store, self.store.faults
        # The time goes by on the way there or on the way back: one wait for each call.
        takes, there = store.random.uniform(0.0001, 0.004), store.random.random() < 0.5
        await asyncio.sleep(takes if there else 0)
        if faults.strikes("call slow"):
            await asyncio.sleep(store.random.uniform(0.5, 4.0))
        if self._cut or faults.strikes("call lost"):
            await asyncio.sleep(store.random.choice((0.01, 1.0, 4.0)))
            raise Unavailable("the store does not answer")
        await self._die_if("killed before a call")
        result = await act()
        await self._die_if("killed after a call")
        if not there:
            await asyncio.sleep(takes)
        if self._cut or faults.strikes("answer lost"):
            raise Unavailable("outcome unknown: the store's answer was lost")
        return result

    async def _die_if(self, kind: str) -> None:
        if self.store.faults.strikes(kind):
            self.life.kill()
            await asyncio.sleep(0)

    def cut(self) -> None:
        """Nothing goes through any more."""
        self._cut = True

    def mend(self) -> None:
        """It goes through again; whoever listens is told that something may be missing."""
        self._cut = False
        for hear in self._hears:
            self._deliver(hear, None)

    async def listen(self, session: str, hear: Callable[[Heard], None], sender: str) -> Callable[[], Awaitable[None]]:
        """As `Inbox.listen`; what is told may be lost, repeated, and overtaken."""

        def heard(what: Heard) -> None:
            faults = self.store.faults
            if self._cut or hear not in self._hears or faults.strikes("push lost"):
                return
            self._deliver(hear, what)
            if faults.strikes("push twice"):
                self._deliver(hear, what)

        self._hears.append(hear)
        stop = await EphemeralInbox(self.store.disk).listen(session, heard, sender)

        async def stopped() -> None:
            self._hears.remove(hear)
            await stop()

        return stopped

    def _deliver(self, hear: Callable[[Heard], None], what: Heard) -> None:
        def told() -> None:
            if hear in self._hears:
                hear(what)

        store = self.store
        late = store.random.uniform(0.001, 5.0) if store.faults.strikes("push late") else 0.0
        store.loop.call_later(late, told, context=self.life.context())


class SharedLog(EphemeralLog):
    """The port `Log` of one process."""

    def __init__(self, way: Way) -> None:
        super().__init__(way.store.disk)
        self._way = way
        self._shown = EphemeralLog(way.store.shown)

    async def acquire(self, session: str, owner: str = "", after: int = -1) -> Head:
        """See `Log.acquire`."""
        acquire = super().acquire

        async def act() -> Head:
            before = self._disk.sessions[session].head.epoch
            head = await acquire(session, owner, after)
            self._way.store.ledger.acquired(owner, before, self._way.known)
            return head

        head = await self._way.write(act)
        self._way.known = head.epoch
        return head

    async def append(
        self,
        session: str,
        epoch: int,
        seq: int,
        batch: bytes,
        count: int,
        blob: bytes,
        archive: Sequence[tuple[str, bytes]] = (),
        taken: Sequence[Taken] = (),
    ) -> Head:
        """See `Log.append`."""
        append = super().append

        async def act() -> Head:
            self._way.store.ledger.check(not self._way.life.dead, "a dead process writes")
            newest = self._disk.sessions[session].head.epoch
            head = await append(session, epoch, seq, batch, count, blob, archive, taken)
            self._way.store.ledger.check(epoch == newest, f"{self._way.life.name} writes in epoch {epoch}, it is {newest} now")
            return head

        return await self._way.write(act)

    async def read(self, session: str, after: int = 0, limit: int = 1000) -> list[Append]:
        """See `Log.read`."""
        return await self._way.read(lambda: self._shown.read(session, after, limit))

    async def latest(self, session: str) -> tuple[int, bytes] | None:
        """See `Log.latest`."""
        return await self._way.read(lambda: self._shown.latest(session))

    async def snapshot(self, session: str, seq: int, blob: bytes) -> None:
        """See `Log.snapshot`."""
        write = super().snapshot
        await self._way.write(lambda: write(session, seq, blob))

    async def archived(self, session: str, tasks: Sequence[str]) -> dict[str, bytes]:
        """See `Log.archived`."""
        return await self._way.read(lambda: self._shown.archived(session, tasks))

    async def sessions(self, after: str = "") -> list[SessionRow]:
        """See `Log.sessions`."""
        rows = await self._way.read(lambda: self._shown.sessions(after))
        self._way.known = max([self._way.known, *(row.head.epoch for row in rows)])
        return rows

    async def awake(self) -> list[SessionRow]:
        """See `Log.awake`."""
        rows = await self._way.read(self._shown.awake)
        self._way.known = max([self._way.known, *(row.head.epoch for row in rows)])
        return rows

    async def rest(self, session: str) -> None:
        """See `Log.rest`."""
        rest = super().rest
        await self._way.write(lambda: rest(session))

    async def row(self, session: str) -> SessionRow:
        """See `Log.row`."""
        row = await self._way.read(lambda: self._shown.row(session))
        self._way.known = max(self._way.known, row.head.epoch)
        return row


class SharedInbox(EphemeralInbox):
    """The port `Inbox` of one process."""

    def __init__(self, way: Way) -> None:
        super().__init__(way.store.disk)
        self._way = way
        self._shown = EphemeralInbox(way.store.shown)

    async def put(self, session: str, sender: str, number: int, body: bytes) -> None:
        """See `Inbox.put`."""
        put = super().put
        await self._way.write(lambda: put(session, sender, number, body))
        store = self._way.store
        if store.faults.strikes("letter put twice"):
            await self._way.write(lambda: put(session, sender, number, body))
        if store.faults.strikes("letter repeated"):
            later = store.random.choice((0.0, 0.01, 5.0, 40.0))
            store.loop.call_later(later, store.repeat, sender, number, body, context=Context())

    async def letters(self, session: str, after: str = "", limit: int = 1000) -> list[Letter]:
        """See `Inbox.letters`."""
        return await self._way.read(lambda: self._shown.letters(session, after, limit))

    async def waiting(self, sessions: Sequence[str]) -> set[str]:
        """See `Inbox.waiting`."""
        return await self._way.read(lambda: self._shown.waiting(sessions))

    async def settle(self, session: str, epoch: int, taken: Sequence[Taken]) -> None:
        """See `Inbox.settle`."""
        settle = super().settle
        await self._way.write(lambda: settle(session, epoch, taken))

    async def answers(self, session: str, sender: str, after: int = 0, limit: int = 1000) -> list[Answer]:
        """See `Inbox.answers`."""
        return await self._way.read(lambda: self._shown.answers(session, sender, after, limit))

    async def forget(self, session: str, sender: str) -> None:
        """See `Inbox.forget`."""
        forget = super().forget
        await self._way.write(lambda: forget(session, sender))

    async def listen(self, session: str, hear: Callable[[Heard], None], sender: str = "") -> Callable[[], Awaitable[None]]:
        """See `Inbox.listen`."""
        return await self._way.listen(session, hear, sender)


class SharedLeases(EphemeralLeases):
    """The port `Leases` of one process. What it promises is lost by no failover here: it is no more than a hint."""

    def __init__(self, way: Way) -> None:
        super().__init__(way.store.disk, way.store.now)
        self._way = way

    async def hold(self, name: str, holder: str, ttl: int, note: str = "") -> bool:
        """See `Leases.hold`."""
        hold = super().hold

        async def act() -> bool:
            kind, rest = name.split("/")
            if kind == NODES and self._leases.get(kind, {}).get(rest, (0, "", ""))[0] <= self._now():
                self._way.taken = self._way.store.loop.time()
            return await hold(name, holder, ttl, note)

        return await self._way.read(act)

    async def release(self, name: str, holder: str) -> None:
        """See `Leases.release`."""
        release = super().release
        await self._way.read(lambda: release(name, holder))

    async def held(self, kind: str) -> dict[str, Lease]:
        """See `Leases.held`."""
        held: Any = super().held
        return await self._way.read(lambda: held(kind))
