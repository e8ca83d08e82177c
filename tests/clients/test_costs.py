"""What a task costs in tokens is what its model was asked, however often its conversation is gone on with: every real client."""

from __future__ import annotations

import pytest

import skep
from tests.clients.agents import Agent, each
from tests.clients.conftest import Bench

pytestmark = pytest.mark.timeout(400)
TWICE = skep.Retries(max=1, start="last")


@pytest.mark.parametrize("agent", each())
async def test_a_second_try_in_the_same_conversation_does_not_cost_the_first_again(agent: Agent, bench: Bench) -> None:
    async with skep.open(bench.top) as hive:
        session = await bench.start(hive, agent, skep.Task(id="a", prompt="SAY: There is nothing to do.", retries=TWICE))
        (result,) = await session.results(["a"])
        assert (result.cause, result.attempts) == ("no-changes", 2), result
        spent = (await session.costs()).total
        assert (spent.input + spent.cached, spent.output) == (200, 40)


@pytest.mark.parametrize("agent", each("claude", "codex"))
async def test_a_call_before_a_stop_is_told(agent: Agent, bench: Bench) -> None:
    prompt = "RUN: touch made.txt\nHOLD: gate step=2\nSAY: Made."
    async with skep.open(bench.top) as hive:
        session = await bench.start(hive, agent, skep.Task(id="a", prompt=prompt))
        await bench.server.holding("gate")
        await session.stop()
        await session.settled()
        spent = (await session.costs()).total
        assert (spent.input, spent.output) == (100, 20)
        bench.server.release("gate")
        await session.resume()
        (result,) = await session.results(["a"])
        assert (result.state, result.attempts) == ("done", 2), result
        spent = (await session.costs()).total
        assert (spent.input, spent.output) == (200, 40)
