"""R6 on one machine: each key is linearizable, also for clients whose owner is killed in the middle of what they asked."""

from __future__ import annotations

import asyncio
import itertools
import math
import sys
from pathlib import Path
from random import Random

import pytest

from tests.memory.bank_server import NONE
from tests.memory.linearizable import Call, linearizable

SERVER = Path(__file__).with_name("bank_server.py")
KEYS, CLIENTS, KILLS = ("a", "b", "c"), 6, 4


@pytest.mark.parametrize(
    ("calls", "right"),
    [
        ([Call(True, "1", 0, 1), Call(False, "1", 2, 3)], True),
        ([Call(True, "1", 0, 1), Call(False, None, 2, 3)], False),
        ([Call(True, "1", 0, 5), Call(False, None, 2, 3), Call(False, "1", 3.5, 4)], True),
        ([Call(True, "1", 0, 5), Call(False, "1", 2, 3), Call(False, None, 3.5, 4)], False),
        ([Call(True, "1", 0, 1), Call(True, "2", 2), Call(False, "1", 3, 4), Call(False, "2", 5, 6)], True),
        ([Call(True, "1", 0, 1), Call(True, "2", 2), Call(False, "2", 3, 4), Call(False, "1", 5, 6)], False),
        ([Call(True, "1", 0, 1), Call(True, None, 2, 3), Call(False, None, 4, 5)], True),
        ([Call(True, "1", 0, 9), Call(True, "2", 0, 9), Call(False, "1", 1, 2), Call(False, "2", 3, 4)], True),
    ],
)
def test_the_checker_knows_what_can_have_been(calls: list[Call], right: bool) -> None:
    assert linearizable(calls) is right


class Owner:
    """The process that has the bank, and what its clients wait for."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._waiting: dict[str, asyncio.Future[str]] = {"0": asyncio.get_running_loop().create_future()}
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, folder: Path, *options: str) -> Owner:
        """A new one, in place of one that was killed."""
        pipe = asyncio.subprocess.PIPE
        owner = cls(await asyncio.create_subprocess_exec(sys.executable, SERVER, folder, *options, stdin=pipe, stdout=pipe))
        assert await owner._waiting["0"] == "ready"
        return owner

    async def ask(self, number: int, *words: str) -> str:
        """What it answers. Raises ConnectionError if it is killed before."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[str(number)] = answer
        assert self._process.stdin is not None
        self._process.stdin.write(f"{number} {' '.join(words)}\n".encode())
        if self._reading.done():
            raise ConnectionError
        return await answer

    async def kill(self) -> None:
        """With -9, whatever it does."""
        self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while (line := await self._process.stdout.readline()).endswith(b"\n"):
            number, value = line.decode().split()
            self._waiting.pop(number).set_result(value)
        for answer in self._waiting.values():
            answer.set_exception(ConnectionError("it was killed"))


async def history(folder: Path, random: Random, *options: str) -> dict[str, list[Call]]:
    """What clients saw of each key while the owner was killed again and again. All of it is kept here, outside."""
    calls: dict[str, list[Call]] = {key: [] for key in KEYS}
    clock = itertools.count(1)
    owner, answered, enough = await Owner.start(folder, *options), 0, asyncio.Event()

    async def call(key: str, what: str) -> None:
        nonlocal answered
        begun = next(clock)
        value = f"v{begun}" if what == "store" else NONE
        try:
            said = await owner.ask(begun, what, key, value)
        except ConnectionError:
            if what != "get":
                calls[key].append(Call(True, None if what == "delete" else value, begun, math.inf))
            raise
        found = None if said == NONE else said
        # To delete what is not there is to see that it is not there, which comes to the same.
        calls[key].append(Call(what != "get", found, begun, next(clock)))
        answered += 1
        if answered >= 40 + random.randrange(40):
            enough.set()

    async def client() -> None:
        try:
            while True:
                await call(random.choice(KEYS), random.choice(("store", "store", "get", "get", "delete")))
        except ConnectionError:
            return

    for _ in range(KILLS):
        clients = [asyncio.create_task(client()) for _ in range(CLIENTS)]
        await enough.wait()
        await owner.kill()
        await asyncio.gather(*clients)
        owner, answered = await Owner.start(folder, *options), 0
        enough.clear()
        for key in KEYS:
            await call(key, "get")
    await owner.kill()
    return calls


async def test_what_was_acknowledged_before_a_kill_is_there_or_was_replaced(tmp_path: Path) -> None:
    for seed in range(2):
        (tmp_path / str(seed)).mkdir()
        found = await history(tmp_path / str(seed), Random(seed))
        assert {key: linearizable(calls) for key, calls in found.items()} == dict.fromkeys(KEYS, True), f"seed {seed}: {found}"
        assert sum(call.over == math.inf for calls in found.values() for call in calls) > 0, "somebody was waiting"


async def test_who_acknowledges_before_the_disk_has_it_is_found_out(tmp_path: Path) -> None:
    found = await history(tmp_path, Random(1), "early")
    assert not all(linearizable(calls) for calls in found.values())
