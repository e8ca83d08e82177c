"""Machines that each have a memory of their own and keep each other up to date."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from skep.memory import MemoryStore, Record
from skep.memory.bank import Bank
from skep.memory.ephemeral import EphemeralShelf, EphemeralStore
from skep.memory.redis_relay import BOUND, RedisRelay
from skep.memory.relay import Relay
from skep.memory.replicate import Replication
from skep.memory.sums import SummedStore
from skep.redis.connect import Link
from tests.memory.redis_homes import SEAL

#: Seconds until machines have to agree, and between two comparisons where a test does not wait for the half minute.
PATIENCE, OFTEN = 120.0, 0.5


def now() -> int:
    return int(time.time() * 1000)


class Machine:
    """One machine, at work until `close`.

    Args:
        name: of its store.
        relay: how it reaches others.
        every: seconds between two comparisons.
        store: where its memory lies; without one it is kept in `shelf`.
    """

    def __init__(self, name: str, relay: Relay, every: float = OFTEN, store: MemoryStore | None = None) -> None:
        self.shelf = EphemeralShelf()
        self.store = SummedStore(store or EphemeralStore(self.shelf, name))
        self.bank = Bank(self.store, now)
        self.replication = Replication(self.bank, self.store, relay, SEAL, every)

    async def start(self) -> Machine:
        await self.replication.start()
        return self

    async def close(self) -> None:
        await self.replication.close()
        await self.bank.close()

    async def records(self) -> dict[tuple[str, str], Record]:
        """All that it holds."""
        return {(name, record.key): record for name in await self.store.heads() for record in await self.all_of(name)}

    async def all_of(self, namespace: str) -> list[Record]:
        return [record async for record in self.bank.records(namespace)]


def over_redis(name: str, url: str, every: float = OFTEN, bound: int = BOUND, store: MemoryStore | None = None) -> Machine:
    """A machine that reaches others over a Redis."""
    return Machine(name, RedisRelay(Link(url, {}), bound), every, store)


async def agree(machines: Sequence[Machine], count: int | None = None) -> dict[tuple[str, str], Record]:
    """Waits until all hold the same, and as many keys as said; returns that."""
    deadline = time.monotonic() + PATIENCE
    while True:
        held = [await machine.records() for machine in machines]
        if all(one == held[0] for one in held) and count in (None, len(held[0])):
            return held[0]
        seen = [
            (len(one), machine.replication.numbers, machine.replication.trouble)
            for one, machine in zip(held, machines, strict=True)
        ]
        assert time.monotonic() < deadline, f"they do not agree: {seen}"
        await asyncio.sleep(0.02)  # tidy: sleeps because nobody tells when machines agree
