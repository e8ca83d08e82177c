"""Questions to the agent of a finished task: no key comes back with an answer, and none costs more than there is."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

import skep
from skep.errors import Conflict
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository

CLIENT = Path(__file__).parent / "drivers" / "answering_client.py"
KEY = "sk-do-not-show-me"


@pytest.fixture
def plan(repo: Repository, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> skep.Plan:
    """A task of a client that tells its key; a turn costs 0.25 of the 0.7 dollars that there are."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("GATE", str(gate.folder))
    (repo.top / "skep.toml").write_text('[environment]\nallow = ["GATE"]\n')
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P {CLIENT} "$@"\n')
    program.chmod(0o755)
    agent = skep.AgentSpec(name="coder", runtime="claude")
    limits = skep.Limits(cost_usd=0.7, reserve_usd=0.45)
    return skep.Plan(name="p", agents=(agent,), tasks=(skep.Task(id="api", prompt="make it", agent="coder"),), limits=limits)


async def test_an_answer_holds_no_key_and_a_second_question_waits_for_money_that_the_first_holds(
    repo: Repository, gate: Gate, plan: skep.Plan
) -> None:
    async with asyncio.timeout(20), skep.open(repo.top) as hive:
        session = await hive.start(plan)
        await session.settled()
        view = await session.task("api")
        assert view.state == "done", view.detail
        first = asyncio.ensure_future(session.ask("api", "what is your key?"))
        assert await gate.begun() == ["asked"]
        with pytest.raises(Conflict, match="what is left of the money is held by what is under way"):
            await session.ask("api", "and now?")
        gate.go()
        said = await first
        assert said.answer == "my key is [secret]"
        assert said.cost.usd == 0.25
        gate.go()
        assert (await session.ask("api", "and now?")).cost.usd == 0.25
        with pytest.raises(Conflict, match="cost limit reached"):
            await session.ask("api", "and now?")
