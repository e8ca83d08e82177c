"""The loop of one session: inbox -> decide -> append -> answer -> perform -> followers. The only writer of its log.

One append is in flight at a time, and nobody hears anything of a state before the log holds it. When an append fails, the state
is dropped and read again from the log; callers hear "outcome unknown" and may repeat the call with the same key.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from typing import Any, Protocol

from skep.core import due
from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.apply import replay
from skep.core.commands import Owed
from skep.core.decide import decide
from skep.core.model import TERMINAL, Entry
from skep.core.settle import halted, limited
from skep.core.state import State, pack, unpack
from skep.errors import Bug, Conflict, Exhausted, SkepError, Unavailable
from skep.runtime.pace import Pace
from skep.store import Head, Log, codec

#: Inputs that wait for a turn; more are refused with Exhausted (reports of attempts never are: they are bounded by the attempts).
MAX_INBOX = 10_000
#: Inputs of one turn, and tasks submitted in one turn.
MAX_BATCH = 512
MAX_BATCH_TASKS = 4_000
#: Events between two snapshots.
SNAPSHOT_EVERY = 50_000
#: Events kept in memory for followers; who is further behind reads the log.
RING = 20_000
#: Longest sleep without a wake-up time: a wall clock that jumps is noticed within it, seconds.
MAX_SLEEP = 5.0
#: How long the log may refuse to be written and read before the session gives up here, seconds. A full disk may be emptied.
PATIENCE = 60.0

Query = Callable[[State], Any]
#: Hears how a task ended, or why that will not be known.
Told = Callable[[Entry | SkepError], None]
#: What lies in the inbox, and whoever waits for its answer.
Item = tuple[inp.Input | Query, asyncio.Future[Any] | None]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without garbage collection: what is built here is all kept, and looking through it again and again is most of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


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

    def perform(self, session: Loop, command: Owed, entry: Entry) -> None:
        """Begins to carry out a command, at once, without waiting; reports go to `session.report`. Never raises."""


class Loop:
    """One open session. `start` it, `tell` it inputs, `ask` it questions, `stop` it.

    Args:
        name: of the session in the log.
        log: where it lives.
        clock: time and randomness.
        hands: who performs; None for a session that is only looked at or changed, without anything being carried out.
    """

    def __init__(self, name: str, log: Log, clock: Clock, hands: Hands | None) -> None:
        self.name = name
        self.state = State()
        self.head = Head(0, 0, b"")
        self.failure: SkepError | None = None
        self.snapshot_every = SNAPSHOT_EVERY
        #: Called after every turn that the log holds, and when the session failed here.
        self.turned: Callable[[], None] = lambda: None
        self._log = log
        self._clock = clock
        self._hands = hands
        self._inbox: deque[Item] = deque()
        self._wakeup: asyncio.Future[None] | None = None
        self._ring: deque[tuple[int, list[ev.Event]]] = deque()
        self._ring_size = 0
        self._changed: list[asyncio.Future[None]] = []
        self._awaited: dict[str, list[Told]] = {}
        #: Whether all that is owed was derived anew while some of it is in hand; items that get a turn of their own.
        self._held = False
        self._singly = 0
        self._pace = Pace(clock.now)
        self._snapshot_seq = 0
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Becomes the session's writer, reads it, and begins to take turns.

        Raises:
            NotFound: no such session.
            Invalid: its log fails the integrity check, or was written by a newer Skep.
        """
        await self._load(await self._log.acquire(self.name))
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"session {self.name}")

    async def read_only(self) -> None:
        """Reads the session as it stands, without becoming its writer; it can be followed to its end, and takes no inputs."""
        await self._load(self.head)
        self._stopping = True

    @property
    def has_hands(self) -> bool:
        """Whether what it owes is carried out here."""
        return self._hands is not None

    async def stop(self) -> None:
        """Takes no more turns; what was told is decided first. A snapshot makes the next start quick."""
        self._stopping = True
        self._wake()
        if self._task is not None:
            await self._task
        if self.failure is None:
            if self.head.seq > self._snapshot_seq:
                await self._snapshot()
            self._fail(Unavailable(f"session {self.name} was closed here", "Open the workspace again."))

    def tell(self, given: inp.Input) -> asyncio.Future[Any]:
        """Puts an input into the inbox; the future gives its answer once the log holds it.

        Raises (from the future): what the core refuses with; Unavailable if the outcome is unknown.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.failure is not None or self._stopping:
            future.set_exception(self.failure or Unavailable(f"session {self.name} is being closed here", "Try again."))
        elif len(self._inbox) >= MAX_INBOX:
            future.set_exception(Exhausted(f"session {self.name} has {MAX_INBOX} calls waiting", "Try again in a moment."))
        else:
            self._put(given, future)
        return future

    def report(self, given: inp.Input) -> None:
        """Puts a node's report into the inbox; nobody waits for its answer. Stale ones are refused and dropped."""
        if self.failure is None:
            self._put(given, None)

    def ask(self, query: Query) -> asyncio.Future[Any]:
        """Computes something from the state; the answer comes once the log holds that state."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.failure is not None:
            future.set_exception(self.failure)
        else:
            self._put(query, future)
        return future

    def _put(self, item: inp.Input | Query, future: asyncio.Future[Any] | None) -> None:
        self._inbox.append((item, future))
        self._wake()

    def _wake(self) -> None:
        wakeup = self._wakeup
        if wakeup is not None and not wakeup.done():
            wakeup.set_result(None)

    async def _run(self) -> None:
        more = True
        while self.failure is None:
            if not self._inbox and not more:
                if self._stopping:
                    return
                await self._sleep()
            try:
                more = await self._turn()
            except Conflict as error:
                self._fail(Unavailable(f"session {self.name} belongs to another owner now: {error.message}", "Connect to it."))
                return
            except SkepError as error:
                self._fail(error)
                return
            except Exception as error:
                self._fail(
                    Bug(f"session {self.name}: {type(error).__name__}: {error}", "Please report it with the session's log.")
                )
                return

    async def _sleep(self) -> None:
        loop = asyncio.get_running_loop()
        self._wakeup = wakeup = loop.create_future()
        at = due.next_wake(self.state)
        delay = min(max((at - self._pace.now()) / 1000, 0.0), MAX_SLEEP) if at else 0.0
        timer = loop.call_later(delay, self._wake) if at else None
        try:
            await wakeup
        finally:
            self._wakeup = None
            if timer is not None:
                timer.cancel()

    def _take(self) -> list[Item]:
        batch: list[Item] = []
        inbox, tasks = self._inbox, 0
        most = 1 if self._singly else MAX_BATCH
        while inbox and len(batch) < most and tasks < MAX_BATCH_TASKS:
            item = inbox.popleft()
            batch.append(item)
            if isinstance(item[0], inp.Submit):
                tasks += len(item[0].tasks)
        self._singly = max(0, self._singly - len(batch))
        return batch

    async def _turn(self) -> bool:
        """One turn. Returns whether another should follow at once."""
        batch = self._take()
        inputs = [item for item, _ in batch if not callable(item)]
        try:
            decision = decide(self.state, inputs, self._pace.now(), self._clock.random(16), self._hands is not None)
        except Exception as error:
            self._answer_unknown(batch, error)
            raise Bug(f"session {self.name}: {error}", "Please report it with the session's log.") from error
        leaving, self.state.leaving = self.state.leaving, []
        if decision.events:
            try:
                await self._append(decision.events, leaving)
            except (Unavailable, Exhausted) as error:
                await self._recover(self._again(batch, error))
                return True
            except Exception as error:
                self._answer_unknown(batch, error)
                raise
        answers = iter(decision.answers)
        for item, future in batch:
            answer = self._query(item) if callable(item) else next(answers)
            if future is None or future.done():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        self._perform()
        if decision.events:
            self._publish(decision.events, leaving)
            if self.head.seq - self._snapshot_seq >= self.snapshot_every:
                await self._snapshot()
        self.turned()
        return decision.more

    async def _snapshot(self) -> None:
        """A cache: without it the next start takes longer, no more."""
        with contextlib.suppress(Unavailable):
            await self._log.snapshot(self.name, self.head.seq, self.state.save())
        self._snapshot_seq = self.head.seq

    def _query(self, query: Query) -> Any:
        try:
            return query(self.state)
        except SkepError as error:
            return error
        except Exception as error:
            return Bug(f"session {self.name}: {type(error).__name__}: {error}", "Please report it.")

    async def _append(self, events: list[ev.Event], leaving: list[Entry]) -> None:
        archive = [(entry.task.id, pack(entry)) for entry in leaving]
        self.head = await self._log.append(
            self.name, self.head.epoch, self.head.seq, self._clock.random(16), len(events), codec.encode(events), archive
        )

    def _again(self, batch: list[Item], error: SkepError) -> list[Item]:
        """Answers a turn that was not written. Returns what is taken again: reports, questions, what was too much at once."""
        if isinstance(error, Exhausted) and len(batch) > 1:
            self._singly = len(batch)
            return batch
        again = [item for item in batch if item[1] is None or callable(item[0])]
        calls = [item for item in batch if item[1] is not None and not callable(item[0])]
        if isinstance(error, Unavailable):
            self._answer_unknown(calls, error)
        for _, future in calls:
            if future is not None and not future.done():
                future.set_exception(error)
        return again

    def _answer_unknown(self, batch: Iterable[Item], error: BaseException) -> None:
        for _, future in batch:
            if future is not None and not future.done():
                future.set_exception(
                    Unavailable(f"outcome unknown: {error}", "Repeat the call with the same key; it counts once.")
                )

    async def _recover(self, again: list[Item]) -> None:
        """The append failed: back to what the log holds, as soon as it answers; meanwhile callers hear why it does not.

        Reports are told again, since their attempts will not repeat them. While one of them is undecided nothing is performed:
        what it reports would be begun again.
        """
        self._inbox.extendleft(reversed(again))
        loop = asyncio.get_running_loop()
        deadline, wait, epoch = loop.time() + PATIENCE, 0.05, self.head.epoch
        while True:
            await asyncio.sleep(wait)
            try:
                acquired = await self._log.acquire(self.name)
                if acquired.epoch != epoch + 1:
                    # Whoever came in between goes on, or stops as this one does: what it has in hand must not be begun twice.
                    raise Conflict(f"epoch {acquired.epoch - 1} came after epoch {epoch}")
                epoch = acquired.epoch
                await self._load(acquired)
                break
            except Unavailable as error:
                if self._stopping or loop.time() >= deadline:
                    raise
                wait = min(2 * wait, MAX_SLEEP)
                self._refuse_calls(error)
        self._held = True
        await self._tell_late()

    def _refuse_calls(self, error: SkepError) -> None:
        """Nothing was done about the calls in the inbox. Reports stay there, and so do questions: these can wait."""
        inbox, self._inbox = self._inbox, deque()
        for given, future in inbox:
            if future is None or callable(given):
                self._inbox.append((given, future))
            elif not future.done():
                future.set_exception(Unavailable(f"nothing of this was done: {error.message}", error.fix))

    async def _tell_late(self) -> None:
        """Whoever waits for a task hears of its end also when the append that held it was answered with an error."""
        away = [name for name in self._awaited if name not in self.state.entries]
        archived = await self._log.archived(self.name, away) if away else {}
        for name in list(self._awaited):
            entry = unpack(archived[name]) if name in archived else self.state.entries.get(name)
            self._tell_waiters(name, entry)

    async def _load(self, acquired: Head) -> None:
        """Reads the state from the log: the newest snapshot, then what came after. Until then followers see the old head."""
        state = State()
        found = await self._log.latest(self.name)
        if found is not None:
            with uncollected():
                state = State.load(found[1])
        self._snapshot_seq = state.seq
        # The last append of a snapshot is read again: it tells the time and the hash from which to go on.
        seq, seen = max(state.seq - 1, 0), acquired.hash
        while appends := await self._log.read(self.name, after=seq, limit=200):
            with uncollected():
                for append in appends:
                    events = codec.decode(append.blob)
                    if append.first > state.seq:
                        replay(state, events)
                    seq, seen = append.last, append.hash
                    self._pace.seen(events[-1].at)
        if state.seq != seq:
            raise Bug(f"session {self.name}: the log ends at event {seq}, its replay at {state.seq}")
        self.head = Head(acquired.epoch, seq, seen)
        self._ring.clear()
        self._ring_size = 0
        self.state = state.rebuild()

    def _perform(self) -> None:
        fresh = self.state.due.fresh
        if not fresh or self._hands is None or (self._held and any(future is None for _, future in self._inbox)):
            return
        self._held = False
        self.state.due.fresh = []
        for key in fresh:
            command = due.command(self.state, key)
            if command is not None:
                self._hands.perform(self, command, self.state.entries[key[1]])

    def _publish(self, events: list[ev.Event], leaving: list[Entry]) -> None:
        self._ring.append((self.head.seq, events))
        self._ring_size += len(events)
        while self._ring_size > RING and len(self._ring) > 1:
            self._ring_size -= len(self._ring.popleft()[1])
        if self._awaited:
            gone = {entry.task.id: entry for entry in leaving}
            for event in events:
                name = getattr(event, "task", "")
                if name in self._awaited:
                    self._tell_waiters(name, gone.get(name) or self.state.entries.get(name))
            if limited(self.state) and halted(self.state):
                self._disappoint(resting(self.state))
        if self._changed:
            waiting, self._changed = self._changed, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

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
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._changed.append(changed)
            await changed

    async def follow(self, after: int) -> AsyncGenerator[tuple[int, ev.Event], None]:
        """Every event after number `after`, then every new one as it is committed. A slow reader reads the log."""
        seq = after
        while True:
            if seq >= self.head.seq:
                if self._stopping and (self._task is None or self._task.done()):
                    return
                if self.failure is not None:
                    raise self.failure
                changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._changed.append(changed)
                await changed
            elif seq >= self.head.seq - self._ring_size:
                for last, events in self._since(seq):
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

    def _since(self, seq: int) -> list[tuple[int, list[ev.Event]]]:
        """The committed turns with events after number `seq`, oldest first, as far as memory holds them."""
        found = []
        for turn in reversed(self._ring):
            if turn[0] <= seq:
                break
            found.append(turn)
        return found[::-1]

    def break_off(self, error: SkepError) -> None:
        """Something that carried out its work broke Skep's own rules: the session stops here, loudly; its log is whole."""
        if self.failure is None:
            self._fail(error)
            self._wake()

    def _fail(self, error: SkepError) -> None:
        self.failure = error
        self.turned()
        inbox, self._inbox = list(self._inbox), deque()
        self._answer_unknown(inbox, error)
        for future in self._changed:
            if not future.done():
                future.set_result(None)
        self._changed = []
        self._disappoint(error)

    def _disappoint(self, error: SkepError) -> None:
        """What is waited for will not come."""
        awaited, self._awaited = self._awaited, {}
        for tell in [tell for waiting in awaited.values() for tell in waiting]:
            tell(error)
