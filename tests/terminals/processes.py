"""Looking at processes from outside: waiting for one to be gone, and what is there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path


async def gone(pid: int, within: float = 10.0) -> bool:
    """Waits until the process has ended (not: was waited for); false if it still lives after `within` seconds."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), within)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    return True


def state(pid: int) -> str:
    """The state letter of a process, or nothing."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether it is there and no zombie."""
    return state(pid) not in ("", "Z", "X")


def kill(pid: int) -> None:
    """SIGKILL, if it is there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def carrying(mark: str) -> list[int]:
    """Living processes with this `NAME=value` in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark.encode() in environment and alive(int(entry.name)):
                found.append(int(entry.name))
    return found
