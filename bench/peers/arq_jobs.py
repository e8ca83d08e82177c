"""arq over Redis: worker processes beside the client. It polls, both for jobs and for results.

Variant `always`: Redis' appendfsync. What was tried to make it fast: jobs at once, the pauses between looks. A job of a worker
that dies is begun again when its key has run out: the longest time that a job may take, and 10 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from arq import Worker, create_pool
from arq.connections import RedisSettings

from bench.peers.async_queue import Queue, Wait, measures, working
from bench.peers.redis_server import serving
from bench.shape import GIVEN_UP, REST, serve

JOBS = 64
#: Seconds between looks at the queue.
POLL = 0.005


async def noop(_context: dict[str, Any]) -> int:
    return 1


async def rest(_context: dict[str, Any]) -> int:
    await asyncio.sleep(REST)
    return 1


async def work(place: str) -> None:
    """A worker process."""
    settings = RedisSettings(unix_socket_path=place)
    worker = Worker(
        functions=[noop, rest],
        redis_settings=settings,
        max_jobs=JOBS,
        poll_delay=POLL,
        job_timeout=GIVEN_UP,
        handle_signals=False,
        log_results=False,
    )
    await worker.async_run()


@asynccontextmanager
async def running(variant: str, folder: Path) -> AsyncIterator[Queue]:
    """Redis, workers and a client."""
    with serving(folder, fsync=variant) as socket:
        async with working(work, socket) as workers:
            pool = await create_pool(RedisSettings(unix_socket_path=socket))

            async def send(task: str) -> Wait:
                job = await pool.enqueue_job(task)
                assert job is not None
                return lambda look: job.result(poll_delay=look)

            yield Queue(send, workers)
            await pool.aclose()


if __name__ == "__main__":
    serve(measures(running))
