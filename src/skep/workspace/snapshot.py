"""Turns a working tree into a tree object, through an index of Skep's own.

The index that an attempt or the user works with is never used: it may be locked, be in the middle of a merge, or hide files
(assume-unchanged). Git says what differs (`ls-files`), Skep decides what of it is recorded (`update-index`):
what is ignored is not, state folders are not, sockets and devices are not; a repository inside the tree that is no submodule
is recorded as its files, because a link to commits that exist nowhere else would lose them.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from skep.errors import Exhausted, Invalid
from skep.workspace.command import Git, shown

#: Repositories inside repositories, at most so deep.
_DEPTH = 8


class Changes(Struct, frozen=True, gc=False):
    """What a working tree holds beyond an index: paths to record and paths that are gone."""

    here: list[bytes]
    gone: list[bytes]


async def changes(git: Git, hides: Callable[[bytes], bool], also: Iterable[bytes] = ()) -> Changes:
    """Lists what differs between the index and the working tree of `git`.

    Args:
        git: with working tree and a private index.
        hides: says which paths are left out.
        also: paths to look at even if they are ignored.
    """
    listed = (await git.run("ls-files", "-z", "-t", "-m", "-o", "--exclude-standard")).names
    tracked = dict.fromkeys(entry[2:] for entry in listed if not entry.startswith(b"? "))
    others = [entry[2:] for entry in listed if entry.startswith(b"? ")]
    files = await _with_nested(git, others, 0)
    candidates = dict.fromkeys(path for path in (*tracked, *files, *also) if not hides(path))
    return await asyncio.to_thread(sort, git.cwd, candidates, tracked)


async def record(git: Git, found: Changes) -> str:
    """Puts changes into the index and returns the id of the tree that this makes.

    Raises Invalid for a file whose name git forbids: it would be left out without a word.
    """
    if found.gone:
        await git.run("update-index", "-z", "--force-remove", "--stdin", stdin=_list(found.gone))
    if found.here:
        ran = await git.run("update-index", "-z", "--add", "--remove", "--replace", "--stdin", stdin=_list(found.here))
        forbidden = re.findall(r"^Ignoring path (.*)$", ran.err, re.MULTILINE)
        if forbidden:
            raise Invalid(f"Git forbids the name of {', '.join(forbidden[:5])} in {git.cwd}.", "Rename it, or have it ignored.")
    return await git("write-tree")


async def bounded(top: Path, paths: Sequence[bytes], files: int, size: int) -> None:
    """Raises Exhausted if there are more files, or more bytes in them, than Skep copies."""
    total = await asyncio.to_thread(_weigh, top, paths[: files + 1])
    if len(paths) > files or total > size:
        raise Exhausted(
            f"{top} holds {len(paths)} files and {total >> 20} MB or more; at most {files} files and {size >> 20} MB are copied.",
            "Name what is not needed in .gitignore, or make the folder a git repository with a commit.",
        )


async def _with_nested(git: Git, others: Iterable[bytes], depth: int) -> list[bytes]:
    """Replaces each repository among untracked paths (git lists it with a slash at its end) by the files in it."""
    assert git.index is not None
    files: list[bytes] = []
    for path in others:
        if not path.endswith(b"/"):
            files.append(path)
        elif depth == _DEPTH:
            raise Exhausted(f"{shown(path)} in {git.cwd} is a repository too deep in others.", "Remove it, or have it ignored.")
        else:
            inner = git.on(git.cwd / os.fsdecode(path), git.index.with_name("none"), own=git.own)
            below = (await inner.run("ls-files", "-z", "-o", "--exclude-standard")).names
            files += [path + name for name in await _with_nested(inner, below, depth + 1)]
    return files


def sort(top: Path, paths: Iterable[bytes], tracked: Iterable[bytes]) -> Changes:
    """Tells paths that can be recorded from tracked ones that are gone, or are no files any more, or lie behind a symlink."""
    root = os.fsencode(top.resolve())
    real: dict[bytes, bool] = {}
    known = set(tracked)
    here, gone = [], []
    for path in paths:
        folder = os.path.dirname(path)
        if folder not in real:
            real[folder] = os.path.realpath(os.path.join(root, folder)) == os.path.join(root, folder).rstrip(b"/")
        try:
            mode = os.lstat(os.path.join(root, path)).st_mode if real[folder] else 0
        except (FileNotFoundError, NotADirectoryError):
            mode = 0
        if stat.S_ISREG(mode) or stat.S_ISLNK(mode) or (stat.S_ISDIR(mode) and path in known):  # a folder: a submodule, or gone
            here.append(path)
        elif path in known:
            gone.append(path)
    return Changes(here, gone)


def _weigh(top: Path, paths: Iterable[bytes]) -> int:
    total = 0
    for path in paths:
        try:
            total += os.lstat(os.path.join(os.fsencode(top), path)).st_size
        except OSError:  # gone meanwhile
            continue
    return total


def _list(paths: Iterable[bytes]) -> bytes:
    return b"".join(path + b"\0" for path in paths)
