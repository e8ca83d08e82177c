"""Logins of the clients of models: what one looks like, whether there is one, and how a person gets one.

Nothing here calls anybody: whether a login is taken only a call can say.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct


class Login(Struct, frozen=True, kw_only=True):
    """What is to be known about the login of one client.

    Args:
        how: what a person does to log in, as the end of a sentence.
        keys: variables of which one is a login, as names or patterns.
        files: files below HOME of which one is a login.
        settings: files below HOME in which a provider of the user's own may stand, which may need none.
        program: of the client; empty = it is none of its own.
        tested: its version that Skep's tests run.
    """

    how: str
    keys: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    program: str = ""
    tested: str = ""

    def found(self, home: Path, env: Mapping[str, str]) -> tuple[str, ...]:
        """The logins that there are, by the names of their variables and files; whether one is taken is not known."""
        keys = sorted(name for name in env if env[name] and any(fnmatch.fnmatchcase(name, key) for key in self.keys))
        return (*keys, *(f"~/{name}" for name in self.files if (home / name).is_file()))

    def own(self, home: Path) -> str:
        """The file of settings that there is, in which a provider of the user's own may stand; empty if there is none."""
        return next((f"~/{name}" for name in self.settings if (home / name).is_file()), "")


CLAUDE = Login(
    how="run `claude` and type /login, or set ANTHROPIC_API_KEY",
    keys=(
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_VERTEX",
    ),
    files=(".claude/.credentials.json",),
    program="claude",
    tested="2.1.330",
)
CODEX = Login(
    how="run `codex login`, or set the key that ~/.codex/config.toml names",
    keys=("OPENAI_API_KEY", "CODEX_API_KEY", "AZURE_OPENAI_API_KEY"),
    files=(".codex/auth.json",),
    settings=(".codex/config.toml",),
    program="codex",
    tested="0.169.0",
)
GEMINI = Login(
    how="run `gemini` and type /auth, or set GEMINI_API_KEY",
    keys=("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_GCA"),
    files=(".gemini/oauth_creds.json",),
    program="gemini",
    tested="0.61.0",
)
OPENCODE = Login(
    how="run `opencode auth login`",
    keys=("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY", "OPENROUTER_API_KEY"),
    files=(".local/share/opencode/auth.json",),
    settings=(".config/opencode/opencode.json", ".config/opencode/opencode.jsonc", ".config/opencode/config.json"),
    program="opencode",
    tested="1.18.33",
)
#: Runtime -> its login.
LOGINS: dict[str, Login] = {
    "claude": CLAUDE,
    "codex": CODEX,
    "gemini": GEMINI,
    "opencode": OPENCODE,
    "acp": Login(how="log in with the agent that `command` names, as its own manual says"),
    "llm": Login(
        how="set the key of the model's provider before `skep run` or `skep resume`", keys=("*_API_KEY", "*_AUTH_TOKEN")
    ),
}


def how(runtime: str, options: Mapping[str, Any]) -> str:
    """What a person does to log in: the end of a sentence.

    Args:
        options: the agent's `with`, of which the command tells which client an agent of `acp` is.
    """
    command = options.get("command")
    program = Path(str(command[0])).name if isinstance(command, list | tuple) and command else ""
    known = next((login for login in LOGINS.values() if login.program and login.program in program), None)
    return (known or LOGINS.get(runtime) or Login(how="log in as its own manual says")).how
