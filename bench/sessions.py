"""Skep's own numbers, through its Python API: what the peers do, and a thousand agents at once.

`python -m bench.sessions VARIANT WORKLOAD FOLDER` measures once, in an empty folder, and prints one JSON line.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import skep
from bench.shape import (
    COMMAND,
    LAYERS,
    PROCESSES,
    PROCESSES_AT_ONCE,
    SINGLES,
    TASKS,
    TASKS_AT_ONCE,
    WIDTH,
    Clock,
    Numbers,
    median,
    needs,
    peak_memory,
    serve,
)

SLEEPERS, SLEEP = 1_000, 10


def nothing(n: int) -> int:
    """The no-op task."""
    return n


def noops(count: int) -> list[skep.Task]:
    """So many of them."""
    return [skep.Task(call="bench.sessions:nothing", args={"n": number}) for number in range(count)]


@asynccontextmanager
async def opened(folder: Path, at_once: int) -> AsyncIterator[skep.Session]:
    """A session in a workspace of its own, warmed up."""
    os.environ["SKEP_SANDBOX"] = "off"  # what confinement adds is a row of its own, and the others have none
    async with skep.open(folder, agents=at_once) as hive:
        session = await hive.session("bench")
        await finish(session, noops(200))
        yield session


async def finish(session: skep.Session, tasks: list[skep.Task]) -> None:
    """Submits tasks and waits for all results. Raises RuntimeError if one did not end well."""
    results = await session.gather(await session.submit_many(tasks))
    bad = [result for result in results if not result.ok]
    if bad or len(results) != len(tasks):
        raise RuntimeError(f"{len(bad)} of {len(results)} tasks did not end well: {bad[:1]}")


async def noop(folder: Path) -> Numbers:
    """Independent no-op tasks: submitted, run, results known."""
    async with opened(folder, TASKS_AT_ONCE) as session:
        clock, cpu = Clock(), time.process_time()
        await finish(session, noops(TASKS))
        return {"throughput": clock.rate(TASKS), "cpu": (time.process_time() - cpu) / TASKS * 1e6}


async def single(folder: Path) -> Numbers:
    """One task at a time: from submitting it to its durable result."""
    times = []
    async with opened(folder, TASKS_AT_ONCE) as session:
        for task in noops(SINGLES):
            clock = Clock()
            result = await (await session.submit(task)).result()
            times.append(clock.ms())
            assert result.ok
    return {"p50": median(times)}


def layers() -> list[skep.Task]:
    """Layers of no-op tasks, each with three needs in the layer before."""
    tasks = []
    for layer in range(LAYERS):
        for index in range(WIDTH):
            above = tuple(f"l{layer - 1}-{need}" for need in needs(index)) if layer else ()
            tasks.append(skep.Task(id=f"l{layer}-{index}", call="bench.sessions:nothing", args={"n": index}, needs=above))
    return tasks


async def graph(folder: Path) -> Numbers:
    """Layers of tasks, each with three needs in the layer before."""
    tasks = layers()
    async with opened(folder, TASKS_AT_ONCE) as session:
        clock = Clock()
        await finish(session, tasks)
        return {"duration": clock.ms()}


async def spawn(folder: Path) -> Numbers:
    """Processes without a worktree. Skep runs every command in a terminal, so this is also the number for terminals."""
    async with opened(folder, PROCESSES_AT_ONCE) as session:
        await finish(session, [skep.Task(run=COMMAND, mode="none")] * PROCESSES_AT_ONCE)
        clock = Clock()
        await finish(session, [skep.Task(run=COMMAND, mode="none")] * PROCESSES)
        return {"throughput": clock.rate(PROCESSES)}


async def sleepers(folder: Path) -> Numbers:
    """A thousand shell agents that sleep at once; the memory is that of this process and of what keeps its terminals."""
    async with opened(folder, SLEEPERS) as session:
        clock = Clock()
        await finish(session, [skep.Task(run=("sleep", str(SLEEP)), mode="none")] * SLEEPERS)
        return {"duration": clock.ms() / 1000, "memory": peak_memory()}


def measuring(workload: Callable[[Path], Awaitable[Numbers]]) -> Callable[[str, Path], Numbers]:
    """The workload as what `serve` calls."""

    async def run(folder: Path) -> Numbers:
        return await workload(folder)

    return lambda _variant, folder: asyncio.run(run(folder))


if __name__ == "__main__":
    serve({work.__name__: measuring(work) for work in (noop, single, graph, spawn, sleepers)})
