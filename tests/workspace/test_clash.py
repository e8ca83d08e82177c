"""Two commits merged as far as git can: every kind of conflict ends in files that somebody can work with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from skep.workspace.git import GitWorkspace
from tests.workspace.repository import Repository

AT = 1_700_000_000_000


class Sides:
    """Two commits on one base, each made in a worktree of its own."""

    def __init__(self, repo: Repository, work: GitWorkspace, base: str) -> None:
        self.repo, self.work, self.base = repo, work, base

    async def made(self, name: str, change: Callable[[Path], object], onto: str = "", tree: str = "") -> str:
        path = Path(await self.work.checkout("s", name, onto or self.base, tree=tree))
        change(path)
        return await self.work.capture(str(path), "s", f"task/{name}/1", f"work of {name}", {}, AT)


@pytest.fixture
async def sides(tmp_path: Path) -> Sides:
    repo = Repository(tmp_path / "user")
    base = repo.commit({"a.txt": "one\n", "b.txt": "b\n" * 30})
    (repo.top / "pic.bin").write_bytes(b"\0base")
    repo("add", "-A")
    repo("commit", "-qm", "picture")
    base = repo("rev-parse", "HEAD")
    work = await GitWorkspace.open(repo.top, repo.top / ".skep")
    await work.begin("s")
    return Sides(repo, work, base)


async def test_text_has_both_sides_between_marks_and_marks_that_are_left_are_named(sides: Sides) -> None:
    ours = await sides.made("ours", lambda top: (top / "a.txt").write_text("ours\n"))
    theirs = await sides.made("theirs", lambda top: (top / "a.txt").write_text("theirs\n"))
    clash = await sides.work.clash(ours, theirs)
    assert (clash.paths, clash.since) == (("a.txt",), ("work of ours",))
    assert "CONFLICT (content)" in clash.detail
    seen: list[str] = []
    left = await sides.made("left", lambda top: seen.append((top / "a.txt").read_text()), ours, clash.tree)
    assert [line[:7] for line in seen[0].splitlines()] == ["<<<<<<<", "ours", "=======", "theirs", ">>>>>>>"]
    assert await sides.work.marked(ours, theirs, left) == ["a.txt"]
    good = await sides.made("good", lambda top: (top / "a.txt").write_text("ours\ntheirs\n"), ours, clash.tree)
    assert await sides.work.marked(ours, theirs, good) == []
    assert sides.repo("log", "-1", "--format=%P", good) == ours


async def test_lines_that_look_like_marks_and_were_there_before_are_none(sides: Sides) -> None:
    ours = await sides.made("ours", lambda top: (top / "a.txt").write_text("Title\n=======\nours\n"))
    theirs = await sides.made("theirs", lambda top: (top / "a.txt").write_text("Title\n=======\ntheirs\n"))
    tree = (await sides.work.clash(ours, theirs)).tree
    good = await sides.made("good", lambda top: (top / "a.txt").write_text("Title\n=======\nboth\n"), ours, tree)
    assert await sides.work.marked(ours, theirs, good) == []


@pytest.mark.parametrize(
    ("mine", "other", "path", "said"),
    [
        (lambda t: (t / "a.txt").unlink(), lambda t: (t / "a.txt").write_text("new\n"), "a.txt", "modify/delete"),
        (lambda t: (t / "pic.bin").write_bytes(b"\0m"), lambda t: (t / "pic.bin").write_bytes(b"\0o"), "pic.bin", "binary"),
        (lambda t: (t / "b.txt").rename(t / "c.txt"), lambda t: (t / "b.txt").rename(t / "d.txt"), "b.txt", "rename/rename"),
        (
            lambda t: ((t / "a.txt").unlink(), (t / "a.txt").symlink_to("b.txt")),
            lambda t: (t / "a.txt").write_text("new\n"),
            "a.txt",
            "CONFLICT",
        ),
    ],
    ids=["deleted", "binary", "renamed", "another kind"],
)
async def test_what_git_cannot_mix_is_named_and_leaves_a_folder_that_can_be_worked_in(
    sides: Sides, mine: Callable[[Path], object], other: Callable[[Path], object], path: str, said: str
) -> None:
    ours, theirs = await sides.made("ours", mine), await sides.made("theirs", other)
    clash = await sides.work.clash(ours, theirs)
    assert path in " ".join(clash.paths)
    assert said in clash.detail
    there: list[str] = []

    def resolve(top: Path) -> None:
        there.extend(file.name for file in top.iterdir())
        (top / "resolved.txt").write_text("yes\n")

    made = await sides.made("made", resolve, ours, clash.tree)
    assert set(there) >= {"pic.bin"}
    assert sides.repo.show(made, "resolved.txt") == "yes"
    assert await sides.work.marked(ours, theirs, made) == []


async def test_what_merges_by_now_is_one_tree_without_conflicts(sides: Sides) -> None:
    ours = await sides.made("ours", lambda top: (top / "new.txt").write_text("new\n"))
    theirs = await sides.made("theirs", lambda top: (top / "a.txt").write_text("theirs\n"))
    clash = await sides.work.clash(ours, theirs)
    assert (clash.paths, clash.detail, clash.since) == ((), "", ())
    both = await sides.made("both", lambda top: None, ours, clash.tree)
    assert (sides.repo.show(both, "new.txt"), sides.repo.show(both, "a.txt")) == ("new", "theirs")
