"""Who is at the other end of the owner's socket: a process that runs inside an attempt may look, and decides nothing."""

from __future__ import annotations

import os
import socket
import struct
import sys

from skep.runtime import requests as rq
from skep.terminals import keeper

#: What a process inside an attempt may ask for.
LOOKS = (
    rq.Who,
    rq.ListSessions,
    rq.Status,
    rq.GetTask,
    rq.Await,
    rq.Settle,
    rq.Explain,
    rq.Costs,
    rq.Ready,
    rq.Follow,
    rq.Diff,
)


def peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, when it connected; (-1, our own) where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return -1, os.geteuid()
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(pid), int(uid)


def inside(pid: int, home: str) -> bool:
    """Whether a process runs inside an attempt: it, or one that it descends from, carries the mark of this state folder.

    What cannot be looked at (it is gone, or hides itself, or lives in a world of processes of its own) counts as inside. An
    attempt's processes that lose their parents become children of the keeper, which carries the mark as well.

    Args:
        home: the state folder, as the mark has it.
    """
    if sys.platform != "linux":
        return False
    if pid <= 0 or not keeper.environ(pid):
        return True
    mark, seen = b"SKEP_HOME=" + os.fsencode(home), set[int]()
    while pid > 0 and pid not in seen:
        seen.add(pid)
        if mark in keeper.environ(pid):
            return True
        fields = keeper.stat(pid)
        if not fields:
            return True
        pid = int(fields[1])
    return False
