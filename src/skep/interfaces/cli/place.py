"""Where a command works, who gives it, and the way through the door."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from skep.errors import Invalid, NotFound
from skep.interfaces.cli.words import one_line

if TYPE_CHECKING:
    from skep.app import Session, Skep

T = TypeVar("T")


def workspace() -> Path:
    """The folder that the command works in. Raises as `folder_of`."""
    ctx = click.get_current_context(silent=True)
    return folder_of(ctx.find_root().obj.workspace if ctx is not None else None)


def folder_of(named: str | None) -> Path:
    """The workspace that -C names; without it the one that the current folder belongs to.

    Raises:
        Invalid: no such folder.
    """
    from skep.config import workspace_of

    if named:
        folder = Path(named).expanduser()
        if not os.path.isdir(folder):  # which a path that is too long is not, either
            raise Invalid(f"there is no folder {one_line(str(folder))}", "Name an existing folder with -C.")
        return folder.resolve()
    try:
        return workspace_of(Path.cwd())
    except FileNotFoundError:
        raise Invalid("the current folder does not exist any more", "Go to one that does.") from None


def person() -> str:
    """Who gives the command, for the record."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@asynccontextmanager
async def hive(folder: Path | None = None, found: bool = True) -> AsyncIterator[Skep]:
    """The open workspace.

    Args:
        found: whether there must be something already: merely looking makes no state folder.

    Raises:
        NotFound: nothing was ever run here.
    """
    import skep.app
    from skep.config import STATE

    folder = folder or workspace()
    if found and not (folder / STATE).is_dir():
        raise NotFound(f"there is no session in {folder}", "`skep run FILE` starts one; `skep init` writes a first file.")
    async with skep.app.open(folder, by=person()) as opened:
        yield opened


@asynccontextmanager
async def session(name: str) -> AsyncIterator[Session]:
    """A session of the workspace by name, the newest for an empty one."""
    async with hive() as opened:
        yield await opened.find(name)


def go(work: Coroutine[Any, Any, T]) -> T:
    """Runs it to its end."""
    return asyncio.run(work)
