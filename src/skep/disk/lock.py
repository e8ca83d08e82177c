"""A folder that one process works with: the others are refused, until it ends or lets go."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from skep.errors import Conflict


class Lock:
    """Held from now on.

    Args:
        path: a file for nothing else; it is made, and stays.
        what: what is worked with, for the error.

    Raises:
        Conflict: another process, or another part of this one, has it.
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise Conflict(f"another process works with {what}", fix="Wait until it is done, or end it.") from None

    def close(self) -> None:
        """Lets others have it."""
        os.close(self._file)
