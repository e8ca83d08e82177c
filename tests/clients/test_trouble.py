"""What may befall an agent at work, with every real client: refusals, questions, budgets, and a model that fails."""

from __future__ import annotations

import time
from typing import Any

import pytest

import skep
from skep.core.model import Budget
from skep.core.rules import ToolRule
from tests.clients.agents import IMPATIENT, Agent
from tests.clients.conftest import Bench
from tests.clients.table import able
from tests.clients.talk import ESCALATED
from tests.runtime.traces import left_behind

pytestmark = [pytest.mark.timeout(400), pytest.mark.clients]
ASK = (ToolRule(do="ask", command="touch *"),)
NEVER = (ToolRule(do="never", command="touch *"),)


def asks(agent: Agent) -> tuple[str, dict[str, Any]]:
    """A prompt and a `with` under which it asks for leave, or must do without."""
    if agent.name == "codex-acp":  # asks when its model itself wants to leave its sandbox
        return f"{ESCALATED}\nSAY: So be it.", {**(agent.asking or {}), "mode": "workspace-write"}
    if agent.name == "gemini":
        options = {"permissions": "edits", "args": ["--allowed-tools", "run_shell_command(echo)"]}
    else:
        options = dict(agent.asking or {"permissions": "edits"})
    return "RUN: touch made.txt\nSAY: So be it.", options


@pytest.mark.parametrize("agent", able("a refused tool is a denial"))
async def test_what_it_is_not_allowed_to_do_is_a_denial(agent: Agent, bench: Bench) -> None:
    prompt, options = asks(agent)
    async with skep.open(bench.top) as hive:
        session = await bench.start(hive, agent, skep.Task(id="a", prompt=prompt), rules=NEVER, options=options)
        (result,) = await session.results(["a"])
        assert (result.state, result.cause) == ("failed", "denied"), result
        assert result.detail.startswith("it was not allowed")
    assert left_behind(bench.top) == []


@pytest.mark.parametrize("agent", able("asks before it acts"))
async def test_what_it_asks_a_person_may_allow(agent: Agent, bench: Bench) -> None:
    prompt, options = asks(agent)
    async with skep.open(bench.top) as hive:
        session = await bench.start(hive, agent, skep.Task(id="a", prompt=prompt), rules=ASK, options=options)
        view = await bench.becomes(session, "a", "needs-you", "done", "failed")
        (need,) = await hive.inbox()
        assert (view.state, need.id, "touch made.txt" in need.about) == ("needs-you", "a/1", True)
        await session.allow("a/1")
        (result,) = await session.results(["a"])
        assert (result.state, result.detail) == ("done", "")
        await session.settled()
        assert bench.merged("made.txt") == ""


@pytest.mark.parametrize("agent", able("a budget ends the task"))
async def test_a_used_up_budget_ends_it(agent: Agent, bench: Bench) -> None:
    task = skep.Task(id="a", prompt="RUN: touch made.txt\nSAY: Dear.\nUSAGE: 5000 500", budget=Budget(tokens=1000), retries=3)
    async with skep.open(bench.top) as hive:
        session = await bench.start(hive, agent, task)
        (result,) = await session.results(["a"])
        assert (result.state, result.cause, result.attempts) == ("failed", "limit", 1), result
        assert "budget" in result.detail
    assert left_behind(bench.top) == []


@pytest.mark.parametrize("fault", ["FAIL: 429 retry-after=1", "FAIL: 500 times=2"])
@pytest.mark.parametrize("agent", able("429 or 500, then an answer"))
async def test_a_model_that_recovers_costs_no_attempt(agent: Agent, fault: str, bench: Bench) -> None:
    async with skep.open(bench.top) as hive:
        session = await bench.start(hive, agent, skep.Task(id="a", prompt=f"{fault}\nRUN: touch made.txt\nSAY: All well."))
        (result,) = await session.results(["a"])
        assert (result.state, result.detail, result.value, result.attempts) == ("done", "", "All well.", 1), result


@pytest.mark.parametrize("agent", able("a reply that breaks off"))
async def test_a_reply_that_breaks_off_is_nobody_s_failure(agent: Agent, bench: Bench) -> None:
    async with skep.open(bench.top) as hive:
        session = await bench.start(hive, agent, skep.Task(id="a", prompt="RUN: touch made.txt\nCUT: step=2\nSAY: All well."))
        (result,) = await session.results(["a"])
        assert (result.state, result.value) == ("done", "All well."), result
        await session.settled()
        assert bench.merged("made.txt") == ""


@pytest.mark.parametrize("agent", able("an outage that lasts is no failure"))
async def test_an_outage_that_lasts_is_told_and_tried_again(agent: Agent, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in IMPATIENT.items():
        monkeypatch.setenv(name, value)
    task = skep.Task(id="a", prompt="FAIL: 500 times=999 The server had an error.\nSAY: Never.")
    async with skep.open(bench.top) as hive:
        session = await bench.start(hive, agent, task)
        event = (await bench.ended(session))[0]
        assert (event.outcome, event.cause, event.then) == ("interrupted", "infrastructure", "parked"), event
        await session.cancel("a")
        await session.settled()
    assert left_behind(bench.top) == []


@pytest.mark.parametrize("agent", able("a used-up plan parks the task until its time"))
async def test_a_used_up_plan_parks_the_task_until_its_time(agent: Agent, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.plan_of(agent, monkeypatch)
    task = skep.Task(id="a", prompt=f"FAIL: 429 times=999 {agent.refusal}\nSAY: Never.")
    async with skep.open(bench.top) as hive:
        session = await bench.start(hive, agent, task)
        view = await bench.becomes(session, "a", "parked", "failed", "gave-up", "done")
        assert (view.state, view.cause, view.attempts) == ("parked", "limit", 1), view
        assert 3400 < view.until / 1000 - time.time() < 3700
        (event,) = await bench.ended(session)
        assert (event.outcome, event.counted) == ("interrupted", False)
        asked = len(bench.server.requests)
        assert bench.at_work() == []
        assert (await session.status()).tasks[0].state == "parked"
        assert len(bench.server.requests) == asked
