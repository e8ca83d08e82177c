"""What no commit of an attempt may do: change what is protected, leave the marks of the conflict that it resolves.

It is judged where the attempt ran, so that its agent hears at once, and again before its commit is merged: the node may not be
one to be believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from skep.core.globs import matches

#: Paths that are named.
NAMED = 10


class Repository(Protocol):
    """What is used here of the port `Workspace`."""

    async def changed(self, base: str, commit: str) -> list[str]:
        """See the port."""

    async def marked(self, ours: str, theirs: str, commit: str) -> list[str]:
        """See the port."""


async def trespasses(repository: Repository, base: str, commit: str, protect: Sequence[str]) -> str:
    """Which protected paths differ between two commits, in words; empty if none does."""
    if not protect:
        return ""
    touched = [path for path in await repository.changed(base, commit) if matches(path, protect)]
    return f"it changed protected paths: {', '.join(touched[:NAMED])}" if touched else ""


async def unresolved(repository: Repository, ours: str, theirs: str, commit: str) -> str:
    """In which files a commit has marks of the conflict of two others, in words; empty if it has none."""
    left = await repository.marked(ours, theirs, commit)
    return f"it left conflict markers in {', '.join(left[:NAMED])}" if left else ""
