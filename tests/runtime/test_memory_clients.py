"""Many clients that write to one memory at once: none of what was acknowledged is lost, and each key has one history."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import skep
from tests.runtime.actors import actor
from tests.workspace.repository import Repository

CLIENTS, EACH = 8, 1_250
#: Stores its own keys, adds to one counter, and replaces keys that all others replace too: many at once.
WRITER = """
import os
me, room = os.environ["NUMBER"], asyncio.Semaphore(200)

async def one(number):
    async with room:
        if number % 25 == 0:
            return (await hive.memory.add("count")).version
        if number % 25 == 1:
            return (await hive.memory.store(f"shared-{number}", [me, number])).version
        return (await hive.memory.store(f"{me}-{number}", number)).version

say("ready")
await hear()
say("kept", await asyncio.gather(*(one(number) for number in range(int(os.environ["EACH"])))))
"""


async def test_of_ten_thousand_entries_that_eight_clients_write_at_once_none_is_lost(repo: Repository) -> None:
    async with skep.open(repo.top) as hive, AsyncExitStack() as stack:
        clients = []
        for number in range(CLIENTS):
            env = {"NUMBER": str(number), "EACH": str(EACH)}
            clients.append(await stack.enter_async_context(actor(repo.top, WRITER, env=env)))
        for client in clients:
            await client.said("ready")
        for client in clients:
            client.tell()
        kept = await asyncio.gather(*(client.said("kept") for client in clients))
        for client in clients:
            assert await client.ended() == 0
        own = [number for number in range(EACH) if number % 25 > 1]
        shared = [number for number in range(EACH) if number % 25 == 1]
        counted = [version for versions in kept for number, version in enumerate(versions) if number % 25 == 0]
        assert sorted(counted) == list(range(1, len(counted) + 1)), "each addition saw all before it"
    async with skep.open(repo.top) as hive:
        found = {entry.key: entry async for entry in hive.memory.entries()}
        assert len(found) == CLIENTS * len(own) + len(shared) + 1
        assert all(found[f"{client}-{number}"].value == number for client in range(CLIENTS) for number in own)
        assert found["count"].value == len(counted)
        for number in shared:
            versions = sorted(versions[number] for versions in kept)
            assert versions == list(range(1, CLIENTS + 1)), "all replaced one another, one after the other"
            last = next(client for client in range(CLIENTS) if kept[client][number] == CLIENTS)
            assert found[f"shared-{number}"].value == [str(last), number]
        assert await hive.memory.conflicts() == []
