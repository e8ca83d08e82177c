"""The loop of one session: inbox -> decide -> append -> answer -> perform -> followers. The only writer of its log.

One append is in flight at a time, and nobody hears anything of a state before the log holds it. When an append fails, the state
is dropped and read again from the log; callers hear "outcome unknown" and may repeat the call with the same key.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from skep.core import due
from skep.core import inputs as inp
from skep.core.commands import Merge
from skep.core.decide import decide
from skep.core.events import Event
from skep.core.model import Entry
from skep.core.state import pack
from skep.errors import Bug, Conflict, Exhausted, SkepError, Unavailable
from skep.runtime.letters import Enclosed, instead
from skep.runtime.pace import Pace
from skep.runtime.postbox import Postbox, Refused
from skep.runtime.session import MAX_SLEEP, Clock, Hands, Query, Session
from skep.runtime.views import goes_on
from skep.store import Inbox, Letter, Log, Taken, codec
from skep.store.chain import TooLarge

#: Inputs that wait for a turn; more are refused with Exhausted (reports of attempts never are: they are bounded by the attempts).
MAX_INBOX = 10_000
#: Inputs of one turn, and tasks submitted in one turn.
MAX_BATCH = 512
MAX_BATCH_TASKS = 4_000
#: Events between two snapshots; of a session that is closed here, those that are worth one: fewer are read as fast as it is.
SNAPSHOT_EVERY, WORTH_ONE = 50_000, 200
#: How long the log may refuse to be written and read before the session gives up here, seconds. A full disk may be emptied.
PATIENCE = 60.0

#: What lies in the inbox, and whoever waits for its answer: somebody here, the letter that it came in, nobody.
Item = tuple[inp.Input | Query, "asyncio.Future[Any] | Enclosed | None"]


class Loop(Session):
    """One session, written here. `start` it, `tell` it inputs, `ask` it questions, `stop` it.

    Args:
        name: of the session in the log.
        log: where it lives.
        clock: time and randomness.
        hands: who performs; None for a session that is only looked at or changed, without anything being carried out.
        node: whose attempts the hands carry out; empty = all. Others do those of their own nodes.
        inbox: where others put what they want of the session, if the store is shared.
        owner: how this process is known there.
    """

    def __init__(
        self,
        name: str,
        log: Log,
        clock: Clock,
        hands: Hands | None,
        node: str = "",
        inbox: Inbox | None = None,
        owner: str = "",
    ) -> None:
        super().__init__(name, log, Pace(clock.now), hands)
        self.snapshot_every = SNAPSHOT_EVERY
        self._clock = clock
        self._node = node
        self._owner = owner
        self._inbox: deque[Item] = deque()
        self._post = Postbox(name, inbox, self._put_letter, self.break_off, lambda: self.state) if inbox is not None else None
        self._wakeup: asyncio.Future[None] | None = None
        #: Whether all that is owed was derived anew while some of it is in hand; items that get a turn of their own.
        self._held = False
        self._singly = 0
        self._stopping = self._to_rest = False
        self._task: asyncio.Task[None] | None = None

    async def start(self, after: int = -1) -> None:
        """Becomes the session's writer, reads it, and begins to take turns.

        Args:
            after: the epoch that it is to follow; -1 = whichever.

        Raises:
            NotFound: no such session.
            Invalid: its log fails the integrity check, or was written by a newer Skep.
            Conflict: somebody else became the writer after that epoch.
        """
        await self._load(await self._log.acquire(self.name, self._owner, after))
        if self._post is not None:
            await self._post.open()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"session {self.name}")

    async def read_only(self) -> None:
        """Reads the session as it stands, without becoming its writer; it can be followed to its end, and takes no inputs."""
        await self._load(self.head)
        self._stopping = self._ended = True

    @property
    def has_hands(self) -> bool:
        """Whether what it owes is carried out here."""
        return self._hands is not None

    def look_in(self) -> None:
        """Letters lie in its inbox in the store: what was pushed of them may have been lost."""
        if self._post is not None:
            self._post.look()

    def rest(self) -> None:
        """Unless something goes on when no turn is under way, the store is told that the session rests."""
        self._to_rest = True
        self._wake()

    async def stop(self) -> None:
        """Takes no more turns; what was told is decided first. After much a snapshot makes the next start quick."""
        self._stopping = self._to_rest = True
        if self._post is not None:
            await self._post.close()
        self._wake()
        if self._task is not None:
            await asyncio.shield(self._task)  # its turn goes to its end, even when nobody waits for this any more
        self._ended = True
        if self.failure is None:
            if self.head.seq - self._snapshot_seq >= min(WORTH_ONE, self.snapshot_every):
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

    def _put_letter(self, items: Sequence[tuple[inp.Input | Refused, Enclosed]]) -> bool:
        """Takes a letter whole; False when there is no room for it now."""
        if self.failure is not None or len(self._inbox) >= MAX_INBOX:
            return False
        self._inbox += items
        self._wake()
        return True

    def _wake(self) -> None:
        wakeup = self._wakeup
        if wakeup is not None and not wakeup.done():
            wakeup.set_result(None)

    async def _run(self) -> None:
        more = True
        while self.failure is None:
            if not self._inbox and not more:
                if self._to_rest:
                    await self._lie_down()
                    continue
                if self._stopping:
                    return
                await self._sleep()
                if self._to_rest:
                    continue
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

    async def _lie_down(self) -> None:
        self._to_rest = False
        if not goes_on(self.state) and not self.state.running:
            with contextlib.suppress(SkepError):  # then it is looked at for nothing
                await self._log.rest(self.name)

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
        # What came in one letter is decided in one turn: it leaves the store's inbox with the append.
        while inbox and ((len(batch) < most and tasks < MAX_BATCH_TASKS) or _goes_on(batch)):
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
            salt, hands = self._clock.random(16), self._hands is not None
            decision = decide(self.state, inputs, self._pace.now(), salt, hands, _letters_of(batch))
        except Exception as error:
            self._answer_unknown(batch, error)
            raise Bug(f"session {self.name}: {error}", "Please report it with the session's log.") from error
        leaving, self.state.leaving = self.state.leaving, []
        taken = self._post.taken(batch, decision.answers, self.state.seq) if self._post is not None else []
        if decision.events or taken:
            try:
                await self._append(decision.events, leaving, taken)
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
        """A cache: without it the next start takes longer, no more. What is wrong with the log is for an append to find."""
        with contextlib.suppress(SkepError):
            await self._log.snapshot(self.name, self.head.seq, self.state.save())
        self._snapshot_seq = self.head.seq

    async def _append(self, events: list[Event], leaving: list[Entry], taken: list[Taken]) -> None:
        if events:
            archive = [(entry.task.id, pack(entry)) for entry in leaving]
            batch, blob, head = self._clock.random(16), codec.encode(events), self.head
            self.head = await self._log.append(self.name, head.epoch, head.seq, batch, len(events), blob, archive, taken)
        elif self._post is not None:
            await self._post.settle(self.head.epoch, taken)
        if self._post is not None:
            self._post.gone(taken)

    def _again(self, batch: list[Item], error: SkepError) -> list[Item]:
        """Answers a turn that was not written. Returns what is taken again: reports, questions, what was too much at once.

        What is too much alone would be for ever: a letter is refused, and the attempt of a report fails.
        """
        if isinstance(error, TooLarge) and (letter := _one_letter(batch)) is not None and self._post is not None:
            self._post.too_large(letter, error)
            return []
        if isinstance(error, Exhausted) and len(batch) > 1:
            self._singly = len(batch)
            return batch
        again = [item for item in batch if item[1] is None or callable(item[0])]
        if isinstance(error, TooLarge):
            again = [(given if callable(given) else instead(given, False, error) or given, future) for given, future in again]
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
                # Whoever came in between goes on, and this one stops: what it has in hand must not be begun twice.
                acquired = await self._log.acquire(self.name, self._owner, epoch)
                epoch = acquired.epoch
                await self._load(acquired)
                break
            except (Unavailable, Exhausted) as error:  # a store that is full may be emptied, too
                if self._stopping or loop.time() >= deadline:
                    raise
                wait = min(2 * wait, MAX_SLEEP)
                self._refuse_calls(error)
        self._held = True
        await self._tell_late()
        if self._post is not None:
            # Whether its letters were taken is known now: those that were not are still there.
            self._inbox = deque(item for item in self._inbox if not isinstance(item[1], Enclosed))
            self._post.again()

    def _refuse_calls(self, error: SkepError) -> None:
        """Nothing was done about the calls in the inbox. Reports stay there, and so do questions: these can wait."""
        inbox, self._inbox = self._inbox, deque()
        for given, future in inbox:
            if future is None or callable(given):
                self._inbox.append((given, future))
            elif not future.done():
                future.set_exception(Unavailable(f"nothing of this was done: {error.message}", error.fix))

    def _perform(self) -> None:
        fresh = self.state.due.fresh
        if not fresh or self._hands is None or (self._held and any(future is None for _, future in self._inbox)):
            return
        self._held = False
        self.state.due.fresh = []
        for key in fresh:
            command = due.command(self.state, key)
            if command is not None and (isinstance(command, Merge) or self._is_here(command.node)):
                self._hands.perform(self, command, self.state.entries[key[1]])

    def _is_here(self, node: str) -> bool:
        return not self._node or (node == self._node and self.state.nodes[node].boot == self.boot)

    def break_off(self, error: SkepError) -> None:
        """Something that carried out its work broke Skep's own rules: the session stops here, loudly; its log is whole."""
        if self.failure is None:
            self._fail(error)
            self._wake()

    def _fail(self, error: SkepError) -> None:
        super()._fail(error)
        inbox, self._inbox = list(self._inbox), deque()
        self._answer_unknown(inbox, error)


def _letters_of(batch: list[Item]) -> list[tuple[str, int]]:
    """Of each sender the number of its last letter that is decided in a turn."""
    counted = ((of, not isinstance(given, Refused) or given.counts) for given, of in batch)
    decided = [of.letter for of, counts in counted if isinstance(of, Enclosed) and counts]
    return list({letter.sender: letter.number for letter in decided}.items())


def _one_letter(batch: list[Item]) -> Letter | None:
    """The letter in which all of these came, if it is one."""
    found = {of.letter.place: of.letter for _, of in batch if isinstance(of, Enclosed)}
    return next(iter(found.values())) if len(found) == 1 and all(isinstance(of, Enclosed) for _, of in batch) else None


def _goes_on(batch: list[Item]) -> bool:
    """Whether the last of these came in a letter that has more."""
    return bool(batch) and isinstance(batch[-1][1], Enclosed) and not batch[-1][1].last
