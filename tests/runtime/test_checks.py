"""A check that is cancelled is over, whatever comes at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from skep.runtime.checks import check
from skep.terminals import Exit, Profile


class OneTerminal:
    """A process that ends when the test says so."""

    pid, born = 1, 1

    def __init__(self) -> None:
        self.waited = asyncio.Event()
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.gone = False

    async def create(self, profile: Profile, output: Callable[[bytes], None]) -> OneTerminal:
        return self

    def release(self) -> None: ...

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None: ...

    def resize(self, columns: int, rows: int) -> None: ...

    async def wait(self) -> Exit:
        self.waited.set()
        return await self.ended

    async def end(self, grace: float = 2.0) -> None:
        self.gone = True

    async def close(self) -> None: ...


async def test_a_cancellation_that_comes_with_the_end_is_not_lost() -> None:
    terminal = OneTerminal()
    checking = asyncio.create_task(check(terminal, "verify", "true", "/", {}, "n", lambda data: None))
    await terminal.waited.wait()
    terminal.ended.set_result(Exit(0))
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    assert terminal.gone
