"""The sessions that are open in this process, one loop each: with hands if it is carried out here, without if only changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.fleet import SYSTEM
from skep.core.model import LEFT
from skep.core.state import State
from skep.errors import Conflict, SkepError, Unavailable
from skep.runtime import leftovers
from skep.runtime.collect import collect_daily
from skep.runtime.credits import Credits
from skep.runtime.episodes import Episodes
from skep.runtime.loop import Loop
from skep.runtime.names import Names
from skep.runtime.notify import Teller
from skep.runtime.parts import Parts
from skep.runtime.replica import Replica
from skep.runtime.roster import Roster
from skep.runtime.session import Session
from skep.runtime.shared import OWNERS
from skep.store import SessionRow

R = TypeVar("R")

#: Why a session is paused when the process that carried it out closed in good order.
CLOSED = "its owner was closed"
#: How long closing waits for what runs, seconds. What cannot be interrupted (a function of this process) ends with the process.
CLOSING = 15.0
#: How often a session is looked at anew when others become its writer at the same time; seconds between looks if it has one.
RACES, GONE = 5, 0.5
#: How long the store may be away before whoever waits for something in a session hears so, seconds.
AWAY = 600.0
#: Sessions that a process remembers having been asked to carry out.
MAX_OWN = 1_000


class Live:
    """Opens sessions, at most one loop each, and closes them.

    Args:
        parts: what they work with.
        names: who is who.
    """

    def __init__(self, parts: Parts, names: Names) -> None:
        self._parts, self._names = parts, names
        self._loops: dict[str, Session] = {}
        #: The same, by what is to be done about them.
        self.roster, self._opened = Roster(), asyncio.Event()
        #: Sessions that this process was asked to carry out, as `skep run` is, the last ones: it goes on with them, whoever
        #: else is there.
        self.own: dict[str, None] = {}
        #: Who still tells of attempts that were begun before this process became the writer of their sessions, and those writers.
        self._former: list[tuple[Replica, Loop]] = []
        #: Whether this node may have been given up: it carries out nothing for others.
        self.fenced = False
        #: Why nothing may be begun here any more; what comes before this process is a node, which raises Conflict if another is.
        self.over: SkepError | None = None
        self.arrive: Callable[[], Awaitable[None]] | None = None
        self._watches: dict[str, tuple[Teller, asyncio.Task[None]]] = {}
        owner = parts.shared.owner if parts.shared else ""
        self._credits = Credits(
            parts.state, parts.clock, parts.here, owner, lambda after, work: asyncio.get_running_loop().call_later(after, work)
        )
        self._opening, self._swept = asyncio.Lock(), False
        #: Notes what attempts came to in the sessions that are written here.
        self.episodes: Episodes | None = None
        #: What goes on beside the sessions, from the first that is carried out here.
        self.chores: list[Callable[[], Coroutine[Any, Any, None]]] = [partial(collect_daily, parts)]
        self._beside: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Removes sessions that an owner died over while it made them: nobody was told of them."""
        if self._parts.shared is None:  # else it may be another process that is making it
            for session in await self._names.unfinished():
                await self.discard(session)

    def at_work(self) -> list[str]:
        """The sessions that are carried out here."""
        return [name for name in self._loops if self.is_at_work(name)]

    def is_at_work(self, session: str) -> bool:
        """Whether a session is carried out here."""
        loop = self._loops.get(session)
        return loop is not None and loop.has_hands and loop.failure is None

    def get(self, session: str) -> Session | None:
        """The session's loop, if it is carried out here."""
        return self._loops[session] if self.is_at_work(session) else None

    async def loop(self, session: str, hands: bool, fresh: bool = False, lead: bool = True) -> Session:
        """The session, opened if need be; with hands, its node has joined. One that another process writes is followed here.

        Args:
            fresh: it was just made: nobody was told of anything in it yet.
            lead: if nobody writes it, this process does; otherwise that is Unavailable.
        """
        async with self._opening:
            loop = self._loops.get(session)
            if loop is not None and self._serves_for(loop, hands):
                return loop
            if loop is not None:
                await self._shut(session)
            # Whatever it becomes the writer of it goes on with; but nobody joins one that is just being made.
            shared = self._parts.shared
            goes_on = shared is not None and session != SYSTEM and (shared.leads or session in self.own)
            carried = hands or (goes_on and (await self._parts.log.row(session)).head.seq > 0)
            if carried:
                await self._sweep()
            for _ in range(RACES):
                loop = await self._open(session, carried, lead)
                self._put(loop)
                if hands and isinstance(loop, Loop):
                    self.asked(session)
                if await self._settle_in(loop, carried, 0 if fresh else loop.head.seq):
                    return loop
            raise Unavailable(f"session {session} goes from one process to the next", "Try again in a moment.")

    def asked(self, session: str) -> None:
        """This process is to carry the session out. What is shared with nobody is over once it breaks off."""
        if self._parts.shared is not None:
            self.own[session] = None
        if len(self.own) > MAX_OWN:
            del self.own[next(iter(self.own))]

    def _put(self, loop: Session) -> None:
        self._loops[loop.name] = loop
        self.roster.put(loop)
        self._opened.set()
        self._opened = asyncio.Event()

    def _serves_for(self, loop: Session, hands: bool) -> bool:
        """Whether an open session does for what is wanted of it."""
        if loop.failure is not None:
            return False
        if isinstance(loop, Replica):  # one that nobody writes for has nobody who would answer
            return loop.has_hands and (loop.performs or not (hands and self.carries(loop.name)))
        return loop.has_hands or not hands

    async def successor(self, broken: Session) -> Session:
        """The one that takes the place of a session that broke off here, if this process goes on with it: the store may be away.

        Raises: what broke it off.
        """
        assert broken.failure is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AWAY):
                while self.over is None and broken.name in self.own and isinstance(broken.failure, Unavailable):
                    loop = self._loops.get(broken.name)
                    if loop is not None and loop is not broken and loop.failure is None:
                        return loop
                    await self._opened.wait()
        raise self.over or broken.failure

    def is_shared(self) -> bool:
        """Whether others may go on with what is open here."""
        return self._parts.shared is not None

    async def through(self, loop: Session, work: Callable[[Session], Awaitable[R]]) -> R:
        """What `work` finds in a session, or in the one that takes its place if it breaks off meanwhile."""
        while True:
            try:
                return await work(loop)
            except Unavailable:
                if loop.failure is None:
                    raise
                loop = await self.successor(loop)

    async def _settle_in(self, loop: Session, hands: bool, after: int) -> bool:
        """This node joins a session that is carried out here; one that is written here is published.

        Returns whether it could: not if whoever writes the session is gone.
        """
        if isinstance(loop, Loop):
            if self.episodes is not None:
                self.episodes.begin(loop, fresh=not after)
            if self._parts.publishers is not None:
                self._parts.publishers.begin(loop)
        if not hands and not (isinstance(loop, Replica) and self.carries(loop.name)):
            return True
        try:
            if self._parts.here.slots and (isinstance(loop, Loop) or self.carries(loop.name)):
                if self.arrive is not None:
                    await self.arrive()
                joining = self._credits.join(loop)
                loop.boot = joining.boot
                if not await self._answered(loop, loop.tell(joining)):
                    await self._shut(loop.name)
                    return False
                self._credits.joined(loop.name)
                self.roster.hear(loop)
        except (Exception, asyncio.CancelledError):
            await self._shut(loop.name)
            raise
        if isinstance(loop, Loop):
            self.watch(loop, after)
        return True

    async def _answered(self, loop: Session, told: asyncio.Future[Any]) -> bool:
        """Waits for an answer as long as somebody is there who can give it. Whether it came."""
        shared = self._parts.shared
        try:
            while shared is not None and isinstance(loop, Replica) and not told.done():
                await asyncio.wait([told], timeout=GONE)
                if not told.done() and loop.owner not in await shared.leases.held(OWNERS):
                    return False
            await told
            return True
        finally:
            told.cancel()

    def carries(self, session: str) -> bool:
        """Whether attempts of a session that another process writes are carried out here."""
        return self._parts.shared is not None and (self._parts.shared.serves or session in self.own)

    async def _open(self, session: str, hands: bool, lead: bool) -> Session:
        parts, shared = self._parts, self._parts.shared
        if shared is None:
            loop = Loop(session, parts.log, parts.clock, parts.performer if hands else None)
            await loop.start()
            return loop
        if self.fenced and self.carries(session):
            raise self.over or Unavailable(f"session {session}: the store did not answer this node for a while", "Try again.")
        for _ in range(RACES):
            row = await parts.log.row(session)
            if row.owner not in ("", shared.owner) and row.owner in await shared.leases.held(OWNERS):
                return await self._replica(row, self.carries(session))
            if not lead:
                raise Unavailable(f"session {session}: nobody writes it at the moment", "Try again in a moment.")
            with contextlib.suppress(Conflict):
                return await self._lead(row, hands)
        raise Unavailable(f"session {session} goes from one process to the next", "Try again in a moment.")

    async def _replica(self, row: SessionRow, hands: bool) -> Replica:
        parts = self._parts
        assert parts.shared is not None
        performer, here = parts.performer if hands else None, parts.here.name
        invited = here if parts.shared.invited else ""
        replica = Replica(row.session, parts.log, parts.shared.inbox, parts.clock, performer, here, invited)
        replica.owner = row.owner
        await replica.start()
        return replica

    async def _lead(self, row: SessionRow, hands: bool, before: Session | None = None) -> Loop:
        """Becomes the session's writer; `before` followed it here, and this node has joined it."""
        parts, shared = self._parts, self._parts.shared
        assert shared is not None
        performer = parts.performer if hands else None
        # Who will not carry it out is not known as its writer: whoever may lead goes on with it.
        owner = shared.owner if hands or row.session in self.own else ""
        loop = Loop(row.session, parts.log, parts.clock, performer, parts.here.name, shared.inbox, owner)
        if before is not None:
            loop.boot = before.boot
        await loop.start(row.head.epoch)
        return loop

    def knows(self, session: str) -> bool:
        """Whether the session is open here."""
        return session in self._loops

    def writes(self, session: str) -> bool:
        """Whether this process goes on as the session's writer."""
        return isinstance(loop := self._loops.get(session), Loop) and loop.failure is None

    def led(self) -> list[Loop]:
        """The sessions that are written and carried out here."""
        return [loop for loop in self.roster.led.values() if loop.failure is None]

    def is_away(self, session: Session) -> bool:
        """Whether this node carries out attempts of a session that does not count it as its own, though it is there."""
        carried = session.name in self.roster.led or (isinstance(session, Replica) and self.carries(session.name))
        return carried and session.failure is None and self._credits.away(session.name)

    def _carried_out(self) -> list[Session]:
        replicas = [loop for loop in self.roster.followed.values() if loop.failure is None and self.carries(loop.name)]
        return [*self.led(), *replicas]

    async def serve(self, session: str) -> None:
        """Carries out attempts of a session that another process writes. Raises Unavailable if that one has just gone."""
        await self.loop(session, hands=True, lead=False)

    async def lead(self, row: SessionRow) -> None:
        """Goes on with a session whose writer is gone, and with what is carried out here. Raises Conflict if others did."""
        async with self._opening:
            before = self._loops.get(row.session)
            if isinstance(before, Loop) and before.failure is None and before.has_hands:
                return
            await self._sweep()
            if before is not None and (isinstance(before, Loop) or before.failure is not None):
                await self._shut(row.session)
                before = None
            loop, joined = await self._lead(row, True, before), False
            if isinstance(before, Replica):
                joined = before.performs
                before.rest()
                self._former.append((before, loop))
                self._credits.go_on(loop)
            self._put(loop)
            await self._settle_in(loop, not joined, loop.head.seq)
            self.watch(loop, loop.head.seq)

    async def end_former(self) -> None:
        """Ends those who have nothing more to tell. If one of them broke off, so does the session: reports may be lost."""
        for former, loop in list(self._former):
            if former.failure is not None and loop.failure is None:
                loop.break_off(former.failure)
            if former.failure is not None or (former.at_rest and not self._parts.performer.tells(former)):
                self._former.remove((former, loop))
                await former.stop()

    async def rest(self, replica: Replica) -> None:
        """Nothing goes on in a session that is followed here: it is let go once its log says that nothing is placed here."""
        async with self._opening:  # not while it still joins
            if self._loops.get(replica.name) is replica and self._credits.rest(replica.name):
                await self._shut(replica.name)

    def wake(self, replica: Replica) -> None:
        """Something goes on again in a session that was about to be let go."""
        self._credits.wake(replica.name)

    def work(self) -> tuple[int, int]:
        """Sessions that this node carries attempts out for, and how many of those are under way."""
        name = self._parts.here.name
        there = self._loops.values() if name and self._parts.here.slots else ()
        nodes = [loop.state.nodes[name] for loop in there if loop.failure is None and name in loop.state.nodes]
        return len(nodes), sum(node.used_slots for node in nodes)

    def drain(self) -> None:
        """This node takes nothing more; what runs on it goes on."""
        self._credits.drain()

    async def part(self) -> None:
        """This node leaves: what runs on it is interrupted, and others get it at once."""
        for loop in list(self._loops.values()):
            await self._parts.performer.abandon(loop.name)
            # Nobody waits for it: without a writer nobody would answer, and the lease that is given up says the same.
            if loop.failure is None and self._parts.here.name in loop.state.nodes:
                loop.report(inp.LoseNode(at=self._parts.clock.now(), node=self._parts.here.name, why=LEFT))

    async def drop_broken(self) -> None:
        """Lets go of sessions that ended here, such as those that belong to another process now: what runs of them here ends."""
        for loop in self.roster.broken():
            await self._parts.performer.abandon(loop.name)
            async with self._opening:
                if self._loops.get(loop.name) is loop:
                    await self._shut(loop.name)

    async def abandon(self, led: bool) -> None:
        """This node may be given up by now: what it carries out ends. It joins anew when it is known again.

        Args:
            led: also of sessions that are written here: others may have taken them over.
        """
        ending = [loop for loop in self._carried_out() if led or isinstance(loop, Replica)]
        for loop in ending:
            loop.break_off(self.over or Unavailable(f"session {loop.name}: the store did not answer for a while", "Try again."))
        self._opened.set()  # who waits for a successor looks whether there can be one
        self._opened = asyncio.Event()
        await asyncio.gather(*(self._parts.performer.abandon(loop.name) for loop in ending))

    def watch(self, loop: Session, after: int) -> None:
        """From event number `after` on, tells whom the session's plan wants to be told, if it does and nobody tells them yet."""
        if loop.state.plan.notify and loop.has_hands and loop.name not in self._watches:
            teller = self._parts.performer.teller(loop)
            self._watches[loop.name] = teller, asyncio.ensure_future(teller.follow(after))

    def untold(self, session: str) -> str:
        """What went wrong with notifications of the session, here."""
        return self._watches[session][0].trouble if session in self._watches else ""

    def unpublished(self, session: str) -> str:
        """What is in the way of publishing the session, here."""
        return self._parts.publishers.trouble(session) if self._parts.publishers is not None else ""

    async def unread(self, session: str) -> str:
        """What lies in the inbox of the session and nobody with the key of the hive put there: its writer passes it over.

        All others leave the inbox, so sooner or later it is the first.
        """
        if self._parts.shared is None or self._parts.shared.invited:
            return ""
        try:
            await self._parts.shared.inbox.letters(session, limit=1)
        except SkepError as error:
            return str(error)
        return ""

    async def _shut(self, session: str) -> None:
        _, watch = self._watches.pop(session, (None, None))
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        await self._parts.performer.abandon(session)  # it may have begun something before all was settled
        await self._parts.performer.services.end(session)
        if self._parts.publishers is not None:
            await self._parts.publishers.end(session)
        loop = self._loops.pop(session, None)
        self.roster.drop(session)
        try:
            if loop is not None:  # else it was let go of meanwhile
                await loop.stop()
        finally:
            self._credits.leave(session)
            if self.episodes is not None:
                await self.episodes.end(session)

    async def look(self, session: str, query: Callable[[State], R]) -> R:
        """Asks a session something: its loop if it has one, otherwise its log."""
        loop = self._loops.get(session)
        if loop is not None and loop.failure is None:
            answer: R = await loop.ask(query)
            return answer
        return query((await self._reader(session)).state)

    async def _reader(self, session: str) -> Loop:
        """A loop that only reads: it never becomes the writer. For sessions that nobody carries out."""
        loop = Loop(session, self._parts.log, self._parts.clock, None)
        await loop.read_only()
        return loop

    async def stream(self, session: str, after: int) -> AsyncGenerator[tuple[int, ev.Event], None]:
        """The events of a session after a number; of one that is not open here, those that are there."""
        loop: Session | None = None
        while True:
            last, loop = loop, self._loops.get(session)
            if loop is None or loop is last:
                if last is not None:
                    return
                loop = await self._reader(session)
            try:
                async with contextlib.aclosing(loop.follow(after)) as source:
                    async for number, event in source:
                        after = number
                        yield number, event
            except Unavailable:
                if loop.failure is None:
                    raise
                await self.successor(loop)

    async def interrupt(self, loop: Session, why: str, by: str) -> int:
        """Ends what runs of a session, keeps its work, pauses it; returns the number of attempts interrupted."""

        def working(state: State) -> int:
            return sum(1 for e in state.entries.values() if e.attempt is not None and e.attempt.stage in ("starting", "working"))

        def ended(state: State) -> bool | None:
            ending = any(e.attempt is not None and e.attempt.stage == "ending" for e in state.entries.values())
            return None if ending else True

        count: int = await loop.ask(working)
        await loop.tell(inp.Pause(at=self._parts.clock.now(), stop=True, why=why, by=by))
        if loop.has_hands:
            await loop.until(ended)
        return count

    async def discard(self, session: str) -> None:
        """Removes a session that was not made to its end."""
        self.own.pop(session, None)
        if session in self._loops:
            await self._shut(session)
        await self._parts.workspace.forget(session)
        await self._names.forget(session)

    async def close(self) -> None:
        """Interrupts what runs, keeps its work, closes everything, whatever goes wrong with one of them."""
        self.over, self.fenced = Unavailable("the workspace was closed here", "Open it again."), True
        self._opened.set()
        self._credits.close()
        for chore in self._beside:
            chore.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        # Others go on with what is written here, where there are such: then it is not paused for everybody.
        shared = self._parts.shared
        handed_on = shared is not None and shared.leads
        stops = [] if handed_on else [self.interrupt(loop, CLOSED, "") for loop in self.led() if loop.state.running]
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSING):
                    await asyncio.gather(*stops, return_exceptions=True)
        finally:
            await self._parts.performer.close()
            for former, _ in self._former:
                await former.stop()
            for session in list(self._loops):
                await self._shut(session)

    async def _sweep(self) -> None:
        """Before anything is carried out here: tidies up after an owner that died."""
        if not self._swept:
            await leftovers.sweep(self._parts, self._names, self.look)
            self._swept = True
            self._beside = [asyncio.create_task(chore()) for chore in self.chores]
