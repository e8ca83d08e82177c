"""Skep's MCP server, started as clients start it: the protocol, what it refuses, and that it outlives whatever it is told."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.agents.door import Contacts, Read, Request, Send
from skep.agents.door.client import Door
from skep.agents.door.serving import MAX_LINE, NO_METHOD, NO_PARAMS, NOT_A_REQUEST, NOT_JSON, Server
from skep.agents.door.tools import TOOLS, Calls
from skep.agents.servers import OWN, for_acp, for_claude, for_codex, for_gemini, for_opencode, own
from skep.agents.servers import Server as Declared
from skep.errors import Denied, Invalid
from skep.runtime.doorway import Doorway


class Client:
    """Speaks to the server as MCP's clients do."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._number = 0

    async def call(self, method: str, **params: Any) -> Any:
        """The answer to a request."""
        assert self._process.stdin
        assert self._process.stdout
        self._number += 1
        message = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        answer = json.loads(await asyncio.wait_for(self._process.stdout.readline(), 30))
        assert answer["id"] == self._number
        return answer

    async def tool(self, name: str, **given: Any) -> tuple[str, bool]:
        """What a tool says, and whether it failed."""
        result = (await self.call("tools/call", name=name, arguments=given))["result"]
        return result["content"][0]["text"], result.get("isError", False)


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Client, list[Request]]]:
    asked: list[Request] = []

    async def serve(request: Request) -> Any:
        asked.append(request)
        if isinstance(request, Send) and request.to == "nobody":
            raise Denied("no edge", "Ask somebody else.")
        if isinstance(request, Read):
            found = [] if request.ack else [{"id": "m1", "text": "Message m1"}]
            return {"messages": found, "more": 0}
        return {"you_are": "coder-1"}

    door = Doorway(str(folder / "d"), serve)
    door.open()
    told = own(door.folder)[OWN]
    pipe = asyncio.subprocess.PIPE
    env = {"PATH": os.environ["PATH"], **told.env}
    process = await asyncio.create_subprocess_exec(told.command, *told.args, env=env, cwd=folder, stdin=pipe, stdout=pipe)
    try:
        yield Client(process), asked
        assert process.stdin
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await door.close()


async def test_a_client_greets_lists_and_calls(tmp_path: Path) -> None:
    (tmp_path / "skep").mkdir()  # what lies in the agent's folder is not what is started
    (tmp_path / "skep" / "__init__.py").write_text("raise SystemExit(3)")
    async with served(tmp_path) as (client, asked):
        hello = (await client.call("initialize", protocolVersion="2025-03-26", capabilities={}))["result"]
        assert (hello["protocolVersion"], hello["capabilities"]) == ("2025-03-26", {"tools": {}})
        assert (await client.call("ping"))["result"] == {}
        tools = (await client.call("tools/list"))["result"]["tools"]
        assert [tool["name"] for tool in tools] == list(TOOLS)
        assert len(tools) <= 8
        for tool in tools:
            assert tool["description"].endswith(".")
            assert not {"op", "ack"} & set(tool["inputSchema"]["properties"])
        assert await client.tool("list_contacts") == ('{"you_are":"coder-1"}', False)
        assert await client.tool("read_messages") == ("Message m1", False)
        assert await client.tool("read_messages", wait=300) == ("No messages.", False)
        assert asked == [Contacts(), Read(), Read(wait=45.0, ack=("m1",))]


async def test_refusals_are_tool_errors_and_what_is_no_tool_is_an_error_of_the_protocol(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, asked):
        assert await client.tool("send_message", to="nobody", text="x") == ("no edge. Ask somebody else.", True)
        assert (await client.tool("send_message", to="you"))[1]
        assert (await client.tool("send_message", to="you", text="x", op="read"))[1]
        assert (await client.call("tools/call", name="approve", arguments={}))["error"]["code"] == NO_PARAMS
        assert (await client.call("resources/list"))["error"]["code"] == NO_METHOD
        assert len(asked) == 1


def answered(line: bytes) -> Any:
    out = io.BytesIO()
    Server(Door("/nowhere"), out).hear(line)
    said = out.getvalue()
    return json.loads(said) if said else None


def test_what_is_no_request_is_answered_as_such_and_notifications_are_not_answered() -> None:
    assert answered(b"{")["error"]["code"] == NOT_JSON
    assert answered(b"[" * 100_000)["error"]["code"] == NOT_JSON
    assert answered(b"[]")["error"]["code"] == NOT_A_REQUEST
    assert answered(b'{"id": 1}')["error"]["code"] == NOT_A_REQUEST
    assert answered(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}') is None
    assert answered(b'{"jsonrpc": "2.0", "id": 7, "result": {}}') is None
    assert answered(b'{"id": 1, "method": "ping", "params": [1]}')["result"] == {}


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda value: _ping(value)))
def test_no_line_ends_it(line: bytes) -> None:
    answer = answered(line)
    assert answer is None or "result" in answer or "error" in answer


def _ping(value: object) -> bytes:
    return json.dumps({"id": value, "method": "ping", "params": value}).encode()


def test_a_line_that_is_too_long_is_no_request() -> None:
    out = io.BytesIO()
    Server(Door("/nowhere"), out).serve(io.BytesIO(b'"' + b"x" * (2 * MAX_LINE) + b'"\n{"id":1,"method":"ping"}\n'))
    assert json.loads(out.getvalue().splitlines()[-1])["result"] == {}


def test_a_model_that_makes_things_up_is_told(tmp_path: Path) -> None:
    calls = Calls()
    for name, fields in (("approve", {}), ("send_message", {"too": 1}), ("read_messages", {"wait": "long"}), ("escalate", {})):
        with pytest.raises(Invalid):
            calls.request(name, fields)


def test_each_client_is_told_of_servers_in_its_own_words() -> None:
    servers = {
        "docs": Declared(url="https://docs.example/mcp", headers={"A": "b"}),
        "db": Declared(command="db", args=("-x",), env={"K": 'v"'}),
    }
    told = for_claude(servers)["mcpServers"]
    assert told["db"] == {"command": "db", "args": ["-x"], "env": {"K": 'v"'}}
    assert told["docs"]["url"] == "https://docs.example/mcp"
    assert for_codex(servers)[:2] == ("--config", 'mcp_servers.docs.url="https://docs.example/mcp"')
    assert 'mcp_servers.db.env={"K" = "v\\""}' in for_codex(servers)
    assert for_gemini(servers)["mcpServers"]["docs"]["trust"] is False
    assert for_opencode(servers)["mcp"]["db"]["command"] == ["db", "-x"]
    assert for_acp(servers) == [{"name": "db", "command": "db", "args": ["-x"], "env": [{"name": "K", "value": 'v"'}]}]
    assert (for_claude({}), for_codex({}), for_gemini({}), for_opencode({}), for_acp({})) == ({}, (), {}, {}, [])
    assert own("/door")[OWN].command == sys.executable
