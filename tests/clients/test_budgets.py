"""Limits that really stop: Claude Code and Codex, the real clients, and as ground truth the requests that the model got."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

import skep
from tests.clients.drive import BIN, CLAUDE_ENV, CODEX, need
from tests.clients.model_server import ModelServer
from tests.interfaces.cli.terminal import Ran, User
from tests.runtime.actors import actor
from tests.runtime.traces import left_behind
from tests.workspace.repository import Repository

#: What the table says of Codex' model, dollars for a million tokens: a call of 100,000 and 20,000 tokens costs 0.4.
PRICES = "[prices.scripted]\ninput = 2.0\noutput = 10.0\n"
#: Six calls of the model, 120,000 tokens each; with Claude's `sonnet` each costs 0.4 dollars, by its own word.
LONG = "\n".join([f"RUN: echo {number}" for number in range(5)] + ["SAY: All.", "USAGE: 100000 20000"])
A_CALL, TOKENS = 0.4, 120_000


@pytest.fixture
def user(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    """Somebody at a shell, whose clients are set up for the scripted model."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_", "SKEP_", "ANTHROPIC_", "CLAUDE_"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    (home / ".codex").mkdir(parents=True)
    (home / ".codex" / "config.toml").write_text(CODEX.format(url=server.url))
    env = {name: value.replace("{url}", server.url) for name, value in CLAUDE_ENV.items()}
    env |= {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(home), "SCRIPTED_KEY": "dummy", "CLAUDE_CODE_MAX_RETRIES": "1"}
    for name, value in {**env, "SKEP_SANDBOX": "off"}.items():
        monkeypatch.setenv(name, value)
    repo = Repository(tmp_path / "work")
    repo.commit({"a.txt": "one\n"})
    found = User(repo, tmp_path)
    found.env |= {**env, "SKEP_SANDBOX": "off"}
    found.write("skep.toml", f'[environment]\nallow = ["SCRIPTED_*"]\n{PRICES}')
    return found


def calls(server: ModelServer) -> int:
    """How often a model was asked to go on with its work: questions for titles and the like have no tools."""
    return sum(1 for each in server.requests if each.method == "POST" and each.body.get("tools"))


def workflow(
    client: str,
    limits: dict[str, Any],
    budget: dict[str, Any] | None = None,
    of_task: dict[str, Any] | None = None,
    tasks: int = 1,
) -> str:
    """So many tasks for this client, all at once, as the text of a file."""
    agents = {
        "claude": {"runtime": "claude", "model": "sonnet", "count": 4},
        "codex": {"runtime": "codex", "model": "scripted", "count": 4, "with": {"permissions": "all"}},
    }
    agent = agents[client] | ({"budget": budget} if budget else {})
    task = {"agent": client, "prompt": LONG, "outputs": {}, "mode": "none"} | ({"budget": of_task} if of_task else {})
    return json.dumps(
        {
            "version": 1,
            "name": "money",
            "limits": {"agents": 4, **limits},
            "rules": [{"do": "always", "tool": "Bash"}],
            "agents": {client: agent},
            "tasks": {f"task{number}": task for number in range(tasks)},
        }
    )


@pytest.mark.parametrize(
    ("client", "limits", "budget", "why", "asked"),
    [
        # Claude holds dollars by itself, between two calls: 1.2 dollars, one call too many at most.
        ("claude", {"cost_usd": 1.0}, None, "cost limit reached", 3),
        ("claude", {}, {"usd": 1.0}, "the budget of an agent is used up: claude", 3),
        # Codex tells everything at the end of its turn: one turn too many at most.
        ("codex", {"cost_usd": 1.0}, None, "cost limit reached", 6),
        ("codex", {"tokens": 200_000}, None, "token limit reached", 6),
        ("codex", {}, {"usd": 1.0}, "the budget of an agent is used up: codex", 6),
    ],
)
async def test_a_limit_stops_says_which_it_was_and_ends_with_exit_code_3(
    user: User,
    server: ModelServer,
    client: str,
    limits: dict[str, Any],
    budget: dict[str, Any] | None,
    why: str,
    asked: int,
) -> None:
    need(client)
    # Who tells at the end of its turn may be done before it is stopped. The second task then is what the limit stops.
    user.write("wf.yaml", workflow(client, {"agents": 1, **limits}, budget, tasks=2))
    ran = await run(user, "run", "wf.yaml", "--ci")
    assert ran.code == 3
    assert f"paused: {why}" in ran.out
    assert calls(server) == asked
    cost = await cost_of(user)
    assert cost["total"]["usd"] == pytest.approx(asked * A_CALL), "what it says was spent is what was asked for"
    assert cost["total"]["input"] + cost["total"]["output"] == asked * TOKENS
    assert cost["tasks"]["task0"] == cost["agents"][f"{client}-1"] == cost["total"]
    (model,) = cost["models"]
    assert model.startswith("claude-sonnet") if client == "claude" else model == "scripted"


@pytest.mark.parametrize("of_task", [False, True])
async def test_claude_is_stopped_at_a_limit_of_tokens_within_its_turn(
    user: User, server: ModelServer, monkeypatch: pytest.MonkeyPatch, of_task: bool
) -> None:
    need("claude")
    # Two calls reach it. The third may have been asked for by then, and gets no answer.
    monkeypatch.setattr(f"{__name__}.LONG", f"{LONG}\nHOLD: gate step=3")
    limit = {"tokens": 200_000}
    user.write("wf.yaml", workflow("claude", {} if of_task else limit, of_task=limit if of_task else None))
    ran = await run(user, "run", "wf.yaml", "--ci")
    assert ran.code == 3
    assert ("budget of 200000 tokens is used up" if of_task else "paused: token limit reached") in ran.out
    cost = (await cost_of(user))["total"]
    assert (cost["input"], cost["output"], cost["estimated"], cost.get("unpriced", 0)) == (200_000, 40_000, 0.0, 0)
    assert cost["usd"] == pytest.approx(2 * A_CALL)
    assert calls(server) <= 3, "one call too many at most"


async def cost_of(user: User) -> dict[str, Any]:
    found: dict[str, Any] = (await run(user, "cost", "--json")).json
    return found


@pytest.mark.parametrize(("client", "asked"), [("claude", 3), ("codex", 6)])
async def test_a_task_that_used_up_its_budget_fails_by_the_limit(
    user: User, server: ModelServer, client: str, asked: int
) -> None:
    need(client)
    user.write("wf.yaml", workflow(client, {}, of_task={"usd": 1.0}))
    ran = await run(user, "run", "wf.yaml", "--ci")
    assert (ran.code, "1 limit" in ran.out, "budget of $1 is used up" in ran.out or client == "claude") == (3, True, True)
    assert calls(server) == asked


@pytest.mark.parametrize(("client", "limits"), [("claude", {"cost_usd": 1.0}), ("codex", {"cost_usd": 1.0, "reserve_usd": 0.5})])
async def test_four_at_once_pass_a_limit_by_one_report_each_at_most_and_no_more_begins(
    user: User, server: ModelServer, client: str, limits: dict[str, Any]
) -> None:
    need(client)
    user.write("wf.yaml", workflow(client, limits, tasks=8))
    ran = await run(user, "run", "wf.yaml", "--ci")
    assert ran.code == 3
    spent = (await cost_of(user))["total"]
    assert spent["usd"] - spent["estimated"] <= calls(server) * A_CALL + 1e-9
    # Claude: four hold a quarter each, so one call each. Codex: two hold a half each, so two turns of six calls, and no third.
    assert calls(server) <= (4 if client == "claude" else 12)
    assert spent["usd"] >= 1.0


async def test_what_a_killed_client_never_told_is_charged_as_it_was_held(user: User, server: ModelServer) -> None:
    need("codex")
    code = """
        task = skep.Task(id="a", prompt="HOLD: gate\\nSAY: Never.", agent="codex", mode="none", outputs={"o": "o"})
        spec = skep.AgentSpec(name="codex", runtime="codex", model="scripted", options={"permissions": "all"})
        limits = skep.Limits(cost_usd=1.0, reserve_usd=0.75)
        await hive.start(skep.Plan(name="p", agents=(spec,), tasks=(task,), limits=limits))
        await asyncio.Event().wait()
    """
    async with actor(user.repo.top, code, env=user.env) as owner:
        await server.until(lambda: calls(server) == 1)
        await owner.kill()
    async with skep.open(user.repo.top) as hive:
        session = await hive.find("p-1")
        await session.resume()
        await server.until(lambda: calls(server) == 2)
        spent = (await session.costs()).total
        assert (spent.usd, spent.estimated, spent.output) == (0.75, 0.75, 0)
        await session.stop()
        spent = (await session.costs()).total
        assert (spent.usd, spent.estimated) == (1.0, 1.0), "no more can be held than is left"
    assert "~$1.00/$1" in (await run(user, "cost")).out
    assert left_behind(user.repo.top) == []


async def run(user: User, *args: str) -> Ran:
    """Runs a command while the model goes on serving."""
    return await asyncio.to_thread(user.run, *args)
