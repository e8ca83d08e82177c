"""Removes what attempts leave behind: folders without permissions, symlinks in place of folders, nothing there at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from skep.errors import Unavailable


def erase(path: Path) -> None:
    """Removes a file or a whole folder, never following a symlink; nothing there is fine. Raises Unavailable if it stays."""
    try:
        if path.is_symlink() or path.is_file():
            path.unlink()
            return
        try:
            shutil.rmtree(path)
        except PermissionError:
            _open_up(path)
            shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unavailable(f"{path} cannot be removed: {error.strerror}.", "See who uses or owns it, and remove it.") from error


def _open_up(path: Path) -> None:
    """Lets its owner into every folder below."""
    path.chmod(0o700)
    for folder, names, _ in os.walk(path):
        for name in names:
            inner = os.path.join(folder, name)
            if not os.path.islink(inner):
                os.chmod(inner, 0o700)
