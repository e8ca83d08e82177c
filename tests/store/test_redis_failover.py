"""A primary that goes, and what its replicas must have by then."""

from __future__ import annotations

import asyncio

import pytest

from skep.errors import Unavailable
from skep.redis.connect import Link
from skep.store import Head
from skep.store.redis.blobs import RedisBlobs
from skep.store.redis.log import RedisLog
from skep.store.ring import HiveRing
from tests import servers
from tests.contracts.log import fresh_batch, new_session
from tests.servers import Watched
from tests.store.redis_homes import KEY


async def test_when_sentinels_promote_a_replica_nothing_is_lost_and_work_goes_on() -> None:
    watched = Watched(servers.valkey_binary())
    link = Link(watched.url, {})
    log = await RedisLog.open(link, HiveRing(KEY), replicas=1)
    blobs = RedisBlobs(link, lambda: 1, replicas=2)
    digest = await blobs.put(b"content")
    pen = await new_session(log)
    for n in range(20):
        await pen.write(b"%d" % n)
    batch, known = fresh_batch(), pen.head
    await asyncio.to_thread(watched.primary.kill)
    with pytest.raises(Unavailable):
        await log.append("s", known.epoch, known.seq, batch, 3, b"20")
    await asyncio.to_thread(servers.until, watched.failed_over, "no replica was promoted")
    await until_written(log, known, batch)
    assert [row.blob for row in await log.read("s")] == [b"%d" % n for n in range(21)]
    await log.verify("s")
    assert await blobs.get(digest) == b"content"
    with pytest.raises(Unavailable, match="outcome is unknown"):  # one replica is left
        await blobs.put(b"content")
    await log.close()
    watched.remove()


async def until_written(log: RedisLog, known: Head, batch: bytes) -> None:
    """Repeats an append until the replica that is left follows the new primary."""
    async with asyncio.timeout(servers.READY):
        while True:
            try:
                await log.append("s", known.epoch, known.seq, batch, 3, b"20")
                return
            except Unavailable:
                pass
