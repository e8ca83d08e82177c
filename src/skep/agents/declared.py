"""The MCP servers that a project declares in its `.mcp.json`, as other clients read it too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from skep.agents.servers import OWN, Server
from skep.errors import Invalid

FILE = ".mcp.json"
#: Bytes of that file, and servers in it.
MAX_FILE, MAX_SERVERS = 1 << 20, 50
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def servers(folder: str, env: Mapping[str, str], wanted: Sequence[str] | None) -> dict[str, Server]:
    """The servers by name; `${NAME}` and `${NAME:-otherwise}` in them are looked up.

    Args:
        folder: the workspace. What an agent changes in its own copy of the file starts nothing.
        env: of the attempt's programs.
        wanted: names; None = all.

    Raises:
        Invalid: the file is not right, or has no server of a wanted name, or one with the name of Skep's own.
    """
    path = Path(folder) / FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b"{}"
    except OSError as error:
        raise Invalid(f"{FILE} cannot be read: {error.strerror}.", "Mend its permissions.") from None
    try:
        found = msgspec.json.decode(data[:MAX_FILE], type=dict[str, Any]).get("mcpServers", {})
        known = msgspec.convert(_expanded(found, env), dict[str, Server])
    except msgspec.MsgspecError as error:
        raise Invalid(f"{FILE} is not right: {error}.", "Mend it, or remove it.") from None
    for name in known if wanted is None else wanted:
        if name not in known:
            raise Invalid(f"{FILE} has no server {name!r}.", f"It has {', '.join(known) or 'none'}.")
    chosen = {name: server for name, server in known.items() if wanted is None or name in wanted}
    if len(chosen) > MAX_SERVERS:
        raise Invalid(f"{FILE} has {len(chosen)} servers, more than {MAX_SERVERS}.", "Name those that are needed in `mcp`.")
    for name, server in chosen.items():
        if name.partition("__")[0] == OWN:  # Claude Code takes `skep__x` for it too: its tools would need no leave
            raise Invalid(f"{FILE} has a server {name!r}: that is the name of Skep's own.", "Give it another name.")
        if not re.fullmatch(r"[\w-]{1,40}", name, re.ASCII):
            raise Invalid(f"{FILE} has a server {name!r}.", "Name it with letters, digits, _ and -, 40 at most.")
        if bool(server.command) == bool(server.url) or server.type not in ("", "stdio", "http"):
            raise Invalid(f"The server {name} of {FILE} is neither a `command` nor a `url` of type http.", "Correct it.")
    return chosen


def _expanded(value: Any, env: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: env.get(found[1], found[2] or ""), value)
    if isinstance(value, dict):
        return {name: _expanded(each, env) for name, each in value.items()}
    return [_expanded(each, env) for each in value] if isinstance(value, list) else value
