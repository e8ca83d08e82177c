"""What an owner that died has left on this machine: processes that run on, working trees that nobody needs, work not yet kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from skep.core.model import Task
from skep.core.state import State
from skep.errors import SkepError
from skep.runtime.names import Names
from skep.runtime.parts import Parts

R = TypeVar("R")


class Look(Protocol):
    """Asks a session something, see `Live.look`."""

    async def __call__(self, session: str, query: Callable[[State], R]) -> R:
        """The answer."""


async def sweep(parts: Parts, names: Names, look: Look) -> None:
    """Ends what a dead owner left running, and tidies up after it."""
    await parts.performer.sweep()
    trees = await parts.workspace.trees()
    needed = [path for path, (session, name) in trees.items() if await _needed(parts, names, look, path, session, name)]
    await parts.workspace.tidy(needed)


async def _needed(parts: Parts, names: Names, look: Look, path: str, session: str, name: str) -> bool:
    """Whether a working tree must stay: a person looks at it, or its attempt is still to be ended.

    What an attempt left that nobody could keep (the disk was full) is kept now.
    """
    kind, _, task = name.partition("/")
    if kind in ("open", "shared"):
        return True
    if kind != "task" or not await names.find(session):
        return False
    n, under_way = await look(session, partial(_attempt, task=task))
    if under_way or not n:
        return under_way
    try:
        refs = await parts.workspace.refs(session)
        if f"task/{task}/{n}" not in refs and f"wip/{task}/{n}" not in refs:
            await parts.performer.keep(path, session, Task(id=task), n)
    except SkepError:
        return True
    return False


def _attempt(state: State, task: str) -> tuple[int, bool]:
    """The number of a task's last attempt, 0 if there never was one, and whether it is under way."""
    entry = state.entries.get(task)
    return (entry.attempts, entry.attempt is not None) if entry is not None else (0, False)
