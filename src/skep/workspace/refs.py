"""The refs of sessions: every commit that a log names hangs on one of them, so git never collects it.

`refs/skep/<session>/main` is the session's branch, `base` where it began, `about` a blob that says whose it is. Whatever else
a caller pins lies beside them. Git fsyncs a ref's file but not its folder, so that is done here: what was answered stays.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from skep.errors import Conflict, Invalid, NotFound, Unavailable
from skep.workspace.command import Git, Ran
from skep.workspace.names import decode, encode, quote

MAIN, BASE, ABOUT, LANDED = "main", "base", "about", "landed"
#: Names that only this package moves.
RESERVED = (MAIN, BASE, ABOUT, LANDED)
#: Below it is what came from other machines and has no place yet, each under its own id.
IN = "in"
#: A lock file on a ref of Skep's that is older than this many seconds was left by a crash: git holds one for milliseconds.
STALE = 60.0
_LOCKED = re.compile(r"Unable to create '([^']*/refs/skep/[^']*\.lock)': File exists")


class About(Struct, frozen=True, gc=False):
    """What a session's refs say of it: the state folder they belong to, the user's branch it began on, git or copy."""

    workspace: str
    branch: str
    kind: str


class Refs:
    """The refs of all sessions in one repository.

    Args:
        git: the repository, objects and refs alone.
        common: its common git folder.
    """

    def __init__(self, git: Git, common: Path) -> None:
        self._git = git
        self._common = common

    @staticmethod
    def below(session: str) -> str:
        """What the full names of a session's refs begin with."""
        return f"refs/skep/{quote(session)}/"

    @staticmethod
    def name(session: str, ref: str) -> str:
        """The full name of a session's ref."""
        return Refs.below(session) + encode(ref)

    async def read(self, session: str, ref: str) -> str:
        """The commit a ref is at, "" if there is none."""
        ran = await self._git.run("rev-parse", "-q", "--verify", self.name(session, ref), ok=(0, 1))
        return ran.text

    async def tip(self, session: str) -> str:
        """Where the session's branch is. Raises NotFound if there is no such session here."""
        commit = await self.read(session, MAIN)
        if not commit:
            raise NotFound(f"There is no session {session!r} in this workspace.", "List them: skep session list")
        return commit

    async def all(self, session: str) -> dict[str, str]:
        """Every ref of a session but `about`: name below the session -> commit."""
        prefix = self.below(session)
        lines = await self._git("for-each-ref", "--format=%(refname) %(objectname)", prefix)
        pairs = (line.removeprefix(prefix).split(" ") for line in lines.splitlines())
        return {decode(name): commit for name, commit in pairs if name != ABOUT}

    async def sessions(self) -> set[str]:
        """Names of all sessions that have refs in this repository, whichever state folder made them."""
        lines = await self._git("for-each-ref", "--format=%(refname)", "refs/skep/")
        return {decode(line.removeprefix("refs/skep/").replace("%/", "").split("/")[0]) for line in lines.splitlines()}

    async def about(self, session: str) -> About | None:
        """What is known of a session; None if it has not begun."""
        ran = await self._git.run("cat-file", "blob", self.name(session, ABOUT), ok=(0, 128))
        return msgspec.json.decode(ran.out, type=About) if ran.code == 0 else None

    async def create(self, session: str, about: About, commits: Mapping[str, str]) -> bool:
        """Makes a session's refs, all or none; whether they were not there yet."""
        blob = await self._git("hash-object", "-w", "--stdin", stdin=msgspec.json.encode(about))
        wanted = {ABOUT: blob, **commits}
        ran = await self._change([f"create {self.name(session, name)} {target}" for name, target in wanted.items()], ok=())
        if ran.code and not await self.about(session):
            raise self._git.failure(("update-ref",), ran)
        await self._settle(session, MAIN)
        return ran.code == 0

    async def pin(self, session: str, ref: str, commit: str) -> None:
        """Points a ref at a commit; one that came in has its place then. Raises Invalid for a name that no caller may move."""
        if ref.split("/")[0] in RESERVED:
            raise Invalid(f"{ref!r} is a ref that only Skep itself moves.", "Pin it under another name.")
        lines = [f"update {self.name(session, ref)} {commit}"]
        if (arrived := f"{IN}/{commit}") != ref:
            lines.append(f"delete {self.name(session, arrived)}")
        await self.change(lines)
        await self._settle(session, ref)

    async def drop(self, session: str, names: Sequence[str]) -> None:
        """Removes refs. Raises Invalid for a name that no caller may move."""
        for name in names:
            if name.split("/")[0] in RESERVED:
                raise Invalid(f"{name!r} is a ref that only Skep itself moves.", "Leave it out.")
        await self.change([f"delete {self.name(session, name)}" for name in names])

    async def adopt(self, session: str, about: About, commits: Mapping[str, str]) -> None:
        """Makes a session's refs, or moves those that are there."""
        if not await self.create(session, about, commits):
            await self.change([f"update {self.name(session, name)} {commit}" for name, commit in commits.items()])
            await self._settle(session, MAIN)

    async def advance(self, session: str, new: str, old: str) -> str:
        """Moves the session's branch from `old` to `new` if it is at `old`; returns where it is afterwards, durably."""
        ran = await self._change([f"update {self.name(session, MAIN)} {new} {old}"], ok=())
        at = new if ran.code == 0 else await self.tip(session)
        if at == old != new:
            raise self._git.failure(("update-ref",), ran)
        await self._settle(session, MAIN)
        return at

    async def change(self, lines: Sequence[str], words: str = "skep") -> None:
        """Changes refs in one transaction, in the words of `git update-ref --stdin`."""
        await self._change(lines, words)

    async def _change(self, lines: Sequence[str], words: str = "skep", ok: tuple[int, ...] = (0,)) -> Ran:
        text = "".join(f"{line}\n" for line in lines).encode()
        command = ("update-ref", "-m", words, "--stdin")
        ran = await self._git.run(*command, stdin=text, ok=())
        lock = _LOCKED.search(ran.err)
        if ran.code and lock and await asyncio.to_thread(_abandoned, Path(lock[1])):
            ran = await self._git.run(*command, stdin=text, ok=())
        if ok and ran.code not in ok:
            raise self._git.failure(command, ran)
        return ran

    async def _settle(self, session: str, ref: str) -> None:
        folder = (self._common / self.name(session, ref)).parent
        try:
            await asyncio.to_thread(_sync, folder)
        except OSError as error:
            raise Unavailable(f"{folder} cannot be made durable: {error.strerror}.", "Check the disk and repeat.") from error


def owned(about: About | None, session: str, workspace: str) -> About | None:
    """Returns what is known of a session. Raises Conflict if its refs belong to another state folder."""
    if about is not None and about.workspace != workspace:
        raise Conflict(
            f"This repository holds refs of a session {session!r} that another state folder made.",
            f"Take another name, or delete them: git for-each-ref --format='delete %(refname)' {Refs.below(session)} "
            "| git update-ref --stdin",
        )
    return about


def _abandoned(lock: Path) -> bool:
    """Removes a lock file that a crash left; whether it is gone."""
    try:
        if time.time() - lock.stat().st_mtime < STALE:
            return False
        lock.unlink()
    except FileNotFoundError:
        pass
    return True


def _sync(folder: Path) -> None:
    if not folder.is_dir():  # packed by `git gc`, or another ref backend: nothing of ours to sync
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
