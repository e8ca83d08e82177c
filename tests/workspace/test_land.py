"""Landing: the user's branch and files follow whole or not at all, and what was cut short can be repeated."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from skep.errors import Conflict, Invalid, NotFound, Unavailable
from skep.workspace.copyback import DRAFT
from skep.workspace.git import GitWorkspace
from tests.workspace import crashing
from tests.workspace.repository import Repository, fingerprint, git, tree, write

AT = 1_700_000_000_000
START = {f"file{n}.txt": f"{n}\n" for n in range(6)}
WANTED = {"file1.txt": "changed\n", "file2.txt": "changed\n", "sub/new.txt": "new\n", "new.txt": "new\n"}


class Landing:
    """A workspace with a session that has work to land: two files changed, one deleted, two new, one now executable."""

    def __init__(self, top: Path) -> None:
        self.top = top

    async def prepare(self) -> GitWorkspace:
        self.work = await GitWorkspace.open(self.top, self.top / ".skep")
        self.base = (await self.work.begin("s")).base
        path = Path(await self.work.checkout("s", "t", self.base))
        write(path, WANTED)
        (path / "file3.txt").unlink()
        (path / "file4.txt").chmod(0o755)
        self.tip = await self.work.capture(str(path), "s", "task/t/1", "t", {}, AT)
        self.wanted = tree(path)
        await self.work.remove(str(path))
        assert await self.work.advance("s", self.tip, self.base) == self.tip
        return self.work

    def landed(self) -> bool:
        return tree(self.top) == self.wanted


@pytest.fixture
async def landing(tmp_path: Path) -> Landing:
    repository = Repository(tmp_path / "user")
    repository.commit(START)
    made = Landing(repository.top)
    await made.prepare()
    return made


@pytest.fixture
async def copy(tmp_path: Path) -> Landing:
    write(tmp_path / "plain", START)
    made = Landing(tmp_path / "plain")
    await made.prepare()
    return made


def status(top: Path) -> str:
    return git(top, "status", "--porcelain")


async def test_a_branch_that_did_not_move_is_forwarded_with_files_index_and_reflog(landing: Landing) -> None:
    assert await landing.work.land("s") == landing.tip
    assert git(landing.top, "rev-parse", "trunk") == landing.tip
    assert landing.landed()
    assert status(landing.top) == ""
    assert "skep merge: session s" in git(landing.top, "reflog", "-1", "trunk")
    assert git(landing.top, "rev-parse", "ORIG_HEAD") == landing.base


async def test_a_branch_that_moved_gets_a_merge_commit_in_the_users_name(landing: Landing) -> None:
    write(landing.top, {"own.txt": "own\n"})
    git(landing.top, "add", "own.txt")
    git(landing.top, "commit", "-qm", "own")
    own = git(landing.top, "rev-parse", "HEAD")
    git(landing.top, "config", "user.name", "Ada")
    git(landing.top, "config", "user.email", "ada@example.org")
    commit = await landing.work.land("s")
    words = git(landing.top, "log", "-1", "--format=%P|%an <%ae>|%s|%(trailers:key=Skep-Session,valueonly)", commit)
    assert words == f"{own} {landing.tip}|Ada <ada@example.org>|Merge Skep session s|s\n"
    assert git(landing.top, "rev-parse", "HEAD") == commit
    assert status(landing.top) == ""
    assert await landing.work.land("s") == commit


async def test_without_an_identity_a_merge_commit_is_skeps(landing: Landing) -> None:
    git(landing.top, "commit", "-q", "--allow-empty", "-m", "own")
    commit = await landing.work.land("s")
    assert git(landing.top, "log", "-1", "--format=%an <%ae>", commit) == "Skep <skep@localhost>"


async def test_squashing_makes_one_commit_and_counts_as_landed(landing: Landing) -> None:
    commit = await landing.work.land("s", squash=True)
    assert git(landing.top, "log", "-1", "--format=%P", commit) == landing.base
    assert landing.landed()
    assert status(landing.top) == ""
    assert await landing.work.land("s", squash=True) == commit
    assert await landing.work.forget("s") == []


async def test_a_squash_that_the_user_threw_away_leaves_the_session_unmerged(landing: Landing) -> None:
    await landing.work.land("s", squash=True)
    git(landing.top, "reset", "-q", "--hard", landing.base)
    assert "main" in await landing.work.forget("s")


async def test_another_branch_is_made_or_moved_without_touching_the_files(landing: Landing) -> None:
    write(landing.top, {"file1.txt": "uncommitted\n"})
    before = tree(landing.top)
    assert await landing.work.land("s", branch="review/one") == landing.tip
    assert git(landing.top, "rev-parse", "review/one") == landing.tip
    git(landing.top, "branch", "other")
    squashed = await landing.work.land("s", branch="other", squash=True)
    assert git(landing.top, "log", "-1", "--format=%P", "other") == landing.base
    assert git(landing.top, "rev-parse", "other") == squashed
    assert tree(landing.top) == before
    assert git(landing.top, "rev-parse", "trunk") == landing.base
    assert status(landing.top) == " M file1.txt"


async def test_it_goes_to_the_branch_that_the_session_began_on_even_if_another_is_checked_out(landing: Landing) -> None:
    git(landing.top, "checkout", "-q", "-b", "later")
    before = tree(landing.top)
    await landing.work.land("s")
    assert git(landing.top, "rev-parse", "trunk") == landing.tip
    assert git(landing.top, "rev-parse", "later") == landing.base
    assert tree(landing.top) == before


async def test_a_branch_in_use_elsewhere_and_impossible_names_are_refused(landing: Landing, tmp_path: Path) -> None:
    git(landing.top, "worktree", "add", "-q", "-b", "busy", str(tmp_path / "busy"))
    with pytest.raises(Conflict, match="busy is checked out in"):
        await landing.work.land("s", branch="busy")
    for name in ("..", "-d", "a b", "@{-1}", "x.lock"):
        with pytest.raises(Invalid):
            await landing.work.land("s", branch=name)
    with pytest.raises(NotFound):
        await landing.work.land("nobody", branch="x")


async def test_a_session_that_began_on_no_branch_needs_a_name(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "user")
    repository.commit(START)
    repository("checkout", "-q", "--detach")
    landing = Landing(repository.top)
    work = await landing.prepare()
    with pytest.raises(Invalid, match="no branch"):
        await work.land("s")
    assert await work.land("s", branch="trunk") == landing.tip


async def test_a_conflict_with_the_branch_changes_nothing(landing: Landing) -> None:
    write(landing.top, {"file1.txt": "theirs\n"})
    git(landing.top, "commit", "-qam", "theirs")
    before = fingerprint(landing.top)
    for squash in (False, True):
        with pytest.raises(Conflict, match=r"does not merge into trunk: file1\.txt"):
            await landing.work.land("s", squash=squash)
    assert fingerprint(landing.top) == before


@pytest.mark.parametrize("how", ["staged", "changed", "untracked", "ignored"])
async def test_uncommitted_work_in_the_way_is_named_and_nothing_is_changed(landing: Landing, how: str) -> None:
    name = "file1.txt" if how in ("staged", "changed") else "sub/new.txt"
    if how == "ignored":
        (landing.top / ".git/info/exclude").write_text("sub/\n.skep/\n")
    write(landing.top, {name: "mine\n"})
    if how == "staged":
        git(landing.top, "add", name)
    before = fingerprint(landing.top)
    with pytest.raises(Conflict, match=name):
        await landing.work.land("s")
    assert fingerprint(landing.top) == before


async def test_uncommitted_work_elsewhere_stays_as_it_is(landing: Landing) -> None:
    write(landing.top, {"file0.txt": "changed\n", "file5.txt": "staged\n", "mine.txt": "untracked\n"})
    git(landing.top, "add", "file5.txt")
    await landing.work.land("s")
    assert status(landing.top).splitlines() == [" M file0.txt", "M  file5.txt", "?? mine.txt"]


async def test_a_merge_of_the_users_own_that_is_under_way_is_left_alone(landing: Landing) -> None:
    git(landing.top, "checkout", "-q", "-b", "side")
    git(landing.top, "commit", "-q", "--allow-empty", "-m", "side")
    git(landing.top, "checkout", "-q", "trunk")
    git(landing.top, "merge", "-q", "--no-ff", "--no-commit", "side")
    before = fingerprint(landing.top)
    with pytest.raises(Conflict, match="MERGE_HEAD"):
        await landing.work.land("s")
    assert fingerprint(landing.top) == before


async def test_an_index_that_somebody_holds_is_told(landing: Landing) -> None:
    (landing.top / ".git/index.lock").write_text("")
    with pytest.raises(Unavailable, match=r"index\.lock"):
        await landing.work.land("s")


async def test_a_state_folder_is_never_landed(landing: Landing, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "user", "hostile")
    write(tmp_path / "hostile", {".skep/key": "mine now\n"})
    git(tmp_path / "hostile", "add", "-f", ".skep")
    git(tmp_path / "hostile", "commit", "-qm", "trap")
    git(landing.top, "fetch", "-q", str(tmp_path / "hostile"))
    git(landing.top, "update-ref", "refs/skep/s/main", "FETCH_HEAD")
    before = fingerprint(landing.top)
    with pytest.raises(Conflict, match=r"\.skep/key"):
        await landing.work.land("s")
    assert fingerprint(landing.top) == before


async def test_no_hook_of_the_users_runs(landing: Landing, tmp_path: Path) -> None:
    for name in ("post-merge", "pre-merge-commit", "post-checkout", "reference-transaction", "post-index-change"):
        hook = landing.top / ".git/hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        hook.chmod(0o755)
    await landing.work.land("s")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("done", [["file1.txt", "new.txt"], ["file3.txt"], ["file1.txt", "file2.txt", "file3.txt", "new.txt"]])
async def test_a_landing_cut_short_among_the_files_can_be_repeated(landing: Landing, done: list[str]) -> None:
    for name in done:
        if name in WANTED:
            write(landing.top, {name: WANTED[name]})
        else:
            (landing.top / name).unlink()
    assert await landing.work.land("s") == landing.tip
    assert landing.landed()
    assert status(landing.top) == ""


async def test_a_landing_killed_before_any_step_can_be_repeated(landing: Landing, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    shutil.copytree(landing.top, backup, symlinks=True)
    total = crashing.run(landing.top, tmp_path / "desk", "await work.land('s')")
    assert landing.landed()
    for crash in range(total - 3, total + 1):  # from the last look at the files to the last ref
        shutil.rmtree(landing.top)
        shutil.copytree(backup, landing.top, symlinks=True)
        assert crashing.run(landing.top, tmp_path / "desk", "await work.land('s')", crash) == 0
        assert git(landing.top, "rev-parse", "trunk") in (landing.base, landing.tip)
        crashing.run(landing.top, tmp_path / "desk", "await work.land('s')")
        assert git(landing.top, "rev-parse", "trunk") == landing.tip
        assert landing.landed()
        assert status(landing.top) == ""


async def test_a_copy_keeps_permissions_and_takes_the_executable_bit(copy: Landing) -> None:
    (copy.top / "file1.txt").chmod(0o640)
    (copy.top / "file4.txt").chmod(0o640)
    assert await copy.work.land("s") == copy.tip
    assert (copy.top / "file1.txt").stat().st_mode & 0o777 == 0o640
    assert (copy.top / "file4.txt").stat().st_mode & 0o777 == 0o750


async def test_a_copy_cut_short_can_be_repeated(copy: Landing) -> None:
    write(copy.top, {"file1.txt": WANTED["file1.txt"], "sub/new.txt": WANTED["sub/new.txt"]})
    (copy.top / "file3.txt").unlink()
    (copy.top / os.fsdecode(DRAFT)).write_text("half")
    await copy.work.land("s")
    assert copy.landed()


async def test_a_copy_is_refused_whole_if_one_file_was_changed_meanwhile(copy: Landing) -> None:
    write(copy.top, {"file3.txt": "changed, and deleted by the session\n", "new.txt": "mine\n"})
    before = fingerprint(copy.top)
    with pytest.raises(Conflict, match=r"file3\.txt, new\.txt"):
        await copy.work.land("s")
    assert fingerprint(copy.top) == before


async def test_a_copy_does_not_go_over_ignored_files_folders_or_through_symlinks(copy: Landing, tmp_path: Path) -> None:
    write(tmp_path, {"outside/kept": "kept\n"})

    async def refused(name: str) -> None:
        before = fingerprint(copy.top)
        with pytest.raises(Conflict, match=name):
            await copy.work.land("s")
        assert fingerprint(copy.top) == before

    write(copy.top, {".gitignore": "new.txt\n", "new.txt": "ignored, and mine\n"})
    await refused("new.txt")
    (copy.top / "new.txt").unlink()
    write(copy.top, {"new.txt/inside": "mine\n"})
    await refused("new.txt")
    shutil.rmtree(copy.top / "new.txt")
    (copy.top / "sub").symlink_to(tmp_path / "outside")
    await refused("sub/new.txt")
    (copy.top / "sub").unlink()
    write(copy.top, {"sub": "a file of mine\n"})
    await refused("sub/new.txt")
    (copy.top / "sub").unlink()
    await copy.work.land("s")
    assert tree(tmp_path / "outside").keys() == {"kept"}


async def test_a_copy_turns_files_into_folders_and_back(tmp_path: Path) -> None:
    write(tmp_path / "user", {"file": "x\n", "folder/a": "a\n", "folder/deep/b": "b\n"})
    (tmp_path / "user/folder/empty").mkdir()
    work = await GitWorkspace.open(tmp_path / "user", tmp_path / "user/.skep")
    base = (await work.begin("s")).base
    path = Path(await work.checkout("s", "t", base))
    (path / "file").unlink()
    shutil.rmtree(path / "folder")
    write(path, {"file/inside": "y\n", "folder": "z\n"})
    (path / "link").symlink_to("folder")
    tip = await work.capture(str(path), "s", "task/t/1", "t", {}, AT)
    await work.advance("s", tip, base)
    await work.land("s")
    assert tree(tmp_path / "user") == tree(path)


async def test_a_copy_has_no_branches(copy: Landing) -> None:
    with pytest.raises(Invalid, match="no git repository"):
        await copy.work.land("s", branch="x")
