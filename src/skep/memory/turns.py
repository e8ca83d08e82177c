"""Whose turn it is to change a key: one after the other, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """The keys that are being changed, and who waits for that."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Turn] = {}

    def __contains__(self, name: tuple[str, str]) -> bool:
        return name in self._known

    @asynccontextmanager
    async def turn(self, namespace: str, key: str) -> AsyncIterator[None]:
        """Waits until nobody else changes the key, and has it for as long as the block."""
        name = namespace, key
        turn = self._known.setdefault(name, _Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                self._known.pop(name, None)


class _Turn:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0
