"""A Redis is killed (kill -9, AOF always) under senders and a writer, or its replies are lost: every letter is there once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from random import Random
from typing import TypeVar

import pytest

from skep.errors import Unavailable
from skep.redis import connect
from skep.redis.connect import Link
from skep.redis.listen import Channels
from skep.store import Letter
from skep.store.redis.inbox import RedisInbox
from skep.store.redis.log import RedisLog
from skep.store.ring import HiveRing
from tests import servers
from tests.contracts.inbox import take
from tests.contracts.log import Pen, fresh_batch, new_session
from tests.servers import Server
from tests.wire import Wire

T = TypeVar("T")
KEY = b"k" * 32
SENDERS, LETTERS, AT_ONCE, KILLS = "abc", 200, 7, 4
#: Of the replies, how many are lost.
LOST = 0.1
ALL = {f"{sender}{number}" for sender in SENDERS for number in range(1, LETTERS + 1)}


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that the test may kill."""
    server = Server(servers.valkey_binary())
    yield server
    server.remove()


class World:
    """Senders and a writer, each a process of its own as far as the server can tell, and what they were told."""

    def __init__(self, server: Server) -> None:
        self.server, self.url = server, server.url
        self.links: list[Link] = []
        self.acknowledged: set[str] = set()
        self.unknown = 0
        self._more = asyncio.Event()

    def link(self) -> Link:
        self.links.append(Link(self.url, {}))
        return self.links[-1]

    def inbox(self) -> RedisInbox:
        link = self.link()
        return RedisInbox(link, Channels(link), HiveRing(KEY))

    async def surely(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeats a call until its outcome is known."""
        while True:
            try:
                return await call()
            except Unavailable:
                self.unknown += 1

    async def send(self, sender: str) -> None:
        """Puts all letters of a sender, a few at once."""
        inbox = self.inbox()

        async def put(number: int) -> None:
            await self.surely(partial(inbox.put, "s", sender, number, f"{sender}{number}".encode()))
            self.acknowledged.add(f"{sender}{number}")
            self._more.set()

        for first in range(1, LETTERS + 1, AT_ONCE):
            await asyncio.gather(*(put(number) for number in range(first, min(first + AT_ONCE, LETTERS + 1))))

    async def decide(self, pen: Pen, letters: int) -> None:
        """Takes so many letters: with appends that name them, but every third page without an event."""
        inbox, decided, pages = self.inbox(), 0, 0
        while decided < letters:
            page = await self.surely(partial(inbox.letters, "s", limit=9))
            taken = [take(letter, b"to " + letter.body) for letter in page]
            if page and pages % 3 == 2:
                await self.surely(partial(inbox.settle, "s", pen.head.epoch, taken))
            elif page:
                said = fresh_batch(), len(page), b" ".join(letter.body for letter in page)
                append = partial(pen.log.append, "s", pen.head.epoch, pen.head.seq, *said, taken=taken)
                pen.head = await self.surely(append)
            decided += len(page)
            pages += bool(page)

    async def kill(self) -> None:
        """Kills the server, each time a bit further on, and starts it again."""
        for kill in range(1, KILLS + 1):
            while len(self.acknowledged) < len(ALL) * kill // (KILLS + 1):
                self._more.clear()
                await self._more.wait()
            self.server.kill()
            await asyncio.to_thread(self.server.start)


@pytest.fixture
async def world(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(connect, "RETRIES", 0)  # each failure reaches the caller, who repeats
    world = World(server)
    yield world
    for link in world.links:
        await link.close()


async def test_each_letter_is_in_the_inbox_or_was_taken_and_answered_once(world: World) -> None:
    pen = await new_session(await RedisLog.open(world.link(), HiveRing(KEY)))
    async with asyncio.timeout(100):
        await asyncio.gather(world.kill(), world.decide(pen, len(ALL) * 4 // 5), *map(world.send, SENDERS))
    assert world.unknown > 0
    await check(world, pen)


async def test_what_was_done_and_whose_reply_was_lost_is_repeated_and_counts_once(world: World) -> None:
    dice = Random(1)
    async with Wire(world.server.port) as wire:
        pen = await new_session(await RedisLog.open(world.link(), HiveRing(KEY)))
        world.url = wire.url
        pen.log = await RedisLog.open(world.link(), HiveRing(KEY))
        wire.lose_some(lambda said: b"EVALSHA" in said and dice.random() < LOST)
        await asyncio.gather(world.decide(pen, len(ALL) * 4 // 5), *map(world.send, SENDERS))
        assert world.unknown >= wire.lost > 10
        world.url = world.server.url
        await check(world, pen)


async def check(world: World, pen: Pen) -> None:
    """Every letter was acknowledged, and is there once: in the inbox, or taken and answered."""
    assert world.acknowledged == ALL
    log, inbox = await RedisLog.open(world.link(), HiveRing(KEY)), world.inbox()
    left: list[Letter] = await inbox.letters("s")
    assert await log.verify("s") == pen.head
    logged = Counter(word for append in await log.read("s") for word in append.blob.decode().split())
    answered: Counter[str] = Counter()
    for sender in SENDERS:
        for answer in await inbox.answers("s", sender):
            assert answer.body == b"to %s%d" % (sender.encode(), answer.number)
            answered[f"{sender}{answer.number}"] += 1
    assert set(logged.values()) == set(answered.values()) == {1}
    assert logged.keys() < answered.keys()
    assert Counter(letter.body.decode() for letter in left) + answered == Counter(ALL)
    for sender in SENDERS:
        numbers = [letter.number for letter in left if letter.sender == sender]
        assert numbers == sorted(numbers)
