"""Claude Code, the real client, carries tasks of Skep out against the scripted model."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import skep
from skep.agents import Verdict
from skep.core.rules import ToolRule
from skep.runtime.attempt import Work
from tests.clients.drive import BIN, need
from tests.clients.model_server import ModelServer
from tests.runtime.actors import actor
from tests.runtime.traces import left_behind
from tests.workspace.repository import Repository

MAKES = "RUN: echo hi > made.txt\nSAY: All well."


@pytest.fixture(autouse=True)
def claude(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the user's environment holds: the client on the path, a key, and where the model is."""
    need("claude")
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_", "SKEP_", "ANTHROPIC_", "CLAUDE_"))]:
        monkeypatch.delenv(name)
    env = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(tmp_path / "no-home"),
        "ANTHROPIC_BASE_URL": server.url,
        "ANTHROPIC_API_KEY": "dummy",
        "CLAUDE_CODE_MAX_RETRIES": "1",
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    """A user's repository with one commit."""
    repository = Repository(tmp_path / "work")
    repository.commit({"a.txt": "one\n"})
    return repository


def plan(prompt: str, retries: int = 0, verify: str | None = None, **options: Any) -> skep.Plan:
    """One task for one Claude."""
    task = skep.Task(id="a", prompt=prompt, retries=retries, verify=verify)
    return skep.Plan(name="bench", agents=(skep.AgentSpec(name="claude", runtime="claude", options=options),), tasks=(task,))


def allow(monkeypatch: pytest.MonkeyPatch, verdict: Verdict) -> list[str]:
    """Answers what agents ask with this; returns the list of what they asked."""
    asked: list[str] = []

    async def ask(work: Work, ask: Any) -> Verdict:
        asked.append(ask.about)
        return verdict

    monkeypatch.setattr(Work, "ask", ask)
    return asked


async def test_its_change_is_committed_verified_and_merged(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = allow(monkeypatch, Verdict(True))
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan(MAKES, verify="grep hi made.txt"))
        (result,) = await session.results(["a"])
        assert (result.state, result.value, result.attempts) == ("done", "All well.", 1)
        view = await session.settled()
        assert repo.show("refs/skep/bench-1/main", "made.txt") == "hi"
        assert view.tasks[0].cost is not None
        assert (view.tasks[0].cost.input, view.tasks[0].cost.output, view.tasks[0].cost.unpriced) == (200, 40, 0)
    assert asked == ["echo hi > made.txt"]
    assert left_behind(repo.top) == []


async def test_what_it_is_not_allowed_to_do_is_a_denial(repo: Repository, server: ModelServer) -> None:
    async with skep.open(repo.top) as hive:
        never = replace(plan(MAKES), rules=(ToolRule(do="never", tool="Bash"),))
        session = await hive.start(never)
        (result,) = await session.results(["a"])
        assert (result.state, result.cause, result.detail) == ("failed", "denied", "it was not allowed to use Bash")
    assert "Not allowed: the rule" in json.dumps(server.requests[-1].body)


async def test_a_limit_of_turns_is_a_limit(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan("RUN: true\nRUN: true\nRUN: true", max_turns=1, tools=["Bash"]))
        (result,) = await session.results(["a"])
        assert (result.state, result.cause, result.detail) == ("failed", "limit", "its turns are used up")


async def test_a_limit_of_the_provider_parks_the_task_and_counts_nothing(repo: Repository) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan("FAIL: 429 times=9\nSAY: At last."))
        async for _ in session.follow():
            task = await session.task("a")
            if task.state == "parked":
                break
        assert (task.cause, task.attempts) == ("limit", 1)
        assert "429" in task.detail


async def test_after_a_kill_it_goes_on_in_its_thread_with_what_git_says(
    repo: Repository, server: ModelServer, claude: dict[str, str]
) -> None:
    prompt = "RUN: echo half > half.txt\nRUN: echo rest > rest.txt\nHOLD: gate step=2\nSAY: Both."
    code = f"""
        task = skep.Task(id="a", prompt={prompt!r})
        spec = skep.AgentSpec(name="claude", runtime="claude", options={{"permissions": "edits", "tools": ["Bash"]}})
        await hive.start(skep.Plan(name="bench", agents=(spec,), tasks=(task,)))
        await asyncio.Event().wait()
    """
    async with actor(repo.top, code, env=claude) as first:
        await server.until(lambda: len(server.requests) >= 2)
        await first.kill()
    server.release("gate")
    async with skep.open(repo.top) as hive:
        session = await hive.find("bench-1")
        await session.resume()
        (result,) = await session.results(["a"])
        assert (result.state, result.attempts, result.value) == ("done", 2, "Both.")
        await session.settled()
        assert repo.show("refs/skep/bench-1/main", "half.txt") == "half"
        assert repo.show("refs/skep/bench-1/main", "rest.txt") == "rest"
    told = json.dumps(server.requests[-1].body)
    assert "Go on with it; the folder is as git says here." in told
    assert "half.txt | 1 +" in told
    assert told.count("echo half > half.txt") >= 2, "the first prompt and its call are in mind"
    assert left_behind(repo.top) == []


async def test_cancelled_it_ends_its_turn_and_nothing_is_left(repo: Repository, server: ModelServer) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan("HOLD: gate\nSAY: Never."))
        await server.until(lambda: len(server.requests) >= 1)
        async with asyncio.timeout(30):
            await session.cancel("a")
            await session.settled()
        assert (await session.task("a")).state == "cancelled"
    assert left_behind(repo.top) == []
