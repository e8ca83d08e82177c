"""This machine as a node: its name, its boot, what it can give; its clock and randomness."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from skep.core.inputs import JoinNode
from skep.core.model import Resources
from skep.disk.durable import Draft, make_folder
from skep.errors import Invalid, Unavailable

#: Attempts at once, all sessions together; what a session may have is in its own limits.
SLOTS = 10_000
NAME = "local"
#: The same of a machine among several that share a store, unless it is told otherwise.
SHARED_SLOTS = 16
#: Characters of a machine's own name in its node's.
MAX_HOST = 40
#: The file of a state folder that has its mark, and bytes of it.
MARK, MARK_SIZE = "node", 4


class SystemClock:
    """Wall time and the system's randomness."""

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def random(self, size: int) -> bytes:
        """Random bytes."""
        return os.urandom(size)


def named(state: Path) -> str:
    """The name of this machine among those that share a store: its own, and a random mark that its state folder keeps.

    Machines that were cloned have one name and the same paths; the mark tells them apart, unless it was cloned with them.

    Raises:
        Invalid: the file of the mark holds none.
        Unavailable: it cannot be made or read.
    """
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:MAX_HOST] or "node"
    return f"{host}-{_mark(state)}"


def _mark(state: Path) -> str:
    path = state / MARK
    try:
        make_folder(state)
        if not path.exists():
            with Draft(state) as draft:
                draft.file.write(os.urandom(MARK_SIZE).hex().encode())
                draft.keep(path)
        mark = path.read_bytes().decode("ascii", "replace").strip()
    except OSError as error:
        raise Unavailable(
            f"{path}, which marks this node, cannot be used: {error.strerror}", "Mend it, or give a --name."
        ) from None
    if not re.fullmatch(rf"[0-9a-f]{{{2 * MARK_SIZE}}}", mark):
        raise Invalid(f"{path} holds no mark of a node", "Remove it: the node gets a new name then.")
    return mark


def place(state: Path) -> str:
    """What is true of one state folder only, on all machines, until this one is started again; "" if the system does not tell."""
    try:
        boot, found = Path("/proc/sys/kernel/random/boot_id").read_text(), state.stat()
    except OSError:
        return ""
    return f"{boot.strip()}/{found.st_dev}/{found.st_ino}"


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def capacity(folder: Path) -> Resources:
    """What this machine has: cores, bytes of memory, bytes free where the state folder lies."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Resources(cpu=float(cores()), memory=memory, storage=shutil.disk_usage(folder).free)


class Here(Struct, frozen=True, kw_only=True):
    """This machine, in this process, as a node.

    Args:
        name: unique among those who share a store.
        place: its state folder's, see `place`: this process alone owns that, so who has the name there is dead; "" = not known.
        slots: attempts at once; 0 = it carries out none.
        cpu, memory: what it gives: cores, bytes; 0 = all that there is.
    """

    name: str = NAME
    place: str = ""
    slots: int = SLOTS
    cpu: float = 0.0
    memory: int = 0
    labels: dict[str, str] = {}

    def join(self, folder: Path, clock: SystemClock) -> JoinNode:
        """The input with which it becomes a session's node."""
        boot, has = clock.random(16).hex(), capacity(folder)
        given = Resources(self.cpu or has.cpu, self.memory or has.memory, has.storage)
        return JoinNode(at=clock.now(), node=self.name, boot=boot, capacity=given, slots=self.slots, labels=self.labels)


class Role(Struct, frozen=True, kw_only=True):
    """What a process does for others who share its store.

    Args:
        here: as which node.
        serves: it carries out attempts of sessions that others write.
        calls: functions that a program handed over for its own process run in this one; otherwise in processes of their own.
        leads: it goes on with sessions whose writer is gone.
        hosted: it has no files of the user: sessions bring along what they work on.
        say: hears, in words for people, what it waits for.
    """

    here: Here = Here()
    serves: bool = False
    calls: bool = False
    leads: bool = False
    hosted: bool = False
    say: Callable[[str], None] | None = None
