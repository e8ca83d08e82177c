"""pydocket over Redis streams: worker processes beside the client, which is told of results by pub/sub.

Variant `always`: Redis' appendfsync. What was tried to make it fast: concurrency, its pauses between looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from docket import Docket, Worker

from bench.peers.async_queue import Queue, Wait, measures, working
from bench.peers.redis_server import serving
from bench.shape import GIVEN_UP, REST, serve

CONCURRENCY = 64
LOOK = timedelta(milliseconds=5)


async def noop() -> int:
    return 1


async def rest() -> int:
    await asyncio.sleep(REST)
    return 1


async def work(place: str) -> None:
    """A worker process."""
    async with Docket("bench", f"unix://{place}") as docket:
        docket.register(noop)
        docket.register(rest)
        async with Worker(
            docket,
            concurrency=CONCURRENCY,
            redelivery_timeout=timedelta(seconds=GIVEN_UP),
            minimum_check_interval=LOOK,
            scheduling_resolution=LOOK,
        ) as worker:
            await worker.run_forever()


@asynccontextmanager
async def running(variant: str, folder: Path) -> AsyncIterator[Queue]:
    """Redis, workers and a client."""
    with serving(folder, fsync=variant) as socket:
        async with working(work, socket) as workers, Docket("bench", f"unix://{socket}") as docket:
            tasks = {"noop": noop, "rest": rest}

            async def send(task: str) -> Wait:
                execution = await docket.add(tasks[task])()
                return lambda _look: execution.get_result()

            yield Queue(send, workers)


if __name__ == "__main__":
    serve(measures(running))
