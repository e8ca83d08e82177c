"""The agent of a finished task is asked something: it has all in mind, and changes nothing but the costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

import skep
from tests.clients.agents import Agent, each
from tests.clients.conftest import Bench
from tests.runtime.traces import left_behind

#: It is to run something, too, and has nothing to do so with.
WHY = "Why did you say hi?\nRUN: touch bad\nSAY: Never."


@pytest.mark.parametrize("agent", each("claude", "codex"))
async def test_a_question_after_its_end_is_answered_and_changes_nothing_but_the_costs(agent: Agent, bench: Bench) -> None:
    async with skep.open(bench.top) as hive:
        session = await bench.start(hive, agent, skep.Task(id="a", prompt="RUN: echo hi > made.txt\nSAY: All well."))
        await session.settled()
        before, spent = await session.task("a"), (await session.costs()).total.input
        assert spent == 200
        homes = files_below(bench.top / ".skep" / "homes")
        asked = len(bench.server.requests)
        said = await session.ask("a", WHY)
        assert said.agent == f"{agent.name}-1"
        assert (said.cost.input, said.cost.output) == (100, 20)
        bodies = [json.dumps(request.body) for request in bench.server.requests[asked:]]
        assert any("Why did you say hi?" in body and "echo hi > made.txt" in body for body in bodies), "it has all in mind"
        if agent.name == "claude":
            assert not any(request.body.get("tools") for request in bench.server.requests[asked:])
        else:
            assert "No tool for 'RUN: touch bad'" in said.answer
        assert files_below(bench.top / ".skep" / "homes") == homes
        after = await session.task("a")
        assert replace(after, cost=before.cost) == before
        assert (await session.costs()).total.input == (await session.costs()).tasks["a"].input == spent + 100
    assert left_behind(bench.top) == []
    assert not list((bench.top / ".skep" / "attempts").glob("ask-*"))
    assert "ask" not in bench.repo("worktree", "list")
    async with skep.open(bench.top) as hive:  # alone, with nothing at work
        assert (await (await hive.find()).ask("a", "And now?")).cost.input == 100


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file with what it holds."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
