"""The two ways between an attempt's loop and the program of an MCP server, which the runtime keeps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

#: Lines of a server that may wait to be looked at; more are dropped, and the call that waits for one ends by its time.
MAX_LINES = 1_000


class Pipe:
    """The lines of one server.

    Args:
        write: takes a line for it.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write = write
        self.lines: asyncio.Queue[str | None] = asyncio.Queue(MAX_LINES)

    def heard(self, line: str | None) -> None:
        """A line of the server's; None: there are no more."""
        with contextlib.suppress(asyncio.QueueFull):
            self.lines.put_nowait(line)
