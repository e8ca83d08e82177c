"""What lies in the user's folder where a landing would write, and would be harmed by it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from skep.workspace.difference import Difference

_SUBMODULE = b"160000"


def in_the_way(top: Path, paths: Iterable[bytes], wanted: Difference) -> set[bytes]:
    """Of the paths, those that cannot be written: a folder with other files is there, or the way leads over no folder.

    Args:
        top: the user's folder.
        paths: those to look at.
        wanted: all that is to change there.
    """
    root = os.fsencode(top)
    leaving = wanted.old.keys() - wanted.new.keys()
    found = set()
    for path in paths:
        if path not in wanted.new or wanted.new[path][0] == _SUBMODULE:
            continue
        target = os.path.join(root, path)
        if is_folder(target) and not _empties(root, target, leaving):
            found.add(path)
        folder = os.path.dirname(path)
        while folder:
            there = os.path.join(root, folder)
            if os.path.lexists(there) and not is_folder(there) and folder not in leaving:
                found.add(path)
            folder = os.path.dirname(folder)
    return found


def is_folder(path: bytes) -> bool:
    """Whether it is a folder itself, not a symlink to one."""
    return os.path.isdir(path) and not os.path.islink(path)


def _empties(root: bytes, folder: bytes, leaving: set[bytes]) -> bool:
    """Whether nothing is left in a folder once the leaving files are gone."""
    for where, folders, names in os.walk(folder):
        files = [*names, *(name for name in folders if os.path.islink(os.path.join(where, name)))]
        if any(os.path.relpath(os.path.join(where, name), root) not in leaving for name in files):
            return False
    return True
