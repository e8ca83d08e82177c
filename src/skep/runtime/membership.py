"""This process among those that share a store: it shows that it is there, and notices who is not there any more.

A node that cannot renew its lease ends what it carries out before the store can have given its place away: it counts from
before its last good renewal, by its own monotonic clock. Whoever writes a session says which of its nodes are lost. Whoever may
lead goes on with sessions whose writer is gone; that only one of them does is for the store to see (`Log.acquire`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from skep.core import inputs as inp
from skep.core.model import GUEST
from skep.core.state import State
from skep.errors import Bug, Conflict, NotFound, SkepError, Unavailable
from skep.runtime.credits import boots
from skep.runtime.live import Live
from skep.runtime.node import MARK
from skep.runtime.nodes import Note, order_to, read_note
from skep.runtime.parts import Parts
from skep.runtime.replica import Replica
from skep.runtime.roster import busy
from skep.runtime.session import Session
from skep.runtime.shared import DRAINS, NODES, OWNERS, Shared
from skep.runtime.takeover import Takeover
from skep.runtime.views import goes_on
from skep.store import Lease
from skep.store.chain import LONGEST_NOTE
from skep.store.letters import LONGEST_LEASE

#: How long leases last, ms. A node is noticed to be gone within 3 s, the writer of a session within 6.
NODE_TTL, OWNER_TTL = 2_500, 5_000
#: Between renewals, and between looks at who is there, seconds. A look comes sooner when a lease may be over before, and when a
#: node was not there for the first time.
RENEW, LOOK, SOON = 0.8, 0.5, 0.2
#: Between looks at whether who has this node's name still renews it, seconds.
ASK = 0.2
#: A node ends what it carries out this long before its lease can be over, seconds, and looks again so often while it is.
MARGIN, FENCE = 0.3, 0.1
#: Between looks at who is there for those who carry nothing out for others, and at what operators say, seconds.
SELDOM = 0.9
#: Between looks at all sessions that do not rest when nobody came or went, seconds.
PATROL = 10.0
#: How long a session without a writer counts as going on: others may be about to take it over, seconds.
GRACE = 10.0
#: How long a session in which nothing goes on is still followed, and does not rest: more may come at once, seconds.
LINGER = 10.0
#: Processes up to which each look asks who is there.
FEW = 100
#: Between looks into the inboxes of all that goes on here, seconds, and into how many of the others then, in turn. What is pushed
#: may be lost.
LOOK_IN, OTHERS = 20.0, 1_000
#: Guests that are remembered.
MAX_GUESTS = 1_000
#: Sessions that are called out on a lease at once. Whoever missed some looks at all.
CALLED = 8


class Membership:
    """Keeps the leases of this process, and looks after those of others, until it is closed."""

    def __init__(self, parts: Parts, shared: Shared, live: Live) -> None:
        self._parts = parts
        self._shared = shared
        self._live = live
        here = parts.here
        gives = here.join(parts.state, parts.clock).capacity
        self._note = Note(
            host=socket.gethostname(),
            pid=os.getpid(),
            node=here.name if here.slots else "",
            labels=here.labels,
            slots=here.slots,
            leads=shared.leads,
            serves=shared.serves,
            cpu=gives.cpu,
            memory=gives.memory,
            place=here.place,
        )
        #: This node has left: an operator told it to, or another process took its name, which `_failure` says then.
        self._parted = asyncio.Event()
        self._failure: SkepError | None = None
        self._drains = False
        #: Whether this process has its node's name.
        self._arrived = False
        self._renewed = 0.0
        self._takeover = Takeover(parts.log, shared, live)
        #: Nodes that were not there at the last look; nodes, the last ones, that work or worked for sessions of their own only.
        self._missing: set[str] = set()
        self._guests: dict[str, None] = {}
        self._orphaned: dict[str, float] = {}
        #: Sessions that had given this node up at the last look; those written here that broke off.
        self._given_up: dict[str, Session] = {}
        self._broken: set[str] = set()
        #: How many sessions each process had called out at the last look; None = something else may want to be looked at.
        self._seen: dict[str, int] | None = None
        self._patrolled = self._looked_in = self._obeyed = 0.0
        self._counted = float("-inf")  # nobody is known before they were asked for
        #: When the next lease of a process may be over; when there should be another look, on the clock of the event loop.
        self._over_at = self._next = float("inf")
        #: The session into whose inbox was looked last, of those in which nothing goes on.
        self._looked_at = ""
        self._owners: dict[str, Lease] = {}
        self._notes: dict[str, Note] = {}
        #: What they said when the sessions that they called out were looked at.
        self._heard: dict[str, Note] = {}
        #: Sessions written here that went on at the last look; what was called out, how often, and that it is to be read soon.
        self._going: set[str] = set()
        self._called: tuple[str, ...] = ()
        self._calls = 0
        self._hurry = asyncio.Event()
        #: The sessions that are open here and moved since the last look.
        self._moved: dict[str, Session] = {}
        #: The nodes that were there at the last look, and their processes.
        self._there: dict[str, str] = {}
        #: Sessions that are followed here and in which nothing goes on: since when.
        self._rests: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Takes the leases: the node's name at once if it serves others, else with the first session that is carried out here.

        Who only looks on leaves the name alone: else a dead process would be taken to be there.

        Raises:
            Conflict: another process has this node's name.
        """
        if self._shared.serves:
            await self.arrive()
        await self._renew()
        self._live.arrive = self.arrive
        loop = asyncio.get_running_loop()
        kept = {"leases": self._keep(), "fence": self._fence(), "who is there": self._watch()}
        self._tasks = [loop.create_task(self._guard(work), name=name) for name, work in kept.items()]

    async def left(self) -> None:
        """Returns when an operator told this node to leave, and it has.

        Raises:
            Conflict: another process has taken this node's name, and all that went on here has ended.
        """
        await self._parted.wait()
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """Gives the leases up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(SkepError):
            await self._shared.leases.release(f"{OWNERS}/{self._shared.owner}", self._shared.owner)
            if self._note.node:
                await self._shared.leases.release(f"{NODES}/{self._note.node}", self._shared.owner)

    async def arrive(self) -> None:
        """This process is its node from now on. One that was killed has its name for a while yet: that is waited for.

        Raises:
            Conflict: another process has this node's name.
        """
        if self._failure is not None:
            raise self._failure
        if self._arrived or not self._note.node:
            return
        loop, before = asyncio.get_running_loop(), None
        deadline = loop.time() + 2 * NODE_TTL / 1000
        while not await self._hold_name():
            lease = (await self._shared.leases.held(NODES)).get(self._note.node)
            if lease is None:  # it ran out just now
                continue
            if self._note.place and read_note(lease).place == self._note.place:
                await self._shared.leases.release(f"{NODES}/{self._note.node}", lease.holder)
                continue
            renewed = before is not None and (lease.holder != before.holder or lease.left > before.left)
            if renewed or loop.time() > deadline:
                raise self._taken(lease)
            if before is None and self._shared.say is not None:
                self._shared.say(f"{_who(lease)} is the node '{self._note.node}', or was: waits until that is known")
            before = lease
            await asyncio.sleep(ASK)
        self._arrived = True

    def _taken(self, lease: Lease | None) -> Conflict:
        mark = self._parts.state / MARK
        fix = f"Give this one another name (--name); or, if its state folder is a copy of that one's, remove {mark}."
        return Conflict(f"{_who(lease)} is the node '{self._note.node}'", fix)

    async def _renew(self) -> bool:
        """Renews the leases. Returns whether this node's name is still its own."""
        began, owner = asyncio.get_running_loop().time(), self._shared.owner
        self._hurry.clear()
        if self._arrived and not await self._hold_name():
            return False
        await self._shared.leases.hold(f"{OWNERS}/{owner}", owner, OWNER_TTL, self._words())
        self._renewed = began
        return True

    async def _hold_name(self) -> bool:
        return await self._shared.leases.hold(f"{NODES}/{self._note.node}", self._shared.owner, NODE_TTL, self._words())

    def _words(self) -> str:
        sessions, running = self._live.work()
        now = msgspec.structs.replace(self._note, calls=self._calls, called=self._called, sessions=sessions, running=running)
        while len(words := msgspec.json.encode(now)) > LONGEST_NOTE and now.called:
            now = msgspec.structs.replace(now, called=now.called[1:])  # whoever misses some looks at all
        return words.decode()

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW):
                    await self._hurry.wait()
            with contextlib.suppress(SkepError, OSError):
                if not await self._renew():
                    break
                self._live.fenced = self._live.over is not None
        # Another process is this node by now: two cannot be, and this one was away for too long.
        taken = self._taken(None)
        with contextlib.suppress(SkepError, OSError):
            taken = self._taken((await self._shared.leases.held(NODES)).get(self._note.node))
        await self._end(taken)

    async def _guard(self, work: Awaitable[None]) -> None:
        """Without one of these everything would look well, and nobody would be missed or taken over: better it ends, loudly."""
        try:
            await work
        except Exception as error:
            await self._end(Bug(f"looking after the sessions: {type(error).__name__}: {error}", "Please report it."))

    async def _end(self, error: SkepError) -> None:
        """Nothing can go on here: what does ends with this error."""
        self._failure = self._live.over = error
        self._live.fenced = True
        with contextlib.suppress(SkepError, OSError):
            await self._live.abandon(led=True)
        self._parted.set()

    async def _fence(self) -> None:
        """Ends what is carried out here in time, beside the looks: these wait for the very store that does not answer."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(FENCE, self._renewed + NODE_TTL / 1000 - MARGIN - loop.time()))
            away = loop.time() - self._renewed
            if away > NODE_TTL / 1000 - MARGIN:
                self._live.fenced, self._seen = True, None
                with contextlib.suppress(SkepError, OSError):  # the next look but one does the rest
                    await self._live.abandon(led=away > OWNER_TTL / 1000 - MARGIN)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(LOOK, max(self._next - loop.time(), ASK / 10)))
            self._next = float("inf")
            # A look that takes too long is given up: the next one finds what this one left.
            with contextlib.suppress(SkepError, TimeoutError, OSError):
                async with asyncio.timeout(OWNER_TTL / 1000):
                    await self._look()

    async def _look(self) -> None:
        roster, now = self._live.roster, asyncio.get_running_loop().time()
        self._broken |= {session.name for session in roster.broken() if session.name in roster.led}
        await self._live.drop_broken()
        self._moved |= {session.name: session for session in roster.look(now)}
        roster.lay_down(now - LINGER)
        # In whose sessions nothing goes on need not know which nodes there are: with many of them that is a lot to be told.
        nodes = await self._shared.leases.held(NODES) if any(True for _ in roster.carried_out()) else None
        self._lose(nodes)
        self._look_by(_over_at(nodes or {}))
        self._come_back()
        self._call()
        self._moved = {}
        owners = await self._others()
        await self._obey()
        await self._hand_over()
        await self._live.end_former()
        await self._look_in()
        await self._accompany(owners)
        if not self._live.fenced and not self._drains:
            await self._answer()

    async def _others(self) -> dict[str, Lease]:
        """Who is there. With many, each asks less often: what all are told together grows with their number, not its square.

        Those that may lead ask when one may be gone, too, unless they are many.
        """
        now = asyncio.get_running_loop().time()
        seldom = max(LOOK * len(self._owners) / FEW, 0.0 if self._shared.serves else SELDOM)
        if now >= min(self._counted + seldom, self._over_at):
            before, told = self._owners, self._notes
            self._owners, self._counted = await self._shared.leases.held(OWNERS), now
            others = {name: lease for name, lease in self._owners.items() if name != self._shared.owner}
            # Most say what they said before.
            same = {name for name, lease in others.items() if name in told and before[name].note == lease.note}
            self._notes = {name: told[name] if name in same else read_note(lease) for name, lease in others.items()}
            few = self._shared.leads and sum(note.leads for note in self._notes.values()) < FEW
            self._over_at = _over_at(others) if few else float("inf")
        self._look_by(self._over_at)
        return self._owners

    def _look_by(self, at: float) -> None:
        """The next look is at that time at the latest."""
        self._next = min(self._next, at)

    def _call(self) -> None:
        """Calls out the sessions written here in which something goes on, and did not before: others may be needed there."""
        roster = self._live.roster
        going = roster.going - roster.followed.keys()
        if called := sorted(going - self._going):
            self._calls += len(called)
            self._called = (*self._called, *called)[-CALLED:]
            self._hurry.set()
        self._going = going

    async def _look_in(self) -> None:
        """Has letters read of which nothing was heard: inboxes are asked for in one go, as most of many are empty."""
        now, roster = asyncio.get_running_loop().time(), self._live.roster
        if now - self._looked_in > LOOK_IN:
            loops = {**roster.led, **roster.lent}
            still = sorted(loops.keys() - roster.going)
            after = bisect_right(still, self._looked_at)
            still = [*still[after:], *still[:after]][:OTHERS]
            for session in await self._shared.inbox.waiting([*sorted(loops.keys() & roster.going), *still]):
                loops[session].look_in()
            self._looked_at = still[-1] if still else ""
            self._looked_in = now

    async def _accompany(self, owners: Mapping[str, Lease]) -> None:
        """Follows sessions that others write, for as long as something goes on in them."""
        now, rests = asyncio.get_running_loop().time(), self._rests
        self._rests = {}
        for replica in list(self._live.roster.followed.values()):
            if replica.failure is not None:
                continue
            await self._follow(replica, owners)
            if busy(replica):
                self._live.wake(replica)
                continue
            self._rests[replica.name] = since = rests.get(replica.name, now)
            if now - since > LINGER:
                await self._live.rest(replica)

    async def _answer(self) -> None:
        """Looks at the sessions that others called out; at all of them when somebody is gone, and now and then."""
        now, before, notes = asyncio.get_running_loop().time(), self._seen, self._notes
        called = [*self._broken, *self._takeover.left()]
        everywhere = before is None or now - self._patrolled > PATROL
        if before is None or notes is not self._heard:
            self._seen, self._heard = {name: note.calls for name, note in notes.items()}, notes
            everywhere = everywhere or before is None or bool(before.keys() - notes.keys())
            for name, note in notes.items():
                missed = note.calls - (before or {}).get(name, 0)
                everywhere = everywhere or missed > len(note.called)
                called += note.called[-missed:] if missed > 0 else ()
        if not (everywhere or called):
            return
        there = {**notes, self._shared.owner: self._note}
        broken, self._broken = self._broken, set()
        try:
            if everywhere:
                self._patrolled = now
                rows = await self._takeover.concern(there)
                self._going &= {row.session for row in rows}  # what is not listed, though it goes on, is called out again
                await self._takeover.patrol(rows, there)
                called = [*broken]
            await self._takeover.patrol(await self._takeover.rows(called), there)
        except BaseException:
            self._seen, self._broken = None, self._broken | broken  # what this look left is for the next
            raise

    async def _obey(self) -> None:
        """Does what an operator told this node."""
        if not self._note.node:
            return
        now = asyncio.get_running_loop().time()
        if now - self._obeyed < SELDOM:
            return
        told, self._obeyed = (await self._shared.leases.held(DRAINS)).get(self._note.node), now
        word = order_to(self._note.node, self._shared.owner, told, self._parts.log.seal_to)
        if not word:
            return
        if not self._drains:
            self._drains = True
            self._live.drain()
        if word == "leave" or self._live.work()[1] == 0:
            await self._live.part()
            with contextlib.suppress(SkepError):
                await self._shared.leases.release(f"{DRAINS}/{self._note.node}", self._shared.owner)
            self._parted.set()

    def _lose(self, nodes: Mapping[str, Lease] | None) -> None:
        """Says which nodes are gone of the sessions that go on and are written here: those that were not there twice."""
        missing = set[str]()
        if nodes is None:
            self._missing = missing
            return
        there = {name: lease.holder for name, lease in nodes.items()}
        came_or_went = there != self._there or bool(self._missing)
        for loop in self._live.roster.carried_out():
            if not came_or_went and loop.name not in self._moved:
                continue
            for node in loop.state.nodes.values():
                # Its name alone says nothing: whoever has it now may know nothing of this session.
                if node.lost or node.id == self._note.node or (node.id in there and boots(there[node.id], node.boot)):
                    continue
                missing.add(node.id)
                if node.id in self._missing:
                    why = GUEST if node.id in self._guests else "its lease ran out"
                    loop.report(inp.LoseNode(at=self._parts.clock.now(), node=node.id, why=why, boot=node.boot))
        for name in there.keys() & self._guests.keys():
            del self._guests[name]
        self._guests |= {name: None for name, lease in nodes.items() if not read_note(lease).serves}
        for name in list(self._guests)[:-MAX_GUESTS]:
            del self._guests[name]
        if missing - self._missing:
            self._look_by(asyncio.get_running_loop().time() + SOON)
        self._missing, self._there = missing, there

    async def _hand_over(self) -> None:
        """Lets go of sessions that were only changed here and that others write by now: nothing more is heard of them."""
        for loop in list(self._live.roster.lent.values()):
            if self._shared.leads and goes_on(loop.state):
                self._seen = None  # this process itself may go on with it
            try:
                row = await self._parts.log.row(loop.name)
                if row.head.epoch > loop.head.epoch:
                    loop.break_off(Unavailable(f"session {loop.name} belongs to another owner now", "Connect to it."))
            except NotFound as error:
                loop.break_off(error)

    def _come_back(self) -> None:
        """Begins sessions anew that gave this node up and were not given up here.

        It was away for less than it noticed; or it had asked to join before, was not answered, and that came late.
        """
        if self._drains:
            return
        given_up = {}
        for session in {**self._given_up, **self._moved}.values():
            if not self._live.is_away(session):
                continue
            given_up[session.name] = session
            if session.name in self._given_up:
                why = f"session {session.name} had given the node '{self._note.node}' up"
                session.break_off(Unavailable(why, "Try again."))
                self._seen = None
        self._given_up = given_up

    async def _follow(self, replica: Replica, owners: Mapping[str, Lease]) -> None:
        """Knows whether somebody writes a session that is followed here."""
        if replica.owner not in owners:
            try:
                replica.owner = (await self._parts.log.row(replica.name)).owner
            except NotFound as error:  # pruned
                replica.break_off(error)
                return
        now = asyncio.get_running_loop().time()
        if replica.owner in owners:
            self._orphaned.pop(replica.name, None)
        replica.led = replica.owner in owners or now - self._orphaned.setdefault(replica.name, now) < GRACE


def _over_at(leases: Mapping[str, Lease]) -> float:
    """When the first of these leases, of which the store just told, may be over, by the clock of the event loop."""
    return asyncio.get_running_loop().time() + min((lease.left + 1 for lease in leases.values()), default=LONGEST_LEASE) / 1000


def _who(lease: Lease | None) -> str:
    """Whose a lease is, for people."""
    note = read_note(lease) if lease is not None else Note("?", 0)
    return f"another process ({note.pid} on {note.host})" if note.pid else "another process"


async def carried(live: Live, session: str, rests: Callable[[State], bool]) -> Session:
    """A session. While it has no writer and does not rest, others may be about to go on with it: that is waited for."""
    loop, clock = await live.loop(session, hands=False), asyncio.get_running_loop()
    end = clock.time() + GRACE if live.is_shared() else 0.0
    while not loop.has_hands and not rests(loop.state) and clock.time() < end:
        await asyncio.sleep(LOOK)
        loop = await live.loop(session, hands=False)
    return loop
