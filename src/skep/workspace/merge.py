"""Merges two commits without a working tree: three-way against their natural merge base, by git's own `merge-tree`.

The result follows from the two commits alone: what a configuration can change is set (see `command`), and `.gitattributes` is
that of the first commit, with the merge drivers that are built into git. Drivers that are commands are left out: they are the
user's own and differ from machine to machine.
"""

from __future__ import annotations

import asyncio
import os
import re

from msgspec import Struct

from skep.workspace import Built, Clash
from skep.workspace.command import Git, shown
from skep.workspace.commits import commit
from skep.workspace.scratch import Scratch

#: Characters of git's own words about conflicts that are kept.
WORDS = 4000
#: Titles of commits that are named beside a conflict.
TITLES = 20
_MARKER = re.compile(rb"(<{7,}|={7,}|>{7,}|\|{7,})(\s|$)")
_DRIVER = re.compile(rb"\bmerge=(?!(?:text|binary|union)(?:\s|$))\S+")


class Merged(Struct, frozen=True, gc=False):
    """The tree that a merge makes, conflicts marked in its files; if there are some, their paths and git's words about them."""

    tree: str
    clean: bool
    conflicts: tuple[bytes, ...] = ()
    detail: str = ""


async def merged(git: Git, scratch: Scratch, ours: str, theirs: str) -> Merged:
    """Merges two commits into a tree.

    Args:
        git: the repository, objects and refs alone.
        scratch: gives a folder for the time of the call.
        ours: the commit merged into; its `.gitattributes` counts.
        theirs: the commit that is merged.

    Raises:
        Invalid: a commit is not there.
        Unavailable: git failed, or they have no history in common.
    """
    attributes = await git.run("cat-file", "blob", f"{ours}:.gitattributes", ok=())
    async with scratch.folder() as where:
        if attributes.code == 0:
            text = _DRIVER.sub(b"", attributes.out)
            await asyncio.to_thread((where / ".gitattributes").write_bytes, text)
        here = git.on(where, where / "none", own=False)
        command = ("merge-tree", "--write-tree", "-z", "--name-only", "--messages", ours, theirs)
        ran = await here.run(*command, config=("core.attributesFile=/dev/null",), ok=(0, 1))
    fields = ran.out.split(b"\0")
    if ran.code == 0:
        return Merged(fields[0].decode(), True)
    end = fields.index(b"", 1)
    return Merged(fields[0].decode(), False, tuple(fields[1:end]), _said(fields[end + 1 :])[:WORDS])


async def build(git: Git, scratch: Scratch, ours: str, theirs: str, at: int, words: bytes) -> Built:
    """The merge of `theirs` into `ours` as a commit: always one with two parents, always the same one, dated `at` (wall-clock
    ms), with these words. Raises as `merged` does."""
    result = await merged(git, scratch, ours, theirs)
    if not result.clean:
        return Built(conflicts=tuple(map(shown, result.conflicts)), detail=result.detail)
    return Built(commit=await commit(git, result.tree, (ours, theirs), words, at))


async def clash(git: Git, scratch: Scratch, ours: str, theirs: str) -> Clash:
    """The merge as files, conflicts and all. Raises as `merged` does."""
    result = await merged(git, scratch, ours, theirs)
    if result.clean:
        return Clash(result.tree)
    # What has no name on one side may have been renamed there: literal paths find no more than they name.
    paths = [b":(top,literal)" + path for path in result.conflicts]
    log = ("log", "--no-merges", f"--max-count={TITLES}", "--format=%s", ours, f"^{theirs}", "--", *map(os.fsdecode, paths))
    since = (await git.run(*log)).text.splitlines()
    return Clash(result.tree, tuple(map(shown, result.conflicts)), result.detail, tuple(since))


async def marked(git: Git, scratch: Scratch, ours: str, theirs: str, made: str) -> list[str]:
    """The paths in which the commit `made` has lines that git put in to mark a conflict: such as neither side has."""
    result = await merged(git, scratch, ours, theirs)
    found = []
    for path in result.conflicts:
        lines = [await _lines(git, where, path) for where in (result.tree, ours, theirs, made)]
        if any(_MARKER.match(line) for line in (lines[0] & lines[3]) - lines[1] - lines[2]):
            found.append(shown(path))
    return found


async def _lines(git: Git, where: str, path: bytes) -> set[bytes]:
    ran = await git.run("cat-file", "blob", f"{where}:{os.fsdecode(path)}", ok=())
    return set(ran.out.splitlines()) if ran.code == 0 else set()


def _said(fields: list[bytes]) -> str:
    """Git's words about conflicts: per message a count of paths, those paths, a type and the text."""
    words = []
    at = 0
    while at < len(fields) and fields[at].isdigit():
        kind = at + 1 + int(fields[at])
        if fields[kind].startswith(b"CONFLICT"):
            words.append(shown(fields[kind + 1]).strip())
        at = kind + 2
    return "\n".join(words)
