"""What is under way when a store is closed: it may end, nothing more begins."""

from __future__ import annotations

import asyncio

from skep.errors import Unavailable


class UnderWay:
    """Counts calls: each is a `with` block. Not for threads."""

    def __init__(self) -> None:
        self._calls = 0
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    def __enter__(self) -> None:
        if self._closed:
            raise Unavailable("the store is closed", fix="Open it again.")
        self._calls += 1
        self._idle.clear()

    def __exit__(self, *_: object) -> None:
        self._calls -= 1
        if not self._calls:
            self._idle.set()

    async def close(self) -> None:
        """Lets no call begin; returns when the last one has ended."""
        self._closed = True
        await self._idle.wait()
