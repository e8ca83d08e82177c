"""The disk fills up in the middle of the work: what cannot be done says why, nothing is lost, and it goes on with new room."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import skep
from tests import disks
from tests.runtime.gates import Gate, gates
from tests.runtime.traces import left_behind
from tests.torture.amounts import amount, dice
from tests.workspace.repository import Repository


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB."""
    with disks.small(tmp_path / "disk", "32m", "a full disk under a running session") as disk:
        yield disk


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with gates(tmp_path) as make:
        yield make()


def fill(disk: Path) -> Path:
    """Takes all the room there is."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    return ballast


@pytest.mark.root
async def test_a_disk_that_fills_up_under_a_session(small: Path, gate: Gate) -> None:
    die = dice("full-disks")
    repo = Repository(small / "work")
    repo.commit({"a.txt": "one\n"})
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        for number in range(amount("full-disks")):
            running = await session.submit(
                skep.Task(id=f"run-{number}", run=f"{gate.PASS}; echo {number}", env=gate.env, mode="none")
            )
            made = await session.submit(skep.Task(id=f"made-{number}", run=f"{gate.PASS}; echo x > f{number}", env=gate.env))
            await gate.begun(2)
            ballast = fill(small)
            with pytest.raises(skep.Unavailable, match="disk is full"):
                await big(session)
            gate.go(2)
            waiting = asyncio.ensure_future(session.gather([running, made]))
            for _ in range(die.randrange(1, 4)):
                with pytest.raises(skep.Unavailable, match="disk is full"):
                    await big(session)
            ballast.unlink()
            for _ in range(4):  # an attempt that could not keep its work is carried out again
                gate.go()
            results = await waiting
            assert [result.state for result in results] == ["done", "done"], results
            assert results[0].value == str(number)
        await session.submit(skep.Task(id="after", run="ls"))
        assert (await session.results(["after"]))[0].ok
        assert {f"f{number}" for number in range(amount("full-disks"))} < repo.files("refs/skep/bench/main")
        assert await session.merge()
    async with skep.open(repo.top) as hive:
        view = await (await hive.find("bench")).status()
        assert view.counts == {"done": 2 * amount("full-disks") + 1}
    assert left_behind(small) == []


async def big(session: skep.Session) -> None:
    """A call that needs room in the log."""
    text = "x" * (1 << 20)
    await session.submit(skep.Task(run=("true", text), mode="none", approve="before"))
