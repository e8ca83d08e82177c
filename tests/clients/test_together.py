"""Several agents of one kind in a session: four at once, and the best of three by a vote, with every real client."""

from __future__ import annotations

import pytest

import skep
from skep.core.model import AgentSpec, Limits, Plan, Task, Vote
from tests.clients.agents import AGENTS, Agent
from tests.clients.conftest import Bench
from tests.clients.table import able
from tests.runtime.traces import left_behind

pytestmark = [pytest.mark.timeout(500), pytest.mark.clients]


@pytest.mark.parametrize("agent", able("four at once"))
async def test_four_work_at_once_and_all_of_it_merges(agent: Agent, bench: Bench) -> None:
    tasks = [
        Task(id=name, prompt=f"RUN: echo {name} > {name}.txt\nHOLD: {name} step=2\nSAY: I am {name}.")
        for name in ("ann", "bob", "cat", "dan")
    ]
    async with skep.open(bench.top) as hive:
        session = await bench.start(hive, agent, *tasks, count=4)
        for task in tasks:
            await bench.server.holding(task.id)
        for task in tasks:
            bench.server.release(task.id)
        results = await session.results([task.id for task in tasks])
        assert [(each.state, each.value, each.attempts) for each in results] == [
            ("done", f"I am {task.id}.", 1) for task in tasks
        ]
        await session.settled()
        assert [bench.merged(f"{task.id}.txt") for task in tasks] == [task.id for task in tasks]
    assert left_behind(bench.top) == []


#: What voters read holds the task, and so its script: who writes the word leaves a vote too, and who votes writes a word.
WORD = """RUN: echo "$SKEP_TASK" > word.txt; printf '{"vote": "B", "reason": "short"}' > "$SKEP_OUT/vote.json"\nSAY: So it is."""


@pytest.mark.parametrize("agent", able("best of three, by a vote"))
async def test_the_best_of_three_is_chosen_by_a_vote(agent: Agent, bench: Bench) -> None:
    bench.need(agent)
    makers = tuple(agent.spec(name=name) for name in ("ann", "bob", "cat"))
    judge: AgentSpec = agent.spec(name="judge", count=3)
    task = Task(id="word", prompt=WORD, candidates=("ann", "bob", "cat"), vote=Vote(by="judge"))
    async with skep.open(bench.top) as hive:
        session = await hive.start(Plan(name="bench", agents=(*makers, judge), tasks=(task,), limits=Limits(agents=3)))
        view = await session.settled()
        assert view.state == "completed", [(each.id, each.state, each.cause, each.detail) for each in view.tasks]
        choice = await session.candidates("word")
        assert choice.ballot is not None
        assert choice.ballot.result.startswith(("2 of 3 for ", "3 of 3 for "))
        assert bench.merged("word.txt") == choice.chosen
        assert sorted(each.agent for each in choice.candidates) == ["ann-1", "bob-1", "cat-1"]
    assert left_behind(bench.top) == []


@pytest.mark.parametrize("agent", able("another agent takes over when its provider refuses it"))
async def test_another_kind_of_agent_takes_over_when_its_provider_refuses_it(
    agent: Agent, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.plan_of(agent, monkeypatch)
    other = AGENTS["codex" if agent.program != "codex" and agent.name != "codex-acp" else "claude"]
    bench.need(agent)
    bench.need(other)
    task = Task(id="a", prompt=f"FAIL: 429 times=999 {agent.refusal}\nRUN: echo hi > made.txt\nSAY: All well.")
    agents = (agent.spec(reliability=0.99), other.spec(reliability=0.1))
    async with skep.open(bench.top) as hive:
        session = await hive.start(Plan(name="bench", agents=agents, tasks=(task,)))
        (result,) = await session.results(["a"])
        assert (result.state, result.value, result.attempts) == ("done", "All well.", 2), result
        await session.settled()
        assert bench.merged("made.txt") == "hi"
        first = (await bench.ended(session))[0]
        assert (first.outcome, first.cause, first.counted) == ("interrupted", "limit", False)
        assert (await session.task("a")).agent == f"{other.name}-1"
