"""Skep over a Redis of its own, with AOF `always`: the session's writer in this process, one node in another.

`python -m bench.machines - WORKLOAD FOLDER` measures once, in an empty folder, and prints one JSON line. With `node` as the
workload it is the node.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import skep
from bench.sessions import finish, layers, measuring, noops
from bench.shape import KILLED_AFTER, REST, RESTS, SINGLES, TASKS, Clock, Numbers, median, serve
from skep.config import Config, SandboxConfig, StoreConfig
from skep.nodes import join
from skep.runtime.node import Here, Role
from tests import servers

#: Tasks under way at once: enough that the writer decides some while the node does others.
AT_ONCE = 128

WRITER = Role(here=Here(name="writer", slots=0))


def config(folder: Path, url: str) -> Config:
    """The settings of both processes."""
    store = StoreConfig(url=url, key=str(folder / "key"))
    return Config(store=store, sandbox=SandboxConfig(mode="off"), agents=AT_ONCE)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[skep.Session]:
    """A session whose attempts run on the node, warmed up."""
    url = servers.valkey_server().url
    ours = folder / "writer"
    ours.mkdir()
    async with join(ours, config(folder, url), WRITER) as hive:
        session = await hive.session("bench")
        async with working(folder, url, "node"):
            await finish(session, noops(200))
            yield session


@asynccontextmanager
async def working(folder: Path, url: str, name: str) -> AsyncIterator[Process]:
    """A node, a process of its own."""
    (folder / name).mkdir()
    words = (sys.executable, "-m", "bench.machines", name, "node", str(folder), url)
    node = await asyncio.create_subprocess_exec(*words)
    try:
        yield node
    finally:
        with contextlib.suppress(ProcessLookupError):
            node.send_signal(signal.SIGINT)
        await node.wait()


async def noop(folder: Path) -> Numbers:
    """Independent no-op tasks: submitted here, run on the node, results known here."""
    async with opened(folder) as session:
        clock = Clock()
        await finish(session, noops(TASKS))
        return {"throughput": clock.rate(TASKS)}


async def single(folder: Path) -> Numbers:
    """One task at a time: from submitting it to its durable result."""
    times = []
    async with opened(folder) as session:
        for task in noops(SINGLES):
            clock = Clock()
            result = await (await session.submit(task)).result()
            times.append(clock.ms())
            assert result.ok
    return {"p50": median(times)}


async def graph(folder: Path) -> Numbers:
    """Layers of tasks, each with three needs in the layer before."""
    async with opened(folder) as session:
        tasks = layers()
        clock = Clock()
        await finish(session, tasks)
        return {"duration": clock.ms()}


def where(n: int) -> int:
    """The process that a task runs in."""
    return os.getpid()


async def rest(n: int) -> int:
    """The task during which a node is killed."""
    await asyncio.sleep(REST)
    return n


async def kill(folder: Path) -> Numbers:
    """Seconds from the kill -9 of one of two nodes, in the middle of the tasks, until all results are known, each once."""
    async with opened(folder) as session, working(folder, servers.valkey_server().url, "second") as second:
        seen: set[int] = set()
        while second.pid not in seen:  # until it has joined
            tasks = [skep.Task(call="bench.machines:where", args={"n": n}) for n in range(AT_ONCE)]
            seen = {result.value for result in await session.gather(await session.submit_many(tasks))}
        handles = await session.submit_many([skep.Task(call="bench.machines:rest", args={"n": n}) for n in range(RESTS)])
        results = await session.gather(handles[:KILLED_AFTER])
        second.kill()
        clock = Clock()
        results += await session.gather(handles[KILLED_AFTER:])
        assert [result.value for result in results] == list(range(RESTS))
        if all(result.attempts == 1 for result in results):
            raise RuntimeError("the node that was killed had nothing in hand: this measured nothing")
        return {"all done": clock.ms() / 1000}


async def node(name: str, folder: Path, url: str) -> None:
    """The other process, until it is interrupted."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    async with join(folder / name, config(folder, url), Role(here=Here(name=name, slots=1_000), serves=True, calls=True)):
        await stop.wait()


if __name__ == "__main__":
    if sys.argv[2] == "node":
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(node(sys.argv[1], Path(sys.argv[3]), sys.argv[4]))
    else:
        serve({work.__name__: measuring(work) for work in (noop, single, graph, kill)})
