"""How long a session with a million events and ten thousand open tasks takes to come back, and how much memory that needs.

The log is written as the session's loop writes it. Its snapshot is half as old as it may get. Each way back is measured in a
process of its own.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from bench.shape import Clock, Numbers, peak_memory, serve
from skep.core import inputs as inp
from skep.core.decide import decide
from skep.core.model import AgentSpec, Limits, Plan, Resources, Task
from skep.core.state import State, pack
from skep.runtime.loop import SNAPSHOT_EVERY, Loop
from skep.runtime.node import SystemClock
from skep.store import Head, codec
from skep.store.sqlite import SqliteLog

EVENTS, OPEN = 1_000_000, 10_000
AT_ONCE = 256
SESSION = "bench-1"


class Writer:
    """Writes a session's log, turn by turn."""

    def __init__(self, log: SqliteLog, head: Head) -> None:
        self.log, self.head = log, head
        self.state = State().rebuild()
        self.turns = 0
        self.tasks = 0

    async def say(self, *inputs: inp.Input) -> None:
        """One turn, appended, and those that it leaves to be taken."""
        more = True
        while more:
            self.turns += 1
            salt = self.turns.to_bytes(16, "big")
            decision = decide(self.state, inputs, 1_000_000 + self.turns, salt)
            refused = [answer for answer in decision.answers if isinstance(answer, Exception)]
            if refused:
                raise refused[0]
            archive = [(entry.task.id, pack(entry)) for entry in self.state.leaving]
            self.state.leaving = []
            if decision.events:
                blob = codec.encode(decision.events)
                self.head = await self.log.append(
                    SESSION, self.head.epoch, self.head.seq, salt, len(decision.events), blob, archive
                )
            more, inputs = decision.more, ()

    async def submit(self, count: int) -> None:
        """Submits so many tasks."""
        made = range(self.tasks, self.tasks + count)
        self.tasks += count
        await self.say(inp.Submit(at=0, tasks=tuple(Task(call="bench.sessions:nothing", args={"n": n}) for n in made)))

    async def work(self, until: int) -> None:
        """Lets tasks end until the log has so many events. So many are open at any time."""
        while self.state.seq < until:
            if self.state.open_tasks < OPEN + AT_ONCE:
                await self.submit(1_000)
            running = [entry for entry in self.state.entries.values() if entry.attempt is not None]
            ended = (
                inp.Ended(at=0, task=entry.task.id, n=entry.attempt.n, nonce=entry.attempt.nonce, outcome="ok")
                for entry in running
                if entry.attempt is not None
            )
            await self.say(*ended)


async def write(folder: Path) -> tuple[int, bytes]:
    """Writes the log; returns the snapshot that the session would have at its end."""
    log = await SqliteLog.open(folder)
    await log.create(SESSION, 1_000_000)
    writer = Writer(log, await log.acquire(SESSION))
    specs = (AgentSpec(name="python", runtime="python", count=0),)
    await writer.say(inp.OpenSession(at=0, session=SESSION, plan=Plan(name="bench", limits=Limits(agents=AT_ONCE), agents=specs)))
    await writer.say(inp.JoinNode(at=0, node="here", boot="b", capacity=Resources(cpu=1e6, memory=2**50), slots=AT_ONCE))
    await writer.work(EVENTS - SNAPSHOT_EVERY // 2)
    snapshot = writer.state.seq, writer.state.save()
    await writer.work(EVENTS)
    await log.close()
    return snapshot


async def keep(folder: Path, snapshot: tuple[int, bytes]) -> None:
    """Keeps the snapshot in the store."""
    log = await SqliteLog.open(folder)
    await log.snapshot(SESSION, *snapshot)
    await log.close()


async def come_back(folder: Path) -> Numbers:
    """Opens the store and the session as an owner does, and says how long that took."""
    clock = Clock()
    log = await SqliteLog.open(folder)
    session = Loop(SESSION, log, SystemClock(), None)
    await session.start()
    seconds = clock.ms() / 1000
    if session.state.seq < EVENTS or session.state.open_tasks < OPEN:
        raise RuntimeError(f"{session.state.seq} events and {session.state.open_tasks} open tasks came back")
    memory = peak_memory()
    session.snapshot_every = sys.maxsize
    await log.close()
    return {"seconds": seconds, "memory": memory}


def elsewhere(folder: Path) -> Numbers:
    """`come_back` in a process of its own."""
    command = [sys.executable, "-m", "bench.restart", "", "come-back", str(folder)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: Numbers = json.loads(said)
    return found


def restart(_variant: str, folder: Path) -> Numbers:
    """By full replay, then from the snapshot."""
    snapshot = asyncio.run(write(folder))
    replayed = elsewhere(folder)
    asyncio.run(keep(folder, snapshot))
    restored = elsewhere(folder)
    return {
        "from snapshot": restored["seconds"],
        "full replay": replayed["seconds"],
        "memory": max(restored["memory"], replayed["memory"]),
    }


if __name__ == "__main__":
    serve({"restart": restart, "come-back": lambda _variant, folder: asyncio.run(come_back(folder))})
