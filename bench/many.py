"""Many sessions over one Redis, at work and idle, and what they take of it. Processes as in `bench.machines`.

`python -m bench.many - WORKLOAD FOLDER` measures once, in an empty folder, and prints one JSON line. With `node` as the
workload it is a node.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import skep
from bench.machines import WRITER, config
from bench.sessions import finish, measuring, noops
from bench.shape import TASKS, TASKS_AT_ONCE, Clock, Numbers, median, serve
from skep.nodes import join
from skep.redis.connect import Link
from skep.runtime.node import Here, Role
from skep.store.redis.leases import RedisLeases
from tests import servers

#: Sessions at work at once, the tasks of each, and how many more each does one after the other.
SESSIONS, EACH, TURNS = 200, TASKS // 200, 10
#: Sessions in which nothing goes on; seconds until that is so for everybody, and for which it is looked at.
IDLE, REST, LOOKED_AT = 1_000, 60, 30


class Redis:
    """A Redis of one's own, the writer in this process, nodes in others."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = servers.valkey_server()
        self._nodes: list[asyncio.subprocess.Process] = []

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[skep.Skep]:
        """The writer; nodes end with it."""
        folder = self._folder / "writer"
        folder.mkdir()
        async with join(folder, config(self._folder, self._server.url), WRITER) as hive:
            try:
                yield hive
            finally:
                for node in self._nodes:
                    with contextlib.suppress(ProcessLookupError):
                        node.send_signal(signal.SIGINT)
                    await node.wait()

    async def node(self, slots: int) -> asyncio.subprocess.Process:
        """One more node."""
        name = f"node-{len(self._nodes)}"
        (self._folder / name).mkdir()
        words = ("-m", "bench.many", "-", "node", str(self._folder), self._server.url, name, str(slots))
        self._nodes.append(node := await asyncio.create_subprocess_exec(sys.executable, *words))
        return node

    def used(self, before: Numbers | None = None, by: int = 1) -> Numbers:
        """What the server has used so far, or since, for each of so many: bytes of memory and file, scripts and commands run."""
        with self._server.client() as client:
            found: Any = client.info("everything")
        calls = {name: stats["calls"] for name, stats in found.items() if name.startswith("cmdstat_")}
        scripts = calls.get("cmdstat_evalsha", 0)
        now = {
            "memory": found["used_memory"],
            "file": found["aof_current_size"],
            "scripts": scripts,
            "commands": sum(calls.values()),
        }
        return {name: (value - (before or {}).get(name, 0)) / by for name, value in now.items()}

    async def leases(self, count: int) -> float:
        """Microseconds until a process has been told of so many leases."""
        link = Link(self._server.url)
        leases = RedisLeases(link)
        try:
            for number in range(count):
                await leases.hold(f"trial/{number}", "holder", 600_000, "n" * 200)
            clock = Clock()
            for _ in range(20):
                await leases.held("trial")
            return clock.ms() / 20 * 1000
        finally:
            await link.close()


def below(values: list[float], part: float) -> float:
    """The value below which so much of all lies."""
    return sorted(values)[int(len(values) * part)]


async def sessions(folder: Path) -> Numbers:
    """As many tasks in one session, then spread over many; then one at a time in each of these, all at once."""
    late: list[float] = []

    async def turns(session: skep.Session) -> None:
        for task in noops(TURNS):
            clock = Clock()
            await finish(session, [task])
            late.append(clock.ms())

    redis = Redis(folder)
    async with redis.writer() as hive:
        # Each session may have as many attempts at once as the one alone has.
        await redis.node(SESSIONS * TASKS_AT_ONCE)
        one = await hive.session("one")
        await finish(one, noops(200))
        clock = Clock()
        await finish(one, noops(TASKS))
        alone = clock.rate(TASKS)
        many = [await hive.session(f"s{number}") for number in range(SESSIONS)]
        await asyncio.gather(*(finish(session, noops(1)) for session in many))
        clock = Clock()
        await asyncio.gather(*(finish(session, noops(EACH)) for session in many))
        together = clock.rate(EACH * SESSIONS)
        await asyncio.gather(*map(turns, many))
    return {"throughput": together, "of one": together / alone, "p99/p50": below(late, 0.99) / median(late)}


def processor(*processes: int) -> float:
    """Seconds of processor, user and system, that processes have used so far (Linux)."""
    used = 0
    for pid in processes:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += int(fields[11]) + int(fields[12])
    return used / os.sysconf("SC_CLK_TCK")


async def idle(folder: Path) -> Numbers:
    """Sessions that are open, written here and followed by a node, in which nothing has to be done: both processes' share."""
    redis = Redis(folder)
    async with redis.writer() as hive:
        node = await redis.node(IDLE)
        many = [await hive.session(f"s{number}") for number in range(IDLE)]
        await asyncio.gather(*(finish(session, noops(1)) for session in many))
        await asyncio.sleep(REST)
        clock, before = Clock(), processor(os.getpid(), node.pid)
        await asyncio.sleep(LOOKED_AT)
        return {"cpu": (processor(os.getpid(), node.pid) - before) / clock.ms() * 1000 * 100}


async def costs(folder: Path) -> Numbers:
    """What tasks, sessions and processes take of the Redis itself."""
    redis = Redis(folder)
    async with redis.writer() as hive:
        node = await redis.node(TASKS_AT_ONCE)
        session = await hive.session("bench")
        await finish(session, noops(200))
        before, ours = redis.used(), (processor(os.getpid()), processor(node.pid))
        await finish(session, noops(TASKS))
        together = redis.used(before, TASKS)
        writer, worker = processor(os.getpid()) - ours[0], processor(node.pid) - ours[1]
        before = redis.used()
        for task in noops(SESSIONS):
            await finish(session, [task])
        alone = redis.used(before, SESSIONS)
        before = redis.used()
        for number in range(SESSIONS):
            await hive.session(f"s{number}")
        empty = redis.used(before, SESSIONS)
    return {
        "memory": together["memory"],
        "file": together["file"],
        "scripts": together["scripts"],
        "commands": together["commands"],
        "writer": writer / TASKS * 1e6,
        "node": worker / TASKS * 1e6,
        "memory, singly": alone["memory"],
        "scripts, singly": alone["scripts"],
        "session": empty["memory"],
        "leases": await redis.leases(1_000),
    }


async def node(folder: Path, url: str, name: str, slots: int) -> None:
    """A node, until it is interrupted."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    role = Role(here=Here(name=name, slots=slots), serves=True, calls=True)
    async with join(folder / name, config(folder, url), role):
        await stop.wait()


if __name__ == "__main__":
    if sys.argv[2] == "node":
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(node(Path(sys.argv[3]), sys.argv[4], sys.argv[5], int(sys.argv[6])))
    else:
        serve({work.__name__: measuring(work) for work in (sessions, idle, costs)})
