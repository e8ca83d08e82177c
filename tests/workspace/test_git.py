"""A git repository, a subfolder of one, and a linked worktree of one pass what every workspace passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep.errors import Unavailable
from skep.workspace import Workspace
from skep.workspace.git import GitWorkspace
from tests.contracts.workspace import START, WorkspaceContract
from tests.workspace.repository import Repository, git, write


class GitHome:
    """A repository with one commit."""

    def __init__(self, top: Path) -> None:
        self.repository = Repository(top)
        self.repository.commit(START)
        self.folder = top

    async def open(self) -> Workspace:
        return await GitWorkspace.open(self.folder, self.folder / ".skep")

    def git(self, *args: str) -> str:
        return git(self.folder, *args)

    def fingerprint(self) -> str:
        return self.repository.fingerprint()


class SubfolderHome(GitHome):
    """A folder in a larger repository."""

    def __init__(self, top: Path) -> None:
        self.repository = Repository(top)
        self.folder = top / "part"
        self.repository.commit({f"part/{name}": text for name, text in START.items()} | {"outside.txt": "outside\n"})


class LinkedHome(GitHome):
    """A working tree that the user linked to another."""

    def __init__(self, top: Path) -> None:
        self.repository = Repository(top.with_name("main"))
        self.repository.commit(START)
        self.repository("worktree", "add", "-q", "-b", "side", str(top))
        self.folder = top

    def fingerprint(self) -> str:
        return self.repository.fingerprint() + git(self.folder, "status", "--porcelain", "-uall", env={"GIT_OPTIONAL_LOCKS": "0"})


class TestGit(WorkspaceContract):
    home = GitHome


class TestSubfolder(WorkspaceContract):
    home = SubfolderHome


class TestLinkedWorktree(WorkspaceContract):
    home = LinkedHome


async def test_an_entry_that_a_crash_left_half_made_is_tidied(tmp_path: Path) -> None:
    home = GitHome(tmp_path / "user")
    work = await home.open()
    base = (await work.begin("s")).base
    name = Path(work.path("s", "dead")).name
    half = {"locked": "initializing", "gitdir": f"{work.path('s', 'dead')}/.git\n", "commondir": ""}
    write(home.folder / ".git/worktrees" / name, half)
    (home.folder / ".skep/git/records" / name).mkdir()
    with pytest.raises(Unavailable, match="commondir"):
        await work.checkout("s", "live", base)
    assert await work.tidy([]) == 1
    assert Path(await work.checkout("s", "live", base), "a.txt").exists()


async def test_worktrees_of_the_users_own_are_left_alone_even_if_their_disk_is_away(tmp_path: Path) -> None:
    home = GitHome(tmp_path / "user")
    home.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "away"))
    (tmp_path / "away").rename(tmp_path / "unplugged")
    work = await home.open()
    await work.checkout("s", "t", (await work.begin("s")).base)
    await work.tidy([])
    (tmp_path / "unplugged").rename(tmp_path / "away")
    assert git(tmp_path / "away", "rev-parse", "--abbrev-ref", "HEAD") == "side"
