"""`.worktreeinclude`: what the user wants along, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep.workspace.git import GitWorkspace
from tests.workspace.repository import Repository, tree, write

AT = 1_700_000_000_000


class Yard:
    """A repository whose user has files that git does not hold."""

    def __init__(self, top: Path) -> None:
        self.repository = Repository(top)
        self.top = top
        self.base = self.repository.commit({"a.txt": "a\n", ".gitignore": ".env\ncache/\nkeys/\n", "dir/b.txt": "b\n"})

    async def checkout(self, include: bool = True) -> Path:
        self.work = await GitWorkspace.open(self.top, self.top / ".skep")
        await self.work.begin("s")
        return Path(await self.work.checkout("s", "t", self.base, include))

    async def copied(self) -> set[str]:
        return tree(await self.checkout()).keys() - self.repository.files(self.base)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path / "user")


async def test_named_files_come_along_with_their_modes_and_others_do_not(yard: Yard) -> None:
    write(yard.top, {".env": "x\n", "cache/deep/1": "1\n", "cache/2.tmp": "2\n", "keys/secret": "s\n", "loose.txt": "l\n"})
    (yard.top / ".env").chmod(0o600)
    write(yard.top, {".worktreeinclude": "# settings\n.env\n/cache/\n!*.tmp\n"})
    assert await yard.copied() == {".env", "cache/deep/1", "cache/2.tmp"}
    path = await yard.checkout()
    assert (path / ".env").stat().st_mode & 0o777 == 0o600
    assert not (await yard.checkout(include=False) / ".env").exists()


async def test_tracked_files_are_those_of_the_commit(yard: Yard) -> None:
    write(yard.top, {"a.txt": "uncommitted\n", ".worktreeinclude": "*\n"})
    assert (await yard.checkout() / "a.txt").read_text() == "a\n"


async def test_a_copied_file_that_git_does_not_ignore_is_not_captured(yard: Yard) -> None:
    write(yard.top, {"loose.txt": "mine\n", ".worktreeinclude": "loose.txt\n"})
    path = await yard.checkout()
    assert (path / "loose.txt").read_text() == "mine\n"
    assert await yard.work.capture(str(path), "s", "task/t/1", "t", {}, AT) == ""
    write(path, {"loose.txt": "changed\n", "a.txt": "work\n"})
    commit = await yard.work.capture(str(path), "s", "task/t/1", "t", {}, AT)
    assert await yard.work.changed(yard.base, commit) == ["a.txt"]


async def test_symlinks_are_never_followed_out_of_either_tree(yard: Yard, tmp_path: Path) -> None:
    write(tmp_path, {"outside/secret": "secret\n"})
    write(yard.top, {"cache/1": "1\n", "keys/mine": "s\n", ".worktreeinclude": "cache/\nkeys/\nlinked/\n"})
    (yard.top / "cache/inside").symlink_to("1")
    (yard.top / "cache/up").symlink_to("../../outside/secret")
    (yard.top / "cache/absolute").symlink_to(tmp_path / "outside/secret")
    (yard.top / "linked").symlink_to(tmp_path / "outside")
    # The commit has a symlink where the user has a folder: what is copied must not go through it.
    yard.repository("checkout", "-q", "--detach")
    (yard.top / "keys").rename(yard.top / "aside")
    (yard.top / "keys").symlink_to(tmp_path / "outside")
    yard.repository("add", "-f", "keys")
    yard.repository("commit", "-qm", "trap")
    yard.base = yard.repository("rev-parse", "HEAD")
    yard.repository("checkout", "-q", "trunk")
    (yard.top / "aside").rename(yard.top / "keys")
    assert await yard.copied() == {"cache/1", "cache/inside"}
    assert tree(tmp_path / "outside").keys() == {"secret"}
    assert (tmp_path / "outside/secret").read_text() == "secret\n"


async def test_a_state_folder_and_repositories_inside_never_come_along(yard: Yard) -> None:
    Repository(yard.top / "inner").commit({"x.txt": "x\n"})
    write(yard.top, {".worktreeinclude": "*\n", "sub/.skep/key": "k\n", ".env": "x\n"})
    assert await yard.copied() == {".env", ".worktreeinclude"}


async def test_a_plain_folder_brings_ignored_files_along_too(tmp_path: Path) -> None:
    write(tmp_path / "user", {"a.txt": "a\n", ".gitignore": ".env\n", ".env": "x\n", ".worktreeinclude": ".env\n"})
    work = await GitWorkspace.open(tmp_path / "user", tmp_path / "user/.skep")
    path = Path(await work.checkout("s", "t", (await work.begin("s")).base))
    assert (path / ".env").read_text() == "x\n"
    assert await work.capture(str(path), "s", "task/t/1", "t", {}, AT) == ""
