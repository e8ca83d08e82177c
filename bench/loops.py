"""Agents of the runtime `llm` that take two turns with one call of a tool, against pydantic-ai's own fake model, durably.

The worker is warm, as it is when the first agent of a session has begun.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import skep
from bench.shape import LOOPS, LOOPS_AT_ONCE, Clock, Numbers, median, serve
from skep.core.model import AgentSpec, Limits, Plan

# As many as there is work: agents of a declared number would be told of each other, and the fake model calls every tool it has.
AGENT = AgentSpec(name="loop", runtime="llm", model="test", count=0, options={"tools": ["list_files"], "mcp": []})


def turns(count: int) -> list[skep.Task]:
    """So many tasks of one agent run each."""
    return [skep.Task(prompt="Look around.", agent="loop", mode="none")] * count


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[skep.Session]:
    """A session with such agents, warmed up."""
    async with skep.open(folder, agents=LOOPS_AT_ONCE) as hive:
        session = await hive.start(Plan(name="bench", agents=(AGENT,), limits=Limits(agents=LOOPS_AT_ONCE)))
        await finish(session, LOOPS_AT_ONCE)
        yield session


async def finish(session: skep.Session, count: int) -> None:
    """Runs so many agents. Raises RuntimeError if one did not end well, or with other than one call of a tool."""
    results = await session.gather(await session.submit_many(turns(count)))
    bad = [result for result in results if not result.ok]
    if bad:
        raise RuntimeError(f"{len(bad)} of {count} did not end well: {bad[0].cause}: {bad[0].detail}")
    if calls := [result.value for result in results if len(json.loads(result.value)) != 1]:
        raise RuntimeError(f"{len(calls)} of {count} did not take one call of a tool: {calls[0][:200]}")


async def alone(folder: Path) -> float:
    """Milliseconds of one agent, from submitting its task to the durable result, p50."""
    times = []
    async with opened(folder) as session:
        for _ in range(LOOPS):
            clock = Clock()
            await finish(session, 1)
            times.append(clock.ms())
    return median(times)


async def together(folder: Path) -> float:
    """Milliseconds of a hundred agents at once, median."""
    times = []
    async with opened(folder) as session:
        for _ in range(5):
            clock = Clock()
            await finish(session, LOOPS_AT_ONCE)
            times.append(clock.ms())
    return median(times)


def loop(_variant: str, folder: Path) -> Numbers:
    """One at a time."""
    return {"p50": asyncio.run(alone(folder))}


def loops(_variant: str, folder: Path) -> Numbers:
    """All at once."""
    return {"duration": asyncio.run(together(folder))}


if __name__ == "__main__":
    serve({"loop": loop, "loops": loops})
