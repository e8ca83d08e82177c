"""A program that talks in lines of JSON."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from skep.agents.endings import Failed
from skep.agents.lines import MAX_LINE, MAX_WAITING, Lines, Message
from skep.core.model import Task
from skep.terminals.native import Native
from tests.contracts.runtime import Record, Workshop


@pytest.fixture
async def terminals() -> AsyncIterator[Native]:
    source = Native()
    yield source
    await source.close()


def program(terminals: Native, folder: Path, text: str, input: bool = False) -> Lines:
    job = Workshop(folder).job(Task(prompt="do it"))
    return Lines(terminals, job, Record(), (sys.executable, "-I", "-S", "-c", text), job.env, input=input)


async def all_of(client: Lines) -> list[Message]:
    return [message async for message in client.heard()]


async def test_it_is_heard_line_by_line_and_noise_is_kept_aside(terminals: Native, tmp_path: Path) -> None:
    text = "import sys; print('{\"a\": 1}'); print('no json'); print('[1]'); sys.stdout.write('{\"b\": 2}'); sys.exit(3)"
    async with program(terminals, tmp_path, text) as client:
        assert await all_of(client) == [{"a": 1}, {"b": 2}]
        ending = await client.failure()
    assert (ending.ok, ending.cause, ending.detail) == (False, "exit", "exit code 3: [1]")


async def test_what_it_complains_of_is_said_and_cuts_no_line(terminals: Native, tmp_path: Path) -> None:
    says = r"""
import sys
print('{"a":', end="", flush=True)
print("first\nthe key is wrong\n", file=sys.stderr, flush=True)
print("1}")
"""
    async with program(terminals, tmp_path, says) as client:
        assert await all_of(client) == [{"a": 1}]
        assert (await client.failure()).detail == "exit code 0: the key is wrong"
    assert not list(tmp_path.rglob("*-errors"))


async def test_one_can_answer_it(terminals: Native, tmp_path: Path) -> None:
    text = "import sys\nfor line in sys.stdin: print(line.replace('ping', 'pong'), end='', flush=True)"
    async with program(terminals, tmp_path, text, input=True) as client:
        heard = client.heard()
        client.say({"n": "ping"})
        assert await anext(heard) == {"n": "pong"}
        client.say({"n": "2 ping"})
        assert await anext(heard) == {"n": "2 pong"}
        client.finish()
        assert (await client.ended()).code == 0


async def test_a_line_without_end_costs_no_memory_and_the_next_is_heard(terminals: Native, tmp_path: Path) -> None:
    text = f"print('x' * {2 * MAX_LINE}); print('{{\"a\": 1}}')"
    async with program(terminals, tmp_path, text) as client:
        assert await all_of(client) == [{"a": 1}]
        assert "bytes was dropped" in client.complaint()


async def test_whoever_says_more_than_can_be_heard_is_given_up(terminals: Native, tmp_path: Path) -> None:
    text = "for n in range(20_000): print('{\"n\": 1}')"
    async with program(terminals, tmp_path, text) as client:
        await client.ended()
        assert len(await all_of(client)) == MAX_WAITING
        assert (await client.failure()).cause == "wedged"


async def test_what_cannot_be_started_fails_the_attempt(terminals: Native, tmp_path: Path) -> None:
    job = Workshop(tmp_path).job(Task(prompt="do it"))
    with pytest.raises(Failed) as failed:
        async with Lines(terminals, replace(job, cwd="/no/such"), Record(), ("true",), job.env):
            raise AssertionError
    assert "/no/such" in failed.value.ending.detail
