"""Waiting for what goes on whether anybody waits or not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TypeVar

T = TypeVar("T")


async def outcome(going: asyncio.Future[T]) -> T:
    """What comes of it. A caller that is cancelled goes when it is over, so that it finds no half-made state, nor one to come.

    Raises what it raises.
    """
    try:
        return await asyncio.shield(going)
    except asyncio.CancelledError:
        while not going.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([going])
        if not going.cancelled():
            going.exception()  # nobody is there any more to be told of it
        raise
