"""The backend: worktrees, refs and merges of one workspace folder, by the git command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from skep.core.intent import Candidate
from skep.errors import Conflict, Invalid, NotFound, Unavailable
from skep.store import Blobs, Listing
from skep.workspace import LIMITS, Around, Built, Clash, Commits, Limits, Opened, merge, snapshot
from skep.workspace.around import Surroundings
from skep.workspace.bundle import bundle, prove, unbundle
from skep.workspace.capture import capture
from skep.workspace.command import oid, shown
from skep.workspace.commits import commit, worded
from skep.workspace.copyback import copy_back
from skep.workspace.difference import difference
from skep.workspace.forget import forget, unmerged
from skep.workspace.land import land
from skep.workspace.place import Place, hosted, keep, locate
from skep.workspace.refs import ABOUT, BASE, MAIN, About, Refs, owned
from skep.workspace.remote import Remote
from skep.workspace.travel import BundledCommits
from skep.workspace.worktrees import Worktrees

#: The most that a plain folder may hold to be copied: files, and bytes.
COPY_FILES, COPY_BYTES = 100_000, 4 << 30


class GitWorkspace:
    """One workspace folder; `open` makes it. Implements the port `Workspace`."""

    def __init__(self, place: Place) -> None:
        self._use(place)

    def _use(self, place: Place) -> None:
        self._place = place
        self._refs = Refs(place.git, place.common)
        self._trees = Worktrees(place)
        self._around = Surroundings(place, self._trees)
        self._folder = asyncio.Lock()  # snapshots and landings of the user's files, one at a time

    @classmethod
    async def open(cls, folder: Path, state: Path) -> GitWorkspace:
        """Finds out what the folder is and prepares the state folder (see `skep.workspace.place`).

        Args:
            folder: the user's folder.
            state: where Skep keeps its own files, normally `.skep` in that folder; made if it is not there.

        Raises:
            Invalid: the folder is missing, is a bare repository, or lies inside a `.git`.
            Unavailable: git is missing or too old, or refuses the repository.
        """
        return cls(await locate(folder, state))

    @classmethod
    async def host(cls, state: Path) -> GitWorkspace:
        """Prepares a state folder on a machine that has nothing of the user's: sessions come from elsewhere (see `adopt`).

        Raises Unavailable if git is missing or too old, or the folder cannot be written.
        """
        return cls(await hosted(state))

    @property
    def kind(self) -> str:
        """What the folder is: "git", "copy" if it has no repository to work in, "hosted" if there is none of the user's."""
        return self._place.kind

    async def begin(self, session: str) -> Opened:
        """See the port. Also raises Conflict if another state folder has a session of that name in this repository."""
        place = self._place
        if place.kind == "hosted":
            raise Unavailable("This machine holds no files that a session could begin with.", "Begin it where your files are.")
        known = owned(await self._refs.about(session), session, place.id)
        if known is None:
            branch, base = await (self._snapshot() if place.kind == "copy" else self._head())
            about = About(place.id, branch, place.kind)
            await self._refs.create(session, about, {MAIN: base, BASE: base})
            known = owned(await self._refs.about(session), session, place.id) or about
        base = await self._refs.read(session, BASE)
        return Opened(base, known.branch, place.way, await self._left_out())

    async def adopt(self, session: str, opened: Opened, tip: str) -> None:
        """See the port. A hosted workspace keeps files as its first session does: one state folder for each user's folder."""
        commits = {BASE: oid(opened.base), MAIN: oid(tip)}
        others = await self._refs.sessions() - {session}
        place = await asyncio.to_thread(keep, self._place, opened.kind, not others)
        if place is not self._place:
            self._use(place)
        owned(await self._refs.about(session), session, place.id)
        await self._refs.adopt(session, About(place.id, opened.branch, place.kind), commits)

    async def enter(self, session: str, opened: Opened, tip: str) -> None:
        """See the port: nobody else works on the sessions of this workspace."""

    async def have(self, session: str, *commits: str) -> None:
        """See the port: all that there are are here."""

    def commits(self, blobs: Blobs, listing: Listing, limits: Limits = LIMITS, remote: Remote | None = None) -> Commits:
        """See the port."""
        return BundledCommits(self._place, self._refs, blobs, listing, limits, remote)

    async def sessions(self) -> set[str]:
        """See the port."""
        return await self._refs.sessions()

    async def checkout(
        self, session: str, name: str, commit: str, include: bool = True, keep: bool = False, tree: str = ""
    ) -> str:
        """See the port. In a subfolder of a repository the path is that subfolder of the worktree."""
        return await self._trees.add(session, name, commit, include, keep, tree)

    def path(self, session: str, name: str) -> str:
        """See the port."""
        return str(self._trees.of_name(session, name) / self._place.sub)

    async def around(self, path: str) -> Around:
        """See the port; `skep.workspace.around` says what and why."""
        return await self._around.of(path)

    async def capture(self, path: str, session: str, ref: str, message: str, trailers: Mapping[str, str], at: int) -> str:
        """See the port; what counts is told in `skep.workspace.capture`. Repeating it gives the same commit."""
        made = await capture(self._place, self._trees, path, message, trailers, at)
        if made:
            await self._refs.pin(session, ref, made)
        return made

    async def changed(self, base: str, commit: str) -> list[str]:
        """Paths that differ between two commits, relative to the workspace folder (`../x` for one outside it)."""
        found = await difference(self._place.git, oid(base), oid(commit))
        return [self._from_here(shown(path)) for path in found.paths]

    async def remove(self, path: str) -> None:
        """See the port. Raises Invalid for a path that is no worktree of Skep's: nothing else is ever removed."""
        await self._trees.remove(path)

    async def build(
        self, session: str, base: str, candidate: Candidate, at: int, message: str, trailers: Mapping[str, str]
    ) -> Built:
        """See the port; pinned as `merge/<task>/<attempt>-<at>`."""
        place = self._place
        built = await merge.build(place.git, place.scratch, oid(base), oid(candidate.commit), at, worded(message, trailers))
        if not built.commit:
            return Built(conflicts=tuple(map(self._from_here, built.conflicts)), detail=built.detail)
        await self._refs.pin(session, f"merge/{candidate.task}/{candidate.attempt}-{at}", built.commit)
        return built

    async def clash(self, ours: str, theirs: str) -> Clash:
        """See the port."""
        return await merge.clash(self._place.git, self._place.scratch, oid(ours), oid(theirs))

    async def marked(self, ours: str, theirs: str, commit: str) -> list[str]:
        """See the port. Paths are from the top of the repository."""
        return await merge.marked(self._place.git, self._place.scratch, oid(ours), oid(theirs), oid(commit))

    async def advance(self, session: str, new: str, old: str) -> str:
        """See the port."""
        return await self._refs.advance(session, oid(new), oid(old))

    async def tip(self, session: str) -> str:
        """See the port. Raises NotFound if there is no such session."""
        return await self._refs.tip(session)

    async def pin(self, session: str, ref: str, commit: str) -> None:
        """See the port. Raises Invalid for `main`, `base`, `about` and `landed`, which are not a caller's to move."""
        await self._refs.pin(session, ref, oid(commit))

    async def refs(self, session: str) -> dict[str, str]:
        """See the port. Names are as they were given; `skep.workspace.names` says how git holds them."""
        return await self._refs.all(session)

    async def fork(self, origin: str, session: str, tip: str) -> None:
        """See the port: copies every ref of the origin but its branch. Repeating it changes nothing.

        Raises Conflict if there is another session of that name, NotFound if there is no origin.
        """
        await self._refs.tip(origin)
        about = owned(await self._refs.about(origin), origin, self._place.id)
        commits = {**await self._refs.all(origin), MAIN: oid(tip)}
        if about is not None and not await self._refs.create(session, about, commits):
            owned(await self._refs.about(session), session, self._place.id)
            if await self._refs.read(session, BASE) != commits[BASE] or await self._refs.tip(session) != tip:
                raise Conflict(f"There is a session {session!r} already.", "Give the fork another name.")

    async def diff(self, old: str, new: str, color: bool = False, stat: bool = False) -> str:
        """See the port. Raises Exhausted beyond 256 MB."""
        options = ["--no-ext-diff", "--no-textconv", f"--color={'always' if color else 'never'}"]
        options += ["--stat"] if stat else []
        ran = await self._place.git.run("diff", *options, oid(old), oid(new))
        return ran.out.decode("utf-8", "replace")

    async def head(self) -> str:
        """See the port."""
        return (await self._head())[0] if self._place.kind == "git" else ""

    async def land(self, session: str, branch: str = "", squash: bool = False) -> str:
        """See the port. Without `branch` it is the branch that the session began on.

        That branch's files follow if it is checked out in the workspace; a new branch is made; one that is checked out
        elsewhere is refused. No hook runs (see `skep.workspace.land`).
        """
        about = owned(await self._refs.about(session), session, self._place.id)
        if self._place.kind == "hosted":
            raise Unavailable("This machine has no files of yours to land on.", "Land where your repository is.")
        async with self._folder:
            if self._place.kind == "copy":
                if branch or squash:
                    raise Invalid(f"{self._place.top} is no git repository.", "Land without a branch and without squashing.")
                return await copy_back(self._place, self._refs, session)
            target = branch or (about.branch if about else "")
            if not target:
                await self._refs.tip(session)
                raise Invalid(f"Session {session} began on no branch (HEAD was detached).", "Name the branch to land on.")
            return await land(self._place, self._refs, session, target, squash)

    async def forget(self, session: str, keep: Sequence[str] = ()) -> list[str]:
        """See the port; what counts as unmerged is told in `skep.workspace.forget`."""
        owned(await self._refs.about(session), session, self._place.id)
        for root, record in (await self._trees.all()).items():
            if record.session == session:
                await self._trees.remove(str(root))
        return await forget(self._place, self._refs, session, keep)

    async def unmerged(self, session: str) -> list[str]:
        """See the port."""
        return await unmerged(self._place, self._refs, session)

    async def abandon(self, session: str, unmerged: bool = False) -> list[str]:
        """See the port."""
        at = await self._refs.all(session)
        if not at:
            raise NotFound(f"This repository holds no refs of a session {session!r}.", "`skep doctor` lists those that are left.")
        refused = await forget(self._place, self._refs, session, (), whole=True)
        if refused and unmerged:
            await self._refs.change([f"delete {self._refs.name(session, name)}" for name in (*at, ABOUT)])
        return refused

    async def drop(self, session: str, names: Sequence[str]) -> None:
        """See the port. Raises Invalid for `main`, `base`, `about` and `landed`."""
        await self._refs.drop(session, names)

    async def bundle(self, session: str, into: BinaryIO) -> None:
        """See the port."""
        await bundle(self._place.git, self._refs, session, into)

    async def gather(self, session: str) -> None:
        """See the port: all that there is is here."""

    async def prove(self, session: str, file: Path, tip: str) -> None:
        """See the port."""
        await prove(self._place, self._refs, file, session, tip)

    async def unbundle(self, session: str, file: Path, origin: str, tip: str) -> None:
        """See the port. The imported session lands where it is told to: it began on no branch of this repository."""
        about = About(self._place.id, "", self._place.kind)
        await unbundle(self._place.git, self._refs, file, origin, session, about, tip)

    async def trees(self) -> dict[str, tuple[str, str]]:
        """See the port."""
        return {str(root / self._place.sub): (made.session, made.name) for root, made in (await self._trees.all()).items()}

    async def tidy(self, live: Sequence[str]) -> int:
        """See the port. What this process is making at the moment stays."""
        await self._place.scratch.tidy()
        return await self._trees.tidy(live)

    def _from_here(self, path: str) -> str:
        """A path of the repository, from the workspace folder."""
        return os.path.relpath(path, self._place.sub) if self._place.sub else path

    async def _head(self) -> tuple[str, str]:
        """The user's branch, "" if HEAD is detached, and its commit."""
        user = self._place.user
        branch = (await user.run("symbolic-ref", "-q", "--short", "HEAD", ok=(0, 1))).text
        return branch, await user("rev-parse", "--verify", "HEAD^{commit}")

    async def _snapshot(self) -> tuple[str, str]:
        """No branch, and a commit of what a plain folder holds now, but for what it ignores."""
        place = self._place
        async with self._folder:
            user = place.user
            found = await snapshot.changes(user, place.hides)
            await snapshot.bounded(place.top, found.here, COPY_FILES, COPY_BYTES)
            ignored = (await user.run("ls-files", "-z", "-c", "-i", "--exclude-standard")).names
            tree = await snapshot.record(user, snapshot.Changes(found.here, [*found.gone, *ignored]))
            return "", await commit(place.git, tree, [], worded(f"Files of {place.top}", {}), None)

    async def _left_out(self) -> int:
        """Files of the user's that are not committed."""
        if self._place.kind != "git":
            return 0
        command = ("status", "--porcelain", "-z", "-uall", "--no-renames", "--ignore-submodules=dirty")
        entries = (await self._place.user.run(*command)).names
        return sum(not self._place.hides(entry[3:]) for entry in entries)
