"""Where the tests of memory stores keep them."""

from __future__ import annotations

from pathlib import Path

from skep.memory import MemoryStore
from skep.memory.ephemeral import EphemeralShelf, EphemeralStore


class EphemeralHome:
    """A shelf in memory; the folder stays unused."""

    def __init__(self, folder: Path) -> None:
        self.shelf = EphemeralShelf()

    async def open(self) -> MemoryStore:
        return EphemeralStore(self.shelf)

    async def close(self) -> None:
        """Nothing is shared."""
