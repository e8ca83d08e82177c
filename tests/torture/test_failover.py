"""The primary is killed under a session and its machines, and Sentinels promote a replica: what was accepted is done, once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests import servers
from tests.servers import Watched, until
from tests.torture.amounts import amount, timeout
from tests.torture.machines import FEW, Hive

pytestmark = timeout("failovers")

#: Both may be promoted.
REPLICAS = 2
#: Milliseconds until the Sentinels miss the primary: a replica that has lagged for ten times as long is not promoted.
DOWN_AFTER = 2_000
#: Tasks that are done before the replicas lag, and after the failover.
BEFORE, AFTER = 8, 8


@pytest.fixture
def watched() -> Iterator[Watched]:
    """Three servers, of which the test may kill the primary, and three Sentinels."""
    watched = Watched(servers.valkey_binary())
    for sentinel in watched.sentinels:
        sentinel.tell("SENTINEL", "SET", "main", "down-after-milliseconds", DOWN_AFTER)
    yield watched
    watched.remove()


def refuses(watched: Watched) -> bool:
    """Whether the primary has refused to write what no replica would have."""
    primary = watched.leading()
    return primary is not None and "errorstat_NOREPLICAS" in primary.tell("INFO", "errorstats")


async def test_when_the_primary_dies_what_was_accepted_is_done_once(
    watched: Watched, tmp_path: Path, effects: Path, stack: AsyncExitStack
) -> None:
    watched.make_durable()
    hive = Hive(watched.url, tmp_path, effects, stack, REPLICAS)
    for _ in range(3):
        await hive.join()
    session = await hive.left("load")
    enough = asyncio.Event()

    async def trouble() -> None:
        for _ in range(amount("failovers")):
            await hive.until(done=hive.done + BEFORE)
            watched.lag()
            await asyncio.to_thread(until, lambda: refuses(watched), "nobody asks it to write")
            await asyncio.to_thread(watched.fail_over)
        await hive.until(done=hive.done + AFTER)
        enough.set()

    await asyncio.gather(hive.feed(session, enough), trouble())
    assert await hive.check("load") == []


async def test_with_settings_that_are_too_weak_accepted_tasks_are_lost(
    watched: Watched, tmp_path: Path, effects: Path, stack: AsyncExitStack
) -> None:
    hive = Hive(watched.url, tmp_path, effects, stack)
    for _ in range(3):
        await hive.join()
    session = await hive.left("load")
    enough = asyncio.Event()

    async def trouble() -> None:
        await hive.until(done=BEFORE)
        watched.lag()
        await hive.until(done=hive.done + 3 * FEW)  # of which no more than two submissions were accepted before
        enough.set()

    await asyncio.gather(hive.feed(session, enough), trouble())
    await asyncio.to_thread(watched.fail_over)
    told = await hive.told("load")
    assert [task for task in hive.wanted("load") if task not in told.entries] != []
