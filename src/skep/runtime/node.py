"""This machine as a node: its name, its boot, what it can give; its clock and randomness."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from skep.core.inputs import JoinNode
from skep.core.model import Resources

#: Attempts at once, all sessions together; what a session may have is in its own limits.
SLOTS = 10_000
NAME = "local"


class SystemClock:
    """Wall time and the system's randomness."""

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def random(self, size: int) -> bytes:
        """Random bytes."""
        return os.urandom(size)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def capacity(folder: Path) -> Resources:
    """What this machine has: cores, bytes of memory, bytes free where the state folder lies."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Resources(cpu=float(cores()), memory=memory, storage=shutil.disk_usage(folder).free)


def join(folder: Path, clock: SystemClock) -> JoinNode:
    """The input with which this machine, in this process, becomes the session's node."""
    boot = clock.random(16).hex()
    return JoinNode(at=clock.now(), node=NAME, boot=boot, capacity=capacity(folder), slots=SLOTS)
