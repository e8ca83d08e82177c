"""For the tests with coding clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import skep
from skep.core import events as ev
from skep.runtime.views import TaskView
from tests.clients.agents import Agent, set_up
from tests.clients.drive import need
from tests.clients.model_server import ModelServer
from tests.runtime.traces import left_behind
from tests.workspace.repository import Repository


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    """A scripted model."""
    async with ModelServer() as server:
        yield server


class Bench:
    """A user's repository and clients, and a scripted model."""

    def __init__(self, server: ModelServer, repo: Repository, env: dict[str, str]) -> None:
        self.server, self.repo, self.env = server, repo, env

    @property
    def top(self) -> Path:
        """The user's folder."""
        return self.repo.top

    def merged(self, path: str) -> str:
        """A file as the session's branch has it."""
        return self.repo.show("refs/skep/bench-1/main", path)

    async def start(
        self, hive: skep.Skep, agent: Agent, *tasks: skep.Task, rules: Any = (), count: int = 1, **spec: Any
    ) -> skep.Session:
        """A session of this agent's."""
        need(agent.program)
        made = agent.spec(count=count, **spec)
        limits = skep.Limits(agents=count)
        return await hive.start(skep.Plan(name="bench", agents=(made,), tasks=tasks, rules=rules, limits=limits))

    def need(self, agent: Agent) -> None:
        """Names the test as not run if the agent's client could not be installed."""
        need(agent.program)

    def plan_of(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        """The user logs in, where plans are for people who do; keys have none."""
        if "claude" in agent.name:
            monkeypatch.delenv("ANTHROPIC_API_KEY")
            monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "dummy")

    def later(self, agent: Agent) -> None:
        """What has to happen before the agent can go on in a thread that it began just now."""
        for home in (self.top / ".skep" / "homes").glob("*/*"):
            agent.between(home)

    def at_work(self) -> list[str]:
        """Processes of agents; the one that keeps terminals stays as long as Skep does."""
        return [each for each in left_behind(self.top) if "keeper.py" not in each]

    async def ended(self, session: skep.Session) -> list[ev.AttemptEnded]:
        """How attempts ended so far, once the first has."""
        found: list[ev.AttemptEnded] = []
        async for number, event in session.follow():
            if isinstance(event, ev.AttemptEnded):
                found.append(event)
            if found and number >= (await session.status(tasks=False)).seq:
                break
        return found

    async def becomes(self, session: skep.Session, task: str, *states: str) -> TaskView:
        """The task, once it is in one of these states."""
        async for _ in session.follow():
            view = await session.task(task)
            if view.state in states:
                return view
        raise AssertionError


@pytest.fixture
def bench(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench to work at."""
    env = set_up(server.url, tmp_path / "user", monkeypatch)
    repo = Repository(tmp_path / "work")
    repo.commit({"a.txt": "one\n"})
    (repo.top / "skep.toml").write_text('[environment]\nallow = ["SCRIPTED_*"]\n')
    return Bench(server, repo, env)
