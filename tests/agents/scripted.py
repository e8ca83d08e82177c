"""The runtime `llm` with a scripted model, for its tests."""

from __future__ import annotations

import os
from typing import Any

from msgspec.structs import replace

from skep.agents import Job
from skep.agents.llm import LlmRuntime
from skep.config import PriceConfig
from skep.core.model import Task
from skep.terminals.native import Native
from tests.clients.model_server import ModelServer
from tests.contracts.runtime import Workshop

#: The worker of this process's tests can be found by it.
KEY = f"not-a-key-{os.getpid()}"


class Llm(LlmRuntime):
    """One that closes its terminals with it."""

    def __init__(self, price: PriceConfig | None = None) -> None:
        self.native = Native()
        super().__init__(self.native, self.native, lambda model: price)

    async def close(self) -> None:
        await super().close()
        await self.native.close()


def asked(workshop: Workshop, server: ModelServer, prompt: str, model: str = "openai:scripted", **options: Any) -> Job:
    """A job whose model does what the prompt says (`tests/clients/script.py`)."""
    address = server.url if model.startswith("anthropic") else f"{server.url}/v1"
    made = {"base_url": address, "permissions": "all"} | options
    job = workshop.job(Task(prompt=prompt), **made)
    env = {**job.env, "OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY}
    return replace(job, model=model, prompt=prompt, env=env, home=str(workshop.folder / "home"))
