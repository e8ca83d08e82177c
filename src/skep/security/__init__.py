"""Port Sandbox: what a program may see and do, and how it is started so that it cannot do more.

A sandbox rewrites how a program starts and nothing else: terminals start what it gives like any other program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from skep.terminals import Profile

#: What confinement is made of: name -> what holds where it holds.
PROPERTIES: dict[str, str] = {
    "files": "only named files and folders can be read, and only named ones changed",
    "modes": "modes, owners and times of files outside cannot be changed",
    "settings": "settings of the repository's git that may hold tokens are not shown",
    "home": "HOME is a folder of the attempt's own",
    "network": "no network, or named hosts by Skep's proxy alone",
    "hosts": "named hosts can be allowed",
    "processes": "no process outside can be traced, signalled, or read",
    "pids": "no process outside can be seen",
    "ipc": "no shared memory, semaphores or message queues of others",
    "sockets": "no Unix socket can be connected to",
    "kernel": "no mounting, keyrings, namespaces, modules, io_uring, typing into terminals",
    "memory": "bounded for all processes together",
    "count": "the number of processes is bounded",
    "cpu": "bounded for all processes together",
    "disk": "the size of a file, of what is in memory such as /tmp, and of what an attempt adds to its folders is bounded",
}


class Limits(Struct, frozen=True, kw_only=True, gc=False):
    """Bounds of the processes of one attempt together; 0 = none. cpu in cores, memory in bytes, disk in bytes of one file.

    `disk_total`: bytes that the attempt's own folders may grow by. No sandbox sees to it: who carries the attempt out does.
    """

    cpu: float = 0.0
    memory: int = 0
    processes: int = 0
    disk: int = 0
    disk_total: int = 0


class Bounds(Struct, frozen=True, kw_only=True, gc=False):
    """What one program may see and do. Every path is absolute and without symbolic links; one that is not there is left out.

    Args:
        write: folders and files that it may read and change.
        own: those of them that are the attempt's own, and its home: `Limits.disk_total` is of these.
        read: folders and files that it may read.
        instead: path -> file that it reads in its place, where the sandbox can do that.
        hidden: folders that are empty, but for what is named below them.
        home: the folder that stands where HOME does; empty = one in memory, gone with the program.
        door: path of the Unix socket at which a listener for the proxy is handed over; empty = no network at all.
        listens: it is on this machine's network, to be reached there, and so has a way out that nothing else guards.
        near: address and port of hosts on this machine's own loopback that may be reached: they are found where they are.
        limits: of this one program, as far as a sandbox and no control group sees to them.
    """

    write: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    instead: Mapping[str, str] = {}
    hidden: tuple[str, ...] = ()
    home: str = ""
    door: str = ""
    listens: bool = False
    near: tuple[tuple[str, int], ...] = ()
    limits: Limits = Limits()


class Sandbox(Protocol):
    """A way to confine programs on this machine."""

    name: str
    lost: Mapping[str, str]  #: property that does not hold here -> why

    def confine(self, profile: Profile, bounds: Bounds) -> Profile:
        """How the program is started so that it stays within the bounds."""


def words(sandbox: Sandbox) -> str:
    """How runs in it are called: `confined (bubblewrap)`, and what is lost."""
    lost = f"; lost: {', '.join(sandbox.lost)}" if sandbox.lost else ""
    return f"confined ({sandbox.name}{lost})"
