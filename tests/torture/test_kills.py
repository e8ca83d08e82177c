"""kill -9, at any moment, of whoever it hits: no task is lost, none runs again after it was done, nothing is left."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.runtime.actors import Actor, running
from tests.runtime.traces import left_behind
from tests.torture.amounts import amount, dice
from tests.torture.checker import check
from tests.workspace.repository import Repository

LOAD = Path(__file__).with_name("load.py")


def load(
    repo: Repository, notes: Path, effects: Path, count: int, wrapper: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> AbstractAsyncContextManager[Actor]:
    """A client under load, which ends when all of its tasks have."""
    notes.touch()
    command = [sys.executable, str(LOAD), str(repo.top), str(notes), str(effects), "0", str(count)]
    return running(*wrapper, *command, env=env)


async def finish(repo: Repository, notes: Path, effects: Path, count: int, env: Mapping[str, str] | None = None) -> None:
    """Lets the load come to its end, undisturbed."""
    async with load(repo, notes, effects, count, env=env) as last:
        assert await last.ended() == 0


async def test_whoever_is_killed_at_whatever_moment(repo: Repository, effects: Path, tmp_path: Path) -> None:
    die, notes, rounds = dice("kills"), tmp_path / "notes", amount("kills")
    calls = {"CALLS": "1"}
    for number in range(rounds):
        async with load(repo, notes, effects, 4 * number + 6, env=calls) as client:
            await client.said("open")
            with contextlib.suppress(AssertionError):  # it may end before
                for _ in range(die.randrange(1, 90)):
                    await client.said("event")
                kill_one(client, repo, die.choice(["owner", "owner", "task", "keeper"]))
                for _ in range(die.randrange(1, 30)):
                    await client.said("event")
            await client.kill()
        if number % 20 == 19:
            await finish(repo, notes, effects, 4 * number + 6, calls)
            assert await check(repo.top, [notes], effects, calls=True) == []
    await finish(repo, notes, effects, 4 * rounds + 4, calls)
    assert await check(repo.top, [notes], effects, calls=True) == []


def kill_one(client: Actor, repo: Repository, who: str) -> None:
    """Kills the owner, what keeps its terminals, or a process of a task."""
    others = [line for line in left_behind(repo.top) if ("keeper" in line) == (who == "keeper")]
    victim = client.pid if who == "owner" or not others else int(others[-1].split(":")[0])
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)


async def test_an_owner_with_guests_is_killed_and_a_guest_goes_on(repo: Repository, effects: Path, tmp_path: Path) -> None:
    die, rounds = dice("guest-kills"), amount("guest-kills")
    notes = [tmp_path / f"notes-{who}" for who in range(3)]
    for number in range(rounds):
        async with contextlib.AsyncExitStack() as stack:
            clients = []
            for one in notes:
                clients.append(await stack.enter_async_context(load(repo, one, effects, 3 * number + 4)))
                await clients[-1].said("open")
            with contextlib.suppress(AssertionError):
                for _ in range(die.randrange(1, 40)):
                    await clients[0].said("event")
            await clients[0].kill()
            for client in clients[1:]:
                assert await client.ended() == 0
    await finish(repo, notes[0], effects, 3 * rounds + 1)
    assert await check(repo.top, notes, effects) == []


async def test_killed_at_the_nth_fdatasync(repo: Repository, effects: Path, tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("needs strace: killing at the n-th fdatasync was not tested")
    notes = tmp_path / "notes"
    wanted = amount("syncs")
    numbers = range(1, wanted + 1) if wanted > 12 else (1, 2, 3, 4, 5, 6, 8, 11, 15, 20, 26, 33)[:wanted]
    killed = 0
    for number, nth in enumerate(numbers):
        fault = ("-e", "trace=fdatasync", "-e", f"inject=fdatasync:signal=SIGKILL:when={nth}")
        async with load(repo, notes, effects, number + 4, wrapper=(strace, "-f", "-o", os.devnull, *fault)) as client:
            with contextlib.suppress(AssertionError):
                await client.said("settled")
            killed += await client.process.wait() == -signal.SIGKILL
    assert killed > len(numbers) // 2
    await finish(repo, notes, effects, wanted + 3)
    assert await check(repo.top, [notes], effects) == []
