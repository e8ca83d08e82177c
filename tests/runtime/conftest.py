"""A workspace of its own for every test, nothing of the machine's configuration, and nothing left when the test is over."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import skep
from tests.runtime.gates import Gate, gates
from tests.runtime.traces import left_behind
from tests.workspace.repository import Repository


@pytest.fixture(autouse=True)
def bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_", "SKEP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "no-home"))
    # Tasks here speak to the test by files and pipes of its own; what confinement does to attempts is in tests/security.
    monkeypatch.setenv("SKEP_SANDBOX", "off")


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """No process of the test's workspaces and no thread outlives it."""
    before = set(threading.enumerate())
    yield
    assert left_behind(tmp_path) == []
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive(), thread


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Where tasks wait for the test."""
    with gates(tmp_path) as make:
        yield make()


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    """A user's repository with one commit."""
    repository = Repository(tmp_path / "work")
    repository.commit({"a.txt": "one\n", "src/app.py": "x = 1\n", ".gitignore": "*.log\n"})
    return repository


@pytest.fixture
async def hive(repo: Repository) -> AsyncIterator[skep.Skep]:
    """The repository, opened by this process."""
    async with skep.open(repo.top) as opened:
        yield opened


@pytest.fixture
async def session(hive: skep.Skep) -> skep.Session:
    """A session being carried out."""
    return await hive.session("bench")
