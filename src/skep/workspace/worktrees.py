"""Working trees of attempts: made from a commit, filled with what the user wants along, captured, removed.

A path is made from a hash, so any session and any name will do. Beside each tree lies a record (what it was made from, and
the index of that moment) that capture trusts more than what the attempt left in git's own folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from skep.errors import Invalid, SkepError, Unavailable
from skep.workspace import include
from skep.workspace.command import oid
from skep.workspace.erase import erase
from skep.workspace.place import Place

#: Tries at entering a working tree into the repository while somebody else does the same.
_TRIES = 5


class Record(Struct, frozen=True, gc=False):
    """What a working tree was made from, and the files copied into it that git does not ignore."""

    session: str
    name: str
    base: str
    included: list[bytes] = []


class Worktrees:
    """The working trees of one workspace."""

    def __init__(self, place: Place) -> None:
        self._place = place
        # Git writes the files of an entry one by one, and whoever lists entries meanwhile fails on a half-made one.
        self._entries = asyncio.Lock()
        self._at_work: set[Path] = set()

    def root(self, path: str) -> Path:
        """The top of the working tree that a path lies in. Raises Invalid if it lies in none of Skep's."""
        root = self._inside(path)
        if root is None:
            raise Invalid(f"{path} is no working tree of this workspace.", f"Skep's own lie below {self._place.trees}.")
        return root

    def of_name(self, session: str, name: str) -> Path:
        """The top of the working tree of that name, whether it is there or not."""
        digest = hashlib.sha256("\0".join((self._place.id, session, name)).encode("utf-8", "surrogatepass"))
        return self._place.trees / digest.hexdigest()[:16]

    def entry(self, root: Path) -> Path:
        """Git's own folder for a working tree."""
        return self._place.common / "worktrees" / root.name

    async def add(self, session: str, name: str, commit: str, with_files: bool, keep: bool = False, tree: str = "") -> str:
        """Makes a working tree; see `Workspace.checkout`. One that fails half-way is removed again."""
        root = self.of_name(session, name)
        aside = root.with_name(f"{root.name}.aside")
        commit = oid(commit)
        self._at_work |= {root, aside}
        try:
            ignored = await self._ignored(root) if keep else []
            if ignored:
                await asyncio.to_thread(erase, aside)
                await asyncio.to_thread(os.rename, root, aside)
            await self.remove(str(root))
            path = await self._add(root, session, name, commit, with_files, tree)
            await asyncio.to_thread(_take_over, os.fsencode(aside), os.fsencode(root), ignored)
            await asyncio.to_thread(erase, aside)
            return path
        except BaseException as error:
            with contextlib.suppress(SkepError):
                await self.remove(str(root))
            if isinstance(error, OSError):
                raise Unavailable(f"{root} cannot be made: {error.strerror}.", "Check the disk, and repeat.") from error
            raise
        finally:
            self._at_work -= {root, aside}

    async def _add(self, root: Path, session: str, name: str, commit: str, with_files: bool, tree: str) -> str:
        record = self._place.records / root.name
        await asyncio.to_thread(record.mkdir, exist_ok=True)  # first: `tidy` knows what a crash leaves half-made as ours
        await self._enter(root, commit)
        gitdir = self.entry(root)
        # A sparse checkout of the user's would go on here as soon as the attempt uses git.
        await asyncio.to_thread(erase, gitdir / "info" / "sparse-checkout")
        await self._place.git.on(root, gitdir=gitdir).run("read-tree", "-u", "--reset", tree or commit)
        included = await include.files(self._place, root) if with_files else []
        await asyncio.to_thread(_remember, record, Record(session, name, commit, included), gitdir / "index")
        start = root / self._place.sub
        await asyncio.to_thread(start.mkdir, parents=True, exist_ok=True)
        return str(start)

    async def _ignored(self, root: Path) -> list[bytes]:
        """Files and whole folders in a working tree that git ignores."""
        if not root.is_dir() or not self.index(root).exists():
            return []
        git = self._place.git.on(root, self.index(root))
        found = (await git.run("ls-files", "-z", "-o", "-i", "--exclude-standard", "--directory")).names
        return [path.rstrip(b"/") for path in found if not self._place.hides(path)]

    async def remove(self, path: str) -> None:
        """Removes a working tree, its record, and git's entry of it."""
        root = self.root(path)
        await asyncio.to_thread(erase, root)
        await asyncio.to_thread(erase, self._place.records / root.name)
        async with self._entries:
            await asyncio.to_thread(erase, self.entry(root))

    async def record(self, root: Path) -> Record:
        """What is remembered of a working tree. Raises Invalid if there is none."""
        try:
            data = await asyncio.to_thread((self._place.records / root.name / "record.json").read_bytes)
        except FileNotFoundError:
            raise Invalid(f"There is no working tree at {root}.", "It was removed, or never finished.") from None
        return msgspec.json.decode(data, type=Record)

    def index(self, root: Path) -> Path:
        """The index of a working tree as it was when it was made."""
        return self._place.records / root.name / "index"

    async def all(self) -> dict[Path, Record]:
        """The working trees that were made to their end, by their tops."""
        return await asyncio.to_thread(self._recorded)

    async def tidy(self, live: Iterable[str]) -> int:
        """Removes all but those that `live` paths lie in; returns how many."""
        kept = {self._inside(path) for path in live} | self._at_work
        roots = await asyncio.to_thread(self._all)
        gone = sorted(roots - kept)
        for root in gone:
            await self.remove(str(root))
        return len(gone)

    def _inside(self, path: str) -> Path | None:
        inside, trees = Path(os.path.abspath(path)), self._place.trees
        if inside == trees or not inside.is_relative_to(trees):
            return None
        return trees / inside.relative_to(trees).parts[0]

    async def _enter(self, root: Path, commit: str) -> None:
        command = ("worktree", "add", "-q", "--no-checkout", "--detach", str(root), commit)
        for tried in range(1, _TRIES + 1):
            async with self._entries:
                ran = await self._place.git.run(*command, ok=())
                if ran.code == 0:
                    return
                await asyncio.to_thread(erase, root)
                await asyncio.to_thread(erase, self.entry(root))
            if "commondir" not in ran.err or tried == _TRIES:  # the half-made entry of another process
                raise self._place.git.failure(command, ran)

    def _recorded(self) -> dict[Path, Record]:
        found = {}
        for path in sorted(self._place.records.glob("*/record.json")):
            found[self._place.trees / path.parent.name] = msgspec.json.decode(path.read_bytes(), type=Record)
        return found

    def _all(self) -> set[Path]:
        """Every tree, record and entry that is there, whole or not."""
        trees = self._place.trees
        names = {path.name for path in (*trees.iterdir(), *self._place.records.iterdir())}
        for path in (self._place.common / "worktrees").glob("*/gitdir"):
            tree = Path(path.read_text(errors="surrogateescape").strip()).parent
            if tree.parent == trees:
                names.add(path.parent.name)
        return {trees / name for name in names}


def _take_over(old: bytes, new: bytes, paths: Iterable[bytes]) -> None:
    """Moves files and folders from one working tree to another, where nothing is in their place and no symlink leads away."""
    for path in paths:
        target, folder = os.path.join(new, path), os.path.dirname(path)
        while folder and not os.path.islink(os.path.join(new, folder)):
            folder = os.path.dirname(folder)
        if not folder and not os.path.lexists(target):
            with contextlib.suppress(OSError):  # a folder that cannot be moved is done without: it can be made again
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.rename(os.path.join(old, path), target)


def _remember(folder: Path, record: Record, index: Path) -> None:
    shutil.copy2(index, folder / "index")  # with its time: git compares files against it
    draft = folder / "record.draft"
    draft.write_bytes(msgspec.json.encode(record))
    draft.replace(folder / "record.json")  # last: a record is whole or absent
