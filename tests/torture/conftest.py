"""A repository of its own for every test, and nothing of the machine's configuration."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.torture.amounts import LONG
from tests.workspace.repository import Repository


@pytest.fixture(autouse=True)
def bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ("SKEP_TORTURE_", LONG)
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_", "SKEP_")) and not name.startswith(kept)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "no-home"))
    # Tasks here speak to the test by files and pipes of its own; what confinement does to attempts is in tests/security.
    monkeypatch.setenv("SKEP_SANDBOX", "off")


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    """A user's repository with one commit."""
    repository = Repository(tmp_path / "work")
    repository.commit({"a.txt": "one\n"})
    return repository


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    """Where tasks note what they do."""
    folder = tmp_path / "effects"
    folder.mkdir()
    return folder


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """What ends with the test."""
    async with AsyncExitStack() as stack:
        yield stack
