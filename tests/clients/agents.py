"""The agents of the tests: each coding client under the runtime of Skep's that carries it, set up for the scripted model."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import skep
from skep.agents import Runtime, acp, claude, codex, gemini, opencode
from skep.terminals import Terminals
from tests.clients.drive import BIN, CLIENTS, TALKERS

MADE: dict[str, Callable[[Terminals], Runtime]] = {
    "claude": claude.ClaudeRuntime,
    "codex": codex.runtime,
    "gemini": gemini.runtime,
    "opencode": opencode.runtime,
    "acp": acp.AcpRuntime,
}
#: What stands in the path of a request to the vendor of a client.
PATHS = {"claude": "/messages", "codex": "/responses", "gemini": "/models/"}
#: What `make test` runs; the others are for `make test-clients`.
SMALL = ("claude", "codex")
#: A user's settings that have clients give up sooner than by default, so that Skep's part begins.
IMPATIENT = {"CLAUDE_CODE_MAX_RETRIES": "1"}


@dataclass(frozen=True)
class Agent:
    """One of them.

    Args:
        name: in the table of the manual.
        runtime: of Skep's.
        program: the client.
        model: Gemini's own choice of one would be a question to a model.
        options: its `with`, with which it may do everything.
        asking: what in `with` makes it ask before it runs commands; None = it cannot.
    """

    name: str
    runtime: str
    program: str
    model: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    asking: Mapping[str, Any] | None = None

    @property
    def all(self) -> dict[str, Any]:
        """Its `with` when it may do everything."""
        return {"permissions": "all", **self.options}

    @property
    def refusal(self) -> str:
        """How its vendor, and no other, says that the usage of a plan is used up for an hour, in words of the script."""
        vendor, path = next(((word, path) for word, path in PATHS.items() if word in self.name), ("", "/chat/"))
        return f"of={path} {'retry-after' if vendor == 'gemini' else 'limit'}=3600"

    def between(self, home: Path) -> None:
        """What has to happen in its home before it can go on in a thread that it began just now.

        Gemini over ACP empties a session that is loaded in the minute in which it began: both have the same file then.
        """
        for file in home.glob(".gemini/tmp/*/chats/session-*.jsonl") if self.name == "gemini-acp" else ():
            file.rename(file.with_name(re.sub(r"T\d\d-\d\d-", "T00-00-", file.name)))

    def spec(self, **changes: Any) -> skep.AgentSpec:
        """It as an agent of a plan, which is called after it and may do everything."""
        made = {"name": self.name, "runtime": self.runtime, "model": self.model, "options": self.all}
        return skep.AgentSpec(**{**made, **changes})


def _acp(name: str, *command: str, **options: Any) -> Agent:
    asks = {"command": list(command), "permissions": "ask"}
    return Agent(name, "acp", command[0], options={"command": list(command), **options}, asking=asks)


AGENTS = {
    agent.name: agent
    for agent in (
        Agent("claude", "claude", "claude", asking={"permissions": "ask"}),
        Agent("codex", "codex", "codex"),
        Agent("gemini", "gemini", "gemini", "gemini-2.5-flash"),
        Agent("opencode", "opencode", "opencode"),
        _acp("claude-agent-acp", "claude-agent-acp"),
        _acp("codex-acp", "codex-acp", mode="agent-full-access"),
        _acp("gemini-acp", "gemini", "--acp", "-m", "gemini-2.5-flash"),
        _acp("opencode-acp", "opencode", "acp"),
    )
}


def each(*names: str) -> list[Any]:
    """Parameters: these agents, all of them without names. Those outside the small set are for `make test-clients`."""
    chosen = names or tuple(AGENTS)
    return [pytest.param(AGENTS[name], id=name, marks=() if name in SMALL else pytest.mark.clients) for name in chosen]


def set_up(url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A user whose clients are set up for the scripted model, in this home and in the environment, which is returned."""
    env = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(home)}
    for client in (*CLIENTS.values(), *TALKERS.values()):
        env |= {name: value.replace("{url}", url) for name, value in client.env.items()}
        for path, text in client.files.items():
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            (home / path).write_text(text.replace("{url}", url), encoding="utf-8")
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_", "SKEP_", "ANTHROPIC_", "CLAUDE_"))]:
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env
