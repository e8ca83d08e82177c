"""The same two turns on pydantic-ai alone: nothing is recorded, nothing outlives the process."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from bench.shape import LOOPS, LOOPS_AT_ONCE, Clock, median, serve

agent = Agent(TestModel())


@agent.tool_plain
async def list_files(path: str = ".") -> str:
    """Names in a folder."""
    return "\n".join(sorted(os.listdir(path)))


async def alone() -> float:
    """Milliseconds of one agent, p50."""
    times = []
    for _ in range(LOOPS):
        clock = Clock()
        await agent.run("Look around.")
        times.append(clock.ms())
    return median(times)


async def together() -> float:
    """Milliseconds of a hundred agents at once, median."""
    times = []
    for _ in range(5):
        clock = Clock()
        await asyncio.gather(*(agent.run("Look around.") for _ in range(LOOPS_AT_ONCE)))
        times.append(clock.ms())
    return median(times)


def loop(_variant: str, _folder: Path) -> float:
    """One at a time, in a folder as empty as an attempt's."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        return asyncio.run(alone())


def loops(_variant: str, _folder: Path) -> float:
    """All at once."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        return asyncio.run(together())


if __name__ == "__main__":
    serve({"loop": loop, "loops": loops})
