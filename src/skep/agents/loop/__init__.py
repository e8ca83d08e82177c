"""What runs in the worker of the runtime `llm` (`skep.agents.llm`): loops of models and tools on pydantic-ai, many at a time.

The worker is Skep's own program and does nothing that an agent says by itself: commands and the programs of MCP servers are
started by the runtime, confined like every process of the attempt, and the keys of providers never leave the worker.
Worker and runtime talk in lines of JSON: `Order` one way, `Word` the other.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from skep.agents import Ending, Report
from skep.agents.options import LlmOptions
from skep.agents.servers import Server as Server

#: Bytes of a conversation that is gone on with. More fits no model, and a new one is begun.
MAX_THREAD = 64 << 20


class Start(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="start"):
    """Carry an attempt out.

    Args:
        id: names it in everything that is said about it.
        model: as pydantic-ai names it, `openai:gpt-5.2`.
        key: of the provider; empty = in the worker's environment.
        folder: where it works.
        thread: the file of its conversation. One that is there is gone on with.
        usd: no call begins once so much is spent; 0 = no bound.
        talks: whether it has the tools of `skep.agents.door.tools`.
        price: dollars for a million tokens in, cached, out; None = as pydantic-ai knows them.
    """

    id: int
    model: str
    prompt: str
    folder: str
    thread: str
    options: LlmOptions = LlmOptions()
    key: str = ""
    usd: float = 0.0
    price: tuple[float, float, float] | None = None
    servers: dict[str, Server] = {}
    talks: bool = False


class Tell(Struct, frozen=True, tag="tell"):
    """A message for the agent."""

    id: int
    text: str


class Stop(Struct, frozen=True, tag="stop"):
    """End the attempt; a `Word` with an ending answers it."""

    id: int


class Answer(Struct, frozen=True, tag="answer"):
    """What came of a `Request`."""

    id: int
    request: int
    value: Any


class Heard(Struct, frozen=True, tag="heard"):
    """A line that the program of an MCP server wrote; None: it has ended."""

    id: int
    server: str
    line: str | None


Order = Start | Tell | Stop | Answer | Heard


class Leave(Struct, frozen=True, tag="leave"):
    """May this be done? Answer: `[allowed, why]`."""

    tool: str
    arguments: dict[str, Any]
    about: str


class Run(Struct, frozen=True, tag="run"):
    """Run this program in the attempt's folder. Answer: `[exit code or None, output]`."""

    argv: tuple[str, ...]
    timeout: float


class Launch(Struct, frozen=True, tag="launch"):
    """Start the program of an MCP server. Answer: why it cannot be; empty if it runs."""

    server: str


class AtDoor(Struct, frozen=True, tag="door"):
    """Call this tool of `skep.agents.door.tools`. Answer: `[whether it was done, text for the model]`."""

    tool: str
    arguments: dict[str, Any]


Request = Leave | Run | Launch | AtDoor


class Word(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the worker says about attempt `id`: a report, a request, a line for the program of an MCP server, or its ending."""

    id: int = 0
    report: Report | None = None
    number: int = 0
    request: Request | None = None
    server: str = ""
    line: str = ""
    ending: Ending | None = None
