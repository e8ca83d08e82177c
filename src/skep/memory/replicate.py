"""Machines that each have a memory of their own keep each other up to date: `sqlite+redis`.

What is written here is durable here. Then it goes out in batches, as an entry of a stream that all others read, and they join it
into what they have; as joins need no order and do no harm twice, entries may be lost, come late or come again. What was lost is
found by sums: each machine asks the others every half minute whether they hold what it holds, and fetches what it lacks.

All that goes through the relay is sealed with the key of the hive. What is not is passed over, counted and told of.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import random
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from skep.errors import Invalid, SkepError, Unavailable
from skep.memory import Entry, Record
from skep.memory.bank import Bank
from skep.memory.limits import COPY
from skep.memory.records import check_copy, decode, encode
from skep.memory.relay import Heard, Relay
from skep.memory.sealing import sealed_text
from skep.memory.sums import SummedStore, name_of

#: Seconds between two comparisons, and until what differs is looked at again: it may just be under way.
EVERY, SETTLE = 30.0, 1.0
#: Seconds until the relay is tried again that failed; until it is looked at though nobody woke us.
AGAIN, LOOK = 1.0, 5.0
#: Keys that wait to be told; more are found by the others when they compare.
PENDING = 100_000
#: Records of a batch, and bytes of them from which on it is full.
BATCH, BATCH_BYTES = 500, 256 * 1024
#: Bytes of an answer from which on it is full, ids that are asked for at once, and bytes of a seal.
ANSWER_BYTES, IDS, SEAL = 2 * 2**20, 20_000, 32
#: Seconds that `replicated` waits, and between two looks.
PATIENCE, STEP = 30.0, 0.02
#: Seconds that closing waits for what is to be told.
FLUSH = 2.0
S = TypeVar("S", bound=Struct)


class Told(Struct, frozen=True):
    """An entry of the stream: records as they are kept, and whose they are."""

    node: str
    records: list[bytes]


class Stand(Struct, frozen=True):
    """What a node says of itself: up to where it has read the stream, and up to where it may have missed something there; and one
    sum of all that it holds, empty = it does not know."""

    node: str
    birth: bytes
    read: int
    missed: int
    root: bytes

    def has(self, told: tuple[bytes, int]) -> bool:
        """Whether an entry of the stream was taken in."""
        return self.birth == told[0] and self.missed < told[1] <= self.read


class Question(Struct, frozen=True):
    """What a node wants to know: all sums; of a namespace the pairs of those parts that have other sums than `leaves`; or, with
    `names`, the records of those ids whose keys come behind `after`."""

    namespace: str | None = None
    leaves: dict[int, int] = {}
    names: list[bytes] = []
    after: str = ""


class Answer(Struct, frozen=True):
    """`settled`: whether who answers knows its sums. `after`: where the records go on; empty = these are all."""

    settled: bool = True
    sums: dict[str, int] = {}
    pairs: bytes = b""
    records: list[bytes] = []
    after: str = ""


class Numbers(Struct):
    """What has been done since the start: records told, taken in by the stream and by comparing; entries that nobody of the hive
    wrote; copies that could not be right; keys that were too many to wait."""

    told: int = 0
    heard: int = 0
    repaired: int = 0
    forged: int = 0
    refused: int = 0
    overflown: int = 0


class Replication:
    """One machine's part of it.

    Args:
        bank: the memory here.
        store: where it lies, which the bank is over.
        relay: how others are reached.
        seal: of a text, with the key of the hive. Raises Denied for who does not have it.
        every: seconds between two comparisons.
    """

    def __init__(
        self, bank: Bank, store: SummedStore, relay: Relay, seal: Callable[[bytes], bytes], every: float = EVERY
    ) -> None:
        self._bank, self._store, self._relay, self._seal = bank, store, relay, seal
        self.node, self._every = store.writer, every
        self.numbers = Numbers()
        #: What was seen that nobody of this hive can have done, or that cannot be right; empty = nothing.
        self.suspicion = ""
        self._troubles: dict[str, str] = {}
        self._pending: dict[tuple[str, str], None] = {}
        self._telling = False
        self._told: tuple[bytes, int] = (b"", 0)
        self._birth, self._read, self._looked = b"", 0, False
        #: Up to which entry something may have been missed; and set then, so that it compares at once.
        self._gap, self._missed = 0, asyncio.Event()
        self._written, self._woken, self._asked, self._out = (asyncio.Event() for _ in range(4))
        self._tasks: list[asyncio.Task[None]] = []
        self._stop: Callable[[], Awaitable[None]] | None = None
        bank.listeners.append(self._hear)

    async def start(self) -> None:
        """Begins. The relay need not be there yet."""
        loop = asyncio.get_running_loop()
        for event in (self._missed, self._woken, self._asked):
            event.set()
        works = {"tell": self._tell, "take": self._take, "serve": self._serve, "compare": self._compare, "stand": self._stay}
        for name, work in works.items():
            self._tasks.append(loop.create_task(self._repeated(name, work), name=f"skep memory {name}"))

    async def close(self) -> None:
        """Ends when what waits was told, or soon; what was not the others find when they compare."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH):
                while self._tasks and (self._pending or self._telling) and not self._troubles:
                    await self._out.wait()
        self._bank.listeners.remove(self._hear)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._stop is not None:
            await self._stop()
        with contextlib.suppress(SkepError):  # then it is missed a little longer
            await self._relay.leave(self.node)
        await self._relay.close()

    async def replicated(self, entry: Entry | Record, patience: float = PATIENCE) -> int:
        """Waits until all machines that are there have what was written of a key; returns how many others those are.

        None others: until it can be read by those that come. Raises Unavailable, naming who does not have it yet.
        """
        key = entry.namespace, entry.key
        waits = ["the relay"]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while waits:
                    if not self._told[0] or self._told[0] != self._birth:  # who lost the stream may have lost what was in it
                        self._hear(Record(namespace=key[0], key=key[1], clock={}))
                    while key in self._pending or self._telling:
                        await self._out.wait()
                    others = [one for one in await self._stands() if one.node != self.node]
                    waits = [one.node for one in others if not one.has(self._told)]
                    if not waits:
                        return len(others)
                    await asyncio.sleep(STEP)
        why = self.trouble or f"{', '.join(waits)} does not have it yet"
        raise Unavailable(f"'{entry.key}' in '{entry.namespace}' is stored here, but: {why}", "It goes on by itself; ask again.")

    @property
    def trouble(self) -> str:
        """Why it does not go on just now; empty = it does."""
        return next(iter(self._troubles.values()), "")

    async def sync(self) -> int:
        """Tells what waits and compares with all others now; returns how many others there are. Raises Unavailable."""
        while self._pending or self._telling:
            if self.trouble:
                raise Unavailable(f"memory is not replicated: {self.trouble}", "It goes on by itself; look again later.")
            await self._out.wait()
        await self._store.settle()
        others = [one for one in await self._stands() if one.node != self.node]
        for one in others:
            await self._fetch(one.node, 0.0)
        return len(others)

    def report(self) -> str:
        """What there is to say of it, in a line."""
        done = self.numbers
        said = f"told {done.told}, heard {done.heard}, repaired {done.repaired}, waiting {len(self._pending)}"
        return "; ".join([said, *(one for one in (self.trouble, self.suspicion) if one)])

    # What goes out

    def _hear(self, record: Record) -> None:
        if COPY in record.namespace:
            return
        self._pending[record.namespace, record.key] = None
        if len(self._pending) > PENDING:
            del self._pending[next(iter(self._pending))]
            self.numbers.overflown += 1
        self._written.set()

    async def _tell(self) -> None:
        """Tells what was written, a batch at a time."""
        await self._written.wait()
        self._written.clear()
        while self._pending:
            keys = list(self._pending)[:BATCH]
            self._telling = True
            try:
                records: list[bytes] = []
                size = done = 0
                for name in keys:
                    # What is there now: a change that was told of may not have been made.
                    record = await self._store.get(*name)
                    records += [encode(record)] if record is not None else []
                    size += len(records[-1]) if records else 0
                    done += 1
                    self._pending.pop(name, None)
                    if size > BATCH_BYTES:
                        break
                self._told = await self._relay.tell(self._closed("told", Told(self.node, records)))
                self.numbers.told += len(records)
            except BaseException:
                for name in keys[:done]:
                    self._pending[name] = None
                self._written.set()
                raise
            finally:
                self._telling = False
                self._out.set()  # also when it failed: whoever waits may want to know
                self._out.clear()  # who does is on its way

    # What comes in

    async def _take(self) -> None:
        """Takes in what others told."""
        if self._stop is None:
            self._stop = await self._relay.listen(self._wake)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK):
                await self._woken.wait()
        self._woken.clear()
        while True:
            heard = await self._relay.heard(self._read)
            if self._lost(heard):
                continue
            if not heard.entries:
                return
            copies: list[Record] = []
            for _, body in heard.entries:
                told = self._opened("told", body, Told)
                if told is not None and told.node != self.node:
                    copies += self._right(told.records)
            taken = await self._bank.take_in(copies)
            self.numbers.heard += taken
            self._read = heard.entries[-1][0]
            await self._stands()

    def _lost(self, heard: Heard) -> bool:
        """Whether the stream is another one now, or was put back; what was missed of it is found by comparing."""
        if not self._looked or heard.birth != self._birth or heard.last < self._read:
            # Who just came is going to compare anyway, and need not read what others told before.
            self._read = self._gap = 0 if self._looked else heard.last
            self._birth, self._looked = heard.birth, True
            self._missed.set()
            return True
        before = self._read
        for number, _ in heard.entries:
            if number != before + 1:
                self._gap = number - 1
                self._missed.set()
            before = number
        return False

    def _right(self, kept: Iterable[bytes]) -> list[Record]:
        """Those records that can be right; the others are counted."""
        found: list[Record] = []
        now = self._bank.now()
        for data in kept:
            try:
                record = decode(data)
                check_copy(record, now)
                found.append(record)
            except Invalid as error:
                self.numbers.refused += 1
                self.suspicion = error.message
        return found

    def _wake(self) -> None:
        self._woken.set()
        self._asked.set()

    # What is compared

    async def _compare(self) -> None:
        """Compares with all others, when something was missed or it is time."""
        hasty = True
        try:
            async with asyncio.timeout(self._every * random.uniform(0.9, 1.0)):
                await self._missed.wait()
        except TimeoutError:
            hasty = False
        self._missed.clear()
        gap = self._gap
        try:
            await self._store.settle()
            root = self._store.root()
            others = [one.node for one in await self._stands() if one.node != self.node and one.root != root]
            settle = 0.0 if hasty else SETTLE
            # At once: one that has just died does not keep us from the others.
            done = await asyncio.gather(*(self._fetch(node, settle) for node in others), return_exceptions=True)
            for one in done:
                if isinstance(one, BaseException):
                    raise one
            if self._gap == gap:
                self._gap = 0
        except BaseException:
            if hasty:
                self._missed.set()
            raise

    async def _fetch(self, node: str, settle: float) -> None:
        """Takes in what another node has and this one does not."""
        told = await self._ask(node, Question())
        here = self._store.sums()
        if not told.settled:
            raise Unavailable(f"node {node} is looking through its memory", "It is compared again when it is done.")
        for namespace in [name for name, total in told.sums.items() if total != here.get(name)]:
            answer = await self._ask(node, Question(namespace, self._store.leaves(namespace)))
            differing = self._store.differing(namespace, answer.pairs)
            if differing and settle:
                await asyncio.sleep(settle)
            wanted = [name for name, state in differing.items() if self._store.state(namespace, name) == state]
            for start in range(0, len(wanted), IDS):
                await self._fetch_records(node, namespace, wanted[start : start + IDS])

    async def _fetch_records(self, node: str, namespace: str, names: Sequence[bytes]) -> None:
        after = ""
        while True:
            answer = await self._ask(node, Question(namespace, names=list(names), after=after))
            taken = await self._bank.take_in(self._right(answer.records))
            self.numbers.repaired += taken
            after = answer.after
            if not after:
                return

    async def _ask(self, node: str, question: Question) -> Answer:
        number = secrets.token_hex(16)
        body = await self._relay.ask(node, number, self._closed("question", question, node, number))
        answer = self._opened("answer", body, Answer, node, number)
        if answer is None:
            raise Unavailable(f"what answers for node {node} is none of this hive", "See who else can write to the Redis.")
        return answer

    async def _serve(self) -> None:
        """Answers what others ask."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK):
                await self._asked.wait()
        self._asked.clear()
        for number, body in await self._relay.asked(self.node):
            question = self._opened("question", body, Question, self.node, number)
            if question is not None:
                answer = await self._answered(question)
                await self._relay.answer(number, self._closed("answer", answer, self.node, number))

    async def _answered(self, question: Question) -> Answer:
        if question.namespace is None:
            return Answer(settled=self._store.settled, sums=self._store.sums())
        if not question.names:
            return Answer(pairs=self._store.pairs(question.namespace, question.leaves))
        wanted, found, size, after = set(question.names), list[bytes](), 0, question.after
        while page := await self._store.page(question.namespace, after):
            for record in page:
                if name_of(record) in wanted:
                    found.append(encode(record))
                    size += len(found[-1])
                after = record.key
                if size > ANSWER_BYTES or len(found) == len(wanted):
                    return Answer(records=found, after=after if size > ANSWER_BYTES else "")
        return Answer(records=found)

    # Around it

    async def _stay(self) -> None:
        """Is there for the others, whether anything happens or not."""
        await self._stands()
        await asyncio.sleep(LOOK)

    async def _stands(self) -> list[Stand]:
        """Says how this node stands, and hears it of all others."""
        root = self._store.root() if self._store.settled else b""
        stand = Stand(self.node, self._birth, self._read, self._gap, root)
        told = await self._relay.post(self.node, self._closed("stand", stand))
        found = [self._opened("stand", body, Stand) for body in told.values()]
        return [one for one in found if one is not None]

    async def _repeated(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Does it again and again; what fails is tried again after a while."""
        while True:
            try:
                await work()
                self._troubles.pop(name, None)
            except SkepError as error:
                self._troubles[name] = error.message
                await asyncio.sleep(AGAIN * random.uniform(0.8, 1.2))
            except Exception as error:  # of ours; the memory here works all the same, and it is told of
                self._troubles[name] = f"{type(error).__name__}: {error}"
                context = {"message": f"memory is not replicated: {name}", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
                await asyncio.sleep(self._every)

    def _closed(self, purpose: str, said: Struct, *parts: str) -> bytes:
        body = msgspec.msgpack.encode(said)
        return self._seal(sealed_text(f"memory {purpose}", *parts, body)) + body

    def _opened(self, purpose: str, data: bytes, kind: type[S], *parts: str) -> S | None:
        """What somebody of the hive said; None, and it is counted, if it was somebody else."""
        seal, body = data[:SEAL], data[SEAL:]
        if not hmac.compare_digest(seal, self._seal(sealed_text(f"memory {purpose}", *parts, body))):
            self.numbers.forged += 1
            self.suspicion = "somebody who is not of this hive writes to the Redis of its memory"
            return None
        try:
            return msgspec.msgpack.decode(body, type=kind)
        except msgspec.MsgspecError as error:
            self.numbers.refused += 1
            self.suspicion = f"another version of Skep works with this memory: {error}"
            return None
