"""What a run leaves: processes, open files."""

from __future__ import annotations

import os
from pathlib import Path


def left_behind(folder: Path) -> list[str]:
    """Living processes that carry the mark of a state folder below `folder`: number and command line of each."""
    mark = b"SKEP_HOME=" + os.fsencode(folder)
    found = []
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        try:
            environment = Path("/proc", name, "environ").read_bytes().split(b"\0")
            if any(entry.startswith(mark) for entry in environment):
                found.append(f"{name}: {Path('/proc', name, 'cmdline').read_bytes().decode(errors='replace')}")
        except OSError:  # gone meanwhile
            continue
    return found


def open_files() -> list[str]:
    """What this process has open, by descriptor."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            continue
    return sorted(found)
