"""An open session as everybody sees it: what its log holds, who waits for what. A loop writes that log, a replica reads it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.apply import replay
from skep.core.commands import Owed
from skep.core.model import TERMINAL, Entry
from skep.core.settle import halted, limited
from skep.core.state import State, unpack
from skep.errors import Bug, SkepError, Unavailable
from skep.runtime.followers import Followers, Look
from skep.runtime.pace import Pace
from skep.runtime.uncollected import uncollected
from skep.store import Head, Log, codec

#: Longest sleep without a wake-up time: a wall clock that jumps is noticed within it, seconds.
MAX_SLEEP = 5.0

Query = Callable[[State], Any]
#: Hears how a task ended, or why that will not be known.
Told = Callable[[Entry | SkepError], None]


def resting(state: State) -> Unavailable:
    """What is said to those who wait for something in a session that is paused."""
    fix = f"`skep resume {state.session}`, or `resume()` in Python, goes on with it."
    return Unavailable(f"session {state.session} is paused: {state.why or 'a person said so'}", fix)


class Clock(Protocol):
    """Time and randomness, given from outside so that a simulation can give its own."""

    def now(self) -> int:
        """Wall-clock milliseconds since the epoch."""

    def random(self, size: int) -> bytes:
        """Fresh random bytes."""


class Hands(Protocol):
    """Whoever carries out what is owed."""

    def perform(self, session: Session, command: Owed, entry: Entry) -> None:
        """Begins to carry out a command, at once, without waiting; reports go to `session.report`. Never raises."""

    def hand_over(self, session: Session, agent: str) -> object:
        """Gives an agent at work what waits for it, if it can hear, at once. Never raises."""


class Session(ABC):
    """One open session. `tell` it inputs, `ask` it questions, `follow` its events.

    Args:
        name: of the session in the log.
        log: where it lives.
        pace: the time that it is told.
        hands: who performs here, if somebody does.
    """

    def __init__(self, name: str, log: Log, pace: Pace, hands: Hands | None) -> None:
        self.name = name
        self.state = State()
        self.head = Head(0, 0, b"")
        self.failure: SkepError | None = None
        #: With which this node joins a session of a shared store. Only what the log gives to that boot is carried out here:
        #: what a former one had in hand is given up when this one joins.
        self.boot = ""
        #: Called after every turn that the log holds, and when the session failed here.
        self.turned: Callable[[], None] = lambda: None
        #: Called when the log holds the end of an attempt.
        self.ended: Callable[[ev.AttemptEnded], None] | None = None
        #: Called whenever the log holds more, and when the session failed here: with itself.
        self.stirs: Callable[[Session], None] = lambda _: None
        self._log = log
        self._pace = pace
        self._hands = hands
        self._followers = Followers()
        self._awaited: dict[str, list[Told]] = {}
        self._snapshot_seq = 0
        #: Whether nothing comes any more: who follows it is at the end.
        self._ended = False

    @property
    @abstractmethod
    def has_hands(self) -> bool:
        """Whether what it owes is carried out here."""

    @abstractmethod
    def tell(self, given: inp.Input) -> asyncio.Future[Any]:
        """Gives it an input; the future has the answer once the log holds it.

        Raises (from the future): what the core refuses with; Unavailable if the outcome is unknown.
        """

    @abstractmethod
    def report(self, given: inp.Input) -> None:
        """Gives it a node's report; nobody waits for its answer. Stale ones are refused and dropped."""

    @abstractmethod
    def ask(self, query: Query) -> asyncio.Future[Any]:
        """Computes something from the state; the answer comes once the log holds that state."""

    @abstractmethod
    async def stop(self) -> None:
        """Ends it here; its log is whole."""

    @abstractmethod
    def break_off(self, error: SkepError) -> None:
        """Something that carried out its work broke Skep's own rules: the session stops here, loudly; its log is whole."""

    async def _load(self, acquired: Head, live: bool = True) -> None:
        """Reads the state from the log: the newest snapshot, then what came after. Until then followers see the old head.

        Args:
            live: whether turns are taken on it; otherwise it is only replayed on.
        """
        state = State()
        found = await self._log.latest(self.name)
        if found is not None:
            with uncollected():
                state = State.load(found[1])
        self._snapshot_seq = state.seq
        # The last append of a snapshot is read again: it tells the time and the hash from which to go on.
        seq, epoch, seen = max(state.seq - 1, 0), acquired.epoch, acquired.hash
        while appends := await self._log.read(self.name, after=seq, limit=200):
            with uncollected():
                for append in appends:
                    events = codec.decode(append.blob)
                    if append.first > state.seq:
                        replay(state, events)
                    seq, seen = append.last, append.hash
                    # A writer keeps the epoch that it acquired: appends of a later one are another writer's, which fences it.
                    epoch = epoch if live else max(epoch, append.epoch)
                    self._pace.seen(events[-1].at)
        if state.seq != seq:
            raise Bug(f"session {self.name}: the log ends at event {seq}, its replay at {state.seq}")
        self.head = Head(epoch, seq, seen)
        self._followers.forget()
        self.state = state.rebuild() if live else state.followed()
        self.stirs(self)

    def _query(self, query: Query) -> Any:
        try:
            return query(self.state)
        except SkepError as error:
            return error
        except Exception as error:
            return Bug(f"session {self.name}: {type(error).__name__}: {error}", "Please report it.")

    def _publish(self, events: list[ev.Event], leaving: list[Entry]) -> None:
        """The log holds these events up to `head`: whoever waits for them hears of it."""
        self.stirs(self)
        for event in events:
            if self._hands is not None and isinstance(event, ev.MessageSent):  # whoever sent it, or a question that goes up
                self._hands.hand_over(self, event.message.target)
            elif self.ended is not None and isinstance(event, ev.AttemptEnded):
                self.ended(event)
        if self._awaited:
            gone = {entry.task.id: entry for entry in leaving}
            for event in events:
                name = getattr(event, "task", "")
                if name in self._awaited:
                    self._tell_waiters(name, gone.get(name) or self.state.entries.get(name))
            if limited(self.state) and halted(self.state):
                self._disappoint(resting(self.state))
        self._followers.publish(self.head.seq, events, self.state)

    async def _tell_late(self) -> None:
        """Whoever waits for a task hears of its end also when nobody here saw the append that held it."""
        self._followers.look(self.state)
        away = [name for name in self._awaited if name not in self.state.entries]
        archived = await self._log.archived(self.name, away) if away else {}
        for name in list(self._awaited):
            entry = unpack(archived[name]) if name in archived else self.state.entries.get(name)
            self._tell_waiters(name, entry)

    def _tell_waiters(self, name: str, entry: Entry | None) -> None:
        if entry is not None and entry.state in TERMINAL:
            for tell in self._awaited.pop(name):
                tell(entry)

    def when_done(self, task: str, tell: Told) -> None:
        """Calls `tell` once, with the task's entry, when the log holds its end. Call it from within a query.

        If the session ends here before that, or comes to rest at a limit of its plan, it is called with the error that says so.
        """
        self._awaited.setdefault(task, []).append(tell)

    def never_mind(self, task: str, tell: Told) -> None:
        """Takes back a `when_done` that was not answered yet."""
        waiting = self._awaited.get(task, [])
        if tell in waiting:
            waiting.remove(tell)
        if not waiting:
            self._awaited.pop(task, None)

    async def moved(self, seq: int) -> None:
        """Returns when the log holds more than `seq` events. Raises what ended the session here, if something did."""
        while self.head.seq <= seq:
            if self.failure is not None:
                raise self.failure
            await self._followers.change()

    def until(self, look: Look) -> asyncio.Future[Any]:
        """What `look` finds once it finds something (not None), after all that was told before. Cancel it to give it up.

        Raises (from the future): what `look` raises; what ended the session here.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def begin(state: State) -> None:
            self._followers.watch(look, future, state)

        def begun(asked: asyncio.Future[Any]) -> None:
            if (error := asked.exception()) is not None and not future.done():
                future.set_exception(error)

        self.ask(begin).add_done_callback(begun)
        return future

    async def follow(self, after: int) -> AsyncGenerator[tuple[int, ev.Event], None]:
        """Every event after number `after`, then every new one as it is committed. A slow reader reads the log."""
        seq = after
        while True:
            if seq >= self.head.seq:
                if self._ended:
                    return
                if self.failure is not None:
                    raise self.failure
                await self._followers.change()
            elif seq >= self.head.seq - self._followers.size:
                for last, events in self._followers.since(seq):
                    for number, event in enumerate(events, last - len(events) + 1):
                        if number > seq:
                            seq = number
                            yield seq, event
            else:
                for append in await self._log.read(self.name, after=seq, limit=100):
                    for number, event in enumerate(codec.decode(append.blob), append.first):
                        if number > seq:
                            seq = number
                            yield seq, event

    def _fail(self, error: SkepError) -> None:
        """It ended here: everybody who waits hears why."""
        self.failure = error
        self.turned()
        self.stirs(self)
        self._followers.fail(error)
        self._disappoint(error)

    def _disappoint(self, error: SkepError) -> None:
        """What is waited for will not come."""
        awaited, self._awaited = self._awaited, {}
        for tell in [tell for waiting in awaited.values() for tell in waiting]:
            tell(error)
