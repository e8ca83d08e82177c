"""Files that copies of sessions are written to and read from."""

from __future__ import annotations

import asyncio
import threading

import pytest

from skep.runtime.copies import opened


class Slow:
    """A file whose opening takes until the test lets it."""

    def __init__(self, begun: threading.Event, go: threading.Event, made: list[Slow]) -> None:
        self.closed = False
        begun.set()
        go.wait()
        made.append(self)

    def close(self) -> None:
        self.closed = True


async def test_what_was_being_opened_when_its_user_was_cancelled_is_closed() -> None:
    begun, go, made = threading.Event(), threading.Event(), list[Slow]()

    async def use() -> None:
        async with opened(Slow, begun, go, made):
            pytest.fail("it was cancelled before")

    using = asyncio.ensure_future(use())
    await asyncio.to_thread(begun.wait)
    using.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await using
    assert [one.closed for one in made] == [True]


async def test_what_cannot_be_opened_says_why() -> None:
    def refused() -> Slow:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        async with opened(refused):
            pytest.fail("it is not open")
