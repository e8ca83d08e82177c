"""Who is at the other end of the owner's socket: a process that runs inside an attempt may look, and decides nothing."""

from __future__ import annotations

import os
import socket
import struct
import sys

from msgspec import Struct

from skep.runtime.deputies import Deputies, Deputy
from skep.terminals import keeper


def peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, when it connected; (-1, our own) where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return -1, os.geteuid()
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(pid), int(uid)


class Standing(Struct, frozen=True):
    """Where a process stands: `inside` an attempt, or under a command of the person's own that may answer (`deputy`)."""

    inside: bool
    deputy: Deputy | None = None


def standing(pid: int, home: str, deputies: Deputies) -> Standing:
    """Where a process stands. Inside is it, or one that it descends from, which carries the mark of this state folder, unless the
    first that Skep itself started is a deputy, and nothing below that carries the mark of another attempt or state folder.

    What cannot be looked at (it is gone, or hides itself, or lives in a world of processes of its own) counts as inside. An
    attempt's processes that lose their parents become children of the keeper, which carries the mark as well.

    Args:
        home: the state folder, as the mark has it.
    """
    if sys.platform != "linux":
        return Standing(False)
    if pid <= 0 or not keeper.environ(pid):
        return Standing(True)
    mark, seen = b"SKEP_HOME=" + os.fsencode(home), set[int]()
    met: set[bytes] = set()
    inside = hidden = False
    while pid > 0 and pid not in seen:
        seen.add(pid)
        environ, fields = keeper.environ(pid), keeper.stat(pid)
        inside = inside or mark in environ
        if not fields:
            return Standing(True)
        met |= {one for one in environ if one.startswith((b"SKEP_HOME=", keeper.MARK))}
        hidden = hidden or not environ
        deputy = deputies.at(pid, int(fields[19]))
        if deputy is not None:
            proper = not hidden and met <= {mark, keeper.MARK + deputy.nonce.encode()}
            return Standing(not proper, deputy if proper else None)
        pid = int(fields[1])
    return Standing(inside)
