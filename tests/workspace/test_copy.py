"""A plain folder passes what every workspace passes."""

from __future__ import annotations

from pathlib import Path

from skep.workspace import Workspace
from skep.workspace.git import GitWorkspace
from tests.contracts.workspace import START, WorkspaceContract
from tests.workspace.repository import Repository, fingerprint, git, write


class PlainHome:
    """A folder without a repository."""

    def __init__(self, top: Path) -> None:
        self.folder = top
        write(top, START)

    async def open(self) -> Workspace:
        return await GitWorkspace.open(self.folder, self.folder / ".skep")

    def git(self, *args: str) -> str:
        return git(self.folder / ".skep" / "repo.git", *args)

    def fingerprint(self) -> str:
        return fingerprint(self.folder)


class TestPlainFolder(WorkspaceContract):
    home = PlainHome


async def test_a_repository_without_commits_is_copied_and_its_git_left_alone(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "user")
    home = PlainHome(repository.top)
    repository("add", "a.txt")
    before = repository.fingerprint()
    work = await home.open()
    base = (await work.begin("s")).base
    path = Path(await work.checkout("s", "t", base))
    (path / "a.txt").write_text("landed\n")
    tip = await work.capture(str(path), "s", "task/t/1", "t", {}, 1_700_000_000_000)
    await work.advance("s", tip, base)
    assert repository.fingerprint() == before
    await work.land("s")
    assert (repository.top / "a.txt").read_text() == "landed\n"
    assert repository("status", "--porcelain").splitlines()[0] == "AM a.txt"
