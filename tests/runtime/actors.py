"""Processes of their own that work on a workspace: `drivers/act.py`, started, heard, killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

ROOT = Path(__file__).parents[2]
ACT = Path(__file__).with_name("drivers") / "act.py"


class Actor:
    """One such process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.pid = process.pid
        self._heard: dict[str, list[Any]] = {}

    async def said(self, word: str) -> Any:
        """Waits until it says this word; returns the value that came with it. What else it says is kept."""
        assert self.process.stdout is not None
        while not self._heard.get(word):
            line = await self.process.stdout.readline()
            if not line:
                raise AssertionError(f"the process ended before it said {word!r}: {await self.complaints()}")
            said, value = json.loads(line)
            self._heard.setdefault(said, []).append(value)
        return self._heard[word].pop(0)

    def tell(self, line: str = "") -> None:
        """A line for it to hear."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process alone."""
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """kill -9."""
        with contextlib.suppress(ProcessLookupError):
            self.send(signal.SIGKILL)
        await self.process.wait()

    async def complaints(self) -> str:
        """What it wrote to standard error, once it has ended."""
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def ended(self) -> int:
        """Waits for its end; returns the exit code. Anything on standard error is a failure."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            said, value = json.loads(line)
            self._heard.setdefault(said, []).append(value)
        complaints = await self.complaints()
        assert not complaints, complaints
        return await self.process.wait()


@asynccontextmanager
async def running(*command: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Actor]:
    """A process that says lines of JSON; killed at the end if it still runs.

    Args:
        command: what to run.
        env: further variables.
    """
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **(env or {})}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, env=variables, stdin=pipe, stdout=pipe, stderr=pipe, limit=1 << 24)
    found = Actor(process)
    try:
        yield found
    finally:
        await found.kill()
        transport = process._transport  # type: ignore[attr-defined]  # asyncio has no public way to close the pipes
        transport.close()


@asynccontextmanager
async def actor(
    folder: Path, code: str, *, env: Mapping[str, str] | None = None, wrapper: Sequence[str] = ()
) -> AsyncIterator[Actor]:
    """A process that opens `folder` and carries out `code` (see `drivers/act.py`).

    Args:
        env: further variables.
        wrapper: a command to run it under.
    """
    async with running(*wrapper, sys.executable, str(ACT), str(folder), dedent(code), env=env) as found:
        yield found
