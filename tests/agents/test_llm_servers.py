"""The runtime `llm` uses the MCP servers of `.mcp.json`: programs, and real servers over HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer
from msgspec.structs import replace

from skep.agents import Said, Used, Verdict
from skep.agents.declared import left_out, servers, usable
from skep.agents.servers import for_claude
from skep.errors import Invalid
from tests.agents.scripted import Llm, asked
from tests.clients.model_server import ModelServer
from tests.contracts.runtime import Record, Workshop
from tests.terminals.processes import carrying

MCP_SERVER = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("measures")
@server.tool()
def double(number: int) -> int:
    'Twice the number.'
    return 2 * number
@server.tool()
def fail() -> str:
    'Fails.'
    raise ValueError("the scales are broken")
server.run("stdio")
"""


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    """A scripted model."""
    async with ModelServer() as server:
        yield server


@pytest.fixture
async def llm() -> AsyncIterator[Llm]:
    """The runtime."""
    runtime = Llm()
    yield runtime
    await runtime.close()


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


class Web:
    """A real MCP server over HTTP on loopback, with what it was called with."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.held, self.release = asyncio.Event(), asyncio.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/mcp"
        mcp = MCPServer("web")

        @mcp.tool()
        def shout(text: str) -> str:
            "In capitals."
            self.called.append(text)
            return text.upper()

        @mcp.tool()
        def big() -> str:
            "A lot."
            return "x" * 1_000_000

        @mcp.tool()
        async def slow() -> str:
            "Later."
            self.held.set()
            await self.release.wait()
            return "at last"

        @mcp.tool(name="file")
        def read_it() -> str:
            "Named so that with its server `read` it is called like a tool of Skep's."
            return "a file"

        @mcp.tool(name="get.it now")
        def odd() -> str:
            "Has a name that no provider takes."
            return "got it"

        self._server = uvicorn.Server(uvicorn.Config(mcp.streamable_http_app(), log_level="error", lifespan="on", ws="none"))

    async def serve(self) -> None:
        """Until it is cancelled."""
        await self._server.serve([self._socket])

    def stop(self) -> None:
        """Ends it."""
        self.release.set()
        self._server.should_exit = True


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """One that serves."""
    web = Web()
    serving = asyncio.ensure_future(web.serve())
    yield web
    web.stop()
    await serving


def declare(folder: Path, **servers: Any) -> None:
    """Writes `.mcp.json`, and the program of a server."""
    (folder / "measures.py").write_text(MCP_SERVER)
    (folder / ".mcp.json").write_text(json.dumps({"mcpServers": servers}))


MEASURES = {"type": "stdio", "command": "${PYTHON:-" + sys.executable + "}", "args": ["measures.py"]}


async def test_it_uses_the_tools_of_declared_servers(llm: Llm, workshop: Workshop, server: ModelServer) -> None:
    declare(workshop.folder, measures=MEASURES, broken={"command": "no-such-program"})
    host = Record()
    prompt = 'CALL: measures_double {"number": 21}\nCALL: measures_fail {}\nSAY: Measured.'
    job = asked(workshop, server, prompt)
    ending = await llm.run(job, host)
    assert (ending.ok, ending.result) == (True, "Measured."), ending
    assert "42" in str(server.requests[1].body)
    assert "Error executing tool fail" in str(server.requests[2].body)
    used = [(one.tool, one.ok) for one in host.reports if isinstance(one, Used)]
    assert used == [("measures_double", None), ("measures_double", True), ("measures_fail", None), ("measures_fail", False)]
    assert any(isinstance(one, Said) and "broken cannot be used" in one.text for one in host.reports)
    assert len(host.pids) == 1
    assert carrying(f"SKEP_NONCE={job.nonce}") == []


async def test_tools_of_servers_are_asked_for_and_servers_can_be_left_out(
    llm: Llm, workshop: Workshop, server: ModelServer
) -> None:
    declare(workshop.folder, measures=MEASURES)
    prompt, host = 'CALL: measures_double {"number": 21}', Record()
    assert (await llm.run(asked(workshop, server, prompt, permissions="edits"), host)).ok
    assert [(ask.tool, ask.arguments) for ask in host.asked] == [("measures_double", {"number": 21})]
    ending = await llm.run(asked(workshop, server, prompt, mcp=[]), Record())
    assert "No tool for" in str(ending.result)


def said(host: Record) -> str:
    """All that was said."""
    return "\n".join(one.text for one in host.reports if isinstance(one, Said))


async def test_a_server_over_http_is_used_like_a_program(llm: Llm, workshop: Workshop, server: ModelServer, web: Web) -> None:
    declare(workshop.folder, web={"type": "http", "url": web.url, "headers": {"X-Team": "${TEAM:-bees}"}})
    host = Record()
    ending = await llm.run(asked(workshop, server, 'CALL: web_shout {"text": "hi"}\nCALL: web_get_it_now {}\nSAY: Heard.'), host)
    assert (ending.ok, ending.result) == (True, "Heard."), ending
    assert web.called == ["hi"]
    assert "HI" in str(server.requests[1].body)
    assert "got it" in str(server.requests[2].body)
    assert host.pids == []


async def test_what_is_not_allowed_does_not_reach_the_server(llm: Llm, workshop: Workshop, server: ModelServer, web: Web) -> None:
    declare(workshop.folder, web={"url": web.url})
    host = Record()
    host.verdict = Verdict(False, "Not allowed: the rule `never web_*`.")
    ending = await llm.run(asked(workshop, server, 'CALL: web_shout {"text": "hi"}\nSAY: Heard.', permissions="ask"), host)
    assert (ending.ok, ending.cause) == (False, "denied")
    assert [ask.tool for ask in host.asked] == ["web_shout"]
    assert web.called == []
    assert "the rule `never web_*`" in str(server.requests[1].body)


async def test_servers_that_fail_are_named_and_the_others_work(
    llm: Llm, workshop: Workshop, server: ModelServer, web: Web
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        closed = nobody.getsockname()[1]
    servers = {
        "gone": {"url": f"http://127.0.0.1:{closed}/mcp"},
        "lost": {"url": f"{server.url}/nothing"},
        "web": {"url": web.url},
    }
    declare(workshop.folder, **servers)
    host = Record()
    ending = await llm.run(asked(workshop, server, 'CALL: web_shout {"text": "hi"}\nSAY: Heard.'), host)
    assert ending.ok, ending
    assert "the MCP server gone cannot be used: " in said(host)
    assert "the MCP server lost cannot be used: " in said(host)
    assert web.called == ["hi"]


async def test_of_two_tools_of_one_name_the_later_is_left_out_and_named(
    llm: Llm, workshop: Workshop, server: ModelServer, web: Web
) -> None:
    (workshop.folder / "a.txt").write_text("mine")
    declare(workshop.folder, read={"url": web.url})
    host = Record()
    ending = await llm.run(asked(workshop, server, 'CALL: read_file {"path": "a.txt"}\nSAY: Read.'), host)
    assert ending.ok, ending
    assert "mine" in str(server.requests[1].body)
    assert "a tool read_file of the MCP server read is left out" in said(host)


async def test_what_a_tool_answers_is_bounded(llm: Llm, workshop: Workshop, server: ModelServer, web: Web) -> None:
    declare(workshop.folder, web={"url": web.url})
    ending = await llm.run(asked(workshop, server, "CALL: web_big {}\nSAY: Big."), Record())
    assert ending.ok, ending
    assert 50_000 < len(json.dumps(server.requests[1].body)) < 100_000


async def test_a_slow_tool_holds_up_no_end(llm: Llm, workshop: Workshop, server: ModelServer, web: Web) -> None:
    declare(workshop.folder, web={"url": web.url})
    running = asyncio.ensure_future(llm.run(asked(workshop, server, "CALL: web_slow {}\nSAY: Slow."), Record()))
    await web.held.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    web.held.clear()
    job = asked(workshop, server, "CALL: web_slow {}\nSAY: Slow.")
    late = await llm.run(replace(job, task=replace(job.task, timeout=3.0)), Record())
    assert (late.ok, late.cause) == (False, "timed-out")


@pytest.mark.parametrize("name", ["skep", "skep__more"])
def test_no_declared_server_gets_the_leave_of_skeps_own(name: str, workshop: Workshop) -> None:
    declare(workshop.folder, **{name: MEASURES})
    with pytest.raises(Invalid, match="the name of Skep's own"):
        servers(str(workshop.folder), {}, None)


def test_a_server_that_a_client_cannot_use_is_left_out_for_it_alone_and_said(workshop: Workshop) -> None:
    declare(
        workshop.folder, old={"type": "sse", "url": "http://127.0.0.1:1/sse"}, odd={"type": "ws", "url": "ws://x"}, web=MEASURES
    )
    folder = str(workshop.folder)
    found, left = usable(folder, {}, None, "claude")
    assert (list(found), for_claude(found)["mcpServers"]["old"]["type"]) == (["old", "web"], "sse")
    assert left == ["the MCP server odd is left out: claude takes none of type ws"]
    for runtime in ("codex", "gemini", "opencode", "acp", "llm"):
        assert list(usable(folder, {}, None, runtime)[0]) == ["web"]
    assert left_out(folder, {}, ["llm"])[0] == "the MCP server old is left out: llm takes none of type sse"
    assert list(usable(folder, {}, ["web"], "llm")[0]) == ["web"]
    with pytest.raises(Invalid, match="old is wanted: llm takes none of type sse"):
        usable(folder, {}, ["old"], "llm")
