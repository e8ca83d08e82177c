"""The wall clock is put forward and back, or the machine sleeps, amid the work: nothing times out, nothing is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.actors import ROOT, Actor
from tests.runtime.traces import left_behind
from tests.torture.amounts import amount, dice
from tests.torture.checker import check
from tests.torture.test_kills import finish, load
from tests.workspace.repository import Repository

HOUR, DAY = 3_600, 86_400
#: libfaketime 0.9.10 answers EINVAL when somebody sleeps until a moment of the steady clock, which is how Python does it, and
#: after the wall clock was moved it always does. No kernel does so: the process sleeps by another call.
SLEEP = """
import select, time
time.sleep = lambda seconds: select.select((), (), (), seconds) and None
"""


class WallClock:
    """The wall clock of a process that is started with `env`; its steady clock goes on as it does."""

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"))
        if not found:
            pytest.skip("needs libfaketime: jumps of the clock and a machine that sleeps were not tested")
        self._file = folder / "offset"
        self._offset = 0
        self.put(0)
        (folder / "sitecustomize.py").write_text(SLEEP)
        self.env = {
            "PYTHONPATH": f"{folder}:{ROOT}",
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def put(self, seconds: int) -> None:
        """Puts it forward by so much, or back."""
        self._offset += seconds
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{self._offset:+d}\n")
        fresh.replace(self._file)


@pytest.fixture
def wall(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


async def disturbed(
    repo: Repository, effects: Path, wall: WallClock, die: random.Random, count: int, what: Callable[[Actor], None]
) -> None:
    """A load in whose middle something happens so often; then its end, and all that must hold."""
    notes = repo.top.parent / "notes"
    async with load(repo, notes, effects, count + 4, env=wall.env) as client:
        await client.said("open")
        with contextlib.suppress(AssertionError):  # it may end before
            for _ in range(count):
                for _ in range(die.randrange(1, 20)):
                    await client.said("event")
                what(client)
        assert await client.ended() == 0
    await finish(repo, notes, effects, count + 5, env=wall.env)
    assert await check(repo.top, [notes], effects) == []


async def test_a_clock_that_is_put_forward_and_back(repo: Repository, effects: Path, wall: WallClock) -> None:
    die = dice("clock-jumps")
    far = (1, 60, HOUR, DAY, 30 * DAY)
    await disturbed(repo, effects, wall, die, amount("clock-jumps"), lambda _: wall.put(die.choice(far) * die.choice((1, -1))))


async def test_a_machine_that_sleeps(repo: Repository, effects: Path, wall: WallClock) -> None:
    """All processes stand still and the wall clock alone goes on, as the kernel has it: the steady clock counts no sleep."""

    def sleep(client: Actor) -> None:
        client.send(signal.SIGSTOP)
        others = [int(line.split(":")[0]) for line in left_behind(repo.top)]
        everybody = [client.pid, *others]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in everybody:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            wall.put(8 * HOUR if number == signal.SIGSTOP else 0)

    await disturbed(repo, effects, wall, dice("suspends"), amount("suspends"), sleep)
