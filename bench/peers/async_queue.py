"""What every runner with an asyncio client is measured by; each module of it says only how tasks are sent and awaited.

Fifty calls of the client are under way at once, so that Redis shares one fsync among them. None of these has a fan-in for a
graph like this one, so the graph runs layer by layer.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bench.shape import KILLED_AFTER, LAYERS, RESTS, SINGLES, TASKS, WIDTH, Clock, Measure, median

#: Calls of the client at once, and processes that work.
AT_ONCE = 50
WORKERS = 2

#: Seconds between looks at a result, for who must poll: of one task, and when many are awaited. Quicker looks slow the work down.
LOOK, LOOK_AT_MANY = 0.001, 0.02

#: Waits for a result, with so many seconds between looks if it must poll.
Wait = Callable[[float], Awaitable[int]]
#: Sends one task (`noop` or `rest`).
Send = Callable[[str], Awaitable[Wait]]


@dataclass
class Queue:
    """A runner's client, and the processes that work for it."""

    send: Send
    workers: list[BaseProcess]

    async def sent(self, task: str, count: int) -> list[Wait]:
        """Sends so many."""
        return await bounded(lambda _: self.send(task), range(count))

    async def gather(self, task: str, count: int) -> None:
        """Sends so many and has all their results. Raises AssertionError if one is wrong."""
        await known(await self.sent(task, count))


async def known(waiting: list[Wait]) -> None:
    """Returns when all results are known."""
    assert await bounded(lambda wait: wait(LOOK_AT_MANY), waiting) == [1] * len(waiting)


async def bounded(call: Callable[[Any], Awaitable[Any]], given: Any) -> list[Any]:
    """The results of calls, in order, so many of them at once."""
    left, results = iter(enumerate(given)), dict[int, Any]()

    async def some() -> None:
        for number, one in left:
            results[number] = await call(one)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return [results[number] for number in sorted(results)]


@asynccontextmanager
async def working(work: Callable[[str], Coroutine[Any, Any, None]], place: str) -> AsyncIterator[list[BaseProcess]]:
    """Processes that work until they are killed."""
    spawn = multiprocessing.get_context("spawn")  # a fork would have this loop's files
    workers = [spawn.Process(target=_alone, args=(work, place)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    try:
        yield list(workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _alone(work: Callable[[str], Coroutine[Any, Any, None]], place: str) -> None:
    asyncio.run(work(place))


Running = Callable[[str, Path], AbstractAsyncContextManager[Queue]]


def measures(running: Running) -> dict[str, Measure]:
    """The workloads of a runner. `running`: its server, workers and client, given the variant and a folder."""

    def measure(workload: Callable[[Queue], Awaitable[float]]) -> Measure:
        async def run(variant: str, folder: Path) -> float:
            async with running(variant, folder) as queue:
                await queue.gather("noop", 200)
                return await workload(queue)

        return lambda variant, folder: asyncio.run(run(variant, folder))

    return {work.__name__: measure(work) for work in (noop, single, graph, kill)}


async def noop(queue: Queue) -> float:
    clock = Clock()
    await queue.gather("noop", TASKS)
    return clock.rate(TASKS)


async def single(queue: Queue) -> float:
    times = []
    for _ in range(SINGLES):
        clock = Clock()
        await (await queue.send("noop"))(LOOK)
        times.append(clock.ms())
    return median(times)


async def graph(queue: Queue) -> float:
    clock = Clock()
    for _ in range(LAYERS):
        await queue.gather("noop", WIDTH)
    return clock.ms()


async def kill(queue: Queue) -> float:
    """Seconds from the kill of a worker in the middle until all results are known."""
    waiting = await queue.sent("rest", RESTS)
    await known(waiting[:KILLED_AFTER])
    queue.workers[0].kill()
    clock = Clock()
    await known(waiting[KILLED_AFTER:])
    return clock.ms() / 1000
