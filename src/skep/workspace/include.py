"""Copies what `.worktreeinclude` names from the user's tree into a working tree: settings and caches that git does not hold.

The file is written like `.gitignore` and lies at the top of the user's tree, or in the workspace folder. It names untracked
files only. Nothing is read or written through a symlink: one is copied as it is if it points to within the tree, and left out
if it does not; a file that the commit already has, or whose folder is a symlink there, is left out too.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from skep.errors import Unavailable
from skep.workspace.place import Place

FILE = ".worktreeinclude"


async def files(place: Place, root: Path) -> list[bytes]:
    """Copies them to `root`; returns those that git does not ignore, which capture must leave out."""
    if not any((folder / FILE).is_file() for folder in (place.top, place.top / place.sub)):
        return []
    matched = (await place.user.run("ls-files", "-z", "-o", "-i", f"--exclude-per-directory={FILE}")).names
    wanted = [path for path in matched if not path.endswith(b"/") and not place.hides(path)]
    if not wanted:
        return []
    try:
        copied = await asyncio.to_thread(_copy, os.fsencode(place.top), os.fsencode(root.resolve()), wanted)
    except OSError as error:
        raise Unavailable(f"{error.filename!r} cannot be copied: {error.strerror}.", f"Check what {FILE} names.") from error
    visible = set((await place.user.run("ls-files", "-z", "-o", "--exclude-standard")).names)
    return sorted(copied & visible)


def _copy(source: bytes, target: bytes, paths: Iterable[bytes]) -> set[bytes]:
    copied = set()
    for path in paths:
        old, new = os.path.join(source, path), os.path.join(target, path)
        folder = os.path.dirname(new)
        if os.path.lexists(new) or os.path.realpath(folder) != folder:
            continue
        mode = os.lstat(old).st_mode
        if stat.S_ISLNK(mode) and not _stays(path, os.readlink(old)):
            continue
        if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            try:
                os.makedirs(folder, exist_ok=True)
            except (FileExistsError, NotADirectoryError):  # the commit has a file where the user has a folder
                continue
            shutil.copy2(old, new, follow_symlinks=False)
            copied.add(path)
    return copied


def _stays(path: bytes, points: bytes) -> bool:
    """Whether a symlink at `path` points to within the tree, as far as its text says."""
    if os.path.isabs(points):
        return False
    end = os.path.normpath(os.path.join(os.path.dirname(path), points))
    return end != b".." and not end.startswith(b"../")
