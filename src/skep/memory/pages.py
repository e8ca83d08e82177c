"""The files of a Markdown memory: where each lies, how one takes the place of another, and what a crash left of that.

`<root>/<32 hex digits of the namespace>/<32 hex digits of the key>.md`: a name from outside leads nowhere else.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from skep.disk.durable import UNFINISHED, Draft, make_folder, sync_folder
from skep.errors import Invalid
from skep.memory.records import identity


class Seen(Struct, frozen=True):
    """A file that was read. `mark`: what tells without reading it whether it was changed. `sum`: of its bytes."""

    mark: tuple[int, ...] = ()
    sum: str = "0"


#: Where there is no file, and where nobody has looked yet.
ABSENT, UNSEEN = Seen(), Seen((-1,))
#: Bytes of a file that is read: of the largest value, with all that is escaped in it.
LARGEST = 512 * 2**20
DROPPED = ".dropped-"
README = "README.md"
_README = """# The memory of Skep

Each folder here is a namespace, each file in it a key. You may edit a file, or remove it: what you write is taken in, and trusted
least until somebody confirms it. Keep these files in git if you like; Skep does not. As long as this file is here, a file that is
missing was removed by you; without this file, all of them are written anew.
"""


class Pages:
    """The files below one folder. All methods raise OSError when the disk refuses.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, namespace: str) -> Path:
        """Where the files of a namespace lie."""
        return self.root / hashlib.sha256(namespace.encode()).hexdigest()[:32]

    def path(self, namespace: str, key: str) -> Path:
        """Where a key's file lies."""
        return self.folder(namespace) / f"{identity(namespace, key)}.md"

    def begin(self) -> bool:
        """Makes the root if need be; whether it is new."""
        make_folder(self.root)
        return not (self.root / README).exists()

    def introduce(self) -> None:
        """Says that everything is there now."""
        with Draft(self.root) as draft:
            draft.file.write(_README.encode())
            draft.keep(self.root / README)

    def present(self) -> dict[Path, tuple[int, ...]]:
        """All files that there are, each with its mark."""
        found = {}
        for folder in self._folders():
            for item in os.scandir(folder):
                if item.name.endswith(".md") and not item.name.startswith("."):
                    found[Path(item.path)] = at(Path(item.path))
        return found

    def read(self, path: Path) -> tuple[bytes | None, Seen]:
        """A file's bytes, None if it is not there. Raises Invalid for what is no file to be read."""
        mark = at(path)
        if mark == ABSENT.mark:
            return None, ABSENT
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or path.parent.is_symlink() or found.st_size > LARGEST:
            raise Invalid(f"{path} is no file, or too large", "Remove it.")
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            data = file.read()
        return data, Seen(mark, hashlib.sha256(data).hexdigest()[:32])

    def prepare(self, path: Path, text: bytes, before: Seen) -> None:
        """Writes what is to become a file beside it, durably.

        Args:
            before: how the file was seen that it is to take the place of; its name says it.
        """
        make_folder(path.parent)
        with Draft(path.parent) as draft:
            draft.file.write(text)
            draft.keep(path.with_name(f"{UNFINISHED}{path.stem}-{before.sum}"))

    def finish(self, path: Path, text: bytes) -> Seen | None:
        """Gives what was prepared the file's name, if it is this text and the file is still what it was to take the place of.

        Returns: how the file is seen that has this text now; None if it has another.
        """
        for draft in path.parent.glob(f"{UNFINISHED}{path.stem}-*"):
            # Somebody may have put a link or a pipe there.
            if self.same(draft, text) is not None and self._sum(path) == draft.name.rpartition("-")[2]:
                draft.rename(path)
            else:
                draft.unlink()
            sync_folder(path.parent)
        return self.same(path, text)

    def same(self, path: Path, text: bytes) -> Seen | None:
        """How a file is seen that has this text; None if it has another, or is not there, or is no file."""
        try:
            data, seen = self.read(path)
        except Invalid:
            return None
        return seen if data == text else None

    def unfinished(self) -> set[Path]:
        """The files for which something was prepared that did not take their names."""
        drafts = [draft for folder in self._folders() for draft in folder.glob(f"{UNFINISHED}*")]
        return {draft.with_name(f"{draft.name.removeprefix(UNFINISHED).partition('-')[0]}.md") for draft in drafts}

    def sweep(self) -> None:
        """Removes all that was prepared and not finished."""
        for folder in (self.root, *self._folders()):
            for draft in folder.glob(f"{UNFINISHED}*"):
                draft.unlink()

    def hide(self, folder: Path) -> None:
        """Takes a namespace's files away, all at once."""
        hidden = self.root / f"{DROPPED}{folder.name}"
        if folder.is_dir():
            shutil.rmtree(hidden, ignore_errors=True)
            folder.rename(hidden)
            sync_folder(self.root)

    def hidden(self) -> list[Path]:
        """The folders whose files were taken away, but not erased."""
        return [self.root / item.name.removeprefix(DROPPED) for item in self.root.glob(f"{DROPPED}*")]

    def erase(self, folder: Path) -> None:
        """Erases files that were taken away."""
        hidden = self.root / f"{DROPPED}{folder.name}"
        if hidden.is_dir():
            shutil.rmtree(hidden)

    def _folders(self) -> Iterator[Path]:
        for item in os.scandir(self.root):
            if item.is_dir(follow_symlinks=False) and not item.name.startswith("."):
                yield Path(item.path)

    def _sum(self, path: Path) -> str:
        """Of a file; of what is none, what no file has."""
        try:
            return self.read(path)[1].sum
        except Invalid:
            return ""


def at(path: Path) -> tuple[int, ...]:
    """The mark of a file."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT.mark
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
