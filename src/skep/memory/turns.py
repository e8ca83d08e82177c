"""One at a time for each key, in the order in which they came."""

from __future__ import annotations

import asyncio
from types import TracebackType

Name = tuple[str, str]


class Turns:
    """The keys that are being changed.

    Keys nobody waits for take no room.
    """

    def __init__(self) -> None:
        self._taken: dict[Name, _Turn] = {}

    def __contains__(self, name: Name) -> bool:
        return name in self._taken

    def turn(self, namespace: str, key: str) -> _Turn:
        """The turn to change a key: `async with turns.turn(...)`, entered at once."""
        name = namespace, key
        turn = self._taken.get(name)
        if turn is None:
            turn = self._taken[name] = _Turn(self._taken, name)
        return turn


class _Turn:
    def __init__(self, taken: dict[Name, _Turn], name: Name) -> None:
        self._taken, self._name = taken, name
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def __aenter__(self) -> None:
        self._waiting += 1
        try:
            await self._lock.acquire()
        except BaseException:
            self._gone()
            raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.release()
        self._gone()

    def _gone(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            del self._taken[self._name]
