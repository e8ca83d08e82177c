"""Finding and ending processes by the marks in their environment, after a crash that even the keeper did not survive.

Every process that Skep starts carries `SKEP_NONCE` (its attempt) and, where there is one, `SKEP_HOME` (the state folder of
the Skep that started it); so does a keeper, with `SKEP_HOME` alone. Only Linux shows the environment of processes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Collection

from msgspec import Struct

from skep.terminals import keeper

#: Seconds between two looks at what does not go away.
STEP = 0.02


class Marked(Struct, frozen=True, gc=False):
    """A living process that carries our marks: its number, start time (clock ticks since boot), group and nonce."""

    pid: int
    born: int
    group: int
    nonce: str


def find_marked(home: str = "", nonces: Collection[str] = ()) -> list[Marked]:
    """Living processes that carry this `SKEP_HOME` and one of these `SKEP_NONCE`s; what is left empty is not asked for.

    Never this process or those that it descends from. Nothing where there is no /proc.
    """
    if sys.platform != "linux" or not (home or nonces):
        return []
    spared = _line()
    wanted = {b"SKEP_NONCE=" + os.fsencode(nonce) for nonce in nonces}
    found = []
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) in spared:
            continue
        marks = keeper.environ(name)
        if home and b"SKEP_HOME=" + os.fsencode(home) not in marks:
            continue
        if wanted and wanted.isdisjoint(marks):
            continue
        fields = keeper.stat(name)
        if fields and fields[0] not in b"ZX":
            nonce = next((mark[len(keeper.MARK) :] for mark in marks if mark.startswith(keeper.MARK)), b"")
            found.append(Marked(int(name), int(fields[19]), int(fields[2]), os.fsdecode(nonce)))
    return found


async def end_marked(home: str = "", nonces: Collection[str] = (), grace: float = 2.0) -> int:
    """Ends what `find_marked` finds, until it finds nothing: SIGTERM, after `grace` seconds SIGKILL. Returns how many it saw.

    A keeper among them first ends what it keeps, as if its Skep had gone.
    """
    loop = asyncio.get_running_loop()
    kill_at = loop.time() + grace
    seen: set[tuple[int, int]] = set()
    while found := find_marked(home, nonces):
        kill = loop.time() >= kill_at
        for process in found:
            if kill or (process.pid, process.born) not in seen:
                _signal(process, signal.SIGKILL if kill else signal.SIGTERM)
            seen.add((process.pid, process.born))
        await asyncio.sleep(STEP)
    return len(seen)


def _signal(process: Marked, number: signal.Signals) -> None:
    """Signals the process and its group, if the number still means the process that was found."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        fields = keeper.stat(process.pid)
        if fields and int(fields[19]) == process.born:
            if process.group != os.getpgrp() and int(fields[2]) == process.group:
                os.killpg(process.group, number)
            signal.pidfd_send_signal(handle, number)
            signal.pidfd_send_signal(handle, signal.SIGCONT)
    except OSError:
        pass  # it is gone, or another user's by now
    finally:
        os.close(handle)


def _line() -> set[int]:
    """This process and all that it descends from."""
    pid, line = os.getpid(), set[int]()
    while pid and pid not in line:
        line.add(pid)
        fields = keeper.stat(pid)
        pid = int(fields[1]) if fields else 0
    return line
