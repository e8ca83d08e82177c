"""What every runtime does, done by loops of a model and tools. Each test has a worker of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skep.agents import Job, Runtime
from skep.agents.llm import LlmRuntime
from skep.core.model import Task
from skep.terminals import Terminals
from tests.agents.scripted import Llm, asked
from tests.clients.model_server import ModelServer
from tests.contracts.runtime import RuntimeContract, Workshop, workshop

__all__ = ["workshop"]


class TestLlmContract(RuntimeContract):
    @pytest.fixture(autouse=True)
    async def serve(self) -> AsyncIterator[None]:
        async with ModelServer() as server:
            self.server = server
            yield

    async def open(self) -> Runtime:
        return Llm()

    async def open_in(self, terminals: Terminals) -> Runtime | None:
        return LlmRuntime(terminals, terminals)

    def scripted(self, workshop: Workshop, prompt: str, **options: Any) -> Job:
        assert self.server is not None
        return asked(workshop, self.server, prompt, **options)

    def asking(self, workshop: Workshop, path: Path) -> Job:
        return self.scripted(workshop, f"RUN: touch {path}", permissions="ask")

    def good(self, workshop: Workshop) -> tuple[Job, Any]:
        return self.scripted(workshop, "RUN: true\nSAY: fine"), "fine"

    def bad(self, workshop: Workshop, words: str) -> Job:
        return self.scripted(workshop, "SAY: nothing", model=words)

    def endless(self, workshop: Workshop) -> Job:
        return self.scripted(workshop, "RUN: trap '' HUP; setsid sleep 600 & echo on; sleep 600")

    def touching(self, workshop: Workshop, path: Path) -> Job:
        return self.scripted(workshop, f"RUN: touch {path}")

    def foreign(self, workshop: Workshop) -> Job:
        return workshop.job(Task(call="os:getpid"))
