"""Stopped, killed with its owner, dead, hung, or deep in thought: every real client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import pytest

import skep
from tests.clients.agents import Agent
from tests.clients.conftest import Bench
from tests.clients.table import able
from tests.runtime.actors import actor
from tests.runtime.traces import left_behind

pytestmark = [pytest.mark.timeout(400), pytest.mark.clients]
HALVES = "RUN: echo half > half.txt\nHOLD: gate step=2\nRUN: echo rest > rest.txt\nSAY: Both."


@pytest.mark.parametrize("agent", able("stop keeps the work, resume goes on"))
async def test_stopped_its_work_is_kept_and_it_goes_on(agent: Agent, bench: Bench) -> None:
    async with skep.open(bench.top) as hive:
        session = await bench.start(hive, agent, skep.Task(id="a", prompt=HALVES))
        await bench.server.holding("gate")
        assert await session.stop() == 1
        assert (await session.settled()).state == "paused"
        assert bench.at_work() == []
        assert bench.repo.show("refs/skep/bench-1/wip/a/1", "half.txt") == "half"
        bench.later(agent)
        bench.server.release("gate")
        await session.resume()
        await both(bench, session)


@pytest.mark.parametrize("agent", able("`kill -9` of Skep, then resume"))
async def test_after_a_kill_of_its_owner_it_goes_on_in_its_conversation(agent: Agent, bench: Bench) -> None:
    code = f"""
        task = skep.Task(id="a", prompt={HALVES!r})
        spec = skep.AgentSpec(name={agent.name!r}, runtime={agent.runtime!r}, model={agent.model!r}, options={agent.all!r})
        await hive.start(skep.Plan(name="bench", agents=(spec,), tasks=(task,)))
        await asyncio.Event().wait()
    """
    bench.need(agent)
    async with actor(bench.top, code, env=bench.env) as first:
        await bench.server.holding("gate")
        await first.kill()
    bench.server.release("gate")
    async with skep.open(bench.top) as hive:
        bench.later(agent)
        session = await hive.find("bench-1")
        await session.resume()
        await both(bench, session)
    assert left_behind(bench.top) == []


async def both(bench: Bench, session: skep.Session) -> None:
    """The second attempt finished what the first began, in the same conversation: told to go on, and the first call in mind."""
    (result,) = await session.results(["a"])
    assert (result.state, result.value, result.attempts) == ("done", "Both.", 2), result
    await session.settled()
    assert (bench.merged("half.txt"), bench.merged("rest.txt")) == ("half", "rest")
    told = [str(each.body) for each in bench.server.requests if each.body.get("tools")][-1]
    assert "Go on with it; the folder is as git says here." in told
    assert told.count("echo half > half.txt") >= 2, "the first prompt and its call are in mind"


@pytest.mark.parametrize("agent", able("a death, a hang and long thinking are told apart"))
async def test_death_hang_and_long_thinking_are_told_apart(agent: Agent, bench: Bench) -> None:
    tasks = [
        skep.Task(id="dies", prompt="RUN: touch a\nHOLD: dies step=2\nSAY: Never."),
        skep.Task(id="hangs", prompt="RUN: touch b\nHOLD: hangs step=2\nSAY: Never.", timeout=30),
        skep.Task(id="thinks", prompt="RUN: touch c\nHOLD: thinks step=2\nSAY: At last."),
    ]
    async with skep.open(bench.top) as hive:
        session = await bench.start(hive, agent, *tasks, count=3)
        # Who hangs has its time from the beginning: on a busy machine it may be over before the client asks its model.
        await asyncio.gather(*(bench.server.holding(name) for name in ("dies", "thinks")))
        pid = (await session.task("dies")).pid
        os.kill(pid, signal.SIGKILL)
        dead, hung = await session.results(["dies", "hangs"])
        assert (dead.state, dead.cause) == ("failed", "exit"), dead
        assert dead.detail.startswith(("ended by signal 9", "exit code 137"))
        assert (hung.state, hung.cause, hung.detail) == ("failed", "timed-out", "it took more than 30 s")
        assert (await session.task("thinks")).state == "running"
        bench.server.release("thinks")
        (thought,) = await session.results(["thinks"])
        assert (thought.state, thought.value, thought.attempts) == ("done", "At last.", 1), thought
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        raise AssertionError(f"{pid} is still there")
    assert left_behind(bench.top) == []
