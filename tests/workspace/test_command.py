"""The git runner: bounds, endings, and what it says when git fails."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from skep.errors import Exhausted, Unavailable
from skep.workspace import command
from skep.workspace.command import Git
from tests.workspace.repository import Repository


async def test_a_failure_is_gits_own_last_line(tmp_path: Path) -> None:
    Repository(tmp_path)
    with pytest.raises(Unavailable, match=r"git checkout failed in .*: error: pathspec 'x' did not match"):
        await Git(cwd=tmp_path)("checkout", "x")


async def test_output_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository(tmp_path)
    repository.commit({"large": "x" * 300_000})
    monkeypatch.setattr(command, "OUTPUT", 100_000)
    with pytest.raises(Exhausted, match="printed more than"):
        await Git(cwd=tmp_path)("cat-file", "blob", "HEAD:large")


async def test_a_command_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = endless(tmp_path, monkeypatch)
    monkeypatch.setattr(command, "PATIENCE", 0.05)
    with pytest.raises(Unavailable, match="took longer"):
        await Git(cwd=tmp_path)("version")
    await ended(pipe)


async def test_a_cancelled_command_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = endless(tmp_path, monkeypatch)
    task = asyncio.create_task(Git(cwd=tmp_path)("version"))
    reader = await asyncio.to_thread(open, pipe, "rb")  # opens when the stand-in has opened its end
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with reader:
        assert await asyncio.to_thread(reader.read) == b""


def endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts a process that never ends by itself in the place of git; it holds a pipe open as long as it lives."""
    pipe = tmp_path / "alive"
    os.mkfifo(pipe)
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "git").write_text(f'#!/bin/sh\nexec 3<>"{pipe}"\nread never <&3\n')
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return pipe


async def ended(pipe: Path) -> None:
    """Returns when nobody holds the pipe open for writing."""
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.set_blocking(reader, True)
        assert await asyncio.to_thread(os.read, reader, 1) == b""
    finally:
        os.close(reader)


def stand_still(seconds: float) -> None:
    """Git may end meanwhile, unseen by asyncio."""
    time.sleep(seconds)  # tidy: sleeps because the event loop is to hear of nothing


async def test_whenever_it_is_cancelled_nobody_complains(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """asyncio did, when the command ended just as it was cancelled over its start."""
    git = Git(cwd=tmp_path)
    for turns in range(180):
        running = asyncio.ensure_future(git("version"))
        for _ in range(turns % 6):
            await asyncio.sleep(0)
        stand_still(0.003 * (turns % 4))
        running.cancel()
        await asyncio.wait([running])
    assert caplog.messages == []
