"""What others see of a session without asking it. Port `Board`: where public channels and readable keys are.

`messages` says what is told on channels, `keys` what can be read by key; both are pure. `runtime.publishing` brings it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Board(Protocol):
    """A Redis that people and other programs read. Raises `skep.errors.Unavailable` when it does not answer."""

    async def call(self, *command: Any) -> Any:
        """Sends one command for the key that is its first argument; returns the reply."""

    async def many(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Sends commands, each for one key alone, in as few round trips as it takes; returns their replies in order."""

    async def close(self) -> None:
        """Ends its connections."""
