"""Inboxes on Redis: letters in a stream, answers in a sorted set for each sender, and how they are told at once."""

from __future__ import annotations

import asyncio
import hmac
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

from skep.errors import Invalid, SkepError, Unavailable
from skep.redis.connect import Link
from skep.redis.listen import Channels
from skep.redis.quorum import PATIENCE, Quorum
from skep.store import Answer, Append, Heard, Letter, Taken, chain, letters
from skep.store.redis.commit import commit
from skep.store.redis.keys import decoded, encoded, of_session
from skep.store.redis.script import load
from skep.store.redis.sealed import answer_keys, answered, seal_answer, seal_letter, take
from skep.store.ring import Ring

_PUT, _SETTLE, _FORGET = load("letters", "put"), load("letters", "settle"), load("forget")
#: What goes to the server in one piece: letters, and bytes of them.
MANY, LARGE = 1000, 4 * 2**20
#: Bytes of a seal.
SEAL = 32


class Sending:
    """Letters of one sender to one session on their way: one piece of them after the other, so that they arrive in order."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, bytes, asyncio.Future[None]]] = deque()
        self.task: asyncio.Task[None] | None = None

    def some(self) -> list[tuple[int, bytes, asyncio.Future[None]]]:
        """The next piece."""
        piece, size = [self.waiting.popleft()], 0
        while self.waiting and len(piece) < MANY and size < LARGE:
            piece.append(self.waiting.popleft())
            size += len(piece[-1][1])
        return piece


class RedisInbox:
    """The port `Inbox` over a Redis.

    Args:
        link: the way to it.
        channels: what is heard from it.
        ring: the keys of this process; letters and answers without the seal of their sender are refused.
        replicas: how many must have what is put or settled before it counts. Too few: Unavailable.
        patience: how long they are waited for, ms.
        most: letters in the inbox of one session.
        unread: answers that a sender may leave unread there.
    """

    def __init__(
        self,
        link: Link,
        channels: Channels,
        ring: Ring,
        replicas: int = 0,
        patience: int = PATIENCE,
        most: int = letters.MAX_LETTERS,
        unread: int = letters.MAX_ANSWERS,
    ) -> None:
        self._link = link
        self._channels = channels
        self._ring = ring
        self._quorum = Quorum(link, replicas, patience)
        self._most = most
        self._unread = unread
        self._sending: dict[tuple[str, str], Sending] = {}

    async def put(self, session: str, sender: str, number: int, body: bytes) -> None:
        """See `Inbox.put`. Those that come while others are under way go together; a caller that is cancelled leaves its own."""
        letters.check_letter(session, sender, number, body)
        sending = self._sending.setdefault((session, sender), Sending())
        arrived = asyncio.get_running_loop().create_future()
        sending.waiting.append((number, seal_letter(self._ring, session, sender, number, body) + body, arrived))
        if sending.task is None:
            sending.task = asyncio.create_task(self._send(session, sender, sending))
        await arrived

    async def letters(self, session: str, after: str = "", limit: int = 1000) -> list[Letter]:
        """See `Inbox.letters`. What is raised names the first one that is not sealed with the key of the hive."""
        inbox, start = of_session(session, "inbox"), f"({after}" if after else "-"
        rows = await self._read(session, [("XRANGE", inbox, start, "+", "COUNT", limit)])
        found, bad = list[Letter](), list[str]()
        for place, fields in rows:
            values = dict(zip(fields[::2], fields[1::2], strict=True))
            letter = self._letter(session, place, values.get(b"s", b""), values.get(b"n", b""), values.get(b"b", b""))
            if letter is None:
                bad.append(place.decode())
            else:
                found.append(letter)
        if bad:
            raise letters.Unsealed(
                f"session {session}: the letter at {bad[0]} is damaged, or put there without the key of the hive",
                f"Find out who writes to this Redis; `XDEL {inbox} {bad[0]}` removes the letter.",
                found,
                rows[-1][0].decode(),
            )
        return found

    async def waiting(self, sessions: Sequence[str]) -> set[str]:
        """See `Inbox.waiting`."""
        there = await self._link.many([("XLEN", of_session(session, "inbox")) for session in sessions])
        return {session for session, count in zip(sessions, there, strict=True) if count}

    async def settle(self, session: str, epoch: int, taken: Sequence[Taken]) -> None:
        """See `Inbox.settle`."""
        letters.check_taken(session, taken)
        at_once = not self._quorum.replicas
        keys = [of_session(session, part) for part in ("head", "inbox")]
        keys += answer_keys(session, taken, not at_once)
        args = [epoch, int(at_once), *take(self._ring, session, taken)]
        head = await self._quorum.run(_SETTLE, keys, args)
        if head is None:
            raise chain.missing(session)
        if int(head[0]) != epoch or epoch == 0:
            raise letters.over(session, epoch, int(head[0]))
        if not at_once and not await commit(self._link, session, int(head[1]), head[2], answered(taken)):
            raise Unavailable(f"session {session}: the server was replaced by one that knows less", "Settle it again.")

    async def answers(self, session: str, sender: str, after: int = 0, limit: int = 1000) -> list[Answer]:
        """See `Inbox.answers`. Raises Invalid for one that is not sealed with the key of the hive."""
        key = of_session(session, "answers", sender)
        read = ("ZREMRANGEBYSCORE", key, "-inf", after)
        rows = await self._read(session, [read, ("ZRANGEBYSCORE", key, f"({after}", "+inf", "LIMIT", 0, limit)])
        found = []
        for row in rows:
            number, _, sealed = row.partition(b" ")
            answer = self._answer(session, sender, number, sealed)
            if answer is None:
                raise Invalid(
                    f"session {session}: the answer to letter {number.decode()} of {sender} is damaged, or left there without "
                    "the key of the hive",
                    fix=f"Find out who writes to this Redis; `DEL {key}` removes the answers.",
                )
            found.append(answer)
        return found

    async def forget(self, session: str, sender: str) -> None:
        """See `Inbox.forget`."""
        keys = [of_session(session, "head"), of_session(session, "senders"), of_session(session, "answers", sender)]
        await self._link.run(_FORGET, keys, [encoded(sender)])

    async def listen(self, session: str, hear: Callable[[Heard], None], sender: str = "") -> Callable[[], Awaitable[None]]:
        """See `Inbox.listen`."""
        to: dict[str, Callable[[bytes], Iterator[Heard]]] = {of_session(session, "in"): partial(self._letters, session)}
        if sender:
            to = {of_session(session, "log"): appends, of_session(session, "to", sender): partial(self._answers, session, sender)}
        stops: list[Callable[[], Awaitable[None]]] = []

        async def stop() -> None:
            for each in stops:
                await each()

        try:
            for channel, read in to.items():
                stops.append(await self._channels.listen(channel, partial(_hear, hear, read)))
        except BaseException:
            await stop()
            raise
        return stop

    async def _read(self, session: str, commands: list[tuple[Any, ...]]) -> Any:
        """The reply to the last command. Raises NotFound without such a session."""
        head = of_session(session, "head")
        there, *_, reply = await self._link.batch(head, [("EXISTS", head), *commands])
        if not there:
            raise chain.missing(session)
        return reply

    async def _send(self, session: str, sender: str, sending: Sending) -> None:
        """Puts what waits, until nothing does. After a failure nothing that waits is sent: it could come before what failed."""
        keys = [of_session(session, "head"), of_session(session, "inbox"), of_session(session, "senders")]
        keys.append(of_session(session, "answers", sender))
        try:
            while sending.waiting:
                piece = sending.some()
                try:
                    args = [part for number, body, _ in piece for part in (number, body)]
                    became = await self._quorum.run(_PUT, keys, [encoded(sender), self._most, self._unread, *args])
                    if became is None:
                        raise chain.missing(session)
                except BaseException as error:
                    failed = error if isinstance(error, SkepError) else Unavailable("the store is being closed", "Put it again.")
                    for *_, arrived in (*piece, *sending.waiting):
                        if not arrived.done():
                            arrived.set_exception(failed)
                    sending.waiting.clear()
                    if not isinstance(error, SkepError):
                        raise
                else:
                    for (number, _, arrived), how in zip(piece, became[1:], strict=True):
                        if not arrived.done():
                            self._arrived(arrived, session, sender, number, how, became[0])
        finally:
            del self._sending[session, sender]

    def _arrived(self, arrived: asyncio.Future[None], session: str, sender: str, number: int, how: int, last: int) -> None:
        if how == 0:
            arrived.set_result(None)
        elif how == 1:
            arrived.set_exception(letters.missing(session, sender, number, last))
        elif how == 2:
            arrived.set_exception(letters.full(session, self._most))
        else:
            arrived.set_exception(letters.unread(session, sender, self._unread))

    def _letter(self, session: str, place: bytes, sender: bytes, number: bytes, sealed: bytes) -> Letter | None:
        """The letter, if it has the seal of its sender, and a number that a log can hold."""
        try:
            letter = Letter(place.decode(), decoded(sender), int(number), sealed[SEAL:])
        except ValueError:  # nobody here wrote that
            return None
        if not 0 < letter.number <= letters.LAST_LETTER:
            return None
        seal = seal_letter(self._ring, session, letter.sender, letter.number, letter.body)
        return letter if hmac.compare_digest(seal, sealed[:SEAL]) else None

    def _answer(self, session: str, sender: str, number: bytes, sealed: bytes) -> Answer | None:
        """The answer, if it has the seal for its sender."""
        try:
            answer = Answer(int(number), sealed[SEAL:])
        except ValueError:  # nobody here wrote that
            return None
        seal = seal_answer(self._ring, session, sender, answer.number, answer.body)
        return answer if hmac.compare_digest(seal, sealed[:SEAL]) else None

    def _letters(self, session: str, message: bytes) -> Iterator[Heard]:
        for (place, sender, number), sealed in pieces(message):
            yield self._letter(session, place, sender, number, sealed)

    def _answers(self, session: str, sender: str, message: bytes) -> Iterator[Heard]:
        for (number,), sealed in pieces(message):
            yield self._answer(session, sender, number, sealed)


def pieces(message: bytes) -> Iterator[tuple[list[bytes], bytes]]:
    """What a message is made of: words and a number of bytes on a line, then these bytes, and so on. Raises ValueError."""
    at = 0
    while at < len(message):
        end = message.index(b"\n", at) + 1
        *words, size = message[at : end - 1].split(b" ")
        at = end + int(size)
        if at < end:
            raise ValueError("a piece of less than nothing")
        yield words, message[end:at]


def appends(message: bytes) -> Iterator[Append]:
    """The appends in a message: first, last, epoch and the bytes of the signature as words, then batch, hash, signature, blob."""
    for (first, last, epoch, signed), rest in pieces(message):
        blob = 48 + int(signed)
        yield Append(int(first), int(last), int(epoch), rest[:16], rest[blob:], rest[16:48], rest[48:blob])


def _hear(hear: Callable[[Heard], None], read: Callable[[bytes], Iterator[Heard]], message: bytes | None) -> None:
    """Tells a listener what a message says; where that is nothing, or makes no sense, that it should look by itself."""
    if not message:
        hear(None)
        return
    try:
        told = list(read(message))
    except ValueError:  # nobody here wrote that
        told = [None]
    for heard in told:
        hear(heard)
