"""The endings that several runtimes come to."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from skep.agents import Ending, Job
from skep.errors import Invalid


class Failed(Exception):
    """The attempt is over, with this ending."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.detail)
        self.ending = ending


async def bounded(job: Job, work: Coroutine[Any, Any, Ending]) -> Ending:
    """The ending of an attempt that takes no longer than its task may, and that may raise Failed or Invalid instead."""
    try:
        async with asyncio.timeout(job.task.timeout or None):
            return await work
    except Failed as failed:
        return failed.ending
    except Invalid as error:
        return Ending(ok=False, cause="error", detail=error.message)
    except TimeoutError:
        return late(job.task.timeout)


def late(timeout: float) -> Ending:
    """It took more than this, in seconds."""
    return Ending(ok=False, cause="timed-out", detail=f"it took more than {timeout:g} s")


def denied(tools: Iterable[str]) -> Ending:
    """The client was refused these tools, and then ended as if all were well."""
    return Ending(ok=False, cause="denied", detail=f"it was not allowed to use {', '.join(dict.fromkeys(tools))}")
