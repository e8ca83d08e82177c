"""Where the tests of memory stores keep them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from skep.memory import MemoryStore
from skep.memory.ephemeral import EphemeralShelf, EphemeralStore
from skep.memory.markdown import MarkdownStore
from skep.memory.sqlite import SqliteStore
from skep.memory.sums import SummedStore


class EphemeralHome:
    """A shelf in memory; the folder stays unused."""

    def __init__(self, folder: Path) -> None:
        self.shelf = EphemeralShelf()

    async def open(self) -> MemoryStore:
        return EphemeralStore(self.shelf)

    async def close(self) -> None:
        """Nothing is shared."""


class SqliteHome:
    """A state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def open(self) -> SqliteStore:
        return await SqliteStore.open(self.folder)

    async def close(self) -> None:
        """Nothing is shared."""

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """Its file, in somebody else's hands."""
        with closing(sqlite3.connect(self.folder / "memory.db", isolation_level=None)) as database:
            yield database


class MarkdownHome:
    """A state folder with a folder of files in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def open(self) -> MarkdownStore:
        return await MarkdownStore.open(self.folder)

    async def close(self) -> None:
        """Nothing is shared."""


class SummedHome(EphemeralHome):
    """The same, with its sums."""

    async def open(self) -> MemoryStore:
        return SummedStore(EphemeralStore(self.shelf))
