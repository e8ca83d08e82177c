"""A network of this process's own, made of network namespaces: machines on it can be cut off, and nothing of them stays."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_THREAD = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)


#: What this process is called on its network, and the switch to which all cables lead.
HERE, _SWITCH = "10.123.0.254", "lan"


class Place:
    """Where machines are: in a namespace of its own, from which one cable leads to this process's, and so to all others.

    Args:
        number: which one, from 0.
    """

    def __init__(self, number: int) -> None:
        #: What it is called by all others, and the cable's end here.
        self.address, self._end = f"10.123.0.{number + 1}", f"m{number}"
        before = os.open(_THREAD, os.O_RDONLY)
        _enter_new()
        self.namespace = os.open(_THREAD, os.O_RDONLY)
        _enter(before)
        #: What a command there begins with.
        self.within = ("nsenter", f"--net=/proc/{os.getpid()}/fd/{self.namespace}")
        _run(*self.within, "ip", "link", "add", "out", "type", "veth", "peer", "name", self._end, "netns", str(os.getpid()))
        _run("ip", "link", "set", self._end, "master", _SWITCH)
        _run(*self.within, "ip", "address", "add", f"{self.address}/24", "dev", "out")
        for name in ("lo", "out"):
            _run(*self.within, "ip", "link", "set", name, "up")
        self.mend()

    def cut(self) -> None:
        """From now on nothing arrives, either way; nobody is told."""
        _run("ip", "link", "set", self._end, "down")

    def mend(self) -> None:
        """All arrives again."""
        _run("ip", "link", "set", self._end, "up")

    def weather(self, *discipline: str) -> None:
        """From now on all that leaves or arrives goes by a queueing discipline (tc). Skips the test where there is no such."""
        if not shutil.which("tc"):
            pytest.skip("bad weather needs tc (Debian: iproute2)")
        for before, end in (self.within, "out"), ((), self._end):
            command = (*before, "tc", "qdisc", "replace", "dev", end, "root", *discipline)
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if "kind is unknown" in done.stderr:
                pytest.skip(f"the kernel here has no {discipline[0]}")
            assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Within, this thread is there: what it connects to, it reaches also while the place is cut off."""
        before = os.open(_THREAD, os.O_RDONLY)
        _enter(os.dup(self.namespace))
        try:
            yield
        finally:
            _enter(before)

    def has(self, pid: int) -> bool:
        """Whether a process is there."""
        return os.stat(f"/proc/{pid}/ns/net").st_ino == os.fstat(self.namespace).st_ino


@contextmanager
def network() -> Iterator[list[Place]]:
    """Within, this thread, and what it starts, have a network of their own. Skips the test where that is not allowed.

    Yields:
        An empty list for the places on it: they go with it.
    """
    if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("nsenter")):
        pytest.skip("network namespaces need root, ip and nsenter (Debian: iproute2, util-linux)")
    before = os.open(_THREAD, os.O_RDONLY)
    places: list[Place] = []
    try:
        _enter_new()
    except OSError as error:
        os.close(before)
        pytest.skip(f"network namespaces are not allowed here: {error}")
    try:
        _run("ip", "link", "add", _SWITCH, "type", "bridge")
        _run("ip", "address", "add", f"{HERE}/24", "dev", _SWITCH)
        for name in ("lo", _SWITCH):
            _run("ip", "link", "set", name, "up")
        yield places
    finally:
        _enter(before)
        for each in places:
            os.close(each.namespace)


def _enter_new() -> None:
    if _libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _enter(namespace: int) -> None:
    """Goes (back) to a namespace, and closes what it is known by."""
    assert _libc.setns(namespace, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    os.close(namespace)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    return not Path(f"/proc/{pid}").exists()
