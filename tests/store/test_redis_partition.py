"""A primary is cut off with a writer beside it, and on the other side a replica is promoted: what the writer was told must hold,
and does not with settings that are too weak.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from skep.errors import Unavailable
from skep.redis.connect import Link
from skep.redis.listen import Channels
from skep.store import Head
from skep.store.redis.inbox import RedisInbox
from skep.store.redis.log import RedisLog
from skep.store.ring import HiveRing
from tests import servers
from tests.contracts.log import fresh_batch, new_session
from tests.servers import Watched
from tests.store.redis_homes import KEY
from tests.wire import Wire

#: Acknowledged before the partition, and, where too little is demanded, within it.
BEFORE, WITHIN = 20, 5


class Side:
    """A writer and a sender beside the primary, and what was acknowledged to them."""

    def __init__(self, watched: Watched, replicas: int) -> None:
        self.link = Link(watched.primary.url, {})
        self.replicas = replicas
        self.inbox = RedisInbox(self.link, Channels(self.link), HiveRing(KEY), replicas)
        self.appends: list[bytes] = []
        self.letters: list[bytes] = []
        self.unknown = 0
        self._more = asyncio.Event()

    async def write(self) -> None:
        """Appends without end; each is repeated until it is acknowledged."""
        log = await RedisLog.open(self.link, HiveRing(KEY), self.replicas)
        head = (await new_session(log)).head
        while True:
            batch, blob = fresh_batch(), b"%d" % len(self.appends)
            head = await self._surely(log, head, batch, blob)
            self.appends.append(blob)
            self._more.set()

    async def _surely(self, log: RedisLog, head: Head, batch: bytes, blob: bytes) -> Head:
        while True:
            try:
                return await log.append("s", head.epoch, head.seq, batch, 1, blob)
            except Unavailable:
                self._failed()

    def _failed(self) -> None:
        self.unknown += 1
        self._more.set()

    async def send(self) -> None:
        """Puts letters without end, in the same way."""
        await self.until(1)
        while True:
            body = b"%d" % len(self.letters)
            try:
                await self.inbox.put("s", "a", len(self.letters) + 1, body)
                self.letters.append(body)
                self._more.set()
            except Unavailable:
                self._failed()

    async def until(self, count: int = 0, unknown: int = 0) -> None:
        """Waits until so many appends are acknowledged, one letter less, and so many outcomes are unknown."""
        while len(self.appends) < count or len(self.letters) < count - 1 or self.unknown < unknown:
            self._more.clear()
            await self._more.wait()


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    """Between the primary and all that is not on its side."""
    async with Wire() as wire:
        yield wire


async def parted(wire: Wire, replicas: int, settings: tuple[tuple[str, int], ...]) -> tuple[list[bytes], list[bytes], Side]:
    """Lets a partition come and go. Returns the appends and letters that were acknowledged and are lost."""
    watched = await asyncio.to_thread(Watched, servers.valkey_binary(), wire.to)
    for server in (watched.primary, *watched.replicas):
        for name, value in settings:
            server.tell("CONFIG", "SET", name, value)
    side = Side(watched, replicas)
    working = [asyncio.create_task(side.write()), asyncio.create_task(side.send())]
    await side.until(BEFORE)
    wire.cut()
    if replicas:
        await side.until(unknown=1)
    else:
        await side.until(max(len(side.appends), len(side.letters)) + WITHIN)
    await asyncio.to_thread(servers.until, watched.failed_over, "no replica was promoted")
    for work in working:
        work.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    wire.mend()
    # The Sentinels would say so too, after a while.
    promoted = int(watched.sentinels[0].tell("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")[1])
    watched.primary.tell("REPLICAOF", "127.0.0.1", promoted)
    back = partial(follows, watched)
    await asyncio.to_thread(servers.until, back, "the old primary does not follow the new one")
    link = Link(watched.url, {})
    log = await RedisLog.open(link, HiveRing(KEY), replicas)
    inbox = RedisInbox(link, Channels(link), HiveRing(KEY), replicas)
    pen = await log.acquire("s")
    await log.append("s", pen.epoch, pen.seq, fresh_batch(), 1, b"after")
    there = {append.blob for append in await log.read("s", limit=100_000)}
    arrived = {letter.body for letter in await inbox.letters("s", limit=100_000)}
    await log.verify("s")
    for each in (side.link, link):
        await each.close()
    watched.remove()
    return [one for one in side.appends if one not in there], [one for one in side.letters if one not in arrived], side


def follows(watched: Watched) -> bool:
    """Whether the old primary has what the new one has, and all are there again."""
    role = watched.primary.tell("ROLE")
    return bool(role[0] == b"slave" and role[3] == b"connected")


async def test_what_was_acknowledged_beside_a_primary_that_is_cut_off_is_there_on_the_other_side(wire: Wire) -> None:
    durable = (("min-replicas-to-write", 1), ("min-replicas-max-lag", 2))
    appends, letters, side = await parted(wire, 2, durable)
    assert (appends, letters) == ([], [])
    assert len(side.appends) >= BEFORE


async def test_with_settings_that_are_too_weak_it_is_lost(wire: Wire) -> None:
    appends, letters, _ = await parted(wire, 0, ())
    assert len(appends) >= WITHIN
    assert len(letters) >= WITHIN
