"""Port Workspace: where attempts work and how their results come together. `git` is the only backend; `copy` a use of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from skep.core.intent import Candidate


class Opened(Struct, frozen=True, gc=False):
    """What a session starts from: the commit, the user's branch (empty if detached), git or copy, and what is left out.

    `left_out` is the number of uncommitted files that are not part of it.
    """

    base: str
    branch: str
    kind: str
    left_out: int


class Built(Struct, frozen=True, gc=False):
    """A merge, built but not published: its commit, or the conflicting paths and git's own words."""

    commit: str = ""
    conflicts: tuple[str, ...] = ()
    detail: str = ""


class Clash(Struct, frozen=True, gc=False):
    """What two commits are when git merges them as far as it can.

    `tree`: the files, conflicts marked in them. `paths`: those that conflict, from the top of the repository; none if all merges.
    `detail`: git's words about each. `since`: titles of the commits of the first side that changed those paths, newest first.
    """

    tree: str
    paths: tuple[str, ...] = ()
    detail: str = ""
    since: tuple[str, ...] = ()


class Around(Struct, frozen=True, kw_only=True, gc=False):
    """What a confined program must reach to work in a worktree with git: folders to change, folders and files to read.

    `instead`: path -> file that is to be seen in its place. `env`: variables that git needs there.
    """

    write: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    instead: dict[str, str] = {}
    env: dict[str, str] = {}


class Workspace(Protocol):
    """Worktrees, refs and merges of one workspace folder. All refs are `refs/skep/<session>/...`, ids percent-encoded.

    The user's branch, index, files and uncommitted work are never touched, except by `land`.
    Errors: Unavailable (git missing or failing: its last line), Invalid (a commit or path that is not there).
    """

    async def begin(self, session: str) -> Opened:
        """Checks the base, makes `refs/skep/<session>/main` and `.../base` at it. Repeating it changes nothing."""

    async def sessions(self) -> set[str]:
        """Names of all sessions that have refs here, also of those that another state folder made."""

    async def checkout(
        self, session: str, name: str, commit: str, include: bool = True, keep: bool = False, tree: str = ""
    ) -> str:
        """A worktree of that commit, detached, at a path made from a hash of session and name; returns the path.

        `include` also copies what `.worktreeinclude` names (gitignore syntax, untracked files only) from the user's tree.
        An existing one of that name is removed first (what it held must be captured before). With `keep` the new one takes over
        the files in it that git ignores (caches, installed packages), unless the commit has something in their place.
        With `tree` its files are those of that tree instead of the commit's: a change of it that `capture` commits.
        """

    def path(self, session: str, name: str) -> str:
        """The path that `checkout` gives, or gave, a worktree of that name."""

    async def around(self, path: str) -> Around:
        """What a confined program must reach to work in that worktree; without a path, to look at the user's own files.

        With it, it can commit in its worktree, and move no branch and change no setting, hook or object.
        """

    async def capture(self, path: str, session: str, ref: str, message: str, trailers: Mapping[str, str], at: int) -> str:
        """Commits all changes that are not ignored, with Skep's identity and hooks off, and pins `refs/skep/<session>/<ref>`.

        What was committed there counts too. Returns the commit, or "" if nothing differs from the commit that was checked out.
        The worktree stays as it is: a second call with the same `at` gives the same commit.
        """

    async def changed(self, base: str, commit: str) -> list[str]:
        """Paths that differ between two commits, relative to the workspace folder."""

    async def remove(self, path: str) -> None:
        """Removes a worktree and its record; nothing there is fine."""

    async def build(
        self, session: str, base: str, candidate: Candidate, at: int, message: str, trailers: Mapping[str, str]
    ) -> Built:
        """Builds the merge of a candidate into the commit `base`, dated `at`: the same oid every time. Pins it."""

    async def clash(self, ours: str, theirs: str) -> Clash:
        """The merge of two commits as files, conflicts and all; the same for the same commits."""

    async def marked(self, ours: str, theirs: str, commit: str) -> list[str]:
        """The paths in which a commit still has lines that mark a conflict of those two."""

    async def advance(self, session: str, new: str, old: str) -> str:
        """Moves the session's branch from old to new, if it is at old, fsynced; returns where the branch is afterwards."""

    async def tip(self, session: str) -> str:
        """Where the session's branch is."""

    async def pin(self, session: str, ref: str, commit: str) -> None:
        """Keeps a commit from collection under `refs/skep/<session>/<ref>`; `ref`: `wip/<task>/<n>`, the id as it is."""

    async def refs(self, session: str) -> dict[str, str]:
        """All refs of a session: name below the session, as it was given -> commit."""

    async def drop(self, session: str, names: Sequence[str]) -> None:
        """Removes refs that `pin` or `capture` made; git may collect what nothing else holds."""

    async def bundle(self, session: str) -> bytes:
        """All commits of a session, as git bundles them."""

    async def unbundle(self, session: str, data: bytes, origin: str) -> None:
        """Makes a session's refs of what `bundle` gave for the session `origin`. Raises Invalid for anything else."""

    async def fork(self, origin: str, session: str, tip: str) -> None:
        """Gives a forked session refs of its own, its branch at `tip`."""

    async def diff(self, old: str, new: str, color: bool = False, stat: bool = False) -> str:
        """The difference, as git prints it."""

    async def head(self) -> str:
        """The user's branch, "" if HEAD is detached or the folder is no repository to work in."""

    async def land(self, session: str, branch: str = "", squash: bool = False) -> str:
        """Brings the session's branch to the user's: fast-forward or merge commit, or one commit with `squash`.

        Raises Conflict when it does not merge or when uncommitted work would be overwritten: then nothing was changed.
        Returns the commit. For a copy: copies back what changed, unless the user changed the same file meanwhile (Conflict).
        """

    async def forget(self, session: str, keep: Sequence[str] = ()) -> list[str]:
        """Removes the session's worktrees and refs but for those in `keep`; returns refs that it refused to remove (unmerged)."""

    async def abandon(self, session: str, unmerged: bool = False) -> list[str]:
        """Removes all refs of a session whose state folder is gone. Raises NotFound if there are none.

        Returns those that alone hold work; if there are any, and `unmerged` does not say to drop them, nothing was removed.
        """

    async def trees(self) -> dict[str, tuple[str, str]]:
        """The worktrees that are there: path -> session and name, as `checkout` was given them."""

    async def tidy(self, live: Sequence[str]) -> int:
        """Removes worktrees whose paths are not in `live` (left by a crash); returns how many."""
