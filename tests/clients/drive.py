"""Starts the real coding clients without Skep: each with a HOME of its own, a cleaned environment and no standard input.

`.ci/clients` installs them; what they print is kept in `streams/` (see `record.py`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BIN = Path(__file__).parents[2] / ".clients" / "bin"
CODEX = """
model = "scripted"
model_provider = "scripted"
[model_providers.scripted]
name = "scripted"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "SCRIPTED_KEY"
"""
OPENCODE = {
    "npm": "@ai-sdk/openai-compatible",
    "name": "scripted",
    "options": {"baseURL": "{url}/v1", "apiKey": "dummy"},
    "models": {"scripted": {"name": "scripted"}},
}


def opencode(bash: str | dict[str, str]) -> dict[str, str]:
    """OpenCode's configuration with this rule for its shell."""
    settings = {"model": "scripted/scripted", "provider": {"scripted": OPENCODE}, "permission": {"bash": bash}}
    return {".config/opencode/opencode.json": json.dumps(settings)}


@dataclass(frozen=True)
class Client:
    """A program, its arguments, environment, files in its HOME; `{url}`, `{prompt}`, `{session}`, `{home}` are filled in."""

    program: str
    argv: tuple[str, ...]
    resume: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


CLAUDE_ENV = {
    "ANTHROPIC_BASE_URL": "{url}",
    "ANTHROPIC_API_KEY": "dummy",
    # As root it refuses --dangerously-skip-permissions otherwise.
    "IS_SANDBOX": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
}
CODEX_ENV = {"SCRIPTED_KEY": "dummy"}
GEMINI_ENV = {"GEMINI_API_KEY": "dummy", "GOOGLE_GEMINI_BASE_URL": "{url}", "GEMINI_CLI_TRUST_WORKSPACE": "true"}
GEMINI_FILES = {".gemini/settings.json": json.dumps({"security": {"auth": {"selectedType": "gemini-api-key"}}})}
OPENCODE_ENV = {"OPENCODE_DISABLE_MODELS_FETCH": "1"}
CODEX_FILES = {".codex/config.toml": CODEX}
CLIENTS = {
    "claude": Client(
        "claude",
        ("-p", "{prompt}", "--output-format", "stream-json", "--verbose"),
        ("--resume", "{session}"),
        CLAUDE_ENV,
    ),
    "codex": Client(
        "codex",
        ("exec", "--json", "--skip-git-repo-check", "{prompt}"),
        ("exec", "resume", "--json", "--skip-git-repo-check", "{session}", "{prompt}"),
        CODEX_ENV,
        CODEX_FILES,
    ),
    "gemini": Client(
        "gemini",
        ("-p", "{prompt}", "-m", "gemini-2.5-flash", "-o", "stream-json"),
        ("--resume", "{session}"),
        GEMINI_ENV,
        GEMINI_FILES,
    ),
    "opencode": Client(
        "opencode",
        ("run", "--format", "json", "{prompt}"),
        ("--session", "{session}"),
        OPENCODE_ENV,
        opencode("allow"),
    ),
}
#: Those that are spoken to: over the Agent Client Protocol, and Claude Code in its own JSON.
TALKERS = {
    "claude-agent-acp": Client("claude-agent-acp", (), env=CLAUDE_ENV),
    "codex-acp": Client("codex-acp", (), env=CODEX_ENV, files=CODEX_FILES),
    "gemini-acp": Client("gemini", ("--acp", "-m", "gemini-2.5-flash"), env=GEMINI_ENV, files=GEMINI_FILES),
    "opencode-acp": Client("opencode", ("acp",), env=OPENCODE_ENV, files=opencode("ask")),
    "claude-both-ways": Client(
        "claude",
        (
            "-p",
            "--verbose",
            "--input-format",
            "stream-json",
            "--output-format",
            "stream-json",
            "--permission-prompt-tool",
            "stdio",
        ),
        env=CLAUDE_ENV,
    ),
}


@dataclass(frozen=True)
class Case:
    """One thing that can happen to a client: a prompt, arguments and files beyond the usual, and the code that it exits with."""

    prompt: str
    more: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    exit: int = 0


@dataclass(frozen=True)
class Run:
    """What a client did. `lines` are those of its standard output that are JSON, as it printed them."""

    exit: int
    lines: list[str]
    stderr: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines, parsed."""
        return [json.loads(line) for line in self.lines]


SUCCESS = "RUN: echo hi > made.txt && cat made.txt\nSAY: All well."
DENIED = "RUN: touch made.txt\nSAY: I could not."
ERROR = "FAIL: 400 times=9"
RATE_LIMITED = "FAIL: 429 retry-after=1\nSAY: All well."
CUT = "CUT:\nSAY: All well."
SCHEMA = '{"type":"object","properties":{"vote":{"type":"string"}},"required":["vote"],"additionalProperties":false}'
ANSWER = 'ANSWER: {"vote": "b"}'
LONG = "RUN: true\nRUN: true\nRUN: true"
SKIP = ("--dangerously-skip-permissions",)
BYPASS = ("--dangerously-bypass-approvals-and-sandbox",)
GEMINI_TURNS = {"security": {"auth": {"selectedType": "gemini-api-key"}}, "model": {"maxSessionTurns": 1}}

CASES = {
    "claude": {
        "success": Case(SUCCESS, SKIP),
        "denied": Case(DENIED),
        "error": Case(ERROR, SKIP, exit=1),
        "rate-limited": Case(RATE_LIMITED, SKIP),
        "cut": Case(CUT, SKIP),
        "answer": Case(ANSWER, (*SKIP, "--json-schema", SCHEMA)),
        "turns": Case(LONG, (*SKIP, "--max-turns", "2"), exit=1),
        "budget": Case(f"{LONG}\nUSAGE: 100000 20000", (*SKIP, "--max-budget-usd", "0.5"), exit=1),
    },
    "codex": {
        "success": Case(SUCCESS, BYPASS),
        "denied": Case(DENIED, ("--sandbox", "read-only")),
        "failing": Case("RUN: echo no; exit 3\nSAY: It failed.", BYPASS),
        "error": Case(ERROR, BYPASS, exit=1),
        "rate-limited": Case(RATE_LIMITED, BYPASS),
        "cut": Case(CUT, BYPASS),
        "answer": Case(ANSWER, (*BYPASS, "--output-schema", "{home}/schema.json"), {"schema.json": SCHEMA}),
    },
    "gemini": {
        "success": Case(SUCCESS, ("--yolo",)),
        "not-offered": Case(DENIED),
        "denied": Case(DENIED, ("--allowed-tools", "run_shell_command(echo)")),
        # The status, cut to a byte.
        "error": Case(ERROR, ("--yolo",), exit=400 % 256),
        "rate-limited": Case(RATE_LIMITED, ("--yolo",)),
        "cut": Case(CUT, ("--yolo",), exit=1),
        "turns": Case(LONG, ("--yolo",), {".gemini/settings.json": json.dumps(GEMINI_TURNS)}, exit=53),
    },
    "opencode": {
        "success": Case(SUCCESS, ("--auto",)),
        "not-offered": Case(DENIED, ("--auto",), opencode("deny")),
        "denied": Case(DENIED, ("--auto",), opencode({"*": "allow", "touch *": "deny"})),
        "unanswered": Case(DENIED, (), opencode("ask")),
        "error": Case(ERROR, ("--auto",), exit=1),
        "rate-limited": Case(RATE_LIMITED, ("--auto",)),
        "cut": Case(CUT, ("--auto",)),
    },
}


def need(program: str) -> None:
    """Names a test as not run if this program of a client could not be installed."""
    if not (BIN / program).exists():
        pytest.skip(f"{program} is not installed (`.ci/clients {program}` installs it from npm)")


def prepared(client: Client, url: str, folder: Path, case: Case, session: str = "") -> tuple[list[str], dict[str, str], Path]:
    """Lays out `folder/home` and `folder/work`; gives the command, its whole environment and the folder to start it in."""
    home, work, scratch = folder / "home", folder / "work", folder / "scratch"
    for each in (home, work, scratch):
        each.mkdir(parents=True, exist_ok=True)
    values = {"{url}": url, "{prompt}": case.prompt, "{session}": session, "{home}": str(home)}

    def filled(text: str) -> str:
        for name, value in values.items():
            text = text.replace(name, value)
        return text

    for path, text in {**client.files, **case.files}.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(filled(text), encoding="utf-8")
    words = client.argv
    if session:
        # Going on either is a command of its own or some more arguments.
        words = client.resume if client.resume[0] == client.argv[0] else (*client.argv, *client.resume)
    env = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(scratch), "LANG": "C.UTF-8"}
    env |= {name: filled(value) for name, value in client.env.items()}
    return [str(BIN / client.program), *(filled(each) for each in (*words, *case.more))], env, work


async def run(client: Client, url: str, folder: Path, case: Case, session: str = "") -> Run:
    """Runs a client until it ends; with `session` it goes on with that conversation. When this is cancelled it is killed."""
    argv, env, work = prepared(client, url, folder, case, session)
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*argv, cwd=work, env=env, stdin=nothing, stdout=pipe, stderr=pipe)
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Run(process.returncode, [line for line in out.decode().splitlines() if line.startswith("{")], err.decode())
