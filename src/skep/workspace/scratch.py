"""Folders for the time of one call. What is in the scratch folder and in no call's hands was left by a crash."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from skep.errors import Unavailable
from skep.workspace.erase import erase


class Scratch:
    """Makes them below one folder."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._in_use: set[Path] = set()

    @asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """A new folder, removed afterwards. Raises Unavailable for any OSError within: with the name, and what failed."""
        path: Path | None = None
        try:
            path = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._top))
            self._in_use.add(path)
            yield path
        except OSError as error:
            name = error.filename or self._top
            raise Unavailable(f"{name}: {error.strerror}.", "Check its owner, its mode and the disk, and repeat.") from error
        finally:
            if path is not None:
                await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
                self._in_use.discard(path)

    async def tidy(self) -> None:
        """Removes what a crash left."""
        for path in await asyncio.to_thread(lambda: list(self._top.iterdir())):
            if path not in self._in_use:
                await asyncio.to_thread(erase, path)
