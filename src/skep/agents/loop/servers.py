"""MCP servers as tools: a program's lines go through the runtime, which runs it confined; an address is spoken to from here."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter
from pydantic_ai.tools import ToolDefinition

from skep.agents.loop import Launch, Request, Server
from skep.agents.loop.files import MAX_TEXT, Refused
from skep.agents.loop.pipe import Pipe
from skep.agents.loop.tools import Attempt, Tool, used

#: Seconds that a server may take to begin, and for one call of a tool.
BEGIN, CALL = 60.0, 600.0
#: Tools that one attempt takes from one server, and pages of tools that one server may tell.
MAX_TOOLS, MAX_PAGES = 100, 20
#: Characters of a tool's name; providers take no more.
MAX_NAME = 64


class Unusable(Exception):
    """Why a server cannot be used, for people."""


@asynccontextmanager
async def opened(pipe: Pipe) -> AsyncIterator[tuple[Any, Any]]:
    """A pipe as the transport of a client."""
    into, from_server = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    to_server, out = anyio.create_memory_object_stream[SessionMessage](0)

    async def take_in() -> None:
        async with into:
            while (line := await pipe.lines.get()) is not None:
                with contextlib.suppress(ValueError):  # what is no message is dropped
                    await into.send(SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False)))

    async def give_out() -> None:
        async for message in out:
            pipe.write(message.message.model_dump_json(by_alias=True, exclude_unset=True))

    passing = [asyncio.ensure_future(take_in()), asyncio.ensure_future(give_out())]
    try:
        yield from_server, to_server
    finally:
        for task in passing:
            task.cancel()
        for stream in (into, from_server, to_server, out):
            stream.close()


async def connect(
    name: str, server: Server, pipe: Pipe | None, ask: Callable[[Request], Awaitable[Any]], stack: AsyncExitStack
) -> list[Tool]:
    """Begins with a server, and gives its tools, named `SERVER_TOOL` as far as providers take such a name.

    Args:
        pipe: to its program; None: it has an address.
        ask: the runtime.
        stack: the server is left when this is closed.

    Raises:
        Unusable: it does not start or does not answer as it should.
    """
    try:
        async with asyncio.timeout(BEGIN):
            if pipe is not None:
                if why := await ask(Launch(name)):
                    raise Unusable(str(why))
                transport: Any = opened(pipe)
            else:
                http = await stack.enter_async_context(create_mcp_http_client(headers=server.headers or None))
                transport = streamable_http_client(server.url, http_client=http)
            client = await stack.enter_async_context(Client(transport, read_timeout_seconds=CALL))
            return [_tool(name, client, each) for each in await _listed(client)]
    except TimeoutError:
        raise Unusable(f"it did not answer within {BEGIN:g} s") from None
    except Unusable:
        raise
    except Exception as error:  # whatever a server of somebody's makes its client raise
        raise Unusable(f"{type(error).__name__}: {_first(error)}") from None


async def _listed(client: Client) -> list[Any]:
    found, cursor = [], None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if not cursor:
            break
    return found[:MAX_TOOLS]


def _tool(server: str, client: Client, kind: Any) -> Tool:
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", f"{server}_{kind.name}")[:MAX_NAME]

    async def use(attempt: Attempt, ident: str, given: dict[str, Any]) -> str:
        async def do() -> str:
            try:
                result = await client.call_tool(kind.name, given)
            except Exception as error:  # whatever a server of somebody's makes its client raise
                raise Refused(f"the server {server} failed: {_first(error)}") from None
            text = "\n".join(part.text if part.type == "text" else f"({part.type})" for part in result.content)
            if result.is_error:
                raise Refused(text or f"the server {server} says that it failed")
            return text[:MAX_TEXT] or "(nothing)"

        return await used(attempt, ident, name, "run", given, do)

    return Tool(ToolDefinition(name=name, parameters_json_schema=kind.input_schema, description=kind.description or ""), use)


def _first(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error).split("\n", 1)[0][:500] or type(error).__name__
