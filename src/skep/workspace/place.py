"""Finds out what a workspace folder is: a git repository to work in, or a plain folder that gets a private one.

A folder without a repository, in a repository without commits, or in one whose HEAD does not know that folder (a home
directory under git, say) is plain: its private repository lies in the state folder and records every byte as it is. It stays
plain as long as the private repository holds sessions. A folder inside a repository means the whole repository: attempts get
all of it and start in the same subfolder. A machine that only works for others has no folder: its repository is filled by what
they send.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from skep.errors import Conflict, Invalid, Unavailable
from skep.workspace.command import FLOOR, Git
from skep.workspace.scratch import Scratch

#: Line endings, filters and encodings are off in a private repository: a copy is exact.
_EXACT = "* -text -filter -ident !eol !working-tree-encoding\n"
#: Where a hosted place remembers how it keeps files, and what that can be.
_KEPT = Path("git", "kept")
_WAYS = re.compile(r"copy|git(:[^/\n][^\n]*)?")


class Place(Struct, frozen=True, gc=False):
    """A workspace folder.

    Args:
        kind: "git", "copy", or "hosted" where there is no folder of the user's.
        git: its repository: objects and refs alone.
        user: the user's working tree, with the user's index (for a copy: the index of the last snapshot).
        sub: the folder below the working tree, "" if it is the same.
        state: where Skep's own files go.
        hidden: name of the folder that holds the state; never captured.
        common: the git folder that all working trees share.
        id: tells this state folder from others that use the same repository.
        scratch: folders for the time of one call.
    """

    kind: str
    git: Git
    user: Git
    sub: str
    state: Path
    hidden: bytes
    common: Path
    id: str
    scratch: Scratch

    @property
    def top(self) -> Path:
        """The top of the user's working tree."""
        return self.user.cwd

    @property
    def way(self) -> str:
        """How sessions that begin here are kept: "copy", "git", or "git:<folder>" in a folder of the repository."""
        return f"{self.kind}:{self.sub}" if self.sub else self.kind

    @property
    def trees(self) -> Path:
        """Where working trees of attempts are."""
        return self.state / "worktrees"

    @property
    def records(self) -> Path:
        """What Skep remembers of each of them, out of the attempt's reach by accident."""
        return self.state / "git" / "records"

    def hides(self, path: bytes) -> bool:
        """Whether a path lies in a state folder, this one's or that of a Skep that ran in the working tree."""
        return self.hidden in path.split(b"/")


async def locate(folder: Path, state: Path) -> Place:
    """Finds out what a folder is, and prepares the state folder and its exclusion from git.

    Raises:
        Invalid: the folder is missing, is a bare repository, or lies inside a `.git`.
        Unavailable: git is missing or too old, or refuses the repository.
    """
    if not folder.is_dir():
        raise Invalid(f"The workspace {folder} is no folder.", "Give the path of an existing folder.")
    folder, state = folder.resolve(), state.resolve()
    await _check_version(Git(cwd=folder))
    try:
        identity = await asyncio.to_thread(_prepare, state)
    except OSError as error:
        raise Unavailable(f"{state} cannot be written: {error.strerror}.", "Check its owner, mode and disk.") from error
    inside = state.is_relative_to(folder) and state != folder
    hidden = state.relative_to(folder).parts[0] if inside else ".skep"
    scratch = Scratch(state / "git" / "scratch")
    found = await _repository(Git(cwd=folder))
    if found:
        gitdir, common, top = found
        await asyncio.to_thread(_exclude, common / "info" / "exclude", hidden)
        git = Git(cwd=common, gitdir=gitdir)
        sub = folder.relative_to(top).as_posix() if folder != top else ""
        known = await git.run("rev-parse", "-q", "--verify", f"HEAD:{sub}", ok=())
        if known.code == 0 and not await _holds_sessions(state / "repo.git"):
            user = git.on(top, own=False)
            return Place("git", git, user, sub, state, os.fsencode(hidden), common, identity, scratch)
    private = await _private(state / "repo.git", hidden)
    user = private.on(folder, private.cwd / "index", own=False)
    return Place("copy", private, user, "", state, os.fsencode(hidden), private.cwd, identity, scratch)


async def hosted(state: Path) -> Place:
    """Prepares a state folder with a repository for sessions that began elsewhere; the user's folder is an empty one.

    Raises Unavailable if git is missing or too old, or the folder cannot be written.
    """
    nothing = state / "git" / "nothing"
    try:
        state.mkdir(parents=True, exist_ok=True)
        await _check_version(Git(cwd=state))
        identity = await asyncio.to_thread(_prepare, state.resolve())
        nothing.mkdir(exist_ok=True)
    except OSError as error:
        raise Unavailable(f"{state} cannot be written: {error.strerror}.", "Check its owner, mode and disk.") from error
    state, hidden = state.resolve(), ".skep"
    git = await _private(state / "hosted.git", hidden, exact=False)
    user = git.on(nothing.resolve(), git.cwd / "index", own=False)
    scratch = Scratch(state / "git" / "scratch")
    place = Place("hosted", git, user, "", state, os.fsencode(hidden), git.cwd, identity, scratch)
    kept = state / _KEPT
    return replace(place, sub=_folder(kept.read_text())) if kept.exists() else place


def keep(place: Place, kind: str, empty: bool) -> Place:
    """Sees to it that a place keeps files as a session does where it began.

    Args:
        kind: the session's, as `Place.way` gave it there.
        empty: whether there are no other sessions here: then a hosted place becomes what it has to be.

    Returns:
        The place as it is then.

    Raises:
        Conflict: this place keeps files in another way.
    """
    kept = place.state / _KEPT
    here = place.way if place.kind != "hosted" else kept.read_text() if kept.exists() else ""
    if here == kind:
        return place
    known = _WAYS.fullmatch(kind) and ".." not in kind.split("/")
    if not known or place.kind != "hosted" or (here and not empty):
        raise Conflict(
            f"The session's workspace is kept as '{kind}', that of {place.state} as '{here or place.kind}'.",
            "On this machine, give the sessions of each workspace a state folder of their own.",
        )
    (place.common / "info" / "attributes").write_text(_EXACT if kind == "copy" else "")
    kept.write_text(kind)
    return replace(place, sub=_folder(kind))


def _folder(kind: str) -> str:
    return kind.partition(":")[2]


async def _check_version(git: Git) -> None:
    said = await git("version")
    match = re.search(r"(\d+)\.(\d+)", said)
    if match is None or (int(match[1]), int(match[2])) < FLOOR:
        raise Unavailable(f"This is {said}, and Skep needs git {FLOOR[0]}.{FLOOR[1]} or newer.", "Install a newer git.")


async def _repository(git: Git) -> tuple[Path, Path, Path] | None:
    """Git folder, common git folder and top of the working tree that a folder is in; None if it is in none."""
    asked = ("rev-parse", "--path-format=absolute", "--is-inside-work-tree", "--git-dir", "--git-common-dir")
    ran = await git.run(*asked, ok=())
    if ran.code:
        if "not a git repository (or any" in ran.err:
            return None
        raise git.failure(asked, ran)
    inside, gitdir, common = ran.text.split("\n")
    if inside != "true":
        raise Invalid(f"{git.cwd} has no files to work on: it is a bare repository or a git folder.", "Give a working tree.")
    return Path(gitdir), Path(common), Path(await git("rev-parse", "--show-toplevel"))


async def _holds_sessions(private: Path) -> bool:
    if not (private / "HEAD").exists():
        return False
    return bool(await Git(cwd=private, gitdir=private)("for-each-ref", "--count=1", "refs/skep/"))


async def _private(path: Path, hidden: str, exact: bool = True) -> Git:
    git = Git(cwd=path, gitdir=path)
    if not (path / "HEAD").exists():
        await Git(cwd=path.parent)("init", "-q", "--bare", "--template=", "-b", "none", str(path))
    await asyncio.to_thread(_exclude, path / "info" / "exclude", hidden)
    if exact:
        await asyncio.to_thread((path / "info" / "attributes").write_text, _EXACT)
    return git


def _prepare(state: Path) -> str:
    """Makes the folders, and the id that says whose sessions a repository's refs are."""
    for folder in (state / "worktrees", state / "git" / "records", state / "git" / "scratch"):
        folder.mkdir(parents=True, exist_ok=True)
    path = state / "git" / "id"
    if not path.exists():
        draft = path.with_name(f"id.{secrets.token_hex(4)}")
        draft.write_text(secrets.token_hex(8))
        try:
            os.link(draft, path)  # whoever comes first
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()


def _exclude(path: Path, hidden: str) -> None:
    """Keeps the state folder out of git, without touching a file of the user's."""
    line = f"{hidden}/"
    text = path.read_text(errors="surrogateescape") if path.exists() else ""
    if line in text.splitlines():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(("" if not text or text.endswith("\n") else "\n") + line + "\n")
