"""Keys pressed in the terminal, one by one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import AsyncIterator

#: Presses that wait to be looked at; further ones are dropped.
MOST = 64


@contextlib.asynccontextmanager
async def pressed() -> AsyncIterator[asyncio.Queue[bytes]]:
    """What is typed, as it comes, without echo; nothing ever if standard input is no terminal, or another's who is in front.

    Ctrl-C stays an interrupt.
    """
    keys: asyncio.Queue[bytes] = asyncio.Queue(MOST)
    if not sys.stdin.isatty() or os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
        yield keys
        return
    handle, loop = sys.stdin.fileno(), asyncio.get_running_loop()

    def read() -> None:
        with contextlib.suppress(OSError):
            if data := os.read(handle, 1024):
                with contextlib.suppress(asyncio.QueueFull):
                    keys.put_nowait(data)
                return
        loop.remove_reader(handle)

    before = termios.tcgetattr(handle)
    tty.setcbreak(handle)
    loop.add_reader(handle, read)
    try:
        yield keys
    finally:
        loop.remove_reader(handle)
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
