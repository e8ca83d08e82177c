"""taskiq over Redis streams, with results in Redis: worker processes beside the client. A result is polled for.

Variant `always`: Redis' appendfsync. What was tried to make it fast: tasks at once, lists instead of streams (faster, but what a
dead worker had is lost), the pause between looks at a result. A message is acknowledged when its result is saved.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from taskiq import AsyncTaskiqDecoratedTask
from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from bench.peers.async_queue import AT_ONCE, Queue, Wait, measures, working
from bench.peers.redis_server import serving
from bench.shape import GIVEN_UP, REST, serve

TASKS_AT_ONCE = 64


class Tasks:
    """The broker and its tasks: once in the client, once in each worker."""

    def __init__(self, place: str) -> None:
        url = f"unix://{place}"
        # Started before anything is sent; still, a group that begins at 0 misses nothing.
        self.broker = RedisStreamBroker(
            url, consumer_id="0", idle_timeout=GIVEN_UP * 1000, max_connection_pool_size=2 * AT_ONCE
        ).with_result_backend(RedisAsyncResultBackend(url, max_connection_pool_size=2 * AT_ONCE))
        self.tasks: dict[str, AsyncTaskiqDecoratedTask[[], int]] = {
            name: self.broker.register_task(task, task_name=name) for name, task in (("noop", noop), ("rest", rest))
        }


async def noop() -> int:
    return 1


async def rest() -> int:
    await asyncio.sleep(REST)
    return 1


async def work(place: str) -> None:
    """A worker process."""
    broker = Tasks(place).broker
    broker.is_worker_process = True
    await run_receiver_task(broker, max_async_tasks=TASKS_AT_ONCE, run_startup=True)


@asynccontextmanager
async def running(variant: str, folder: Path) -> AsyncIterator[Queue]:
    """Redis, workers and a client."""
    with serving(folder, fsync=variant) as socket:
        ours = Tasks(socket)
        await ours.broker.startup()
        async with working(work, socket) as workers:

            async def send(task: str) -> Wait:
                sent = await ours.tasks[task].kiq()

                async def wait(look: float) -> int:
                    value: int = (await sent.wait_result(check_interval=look)).return_value
                    return value

                return wait

            yield Queue(send, workers)
        await ours.broker.shutdown()


if __name__ == "__main__":
    serve(measures(running))
