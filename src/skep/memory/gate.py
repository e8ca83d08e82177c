"""Many at once, or one alone, by name: what changes a namespace goes in and out, and who pins it is in there alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Whoever wants to be alone waits for those inside; nobody goes in meanwhile, so that one's turn comes."""

    def __init__(self) -> None:
        self._inside: dict[str, int] = {}
        self._alone: dict[str, _Alone] = {}

    async def enter(self, name: str) -> None:
        """Goes in beside others; waits only while somebody is alone there, or about to be."""
        while (alone := self._alone.get(name)) is not None:
            await alone.over.wait()
        self._inside[name] = self._inside.get(name, 0) + 1

    def leave(self, name: str) -> None:
        """Goes out again."""
        if self._inside[name] > 1:
            self._inside[name] -= 1
            return
        del self._inside[name]
        if (alone := self._alone.get(name)) is not None:
            alone.empty.set()

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[None]:
        """Is in there alone for the length of the block."""
        while (other := self._alone.get(name)) is not None:
            await other.over.wait()
        mine = self._alone[name] = _Alone()
        try:
            if name in self._inside:
                await mine.empty.wait()
            yield
        finally:
            del self._alone[name]
            mine.over.set()


class _Alone:
    def __init__(self) -> None:
        self.empty, self.over = asyncio.Event(), asyncio.Event()
