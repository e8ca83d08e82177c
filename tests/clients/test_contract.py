"""What every runtime does, done by the real coding clients against the scripted model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from skep.agents import Job, Runtime
from skep.core.model import Task
from skep.terminals import Terminals
from skep.terminals.native import Native
from tests.clients.agents import AGENTS, MADE, Agent, set_up
from tests.clients.drive import need
from tests.clients.model_server import ModelServer
from tests.clients.talk import ESCALATED
from tests.contracts.runtime import Record, RuntimeContract, Workshop, workshop

__all__ = ["workshop"]

#: Some clients take seconds to begin, and each test has several begin.
pytestmark = pytest.mark.timeout(400)


class ClientContract(RuntimeContract):
    """Subclass it with the agent."""

    agent: Agent
    #: A client takes some hundred megabytes.
    many = 3
    server: ModelServer

    @pytest.fixture(autouse=True)
    async def set_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
        need(self.agent.program)
        self.native = Native()
        async with ModelServer() as self.server:
            self.env = set_up(self.server.url, tmp_path / "user", monkeypatch)
            yield
        await self.native.close()

    async def open(self) -> Runtime:
        return MADE[self.agent.runtime](self.native)

    async def open_in(self, terminals: Terminals) -> Runtime | None:
        return MADE[self.agent.runtime](terminals)

    def scripted(self, workshop: Workshop, prompt: str, **options: Any) -> Job:
        job = workshop.job(Task(prompt=prompt), **{**self.agent.all, **options})
        home = str(workshop.folder / "homes" / job.nonce)
        return replace(job, prompt=prompt, model=self.agent.model, home=home, env={**job.env, **self.env})

    def asking(self, workshop: Workshop, path: Path) -> Job:
        assert self.agent.asking is not None
        return self.scripted(workshop, f"RUN: touch {path}", **self.agent.asking)

    def good(self, workshop: Workshop) -> tuple[Job, Any]:
        return self.scripted(workshop, "RUN: true\nSAY: fine"), "fine"

    def bad(self, workshop: Workshop, words: str) -> Job:
        return self.scripted(workshop, f"FAIL: 400 times=99 {words}")

    def endless(self, workshop: Workshop) -> Job:
        return self.scripted(workshop, "RUN: setsid sleep 600 >/dev/null 2>&1 &\nHOLD: for ever step=2")

    async def started(self, workshop: Workshop, host: Record) -> None:
        await self.server.holding("for ever")

    def touching(self, workshop: Workshop, path: Path) -> Job:
        return self.scripted(workshop, f"RUN: touch {path}")

    def between(self, workshop: Workshop) -> None:
        for home in (workshop.folder / "homes").iterdir():
            self.agent.between(home)

    def foreign(self, workshop: Workshop) -> Job:
        return replace(self.scripted(workshop, ""), task=Task(run="true"))


class TestClaude(ClientContract):
    agent = AGENTS["claude"]


class TestCodex(ClientContract):
    agent = AGENTS["codex"]


@pytest.mark.clients
class TestGemini(ClientContract):
    agent = AGENTS["gemini"]


@pytest.mark.clients
class TestOpenCode(ClientContract):
    agent = AGENTS["opencode"]


@pytest.mark.clients
class TestClaudeOverAcp(ClientContract):
    agent = AGENTS["claude-agent-acp"]


@pytest.mark.clients
class TestCodexOverAcp(ClientContract):
    agent = AGENTS["codex-acp"]

    def asking(self, workshop: Workshop, path: Path) -> Job:
        """It asks if the model itself wants to leave its sandbox."""
        return self.scripted(workshop, ESCALATED.replace("made.txt", str(path)), permissions="ask", mode="workspace-write")


@pytest.mark.clients
class TestGeminiOverAcp(ClientContract):
    agent = AGENTS["gemini-acp"]


@pytest.mark.clients
class TestOpenCodeOverAcp(ClientContract):
    agent = AGENTS["opencode-acp"]
