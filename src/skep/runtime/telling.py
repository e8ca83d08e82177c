"""Telling a session something that must not be lost while its store does not say whether it was recorded."""

from __future__ import annotations

import asyncio
from typing import Any

from skep.core import inputs as inp
from skep.errors import Unavailable
from skep.runtime.session import Session

#: Times that it is told, and the wait before the second, seconds; it doubles.
AGAIN, WAIT = 5, 0.2


async def told(session: Session, given: inp.Input) -> Any:
    """The session's answer. `given` has a name of its own by which the session knows it: told twice it counts once.

    Raises:
        Unavailable: the session is broken, or the store still does not say.
    """
    for number in range(AGAIN):
        try:
            return await session.tell(given)
        except Unavailable:
            if number == AGAIN - 1 or session.failure is not None:
                raise
            await asyncio.sleep(WAIT * 2**number)
    raise AssertionError
