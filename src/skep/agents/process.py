"""The one process that a runtime starts for an attempt: recorded before it runs, bounded in time, gone at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from skep.agents import LOST, Ending, Host
from skep.agents.endings import late
from skep.errors import Invalid, SkepError
from skep.terminals import Exit, Profile, Terminal, Terminals


async def carry_out(
    terminals: Terminals, profile: Profile, host: Host, timeout: float, output: Callable[[bytes], None]
) -> Exit | Ending:
    """Runs the program to its end.

    Args:
        timeout: seconds by the event loop's clock, which no change of the wall clock moves; 0 = no limit.

    Returns:
        How it exited, or why the attempt failed without that. Either way, and also when this is cancelled, none of its
        processes is left.
    """
    try:
        terminal = await terminals.create(profile, output)
    except Invalid as error:
        return Ending(ok=False, cause="error", detail=error.message)
    except SkepError as error:
        return Ending(ok=False, cause="infrastructure", detail=error.message)
    try:
        await host.spawned(terminal.pid, terminal.born)
        terminal.release()
        async with asyncio.timeout(timeout or None):
            ended = await terminal.wait()
        return LOST if ended.lost else ended
    except TimeoutError:
        return late(timeout)
    finally:
        await end(terminal)


async def end(terminal: Terminal) -> None:
    """Ends it, whoever cancels meanwhile, and however often: being cancelled goes on afterwards."""
    await to_the_end(terminal.end())


async def to_the_end(work: Coroutine[None, None, None]) -> None:
    """Does something to its end, whoever cancels meanwhile, and however often: being cancelled goes on afterwards."""
    doing = asyncio.ensure_future(work)
    cancelled = False
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError:
            cancelled = True
    doing.result()
    if cancelled:
        raise asyncio.CancelledError
