"""A session that another process writes, as it stands here: a loop whose turns come from the log.

Appends are applied as they come, each checked against the one before; what this node owes is performed; inputs go into the
session's inbox, and their answers come back through the store. So nobody above needs to know whether a session is written here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from skep.core import due
from skep.core import inputs as inp
from skep.core.apply import replay
from skep.core.commands import Merge
from skep.core.events import Event, NodeJoined
from skep.core.senders import Since, sender_of
from skep.errors import Bug, Exhausted, Invalid, SkepError, Unavailable
from skep.runtime import letters
from skep.runtime.loop import MAX_INBOX
from skep.runtime.pace import Pace
from skep.runtime.session import Clock, Hands, Query, Session
from skep.store import Answer, Append, Head, Heard, Inbox, Log, chain, codec

#: Answers after which the store is told which of them are not needed any more.
READ_PAST = 1_000
#: Seconds between looks at a log of which nothing was heard. What is pushed may be lost.
LOOK = 20.0
#: How long the store may not answer before the session gives up here, and the wait before it is asked again, seconds.
PATIENCE, SOON, LATER = 60.0, 0.05, 2.0


class _Sent(Struct):
    """A letter on its way: who waits for what of it."""

    waiting: dict[int, asyncio.Future[Any]]
    asked: dict[int, type]


class Replica(Session):
    """One session, read here. `start` it, `tell` it inputs, `ask` it questions, `stop` it.

    Args:
        name: of the session in the log.
        log: where it lives.
        inbox: where its writer finds what is told here.
        clock: time.
        hands: who performs; None for a session that is only looked at or changed from here.
        node: whose attempts the hands carry out.
        invited: as which node it speaks, without the key of the hive; empty = with it.
    """

    def __init__(
        self,
        name: str,
        log: Log,
        inbox: Inbox,
        clock: Clock,
        hands: Hands | None = None,
        node: str = "",
        invited: str = "",
    ) -> None:
        super().__init__(name, log, Pace(clock.now), hands)
        #: How the store and the session's writer know it.
        mark = clock.random(8).hex()
        self.sender = sender_of(invited, mark) if invited else mark
        #: Who writes the session, as far as is known here, and whether they are there.
        self.owner, self.led = "", True
        self._inbox = inbox
        self._node = node
        self._outbox: deque[tuple[bytes, type, asyncio.Future[Any] | None]] = deque()
        self._filled = asyncio.Event()
        self._number, self._sending = 0, False
        self._sent: dict[int, _Sent] = {}
        self._unread = 0
        #: Answers that presuppose events which are not known here yet.
        self._early: list[tuple[int, asyncio.Future[Any], Any]] = []
        self._look = asyncio.Event()
        self._reading = True
        self._deaf: Callable[[], Awaitable[None]] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Reads the session, and begins to follow it.

        Raises:
            NotFound: no such session.
            Invalid: its log fails the integrity check, or was written by a newer Skep.
            Unavailable: the store does not answer.
        """
        self._deaf = await self._inbox.listen(self.name, self._hear, self.sender)
        try:
            await self._load(chain.EMPTY)
        except BaseException:
            await self._deaf()
            raise
        self._look.set()
        loop = asyncio.get_running_loop()
        for work, what in ((self._follow(), "follows"), (self._post(), "writes to")):
            self._tasks.append(loop.create_task(self._guard(work), name=f"replica {what} {self.name}"))

    @property
    def has_hands(self) -> bool:
        """Whether somebody carries it out: here or elsewhere, it goes on."""
        return self.led

    @property
    def performs(self) -> bool:
        """Whether attempts of it are carried out here."""
        return self._hands is not None

    async def stop(self) -> None:
        """Ends it here; what was told and not sent yet is not."""
        for task in self._tasks:
            task.cancel()
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._deaf is not None:
                with contextlib.suppress(SkepError):
                    await self._deaf()
            with contextlib.suppress(SkepError):
                await self._inbox.forget(self.name, self.sender)
        finally:  # whoever waits hears of it, even when nobody waited for this
            self._ended = True
            if self.failure is None:
                self._fail(Unavailable(f"session {self.name} was closed here", "Open the workspace again."))

    def tell(self, given: inp.Input) -> asyncio.Future[Any]:
        """See `Session.tell`."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.failure is not None:
            future.set_exception(self.failure)
        elif len(self._outbox) >= MAX_INBOX:
            future.set_exception(Exhausted(f"session {self.name} has {MAX_INBOX} calls waiting", "Try again in a moment."))
        else:
            try:
                self._put(given, future)
            except (Invalid, Exhausted) as error:
                future.set_exception(error)
        return future

    def report(self, given: inp.Input) -> None:
        """See `Session.report`. The end of an attempt whose report cannot be sent is told without what it left."""
        if self.failure is not None:
            return
        try:
            self._put(given, None)
        except (Invalid, Exhausted) as error:
            if not isinstance(given, inp.Worked | inp.Ended):
                raise
            self._put(_unsayable(given, f"its report cannot be sent: {error.message}"), None)

    def ask(self, query: Query) -> asyncio.Future[Any]:
        """See `Session.ask`. What is known here the log holds."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer = self._query(query) if self.failure is None else self.failure
        if isinstance(answer, SkepError):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return future

    def break_off(self, error: SkepError) -> None:
        """See `Session.break_off`."""
        if self.failure is None:
            self._fail(error)

    def rest(self) -> None:
        """Somebody else in this process carries it out from now on: what is in hand is still told here, no more is begun."""
        self._hands = None

    @property
    def at_rest(self) -> bool:
        """Whether nothing that was told here is on its way, and nobody here waits for anything of the session."""
        on_its_way = self._outbox or self._sending or self._sent or self._early
        return not (on_its_way or self._awaited or self._followers.watched)

    def _put(self, given: inp.Input, future: asyncio.Future[Any] | None) -> None:
        body = letters.enclose(given, future is not None)
        if len(body) > letters.LARGEST:
            raise Exhausted(f"{len(body)} bytes at once, and at most {letters.LARGEST} can be sent", "Send less, in parts.")
        self._outbox.append((body, type(given), future))
        self._filled.set()

    def _fail(self, error: SkepError) -> None:
        super()._fail(error)
        unknown = Unavailable(f"outcome unknown: {error.message}", "Repeat the call with the same key; it counts once.")
        waiting = [future for _, _, future in self._outbox if future is not None]
        waiting += [future for sent in self._sent.values() for future in sent.waiting.values()]
        for future in (*waiting, *(future for _, future, _ in self._early)):
            if not future.done():
                future.set_exception(unknown)
        self._outbox.clear()
        self._sent.clear()
        self._early.clear()

    async def _guard(self, work: Awaitable[None]) -> None:
        try:
            await work
        except SkepError as error:
            self.break_off(error)
        except Exception as error:
            self.break_off(Bug(f"session {self.name}: {type(error).__name__}: {error}", "Please report it."))

    # What comes

    def _hear(self, heard: Heard) -> None:
        if self.failure is not None:
            return
        if isinstance(heard, Answer):
            self._answered(heard)
        elif self._reading or not isinstance(heard, Append) or not self._log.follows(self.name, self.head, heard):
            self._look.set()
        else:
            try:
                self._take(heard)
            except Exception as error:
                self.break_off(Bug(f"session {self.name}: {type(error).__name__}: {error}", "Please report it."))

    def _take(self, append: Append) -> None:
        """The next append of the log."""
        events = codec.decode(append.blob)
        replay(self.state, events)
        leaving, self.state.leaving = self.state.leaving, []
        self.head = Head(append.epoch, append.last, append.hash)
        self._pace.seen(events[-1].at)
        self._perform(events)
        self._publish(events, leaving)
        self._tell_early()
        self.turned()

    async def _load(self, acquired: Head, live: bool = False) -> None:
        await super()._load(acquired, live)
        self._perform_all()

    def _perform_all(self) -> None:
        for key in due.full(self.state):
            self._do(key)

    def _perform(self, events: list[Event]) -> None:
        """Begins what these events make this node owe; once it has joined, also what was owed before."""
        if self._hands is None:
            return
        entries = self.state.entries
        for event in events:
            if isinstance(event, NodeJoined) and event.node == self._node:
                self._perform_all()
            entry = entries.get(getattr(event, "task", ""))
            if entry is not None and entry.attempt is not None and entry.attempt.node == self._node:
                self._do(due.attempt_key(entry))

    def _do(self, key: due.Key | None) -> None:
        here = self.state.nodes.get(self._node)
        if self._hands is None or here is None or here.lost or here.boot != self.boot:
            return
        command = due.command(self.state, key) if key is not None else None
        if command is not None and key is not None and not isinstance(command, Merge) and command.node == self._node:
            self._hands.perform(self, command, self.state.entries[key[1]])

    async def _follow(self) -> None:
        """Reads what was not heard."""
        loop = asyncio.get_running_loop()
        failing = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._look.wait()
            self._look.clear()
            self._reading = True
            try:
                await self._catch_up()
                failing = 0.0
                self._reading = self._look.is_set()
            except Unavailable:
                failing = failing or loop.time()
                if loop.time() - failing > PATIENCE:
                    raise
                self._look.set()
                await asyncio.sleep(min(LATER, SOON + (loop.time() - failing) / 4))

    async def _catch_up(self) -> None:
        while True:
            # The last append known here is read again: after a failover the log may have gone another way.
            page = await self._log.read(self.name, after=max(self.head.seq - 1, 0), limit=200)
            if self.head.seq and (not page or (page[0].last, page[0].hash) != (self.head.seq, self.head.hash)):
                await self._rewind()
                continue
            fresh = [append for append in page if append.first > self.head.seq]
            for append in fresh:
                self._take(append)
            if not fresh:
                break
        kept = min(self._sent, default=self._number + 1) - 1
        self._unread = 0
        for answer in await self._inbox.answers(self.name, self.sender, after=kept):
            self._answered(answer)

    async def _rewind(self) -> None:
        """The log is not what was followed: back to what it holds. Whoever waits for what it does not hold will learn nothing."""
        await self._load(chain.EMPTY)
        await self._tell_late()
        self._followers.wake()
        self.turned()

    def _answered(self, answer: Answer) -> None:
        sent = self._sent.get(answer.number)
        if sent is None:
            return
        del self._sent[answer.number]
        self._unread += 1
        if self._unread >= READ_PAST:
            self._look.set()
        try:
            seq, answers = letters.heard(answer.body, sent.asked)
        except Invalid as error:
            seq, answers = 0, dict.fromkeys(sent.waiting, error)
        for index, future in sent.waiting.items():
            lost = Unavailable("outcome unknown: the answer was lost", "Repeat the call with the same key; it counts once.")
            self._early.append((seq, future, answers.get(index, lost)))
        if self.head.seq < seq:
            self._look.set()
        self._tell_early()

    def _tell_early(self) -> None:
        """What was answered is told once the events that it presupposes are known here."""
        if not self._early:
            return
        due_now = [one for one in self._early if one[0] <= self.head.seq]
        self._early = [one for one in self._early if one[0] > self.head.seq]
        for _, future, value in due_now:
            if future.done():
                continue
            if isinstance(value, SkepError):
                future.set_exception(value)
            else:
                future.set_result(value)

    # What goes

    async def _post(self) -> None:
        """Sends what is told here, as much at once as waits, one letter after the other."""
        while True:
            await self._filled.wait()
            enclosed, sent, size = list[bytes](), _Sent({}, {}), 0
            while self._outbox and letters.has_room(len(enclosed), size, len(self._outbox[0][0])):
                body, kind, future = self._outbox.popleft()
                if future is not None:
                    sent.waiting[len(enclosed)], sent.asked[len(enclosed)] = future, kind
                enclosed.append(body)
                size += len(body)
            if not self._outbox:
                self._filled.clear()
            if enclosed:
                self._sending = True
                await self._send(letters.write(enclosed, Since(self.state.opened, self.state.seq)), sent)
                self._sending = False

    async def _send(self, body: bytes, sent: _Sent) -> None:
        self._number += 1
        if sent.waiting:
            self._sent[self._number] = sent
        loop = asyncio.get_running_loop()
        deadline, wait = loop.time() + PATIENCE, SOON
        while True:
            try:
                await self._inbox.put(self.name, self.sender, self._number, body)
                return
            except (Unavailable, Exhausted) as error:
                # It counts once, however often it is put there. A full inbox empties as its writer gets on.
                if isinstance(error, Unavailable) and loop.time() > deadline:
                    raise
                await asyncio.sleep(wait)
                wait = min(2 * wait, LATER)


def _unsayable(given: inp.Worked | inp.Ended, why: str) -> inp.Ended:
    return inp.Ended(
        at=given.at, task=given.task, n=given.n, nonce=given.nonce, outcome="failed", cause="limit", detail=why, feedback=why
    )
