"""Disks that are soon full, for tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small(folder: Path, size: str, untested: str) -> Iterator[Path]:
    """A file system of its own in a folder, while the block lasts.

    Args:
        folder: where it is mounted; made for it.
        size: as `mount` takes it, such as 16m.
        untested: what is not tried where it cannot be mounted, for the count of what did not run.
    """
    if os.geteuid() != 0:
        pytest.skip(f"needs root to mount a small file system: {untested} was not tested")
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a failed test still has files open there
