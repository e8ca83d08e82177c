"""A user at a shell in a repository of their own; when the test is over nothing of it runs any more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skep.interfaces.cli.main import main
from tests.interfaces.cli.terminal import Ran, User
from tests.runtime.traces import left_behind
from tests.workspace.repository import Repository

Skep = Callable[..., Ran]


@pytest.fixture(autouse=True)
def bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_", "SKEP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "no-home"))
    # Tasks here speak to the test by files and pipes of its own; what confinement does to attempts is in tests/security.
    monkeypatch.setenv("SKEP_SANDBOX", "off")


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """No process of the test's workspaces outlives it."""
    yield
    assert left_behind(tmp_path) == []


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    """A user's repository with one commit."""
    repository = Repository(tmp_path / "work")
    repository.commit({"a.txt": "one\n"})
    return repository


@pytest.fixture
def user(repo: Repository, tmp_path: Path) -> Iterator[User]:
    """Somebody at a shell there."""
    found = User(repo, tmp_path)
    yield found
    found.close()


@pytest.fixture
def skep(repo: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Skep:
    """Runs a command line in the repository, in this process."""
    monkeypatch.chdir(repo.top)

    def run(*args: str) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(args))
        out, err = capsys.readouterr()
        return Ran(int(ended.value.code or 0), out, err)

    return run
