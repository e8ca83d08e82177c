"""What memory costs as a session uses it: the bank over its own SQLite file, indexed meanwhile, through Python calls.

`python -m bench.memories - MEASURE FOLDER` measures once, in an empty folder, and prints one JSON line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from bench.shape import Clock, Measure, Numbers, median, serve
from skep.config import MemoryConfig
from skep.memory.bank import Bank
from skep.memory.draft import Draft
from skep.memory.opening import open_bank
from skep.store.ephemeral import EphemeralBlobs, EphemeralDisk

#: Stores one after the other; callers at once, and stores of each; keys that are read.
SINGLES, CALLERS, EACH, KEYS = 500, 200, 100, 5_000
NAMESPACE = "project"


def now() -> int:
    """Wall-clock ms."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def opened(folder: Path, cache: int = 64 << 20) -> AsyncIterator[Bank]:
    """The bank of a workspace, warmed up."""
    bank = await open_bank(MemoryConfig(cache=cache), folder / "memory", now, EphemeralBlobs(EphemeralDisk(), now))
    for number in range(100):
        await bank.store(draft(f"warm-{number}"))
    yield bank
    await bank.close()


def draft(key: str) -> Draft:
    """A fact of usual size."""
    return Draft(
        namespace=NAMESPACE, key=key, value=f"{key}: the build is run with make -j2, from the top of the tree", tags=("build",)
    )


async def store(folder: Path) -> Numbers:
    """One caller, one store after the other; each is durable before the next begins."""
    async with opened(folder) as bank:
        took = []
        for number in range(SINGLES):
            clock = Clock()
            await bank.store(draft(f"key-{number}"))
            took.append(clock.ms())
        return {"p50": median(took), "p99": sorted(took)[len(took) * 99 // 100]}


async def stores(folder: Path) -> Numbers:
    """Many callers at once; each waits until what it stored is durable."""
    async with opened(folder) as bank:

        async def caller(name: int) -> None:
            for number in range(EACH):
                await bank.store(draft(f"key-{name}-{number}"))

        clock = Clock()
        await asyncio.gather(*(caller(name) for name in range(CALLERS)))
        return {"throughput": clock.rate(CALLERS * EACH)}


async def get(folder: Path) -> Numbers:
    """One caller, one key after the other: from memory, and from the file."""

    async def read(bank: Bank) -> float:
        took = []
        for number in range(KEYS):
            clock = Clock()
            await bank.get(f"key-{number}", namespace=NAMESPACE)
            took.append(clock.ms() * 1000)
        return median(took)

    async with opened(folder) as bank:
        await asyncio.gather(*(bank.store(draft(f"key-{number}")) for number in range(KEYS)))
        await read(bank)
        cached = await read(bank)
    async with opened(folder, cache=0) as bank:
        return {"cached": cached, "from the file": await read(bank)}


def measured(work: Callable[[Path], Awaitable[Numbers]]) -> Measure:
    """As `serve` wants it."""

    async def run(folder: Path) -> Numbers:
        return await work(folder)

    return lambda _, folder: asyncio.run(run(folder))


if __name__ == "__main__":
    serve({"store": measured(store), "stores": measured(stores), "get": measured(get)})
