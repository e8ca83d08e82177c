"""What a workspace folder can be, what is refused, and what a repository's configuration cannot make Skep's git do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from skep.errors import Conflict, Exhausted, Invalid, SkepError, Unavailable
from skep.workspace import git as backend
from skep.workspace.git import GitWorkspace
from tests.workspace.repository import Repository, git, tree, write

AT = 1_700_000_000_000


async def opened(folder: Path) -> GitWorkspace:
    return await GitWorkspace.open(folder, folder / ".skep")


async def test_a_repository_is_worked_in_and_a_plain_folder_copied(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "git")
    repository.commit({"a.txt": "a\n"})
    assert (await opened(tmp_path / "git")).kind == "git"
    Repository(tmp_path / "unborn")
    write(tmp_path / "plain", {"a.txt": "a\n"})
    for name in ("unborn", "plain"):
        work = await opened(tmp_path / name)
        assert work.kind == "copy"
        begun = await work.begin("s")
        assert (begun.branch, begun.kind, begun.left_out) == ("", "copy", 0)


async def test_a_folder_that_its_repository_does_not_know_is_plain(tmp_path: Path) -> None:
    home = Repository(tmp_path / "home")
    home.commit({"dotfile": "x\n", ".gitignore": "ignored/\n"})
    write(home.top, {"new/a.txt": "a\n", "ignored/a.txt": "a\n"})
    for name in ("new", "ignored"):
        work = await opened(home.top / name)
        assert work.kind == "copy"
        await work.begin("s")
        path = await work.checkout("s", "t", await work.tip("s"))
        assert tree(Path(path)).keys() == {"a.txt"}


async def test_a_folder_stays_plain_while_it_has_sessions(tmp_path: Path) -> None:
    write(tmp_path / "user", {"a.txt": "a\n"})
    work = await opened(tmp_path / "user")
    await work.begin("s")
    Repository(tmp_path / "user").commit()
    work = await opened(tmp_path / "user")
    assert work.kind == "copy"
    assert await work.forget("s") == ["main"]
    await work.land("s")
    assert await work.forget("s") == []
    assert (await opened(tmp_path / "user")).kind == "git"


async def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "user")
    repository.commit({"a.txt": "a\n", "b.txt": "b\n", ".gitignore": "*.log\n"})
    work = await opened(repository.top)
    assert (await work.begin("s")).left_out == 0
    write(repository.top, {"a.txt": "changed\n", "new/x": "x\n", "new/y": "y\n", "z.log": "ignored\n"})
    repository("rm", "-q", "b.txt")
    begun = await work.begin("s")
    assert (begun.branch, begun.left_out) == ("trunk", 4)
    assert git(repository.top, "status", "--porcelain").count(".skep") == 0


async def test_a_detached_head_is_no_branch(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "user")
    base = repository.commit({"a.txt": "a\n"})
    repository("checkout", "-q", "--detach")
    begun = await (await opened(repository.top)).begin("s")
    assert (begun.base, begun.branch) == (base, "")


async def test_the_state_folder_is_kept_out_of_git_once_and_the_users_excludes_stay(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "user")
    repository.commit({"a.txt": "a\n"})
    exclude = repository.top / ".git/info/exclude"
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text("mine")
    await opened(repository.top)
    await opened(repository.top)
    assert exclude.read_text() == "mine\n.skep/\n"
    assert repository("status", "--porcelain", "-uall") == ""


async def test_what_cannot_be_a_workspace_is_refused_clearly(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "user")
    repository.commit({"a.txt": "a\n"})
    git(tmp_path, "clone", "-q", "--bare", "user", "bare.git")
    for folder in (tmp_path / "missing", tmp_path / "user/a.txt", tmp_path / "bare.git", tmp_path / "user/.git"):
        with pytest.raises(Invalid) as refused:
            await GitWorkspace.open(folder, tmp_path / "state")
        assert str(folder) in refused.value.message
        assert refused.value.fix


async def test_a_repository_that_git_cannot_read_is_not_taken_for_a_plain_folder(tmp_path: Path) -> None:
    write(tmp_path / "user", {".git": "gitdir: /nowhere\n"})
    with pytest.raises(Unavailable, match="not a git repository: /nowhere"):
        await opened(tmp_path / "user")


async def test_a_repository_of_somebody_else_says_how_to_trust_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Repository(tmp_path / "user").commit({"a.txt": "a\n"})
    stand_in(tmp_path, monkeypatch, 'GIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {git} "$@"')
    with pytest.raises(Unavailable, match="dubious ownership") as refused:
        await opened(tmp_path / "user")
    assert f"git config --global --add safe.directory '{tmp_path / 'user'}'" in refused.value.fix
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    assert (await opened(tmp_path / "user")).kind == "git"


async def test_git_that_is_missing_or_old_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "echo git version 2.37.9")
    with pytest.raises(Unavailable, match=r"2\.37\.9.*2\.38"):
        await opened(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(Unavailable, match="not found"):
        await opened(tmp_path)


async def test_a_plain_folder_that_is_too_large_to_copy_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "user", {f"{n}.txt": "x\n" for n in range(4)})
    work = await opened(tmp_path / "user")
    monkeypatch.setattr(backend, "COPY_FILES", 3)
    with pytest.raises(Exhausted, match="4 files"):
        await work.begin("s")
    (tmp_path / "user/.gitignore").write_text("3.txt\n2.txt\n")
    await work.begin("s")


async def test_a_plain_folder_is_copied_byte_for_byte_but_for_what_it_ignores(tmp_path: Path) -> None:
    folder = tmp_path / "user"
    write(folder, {".gitattributes": "* text eol=crlf\n*.ident ident\n", ".gitignore": "*.log\n", "x.log": "no\n"})
    (folder / "crlf").write_bytes(b"a\r\nb\n")
    (folder / "x.ident").write_bytes(b"$Id$\n")
    Repository(folder / "inner").commit({"deep.txt": "deep\n"})
    work = await opened(folder)
    base = (await work.begin("s")).base
    copy = Path(await work.checkout("s", "t", base))
    assert tree(copy) == {name: value for name, value in tree(folder).items() if name != "x.log"}
    (folder / ".gitignore").write_text("*.log\ncrlf\n")
    base = (await work.begin("s-2")).base
    assert "crlf" not in tree(Path(await work.checkout("s-2", "t", base)))


async def test_an_attempt_in_a_subfolder_starts_in_that_subfolder_and_sees_the_whole(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "user")
    repository.commit({"part/a.txt": "a\n", "outside.txt": "o\n"})
    work = await opened(repository.top / "part")
    path = Path(await work.checkout("s", "t", (await work.begin("s")).base))
    assert (path.name, (path / "../outside.txt").read_text()) == ("part", "o\n")
    write(path, {"a.txt": "2\n", "../outside.txt": "2\n"})
    commit = await work.capture(str(path), "s", "task/t/1", "t", {}, AT)
    assert await work.changed(await work.tip("s"), commit) == ["../outside.txt", "a.txt"]
    await work.remove(str(path))
    assert not path.parent.exists()


async def test_two_state_folders_on_one_repository_do_not_share_a_session(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "one")
    repository.commit({"a.txt": "a\n"})
    repository("worktree", "add", "-q", str(tmp_path / "two"))
    one, two = await opened(tmp_path / "one"), await opened(tmp_path / "two")
    await one.begin("s")
    for call in (two.begin("s"), two.land("s"), two.forget("s"), two.fork("s", "s-2", await one.tip("s"))):
        with pytest.raises(Conflict, match="another state folder"):
            await call
    await two.begin("s-2")
    paths = [await work.checkout(name, "t", await work.tip(name)) for work, name in ((one, "s"), (two, "s-2"))]
    assert await one.tidy([paths[0]]) == 0
    assert all(Path(path, "a.txt").exists() for path in paths)


async def test_nothing_that_a_repository_configures_runs(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "user")
    repository.commit({"a.txt": "a\n", "b.bin": "b\n"})
    trap = tmp_path / "trap"
    trap.write_text(f'#!/bin/sh\necho "$0 $*" >> {tmp_path}/sprung\nexit 1\n')
    trap.chmod(0o755)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for hook in ("post-checkout", "pre-commit", "reference-transaction", "post-index-change", "post-merge", "pre-merge-commit"):
        shutil.copy(trap, hooks / hook)
        shutil.copy(trap, repository.top / ".git/hooks" / hook)
    (repository.top / ".gitattributes").write_text("*.bin diff=trap merge=trap\n")
    for name in ("core.fsmonitor", "core.editor", "core.pager", "core.sshCommand", "core.askPass", "diff.external"):
        repository("config", name, str(trap))
    for name in ("diff.trap.command", "diff.trap.textconv", "merge.trap.driver", "gpg.program", "credential.helper"):
        repository("config", name, str(trap))
    repository("config", "commit.gpgSign", "true")
    repository("config", "submodule.recurse", "true")
    repository("config", "core.hooksPath", str(hooks))
    (tmp_path / "sprung").unlink(missing_ok=True)
    work = await opened(repository.top)
    base = (await work.begin("s")).base
    path = Path(await work.checkout("s", "t", base))
    write(path, {"b.bin": "changed\n", ".gitattributes": "*.bin diff=trap merge=trap\n"})
    commit = await work.capture(str(path), "s", "task/t/1", "t", {}, AT)
    await work.diff(base, commit, color=True)
    await work.diff(base, commit, stat=True)
    (repository.top / ".gitattributes").unlink()
    await work.advance("s", commit, base)
    await work.land("s", branch="landed")
    await work.land("s", branch="squashed", squash=True)
    await work.forget("s")
    await work.tidy([])
    assert not (tmp_path / "sprung").exists(), (tmp_path / "sprung").read_text()


async def test_variables_of_the_caller_do_not_lead_git_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = Repository(tmp_path / "victim")
    victim.commit({"v.txt": "v\n"})
    before = victim.fingerprint()
    repository = Repository(tmp_path / "user")
    base = repository.commit({"a.txt": "a\n"})
    for name, value in {
        "GIT_DIR": f"{victim.top}/.git",
        "GIT_WORK_TREE": str(victim.top),
        "GIT_INDEX_FILE": f"{victim.top}/.git/index",
        "GIT_OBJECT_DIRECTORY": f"{victim.top}/.git/objects",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.bare",
        "GIT_CONFIG_VALUE_0": "nonsense",
        "GIT_AUTHOR_NAME": "Eve",
    }.items():
        monkeypatch.setenv(name, value)
    work = await opened(repository.top)
    assert (await work.begin("s")).base == base
    path = Path(await work.checkout("s", "t", base))
    (path / "a.txt").write_text("2\n")
    commit = await work.capture(str(path), "s", "task/t/1", "t", {}, AT)
    assert repository("log", "-1", "--format=%an", commit) == "Skep"
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    assert victim.fingerprint() == before


async def test_filters_of_the_users_own_configuration_run_so_that_large_files_stay_pointers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text('[filter "up"]\n\tclean = tr a-z A-Z\n\tsmudge = tr A-Z a-z\n\trequired\n')
    repository = Repository(tmp_path / "user")
    base = repository.commit({".gitattributes": "*.big filter=up\n", "x.big": "STORED\n"})
    work = await opened(repository.top)
    await work.begin("s")
    path = Path(await work.checkout("s", "t", base))
    assert (path / "x.big").read_text() == "stored\n"
    (path / "x.big").write_text("new\n")
    commit = await work.capture(str(path), "s", "task/t/1", "t", {}, AT)
    assert repository.show(commit, "x.big") == "NEW"


async def test_a_full_disk_or_a_foreign_owner_is_told_without_a_traceback(tmp_path: Path) -> None:
    write(tmp_path, {"file": "x\n"})
    (tmp_path / "user").mkdir()
    with pytest.raises(SkepError) as refused:
        await GitWorkspace.open(tmp_path / "user", tmp_path / "file/state")
    assert "cannot be written" in refused.value.message


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Puts a shell line in the place of git."""
    real = shutil.which("git")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\n{line.format(git=real)}\n")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
