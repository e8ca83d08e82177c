"""How machines that each have a memory of their own reach each other. Port `Relay`: nothing in it is trusted, all may be lost.

What goes through it is sealed by whoever uses it (`replicate`). Losing all of it at any time loses no memory, only time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct


class Heard(Struct, frozen=True):
    """Entries of the stream. `birth`: of the stream, another one after it was lost. `last`: the number of its last entry.

    `entries`: number and body of each, in order; numbers have gaps where entries were trimmed.
    """

    birth: bytes
    last: int
    entries: list[tuple[int, bytes]]


class Relay(Protocol):
    """A stream that all read, a board with what each said last, and questions from one to another.

    Every method raises `skep.errors.Unavailable` when it cannot be reached; what was to be told may then have been told.
    """

    async def tell(self, body: bytes) -> tuple[bytes, int]:
        """Puts an entry behind all others and wakes whoever listens; the stream's birth and the entry's number."""

    async def heard(self, after: int) -> Heard:
        """Some entries behind a number, as many as are well read at once."""

    async def post(self, node: str, body: bytes) -> dict[str, bytes]:
        """Says something of a node, in place of what was said before; returns what is said of all that said anything lately."""

    async def leave(self, node: str) -> None:
        """The node is not there any more."""

    async def ask(self, node: str, number: str, body: bytes) -> bytes:
        """Asks a node and waits for its answer. `number`: nobody ever asked under it. Raises Unavailable if there is none."""

    async def asked(self, node: str) -> list[tuple[str, bytes]]:
        """What this node was asked since the last time, with the numbers."""

    async def answer(self, number: str, body: bytes) -> None:
        """Answers."""

    async def listen(self, wake: Callable[[], None]) -> Callable[[], Awaitable[None]]:
        """From now on `wake` is called whenever there is something new, and now and then for nothing; returns how to stop."""

    async def close(self) -> None:
        """Ends it."""
