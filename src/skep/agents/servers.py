"""MCP servers that clients are handed: what one is, and how each client is told of them, beside those that it has by itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from skep.agents.door import VARIABLE

#: Skep's own, for agents that have somebody to talk to. Its tools need no leave: what they do is bounded where it is done.
OWN = "skep"


#: Seconds that Codex gives a server to start; by itself 10, which a machine that is busy exceeds.
BEGIN = 60


#: Kinds of servers that not every client can use -> the runtimes that can. Programs and addresses of type `http` all of them can.
ONLY: dict[str, tuple[str, ...]] = {"sse": ("claude",)}


class Server(Struct, frozen=True, omit_defaults=True):
    """One MCP server, as in `.mcp.json`: a program (`command`), or an address (`url`)."""

    type: str = ""
    command: str = ""
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    url: str = ""
    headers: dict[str, str] = {}


def kind_of(one: Server) -> str:
    """`stdio`, `http`, or what else its type says."""
    return "stdio" if one.command else one.type or "http"


def fits(one: Server, runtime: str) -> bool:
    """Whether a runtime can use it."""
    return kind_of(one) in ("stdio", "http") or runtime in ONLY.get(kind_of(one), ())


def own(door: str) -> dict[str, Server]:
    """Skep's own server, for the attempt with this door."""
    # -P: the folder that it is started in is the agent's, and may hold a package of our name.
    return {OWN: Server(command=sys.executable, args=("-P", "-m", "skep.agents.door.serving"), env={VARIABLE: door})}


def for_claude(servers: Mapping[str, Server]) -> dict[str, Any]:
    """A file of Claude Code's."""
    told = {name: _program(one) if one.command else _address(one) for name, one in servers.items()}
    return {"mcpServers": told} if told else {}


def for_codex(servers: Mapping[str, Server]) -> tuple[str, ...]:
    """Arguments of Codex: values are TOML, in which strings and lists are as in JSON.

    A server that is not required may have no tools yet when the model is first asked.
    """
    words: list[str] = []
    for name, one in servers.items():
        told: dict[str, Any] = {"command": one.command, "args": list(one.args)} if one.command else {"url": one.url}
        lines = {field: json.dumps(value) for field, value in told.items()} | {
            "startup_timeout_sec": str(BEGIN),
            "required": "true",
        }
        if one.env:
            lines["env"] = _table(one.env)
        if name == OWN:
            lines["default_tools_approval_mode"] = '"approve"'
        if one.headers:
            lines["http_headers"] = _table(one.headers)
        for field, value in lines.items():
            words += ["--config", f"mcp_servers.{name}.{field}={value}"]
    return tuple(words)


def for_gemini(servers: Mapping[str, Server]) -> dict[str, Any]:
    """Settings of Gemini CLI."""
    told = {
        name: {**(_program(one) if one.command else {"httpUrl": one.url, "headers": one.headers}), "trust": name == OWN}
        for name, one in servers.items()
    }
    return {"mcpServers": told} if told else {}


def for_opencode(servers: Mapping[str, Server]) -> dict[str, Any]:
    """Configuration of OpenCode."""
    told: dict[str, Any] = {}
    for name, one in servers.items():
        if one.command:
            told[name] = {"type": "local", "command": [one.command, *one.args], "environment": one.env, "enabled": True}
        else:
            told[name] = {"type": "remote", "url": one.url, "headers": one.headers, "enabled": True}
    return {"mcp": told} if told else {}


def for_acp(servers: Mapping[str, Server], http: bool = False) -> list[dict[str, Any]]:
    """What a session of the Agent Client Protocol begins with. Addresses only if the agent says that it takes them."""
    return [
        {"name": name, "command": one.command, "args": list(one.args), "env": _pairs(one.env)}
        if one.command
        else {"type": "http", "name": name, "url": one.url, "headers": _pairs(one.headers)}
        for name, one in servers.items()
        if one.command or http
    ]


def _program(one: Server) -> dict[str, Any]:
    return {"command": one.command, "args": list(one.args), "env": one.env}


def _address(one: Server) -> dict[str, Any]:
    return {"type": kind_of(one), "url": one.url, "headers": one.headers}


def _table(values: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)} = {json.dumps(value)}" for name, value in values.items()) + "}"


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]
