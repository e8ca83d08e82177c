"""Writes a file of a session again and again, each time in a child that is killed one step later.

Prints how many steps there were, and after how many of the kills the file was there.

Argument: a folder.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skep.disk import durable
from skep.runtime.parcel import FORMAT, Manifest, Packing, check

left = 0
folder = Path(sys.argv[1])


def seal(text: bytes) -> bytes:
    return bytes(32)


def counted(work: Callable[..., Any]) -> Callable[..., Any]:
    def step(*args: Any, **more: Any) -> Any:
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*args, **more)

    return step


def write(path: Path) -> None:
    for name in ("begin", "write", "keep", "close", "_end"):
        setattr(Packing, name, counted(getattr(Packing, name)))
    setattr(Path, "rename", counted(Path.rename))  # noqa: B010 - a plain assignment is one to a method, which mypy refuses
    os.fsync = counted(os.fsync)
    durable.sync_folder = counted(durable.sync_folder)
    packing = Packing(path)
    for name in ("log", "archive", "blobs/x"):
        packing.begin(name)
        packing.frames([os.urandom(300_000)] * 2)
    packing.keep(Manifest(format=FORMAT, session="s", name="s", at=1, events=1, key=seal(b"")[:8].hex()), seal)
    packing.close()


steps = whole = 0
while True:
    steps += 1
    left = steps
    path = folder / f"{steps}.skep"
    child = os.fork()
    if child == 0:
        write(path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if path.exists():
        whole += 1
        manifest, ours, trouble = check(path, seal)
        assert (manifest is not None, ours, trouble) == (True, True, ""), trouble
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
print(steps, whole)
