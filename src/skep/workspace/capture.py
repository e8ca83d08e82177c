"""Makes a commit of what an attempt left, whatever state it left it in.

The commit always descends from the commit that the attempt started from. What the attempt committed itself is kept as it is,
with one commit on top if there is more; if its HEAD no longer contains that start (rebased, reset, another branch), or its
commits hold a state folder, the content of the tree is committed on the start as one. Ignored files, state folders, files that
`.worktreeinclude` brought, and what is inside submodules (their pointers are recorded) are no part of it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from skep.errors import Invalid
from skep.workspace import snapshot
from skep.workspace.command import Git
from skep.workspace.commits import commit, worded
from skep.workspace.place import Place
from skep.workspace.worktrees import Worktrees


async def capture(place: Place, trees: Worktrees, path: str, message: str, trailers: Mapping[str, str], at: int) -> str:
    """Returns the commit of what a working tree holds, "" if that is what it started from.

    Args:
        path: of the working tree, or below it.
        message: of the commit that is made if there is something to commit.
        trailers: the lines at its end.
        at: wall-clock milliseconds that it is dated.

    Raises:
        Invalid: there is no such working tree, or it holds a file whose name git forbids (such as `.Git`).
        Unavailable: git cannot record it (a file that cannot be read, a full disk). Nothing is lost: the tree stays as it is.
    """
    root = trees.root(path)
    start = await trees.record(root)
    if not root.is_dir():
        raise Invalid(f"There is no working tree at {root}.", "It was removed; what it held is what was captured before.")
    head = await _head(place, trees.entry(root), start.base)
    if head != start.base:
        await _take_over(place, trees.entry(root), start.base, head)
    kept = head == start.base or await _continues(place, start.base, head)
    included = set(start.included)
    async with place.scratch.folder() as draft:
        index = draft / "index"
        git = place.git.on(root, index)
        await asyncio.to_thread(shutil.copy2, trees.index(root), index)
        if kept and head != start.base:
            await git.run("read-tree", "-i", "-m", head)
        found = await snapshot.changes(git, lambda name: place.hides(name) or name in included)
        tree = await snapshot.record(git, found)
    parent = head if kept else start.base
    before, since = (await place.git("rev-parse", f"{start.base}^{{tree}}", f"{parent}^{{tree}}")).split("\n")
    if tree == before:
        return ""
    if tree == since:
        return parent
    return await commit(place.git, tree, [parent], worded(message, trailers), at)


async def _head(place: Place, entry: Path, base: str) -> str:
    """Where HEAD of the working tree is; its start if the attempt left none."""
    if not entry.is_dir():
        return base
    git = Git(cwd=place.common, gitdir=entry, gate=place.git.gate)
    ran = await git.run("rev-parse", "-q", "--verify", "HEAD^{commit}", ok=(), env=_own_objects(entry))
    return ran.text if ran.code == 0 else base


def _own_objects(entry: Path) -> dict[str, str]:
    """Lets git see the objects that a confined attempt made (see `skep.workspace.around`)."""
    objects = entry / "objects"
    return {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects)} if objects.is_dir() else {}


async def _take_over(place: Place, entry: Path, base: str, head: str) -> None:
    """Brings the commits of a confined attempt into the repository: checked one by one, as if they came from a stranger."""
    seen = _own_objects(entry)
    known = await place.git.run("cat-file", "-e", head, ok=())
    if known.code == 0 or not seen:
        return
    revisions = f"{head}\n^{base}\n".encode()
    packed = await place.git.run("pack-objects", "--revs", "--stdout", "-q", "--thin", stdin=revisions, env=seen)
    await place.git.run("index-pack", "--stdin", "--fix-thin", "--strict", stdin=packed.out)


async def _continues(place: Place, base: str, head: str) -> bool:
    """Whether commits go on from the base and leave state folders alone."""
    inside = await place.git.run("merge-base", "--is-ancestor", base, head, ok=(0, 1))
    if inside.code:
        return False
    hidden = f":(glob)**/{os.fsdecode(place.hidden)}/**"
    return not await place.git("rev-list", "--max-count=1", f"{base}..{head}", "--", hidden)
