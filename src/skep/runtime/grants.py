"""What an agent is granted because its runtime was named: the client where it is installed, its login, the way to its model."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from skep.agents import acp
from skep.agents.client import Client
from skep.core.confinement import Confinement
from skep.core.model import AgentSpec
from skep.security.tools import installed

#: Clients by the name of their runtime.
CLIENTS = {client.name: client for client in acp.KNOWN}
#: How settings of clients name the address of a provider, in TOML and in JSON. What is a comment is left out before.
_ADDRESS = re.compile(r"""\bbase_?url["']?\s*[:=]\s*["']([^"'\s]+)["']""", re.I)
_COMMENT = re.compile(r"^\s*(#|//).*$", re.M)


def needs(spec: AgentSpec, env: Mapping[str, str] = os.environ) -> Confinement | None:
    """What an agent is granted for its runtime's sake; None if that is no client.

    Args:
        env: the owner's environment. Nothing that a plan or an agent can say counts.
    """
    if spec.runtime == "acp":
        command = [word for word in spec.options.get("command", ()) if isinstance(word, str)]
        client = next((known for word in command if (known := _speaker(word)) is not None), None)
        # A program, and what an interpreter is given to run.
        programs = [word for at, word in enumerate(command) if not at or word.startswith(("/", "~/"))]
    elif (client := CLIENTS.get(spec.runtime)) is not None:
        programs = [str(spec.options.get("program") or client.name)]
    else:
        return None
    read = tuple(path for program in programs for path in installed(program, env))
    if client is None:
        return Confinement(read=read)
    return Confinement(
        write=tuple(f"~/{path}" for path in client.logins),
        read=(*read, *(f"~/{path}" for path in client.settings)),
        network=(*client.hosts, *dict.fromkeys(_named(client, env))),
    )


def keeps_home(runtime: str) -> bool:
    """Whether programs of a runtime keep something in the task's home; of others only Skep does, and they do not see it."""
    return runtime in CLIENTS or runtime == "acp"


def _speaker(word: str) -> Client | None:
    """The client whose adapter a word of a command line names: `codex-acp`, `@agentclientprotocol/claude-agent-acp@1`."""
    name = os.path.basename(word)
    return next((client for client in acp.KNOWN if name == client.name or name.startswith(f"{client.name}-")), None)


def _named(client: Client, env: Mapping[str, str]) -> Iterator[str]:
    """Hosts and ports that the owner's environment, and the client's settings in their home, name as the model's."""
    addresses = [env.get(name, "") for name in client.addresses]
    for path in client.settings:
        try:
            text = Path(env.get("HOME", "/nonexistent"), path).read_text(errors="replace")
        except OSError:
            continue
        addresses += _ADDRESS.findall(_COMMENT.sub("", text))
    for address in addresses:
        try:
            url = urlsplit(address)
            port = url.port or {"http": 80, "https": 443}.get(url.scheme)
        except ValueError:
            continue
        if url.hostname and port:
            yield f"[{url.hostname}]:{port}" if ":" in url.hostname else f"{url.hostname}:{port}"
