"""Brings what happens in a session to public channels and readable keys: a follower of the log, like any other.

It is behind the log: it goes on at its own rate while the session moves, and no turn of the session waits for it.
How far it is stands in the Redis itself, written after everything that it covers, so that what was told may be told again after a
crash, with the same ids, but nothing is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from skep.config import PublishConfig
from skep.core import events as ev
from skep.core.model import TERMINAL, Entry
from skep.core.state import State, unpack
from skep.errors import SkepError
from skep.observe import Board, keys, messages
from skep.observe.catalogue import Known
from skep.observe.records import Report
from skep.runtime.session import Session
from skep.store import Log

#: Events that are published together; and how many a second while sessions move, all of this process together.
PAGE, RATE = 200, 2_000
#: Seconds until a Redis that does not answer is tried again: at first, and at most.
PAUSE, PAUSE_MOST = 1.0, 30.0
#: How long the end of a session waits for its last events to be published, seconds.
DRAIN = 5.0

#: States that change what needs the task, and what it is part of, when it comes into them.
CHANGE_OTHERS = TERMINAL | {"waiting", "ready", "expanded"}

Command = tuple[Any, ...]
Numbered = tuple[int, ev.Event]


class Means(Struct, frozen=True):
    """What publishers of a process work with. `turn`: one of them at a time."""

    board: Board
    config: PublishConfig
    log: Log
    now: Callable[[], int]
    turn: asyncio.Lock

    @property
    def keep(self) -> int:
        """How long what is finished can be read, ms."""
        return int(self.config.keep * 1000)


class Found(Struct):
    """What a look at the state gave: what is known of tasks, what is to be written, who else changed, who is in the archive."""

    known: dict[str, Known]
    writes: list[Command]
    others: dict[str, None]
    away: list[str]


class Publisher:
    """Publishes one session that is written here.

    Args:
        session: whose events.
        means: by what.
    """

    def __init__(self, session: Session, means: Means) -> None:
        self.session = session
        self.report = Report(session=session.name, sequence=0, epoch=0)
        #: What is in the way of publishing; empty if nothing is.
        self.trouble = ""
        #: Whether nothing more will be published, unless `rewind` and `follow` begin it anew.
        self.over = False
        #: The last event of which messages were told by this process.
        self._told = 0
        self._means = means
        self._hurried = False
        self._waiting: list[asyncio.Future[None]] = []
        #: Tasks that agents work at, by agent; tasks whose ballot is open.
        self._at_work: dict[str, str] = {}
        self._ballots: dict[str, None] = {}

    @property
    def behind(self) -> int:
        """Events in the log that are not published yet."""
        return max(0, self.session.head.seq - self.report.sequence)

    async def follow(self) -> None:
        """Publishes what happens until the session ends here, or another process publishes it."""
        try:
            await self._follow()
        except Exception as error:  # nobody waits for this task
            self.broke(error)
        finally:
            self.over = True
            self._tell_stepped()

    def rewind(self) -> None:
        """Nothing says any more how far it is: the next `follow` looks for where to go on. What was told is not told again."""
        self.report = Report(session=self.session.name, sequence=0, epoch=0)
        self.trouble, self.over = "", False

    def broke(self, error: Exception) -> None:
        """It went wrong in a way that should not be."""
        self.trouble = f"publishing broke, please report it: {type(error).__name__}: {error}"

    async def _follow(self) -> None:
        pause = PAUSE
        while self.session.failure is None:
            try:
                await self._publish()
                return
            except SkepError as error:
                if self.session.failure is not None:
                    return
                self.trouble = error.message
            self._tell_stepped()
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_MOST)

    async def drain(self) -> None:
        """Returns when all that happened is published, or it takes too long."""
        self._hurried = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN):
                while self.behind and not self.trouble and not self.over and self.session.failure is None:
                    await self.stepped()

    async def stepped(self) -> None:
        """Returns when more is published, or something is in the way, or nothing more will be published."""
        stepped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(stepped)
        await stepped

    async def _publish(self) -> None:
        """Publishes from where it was, until something is in the way."""
        await self.session.ask(self._begin)
        while await self._take_up():
            async with contextlib.aclosing(self.session.follow(self.report.sequence)) as source:
                while await self._next(source):
                    pass

    def _begin(self, state: State) -> None:
        entries = state.entries.values()
        self._at_work = {entry.task.id: entry.attempt.agent for entry in entries if entry.attempt is not None}
        self._ballots = {entry.task.id: None for entry in entries if entry.poll is not None and entry.poll.result is None}

    async def _take_up(self) -> bool:
        """Finds where to go on: at the beginning if that is not known any more. False: another process publishes."""
        found = await self.written()
        if found is not None and found.epoch > self.session.head.epoch:
            self.trouble = f"a later writer of {self.session.name} publishes it"
            return False
        fresh = Report(session=self.session.name, sequence=0, epoch=self.session.head.epoch)
        self.report = found if found is not None and found.sequence <= self.session.head.seq else fresh
        return True

    async def written(self) -> Report | None:
        """How far the session is published, as its last publisher wrote it; None if nobody did, or it was deleted."""
        raw = await self._means.board.call("GET", keys.of_swarm(self.session.name, "published"))
        with contextlib.suppress(msgspec.DecodeError):
            return _decode(raw) if raw is not None else None
        return None

    async def _next(self, source: AsyncGenerator[Numbered, None]) -> bool:
        """Publishes what there is, or waits for more. False: look where to go on."""
        await self.session.moved(self.report.sequence)
        batch: list[Numbered] = []
        while len(batch) < PAGE and (not batch or batch[-1][0] < self.session.head.seq):
            found = await anext(source, None)
            if found is None:  # the session is ending here
                break
            batch.append(found)
        if not batch:
            return False
        async with self._means.turn:
            before, last = self.session.head.seq, await self.written()
            if self.report.sequence and (last is None or last.epoch > self.report.epoch):
                return False
            await self._round(batch)
            if self.session.head.seq > before and not self._hurried:
                await asyncio.sleep(len(batch) / RATE)
        return True

    async def _round(self, batch: list[Numbered]) -> None:
        """Writes the keys that the events change, then tells of the events, then how far that is."""
        config, now = self._means.config, self._means.now()
        named = dict.fromkeys(name for _, event in batch for name in keys.tasks_of(event))
        found = await self.look(named)
        if config.state:
            await self._write(batch, found)
        spoken: list[Command] = []
        expired = 0
        for number, event in batch if config.channels else ():
            notices = messages.told(self.session.name, number, event, found.known)
            if event.at + messages.TTL < now:
                expired += len(notices)
            elif number > self._told:
                spoken += [("PUBLISH", *notice) for notice in notices]
        await self._means.board.many(spoken)
        await self._reach(batch[-1], len(spoken), expired)

    async def _reach(self, last: Numbered, spoken: int, expired: int) -> None:
        """So far it is published."""
        number, event = last
        now, head = self._means.now(), self.session.head
        report = Report(
            session=self.session.name,
            sequence=number,
            epoch=head.epoch,
            behind=head.seq - number,
            lag=max(0, now - event.at) if head.seq > number else 0,
            told=self.report.told + spoken,
            expired=self.report.expired + expired,
            at=now,
        )
        await self._means.board.call("SET", keys.of_swarm(self.session.name, "published"), msgspec.json.encode(report))
        self.report, self._told, self.trouble = report, max(self._told, number), ""
        self._tell_stepped()

    def _tell_stepped(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    # Keys

    async def look(self, names: Iterable[str]) -> Found:
        """Looks at tasks as the log has them, those in its archive, too."""
        wanted = tuple(names)
        found: Found = await self.session.ask(lambda state: self._look(state, wanted))
        if found.away:
            sequence = self.session.head.seq
            archived = await self._means.log.archived(self.session.name, found.away)
            for entry in map(unpack, archived.values()):
                self._take_in(found, entry, sequence)
        return found

    def _look(self, state: State, names: Sequence[str]) -> Found:
        found = Found({}, [], {}, [])
        for name in names:
            entry = state.entries.get(name)
            if entry is None:
                found.away.append(name)
                continue
            self._take_in(found, entry, state.seq)
            if entry.state not in CHANGE_OTHERS:
                continue
            for other in (*(entry.dependents or ()), entry.task.parent):
                if other in state.entries and other not in found.known:
                    found.others[other] = None
        return found

    def _take_in(self, found: Found, entry: Entry, sequence: int) -> None:
        name = entry.task.id
        found.known[name] = Known(entry.task, entry.agent, entry.attempts)
        self._at_work.pop(name, None)
        if entry.attempt is not None:
            self._at_work[name] = entry.attempt.agent
        if self._means.config.state:
            found.writes += keys.task(self.session.name, sequence, entry, self._means.keep, self._means.now())

    async def _write(self, batch: list[Numbered], found: Found) -> None:
        """Brings the keys to where the log is by now."""
        board = self._means.board
        everything = any(keys.changes_all(event) for _, event in batch)
        for _, event in batch:
            if isinstance(event, ev.BallotOpened):
                self._ballots[event.task] = None
            elif isinstance(event, ev.BallotClosed | ev.TaskClosed):
                self._ballots.pop(event.task, None)
        await board.many([*self._steps(batch, found), *found.writes])
        others = [name for name in found.others if name not in found.known]
        if everything:
            others = await self.session.ask(lambda state: [name for name in state.entries if name not in found.known])
        for start in range(0, len(others), PAGE):
            await board.many((await self.look(others[start : start + PAGE])).writes)
        await self.around(None if everything else {known.agent for known in found.known.values() if known.agent})

    def _steps(self, batch: list[Numbered], found: Found) -> list[Command]:
        """The events as parts of their tasks' histories."""
        steps: dict[str, list[Numbered]] = {}
        for number, event in batch:
            for name in keys.tasks_of(event):
                steps.setdefault(name, []).append((number, event))
        now, keep = self._means.now(), self._means.keep
        commands: list[Command] = []
        for name, events in steps.items():
            if events[-1][1].at + keep > now or name in self._at_work:
                commands += keys.history(self.session.name, name, events)
        return commands

    async def around(self, agents: Collection[str] | None) -> None:
        """Writes how the session itself and agents of it stand, None = all of them."""
        names = await self.session.ask(lambda state: list(state.agents)) if agents is None else sorted(agents)
        for start in range(0, len(names), PAGE):
            await self._means.board.many(await self.session.ask(partial(self._agents, names[start : start + PAGE])))
        await self._means.board.many(await self.session.ask(lambda state: keys.swarm(state, self._ballots, self._means.keep)))

    def _agents(self, names: Iterable[str], state: State) -> list[Command]:
        at_work: dict[str, list[str]] = {}
        for task, agent in self._at_work.items():
            at_work.setdefault(agent, []).append(task)
        commands: list[Command] = []
        for name in names:
            if (found := state.agents.get(name)) is not None:
                commands += keys.agent(state, found, at_work.get(name, ()), self._means.keep)
        return commands


_decode = msgspec.json.Decoder(Report).decode
