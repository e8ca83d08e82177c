"""DBOS over SQLite, in one process: a task is a step, the cheapest thing that DBOS makes durable.

All steps of a measurement belong to one workflow. Variant `sqlite`: WAL, synchronous=FULL. What was tried to make it fast: a
workflow for each task (a third slower), synchronous and asynchronous starts.
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from dbos import DBOS

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
    median,
    needs,
    serve,
)

POLL = 0.001


def launch(folder: Path) -> None:
    """Starts DBOS on a new database."""
    path = folder / "system.db"
    sqlite3.connect(path).execute("PRAGMA journal_mode=WAL").connection.close()
    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{path}", "log_level": "ERROR", "use_listen_notify": False})
    DBOS.launch()


@DBOS.step()
async def one() -> int:
    return 1


@DBOS.step()
async def child() -> int:
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*COMMAND, stdin=quiet, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    await process.communicate()
    return int(process.returncode == 0)


async def limited(step: Callable[[], Awaitable[int]], count: int, at_once: int) -> int:
    slots = asyncio.Semaphore(at_once)

    async def run() -> int:
        async with slots:
            return await step()

    return sum(await asyncio.gather(*(run() for _ in range(count))))


@DBOS.workflow()
async def ones() -> int:
    return await limited(one, TASKS, TASKS_AT_ONCE)


@DBOS.workflow()
async def children() -> int:
    return await limited(child, PROCESSES, PROCESSES_AT_ONCE)


@DBOS.workflow()
async def layers() -> int:
    async def after(above: list[asyncio.Task[int]]) -> int:
        for task in above:
            await task
        done: int = await one()
        return done

    tasks: list[asyncio.Task[int]] = []
    row: list[asyncio.Task[int]] = []
    for layer in range(LAYERS):
        row = [asyncio.create_task(after([row[need] for need in needs(index)] if layer else [])) for index in range(WIDTH)]
        tasks += row
    done: list[int] = await asyncio.gather(*tasks)
    return sum(done)


@DBOS.workflow()
def alone() -> int:
    return 1


def run(workflow: Any, folder: Path, tasks: int) -> Clock:
    """Runs a workflow to its end; returns the clock that was started before it."""

    async def go() -> Clock:
        clock = Clock()
        handle = await DBOS.start_workflow_async(workflow)
        assert await handle.get_result(polling_interval_sec=POLL) == tasks
        return clock

    launch(folder)
    try:
        return asyncio.run(go())
    finally:
        DBOS.destroy()


def noop(_variant: str, folder: Path) -> float:
    return run(ones, folder, TASKS).rate(TASKS)


def graph(_variant: str, folder: Path) -> float:
    return run(layers, folder, LAYERS * WIDTH).ms()


def spawn(_variant: str, folder: Path) -> float:
    if sys.version_info < (3, 12):  # what later versions do by themselves: no thread per child
        asyncio.get_event_loop_policy().set_child_watcher(asyncio.PidfdChildWatcher())
    return run(children, folder, PROCESSES).rate(PROCESSES)


def single(_variant: str, folder: Path) -> float:
    times = []
    launch(folder)
    for _ in range(SINGLES):
        clock = Clock()
        DBOS.start_workflow(alone).get_result(polling_interval_sec=POLL)
        times.append(clock.ms())
    DBOS.destroy()
    return median(times)


if __name__ == "__main__":
    serve({"noop": noop, "single": single, "graph": graph, "spawn": spawn})
