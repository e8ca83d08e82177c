"""The MCP servers that a project declares in its `.mcp.json`, as other clients read it too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from skep.agents.servers import OWN, Server, fits, kind_of
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
        if bool(server.command) == bool(server.url) or (server.type == "stdio" and server.url):
            raise Invalid(f"The server {name} of {FILE} is neither a `command` nor a `url`.", "Correct it.")
    return chosen


def usable(
    folder: str, env: Mapping[str, str], wanted: Sequence[str] | None, runtime: str
) -> tuple[dict[str, Server], list[str]]:
    """Those that a runtime can use, and of each other one a sentence for people. Arguments as of `servers`.

    Raises:
        Invalid: as `servers`, or one that is wanted by its name cannot be used.
    """
    chosen = servers(folder, env, wanted)
    left = [name for name, server in chosen.items() if not fits(server, runtime)]
    words = [f"the MCP server {name} is left out: {runtime} takes none of type {kind_of(chosen[name])[:40]}" for name in left]
    if left and wanted is not None:
        raise Invalid(f"{FILE}: {words[0].replace('is left out', 'is wanted')}.", "Take it out of `mcp`, or use another agent.")
    return {name: server for name, server in chosen.items() if name not in left}, words


def left_out(folder: str, env: Mapping[str, str], runtimes: Iterable[str]) -> list[str]:
    """Which servers each of these runtimes would go without, in sentences. Raises Invalid as `servers`."""
    return [words for runtime in runtimes for words in usable(folder, env, None, runtime)[1]]


def _expanded(value: Any, env: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: env.get(found[1], found[2] or ""), value)
    if isinstance(value, dict):
        return {name: _expanded(each, env) for name, each in value.items()}
    return [_expanded(each, env) for each in value] if isinstance(value, list) else value
