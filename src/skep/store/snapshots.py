"""Snapshots as files: `<folder>/<session number>/<event>`, a seal and the state. A cache: what is missing is replayed."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from skep.disk.durable import Draft, make_folder

_SEAL = 32


class Snapshots:
    """The snapshots of a state folder. Every method may raise OSError.

    Args:
        folder: made when the first snapshot is put.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, number: int, seq: int, sealed: bytes, blob: bytes) -> None:
        """Writes the snapshot of session `number` after event `seq`, durably."""
        folder = self._folder / str(number)
        make_folder(folder)
        with Draft(folder) as draft:
            draft.file.write(sealed)
            draft.file.write(blob)
            draft.keep(folder / str(seq))

    def listed(self, number: int) -> list[int]:
        """After which events there are snapshots, newest first."""
        folder = self._folder / str(number)
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def get(self, number: int, seq: int) -> tuple[bytes, bytes]:
        """Seal and state of one, as they are."""
        data = (self._folder / str(number) / str(seq)).read_bytes()
        return data[:_SEAL], data[_SEAL:]

    def keep(self, number: int, seqs: Collection[int]) -> None:
        """Removes all of a session but these, and what a crash left unfinished."""
        names = {str(seq) for seq in seqs}
        for path in (self._folder / str(number)).iterdir():
            if path.name not in names:
                path.unlink()

    def drop(self, number: int) -> None:
        """Removes all of a session."""
        folder = self._folder / str(number)
        if folder.is_dir():
            shutil.rmtree(folder)
