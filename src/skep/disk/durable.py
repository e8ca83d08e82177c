"""Files that are whole or absent, whatever happens: temporary file, fsync, rename, fsync of the folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import TracebackType

#: What the names of unfinished files begin with; after a crash they lie about until someone sweeps them.
UNFINISHED = ".unfinished-"


class Draft:
    """A file that is not there yet. Write to `file`, then `keep` it; leaving the block without that removes it.

    Args:
        folder: where it is written; it must be kept on the same file system. Readable by its owner only.
    """

    def __init__(self, folder: Path) -> None:
        number, name = tempfile.mkstemp(prefix=UNFINISHED, dir=folder)
        self.file = os.fdopen(number, "wb")
        self._path: Path | None = Path(name)

    def keep(self, path: Path) -> None:
        """Makes it durable as `path`, in place of what was there."""
        if self._path is None:
            raise ValueError("a draft is kept once")
        self.file.flush()
        os.fsync(self.file.fileno())
        self._path.rename(path)
        self._path = None
        sync_folder(path.parent)

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.file.close()
        finally:
            if self._path is not None:
                self._path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Makes a folder, for its owner only, durably; its parent is made too if need be."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
