"""Reads what programs left behind without being led astray by it: no link is followed, nothing waited for, no end awaited."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


def read(folder: str | Path, name: str | Path, most: int, cut: Literal["", "begin", "end"] = "") -> bytes:
    """The content of a file.

    Args:
        folder: trusted, with all that it lies in.
        name: of the file, from there.
        most: bytes.
        cut: of a larger file that end is left out; none = it is refused.

    Raises:
        OSError: it is not there, is reached by a link, is no plain file, or is larger.
    """
    *way, last = Path(name).parts
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in way:
            inner = os.open(part, _FOLDER, dir_fd=here)
            os.close(here)
            here = inner
        handle = os.open(last, _FILE, dir_fd=here)
    finally:
        os.close(here)
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{name} is no plain file")
        if found.st_size > most:
            if not cut:
                raise OSError(f"{name} is larger than {most} bytes")
            if cut == "begin":
                file.seek(found.st_size - most)
        return file.read(most)
