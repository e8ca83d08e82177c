"""Port Workspace: where attempts work and how their results come together. `git` is the only backend; `copy` a use of it.

Port Commits: how the commits of a session reach the repositories of other machines.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from msgspec import Struct

from skep.core.intent import Candidate
from skep.store import Blobs, Listing

if TYPE_CHECKING:
    from skep.workspace.remote import Remote


class Opened(Struct, frozen=True, gc=False):
    """What a session starts from: the commit, the user's branch (empty if detached), how it is kept, and what is left out.

    `kind`: "copy" of a plain folder, "git", or "git:<folder>" in a folder of the repository, from its top. `left_out` is the
    number of uncommitted files that are not part of it.
    """

    base: str
    branch: str
    kind: str
    left_out: int = 0


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


class Limits(Struct, frozen=True, gc=False):
    """The most that a bundle may be: bytes as it is sent, objects, bytes of all unpacked and of one, deltas upon deltas."""

    packed: int = 64 << 20
    objects: int = 1_000_000
    unpacked: int = 16 << 30
    object: int = 256 << 20
    depth: int = 250


#: What is taken in where nothing else is said.
LIMITS = Limits()


class Commits(Protocol):
    """The commits of sessions, for every machine that works on them."""

    async def publish(self, session: str, commit: str, have: Sequence[str] = ()) -> None:
        """Makes a commit that is here available to others, durably; one that is published already costs nothing.

        Args:
            have: published commits that it builds on: what they lead to is not sent again.

        Raises:
            NotFound: one of those was not published.
            Invalid: a commit is not here.
            Exhausted: it is too large to be sent.
            Unavailable: the store or git fails; publish it again.
        """

    async def ensure(self, session: str, commit: str) -> None:
        """Brings a published commit, with all that leads to it, into the repository here, and keeps it from collection.

        Raises:
            NotFound: it is not here and was not published.
            Invalid: what was published is damaged, or holds what git forbids.
            Exhausted: it is larger than the limits here.
            Unavailable: the store, the disk or git fails; it can be repeated.
        """

    async def fork(self, origin: str, session: str) -> None:
        """Makes available to a forked session what its origin has published."""

    async def ensure_all(self, session: str) -> None:
        """Brings all commits that a session published into the repository here. Raises as `ensure` does."""

    async def forget(self, session: str) -> None:
        """The session is gone: nothing of it is available any more."""

    async def collect(self, known: Callable[[], Awaitable[Collection[str]]]) -> int:
        """Removes what lies in a shared repository for sessions that are gone; returns how many refs.

        Args:
            known: tells the sessions that there are; it is asked after the repository, so that what is newer stays.
        """


class Workspace(Protocol):
    """Worktrees, refs and merges of one workspace folder. All refs are `refs/skep/<session>/...`, ids percent-encoded.

    The user's branch, index, files and uncommitted work are never touched, except by `land`.
    Errors: Unavailable (git missing or failing: its last line), Invalid (a commit or path that is not there).
    """

    async def begin(self, session: str) -> Opened:
        """Checks the base, makes `refs/skep/<session>/main` and `.../base` at it. Repeating it changes nothing."""

    async def adopt(self, session: str, opened: Opened, tip: str) -> None:
        """Makes the refs of a session that began on another machine, its branch at `tip`; both commits must be here.

        Later calls move the branch to `tip`, wherever it is: the session's log says where it belongs.
        Raises Conflict if this workspace is kept in another way than the session's (`Opened.kind`).
        """

    async def enter(self, session: str, opened: Opened, tip: str) -> None:
        """Before a session is worked on here: it may have begun, and gone on, on another machine.

        Args:
            opened: what its log says that it began with.
            tip: where the log has its branch, and where it is afterwards. A merge here that nobody recorded is made anew.
        """

    async def have(self, session: str, *commits: str) -> None:
        """Before commits of a session are looked at: others may have made them. Empty ones are none."""

    def commits(self, blobs: Blobs, listing: Listing, limits: Limits = LIMITS, remote: Remote | None = None) -> Commits:
        """The commits in this repository, exchanged with other machines through a shared store, or a shared repository."""

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
        """Keeps a commit from collection under `refs/skep/<session>/<ref>`; `ref`: `wip/<task>/<n>`, the id as it is.

        A commit that came from elsewhere (`Commits.ensure`) has its place with that.
        """

    async def refs(self, session: str) -> dict[str, str]:
        """All refs of a session: name below the session, as it was given -> commit."""

    async def drop(self, session: str, names: Sequence[str]) -> None:
        """Removes refs that `pin` or `capture` made; git may collect what nothing else holds."""

    async def bundle(self, session: str, into: BinaryIO) -> None:
        """Writes all commits of a session, as git bundles them."""

    async def gather(self, session: str) -> None:
        """Before a session is bundled for good: brings here what others made of it. Raises as `Commits.ensure` does."""

    async def prove(self, session: str, file: Path, tip: str) -> None:
        """Checks that `unbundle` could make all of a session's refs of what `bundle` wrote, in a repository that has none of it.

        Raises Invalid if it could not.
        """

    async def unbundle(self, session: str, file: Path, origin: str, tip: str) -> None:
        """Makes a session's refs of what `bundle` wrote for the session `origin`, its branch at `tip`, which it had been at.

        Raises Invalid for anything else.
        """

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

    async def unmerged(self, session: str) -> list[str]:
        """The refs of a session whose work nothing else here holds, as nothing of the user's does where there is none."""

    async def abandon(self, session: str, unmerged: bool = False) -> list[str]:
        """Removes all refs of a session whose state folder, or whose log, is gone. Raises NotFound if there are none.

        Returns those that alone hold work; if there are any, and `unmerged` does not say to drop them, nothing was removed.
        """

    async def trees(self) -> dict[str, tuple[str, str]]:
        """The worktrees that are there: path -> session and name, as `checkout` was given them."""

    async def tidy(self, live: Sequence[str]) -> int:
        """Removes worktrees whose paths are not in `live` (left by a crash); returns how many."""
