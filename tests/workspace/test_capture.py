"""Whatever an attempt does to its working tree and its git, what it left is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skep.errors import Invalid, Unavailable
from skep.workspace.git import GitWorkspace
from tests.workspace.repository import Repository, git, write

AT = 1_700_000_000_000
START = {"a.txt": "a\n", "b.txt": "b\n", "src/c.txt": "c\n", ".gitignore": "*.log\nbuild/\n"}


class Bench:
    """A repository, a workspace on it, and one attempt under way."""

    def __init__(self, top: Path) -> None:
        self.repository = Repository(top)
        self.base = self.repository.commit(START)

    async def start(self) -> Path:
        self.work = await GitWorkspace.open(self.repository.top, self.repository.top / ".skep")
        await self.work.begin("s")
        self.path = Path(await self.work.checkout("s", "task/t/1", self.base))
        return self.path

    async def capture(self) -> str:
        return await self.work.capture(str(self.path), "s", "task/t/1", "title", {"Skep-Task": "t"}, AT)

    def git(self, *args: str, ok: bool = True) -> str:
        """What the attempt does with git."""
        return git(self.path, *args, ok=ok)

    def files(self, commit: str) -> set[str]:
        return self.repository.files(commit)

    def parents(self, commit: str) -> str:
        return self.repository("log", "-1", "--format=%P", commit)


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path / "user")
    await made.start()
    return made


async def test_commits_of_the_attempt_are_kept_and_the_rest_comes_on_top(bench: Bench) -> None:
    (bench.path / "a.txt").write_text("theirs\n")
    (bench.path / "forced.log").write_text("forced\n")
    bench.git("add", "-f", "a.txt", "forced.log")
    bench.git("commit", "-q", "-m", "own words")
    own = bench.git("rev-parse", "HEAD")
    assert await bench.capture() == own
    (bench.path / "b.txt").write_text("more\n")
    commit = await bench.capture()
    assert bench.parents(commit) == own
    assert "forced.log" in bench.files(commit)
    assert bench.repository.show(commit, "b.txt") == "more"


async def test_commits_that_come_to_nothing_are_no_change(bench: Bench) -> None:
    (bench.path / "a.txt").write_text("theirs\n")
    bench.git("commit", "-qam", "there")
    bench.git("revert", "--no-edit", "HEAD")
    assert await bench.capture() == ""


async def test_a_head_that_left_its_start_behind_is_committed_on_the_start(bench: Bench) -> None:
    (bench.path / "a.txt").write_text("amended\n")
    bench.git("commit", "-q", "--amend", "-am", "history rewritten")
    bench.git("checkout", "-q", "-b", "elsewhere")
    commit = await bench.capture()
    assert bench.parents(commit) == bench.base
    assert bench.repository.show(commit, "a.txt") == "amended"


async def test_a_merge_left_half_way_is_recorded_as_it_lies(bench: Bench) -> None:
    (bench.path / "a.txt").write_text("ours\n")
    bench.git("commit", "-qam", "ours")
    ours = bench.git("rev-parse", "HEAD")
    bench.git("checkout", "-q", bench.base)
    (bench.path / "a.txt").write_text("theirs\n")
    bench.git("commit", "-qam", "theirs")
    bench.git("merge", "-q", ours, ok=False)
    commit = await bench.capture()
    assert "<<<<<<<" in bench.repository.show(commit, "a.txt")


def locked_index(bench: Bench) -> None:
    entry = Path(bench.git("rev-parse", "--absolute-git-dir"))
    (entry / "index.lock").write_text("")
    (entry / "HEAD.lock").write_text("")


def broken_index(bench: Bench) -> None:
    Path(bench.git("rev-parse", "--absolute-git-dir"), "index").write_text("rubbish")


def hidden_by_the_index(bench: Bench) -> None:
    bench.git("update-index", "--assume-unchanged", "a.txt")
    bench.git("update-index", "--skip-worktree", "b.txt")


def sparse(bench: Bench) -> None:
    bench.git("config", "core.sparseCheckout", "true")
    Path(bench.git("rev-parse", "--absolute-git-dir"), "info").mkdir(exist_ok=True)
    Path(bench.git("rev-parse", "--absolute-git-dir"), "info/sparse-checkout").write_text("/src/\n")


def no_git_file(bench: Bench) -> None:
    (bench.path / ".git").unlink()


def another_repository_on_top(bench: Bench) -> None:
    (bench.path / ".git").unlink()
    Repository(bench.path).commit()


def entry_gone(bench: Bench) -> None:
    shutil.rmtree(bench.git("rev-parse", "--absolute-git-dir"))


@pytest.mark.parametrize(
    "mischief",
    [locked_index, broken_index, hidden_by_the_index, sparse, no_git_file, another_repository_on_top, entry_gone],
)
async def test_changes_are_found_whatever_became_of_the_attempts_git(bench: Bench, mischief: Callable[[Bench], None]) -> None:
    mischief(bench)
    write(bench.path, {"a.txt": "1\n", "b.txt": "2\n", "new.txt": "3\n"})
    commit = await bench.capture()
    assert await bench.work.changed(bench.base, commit) == ["a.txt", "b.txt", "new.txt"]
    assert bench.parents(commit) == bench.base
    await bench.work.remove(str(bench.path))
    assert not bench.path.exists()
    assert str(bench.path) not in bench.repository("worktree", "list", "--porcelain")


async def test_a_repository_inside_is_recorded_as_its_files(bench: Bench) -> None:
    inner = Repository(bench.path / "inner")
    inner.commit({"x.txt": "x\n", ".gitignore": "*.tmp\n", "y.tmp": "ignored\n"})
    Repository(bench.path / "inner/deeper").write({"z.txt": "z\n", "noise.log": "\n"})
    Repository(bench.path / "empty")
    commit = await bench.capture()
    new = bench.files(commit) - START.keys()
    assert new == {"inner/x.txt", "inner/.gitignore", "inner/deeper/z.txt", "inner/deeper/noise.log"}
    assert "160000" not in bench.repository("ls-tree", "-r", commit)


async def test_folders_that_became_symlinks_and_files_that_became_folders(bench: Bench, tmp_path: Path) -> None:
    write(tmp_path, {"outside/c.txt": "secret\n"})
    shutil.rmtree(bench.path / "src")
    (bench.path / "src").symlink_to(tmp_path / "outside")
    (bench.path / "a.txt").unlink()
    write(bench.path, {"a.txt/inside": "x\n"})
    commit = await bench.capture()
    assert bench.files(commit) == {".gitignore", "a.txt/inside", "b.txt", "src"}
    assert bench.repository.show(commit, "src") == str(tmp_path / "outside")


async def test_a_state_folder_is_never_recorded_even_if_the_attempt_commits_it(bench: Bench) -> None:
    write(bench.path, {".skep/key": "secret\n", "deep/.skep/key": "secret\n", "b.txt": "work\n"})
    bench.git("add", "-f", ".skep", "deep", "b.txt")
    bench.git("commit", "-qm", "everything")
    bench.git("rm", "-qr", "--cached", ".skep", "deep")
    bench.git("commit", "-qm", "gone from the tree, not from history")
    commit = await bench.capture()
    assert bench.parents(commit) == bench.base
    assert bench.files(commit) == START.keys()
    assert bench.repository.show(commit, "b.txt") == "work"


async def test_a_state_folder_that_the_user_once_committed_stays_as_it_was(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "user")
    write(bench.repository.top, {"deep/.skep/old": "old\n"})
    bench.repository("add", "-f", "deep")
    bench.base = bench.repository.commit()
    path = await bench.start()
    write(path, {"deep/.skep/old": "new\n", "deep/.skep/more": "more\n"})
    assert await bench.capture() == ""


async def test_what_is_inside_a_submodule_is_not_recorded_but_its_pointer_is(tmp_path: Path) -> None:
    library = Repository(tmp_path / "library")
    library.commit({"lib.txt": "1\n"})
    bench = Bench(tmp_path / "user")
    allow = ("-c", "protocol.file.allow=always")
    bench.repository(*allow, "submodule", "add", "-q", str(library.top), "lib")
    bench.base = bench.repository.commit()
    await bench.start()
    assert await bench.capture() == ""
    bench.git(*allow, "submodule", "update", "--init", "-q")
    (bench.path / "lib/lib.txt").write_text("dirty\n")
    assert await bench.capture() == ""
    git(bench.path / "lib", "commit", "-qam", "new")
    commit = await bench.capture()
    assert await bench.work.changed(bench.base, commit) == ["lib"]
    assert git(bench.path / "lib", "rev-parse", "HEAD") in bench.repository("ls-tree", commit, "lib")


async def test_a_sparse_checkout_of_the_users_neither_narrows_attempts_nor_deletes_what_it_hides(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "user")
    bench.repository("sparse-checkout", "set", "--no-cone", "/src/")
    assert not (bench.repository.top / "a.txt").exists()
    await bench.start()
    assert (bench.path / "a.txt").exists()
    (bench.path / "b.txt").write_text("work\n")
    assert bench.git("status", "--porcelain") == " M b.txt"
    commit = await bench.capture()
    assert await bench.work.changed(bench.base, commit) == ["b.txt"]
    bench.git("commit", "-qam", "own")
    (bench.path / "a.txt").write_text("more\n")
    commit = await bench.capture()
    assert await bench.work.changed(bench.base, commit) == ["a.txt", "b.txt"]


async def test_a_shallow_clone_works(tmp_path: Path) -> None:
    origin = Repository(tmp_path / "origin")
    origin.commit(START)
    origin.commit({"a.txt": "2\n"})
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{origin.top}", "user")
    work = await GitWorkspace.open(tmp_path / "user", tmp_path / "user/.skep")
    base = (await work.begin("s")).base
    path = Path(await work.checkout("s", "task/t/1", base))
    (path / "a.txt").write_text("3\n")
    assert await work.changed(base, await work.capture(str(path), "s", "task/t/1", "t", {}, AT)) == ["a.txt"]


async def test_a_partial_clone_says_what_to_fetch(tmp_path: Path) -> None:
    origin = Repository(tmp_path / "origin")
    origin.commit(START)
    origin("config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--no-checkout", "--filter=blob:none", f"file://{origin.top}", "user")
    work = await GitWorkspace.open(tmp_path / "user", tmp_path / "user/.skep")
    base = (await work.begin("s")).base
    with pytest.raises(Unavailable, match="git fetch --refetch"):
        await work.checkout("s", "task/t/1", base)


async def test_a_file_that_cannot_be_recorded_is_named_and_stays(bench: Bench) -> None:
    write(bench.path, {"git~1": "no name that git takes\n"})
    with pytest.raises(Invalid, match="git~1"):
        await bench.capture()
    assert (bench.path / "git~1").exists()


async def test_trailers_cannot_be_broken_out_of(bench: Bench) -> None:
    (bench.path / "a.txt").write_text("x\n")
    trailers = {"Skep-Task": "evil\nSkep-Attempt: 9", "Skep-Attempt": "1"}
    commit = await bench.work.capture(str(bench.path), "s", "task/t/1", "title\0\n\n", trailers, AT)
    shown = bench.repository("log", "-1", "--format=%(trailers:key=Skep-Attempt,valueonly)|%B", commit)
    assert shown == "1\n|title\n\nSkep-Task: evil Skep-Attempt: 9\nSkep-Attempt: 1\n"


async def test_folders_without_permissions_are_removed_and_symlinks_not_followed(bench: Bench, tmp_path: Path) -> None:
    write(tmp_path, {"outside/kept.txt": "kept\n"})
    write(bench.path, {"locked/inner/x": "x\n"})
    (bench.path / "locked/away").symlink_to(tmp_path / "outside")
    (bench.path / "locked/inner").chmod(0o500)
    (bench.path / "locked").chmod(0)
    await bench.work.remove(str(bench.path))
    assert not bench.path.exists()
    bench.path.symlink_to(tmp_path / "outside")
    await bench.work.remove(str(bench.path))
    assert not bench.path.is_symlink()
    assert (tmp_path / "outside/kept.txt").exists()


PATHS = st.sampled_from(["a.txt", "b.txt", "src/c.txt", "src", "src/d/e.txt", "new", "new/f.txt", "x.log", "build/y", "naïve"])
STEPS = st.lists(st.tuples(st.sampled_from(["write", "delete", "link", "run", "same"]), PATHS), max_size=8)


def act(top: Path, step: str, name: str) -> None:
    """One change to a tree; what does not apply does nothing."""
    path = top / name
    parents = [parent for parent in path.parents if parent.is_relative_to(top) and parent != top]
    if any(parent.is_symlink() or parent.is_file() for parent in parents):
        return
    if step == "delete" or (step in ("write", "link") and path.is_dir() and not path.is_symlink()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if step == "write":
        path.unlink(missing_ok=True)
        write(top, {name: f"{step} {name}\n"})
    elif step == "link":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to("nowhere")
    elif step == "run" and path.is_file():
        path.chmod(0o755)
    elif step == "same" and path.is_file():
        path.write_bytes(path.read_bytes())


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_capture_records_what_git_add_would(bench: Bench, steps: list[tuple[str, str]]) -> None:
    bench.path = Path(await bench.work.checkout("s", "task/t/1", bench.base))
    twin = Path(await bench.work.checkout("s", "twin", bench.base))
    for top in (bench.path, twin):
        for step, name in steps:
            act(top, step, name)
    git(twin, "add", "-A")
    commit = await bench.capture() or bench.base
    assert bench.repository("rev-parse", f"{commit}^{{tree}}") == git(twin, "write-tree")
