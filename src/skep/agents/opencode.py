"""Runtime `opencode`: OpenCode, told its task once (`opencode run --format json`). It says what each step cost."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from skep.agents import Ending, Host, Job, Said, Spent, Talks, Used
from skep.agents.client import Client, about, inner, whole
from skep.agents.endings import denied
from skep.agents.lines import Message
from skep.agents.logins import OPENCODE
from skep.agents.oneway import OneWay
from skep.agents.options import OpenCodeOptions, read
from skep.agents.outage import judged, last_line
from skep.agents.servers import for_opencode
from skep.errors import Invalid
from skep.terminals import Terminals


def holds(file: Path, thread: str) -> bool:
    """Whether its database has the session; it ends at once if it is told to go on in one that it does not have."""
    try:
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
            return database.execute("SELECT 1 FROM session WHERE id = ?", (thread,)).fetchone() is not None
    except sqlite3.Error:
        return False


CLIENT = Client(
    name="opencode",
    install="npm install -g opencode-ai",
    wants=("OPENCODE_*", "ANTHROPIC_*", "OPENAI_*", "GEMINI_*", "GOOGLE_*", "OPENROUTER_*"),
    logins=OPENCODE.files,
    settings=OPENCODE.settings,
    hosts=("*.anthropic.com", "*.openai.com", "generativelanguage.googleapis.com", "opencode.ai", "*.opencode.ai", "models.dev"),
    addresses=("ANTHROPIC_BASE_URL", "OPENAI_BASE_URL"),
    threads=".local/share/opencode/opencode.db",
    holds=holds,
    quiet={"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_LSP_DOWNLOAD": "1"},
)

#: The variable that holds configuration, as JSON.
CONFIG = "OPENCODE_CONFIG_CONTENT"
#: How it tells a tool's error that is a refusal.
_REFUSED = re.compile(r"rejected permission|prevents you from using", re.I)


def runtime(terminals: Terminals) -> OneWay:
    """The runtime."""
    return OneWay(terminals, CLIENT, arguments, Reader, frozenset({"resumes", "spends", "calls-reported", "reads"}), told)


def told(job: Job) -> dict[str, str]:
    """Configuration beside that of the user and of the project, who may have said something by the same variable."""
    if not job.servers:
        return {}
    try:
        own = msgspec.json.decode(job.env.get(CONFIG) or "{}", type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise Invalid(f"{CONFIG} is no JSON: {error}", "Mend it, or take it away.") from None
    servers = own.get("mcp") if isinstance(own.get("mcp"), dict) else {}
    return {CONFIG: msgspec.json.encode({**own, "mcp": {**(servers or {}), **for_opencode(job.servers)["mcp"]}}).decode()}


def arguments(job: Job, thread: str) -> tuple[str, ...]:
    """The command line; the prompt comes through standard input."""
    options = read(OpenCodeOptions, job.options)
    words = [options.program, "run", "--format", "json"]
    words += ["--auto"] if options.permissions == "all" else []
    words += ["--model", job.model] if job.model else []
    words += ["--session", thread] if thread else []
    return (*words, *options.args)


class Reader:
    """See `oneway.Reader`."""

    def __init__(self, job: Job, host: Host) -> None:
        self._host, self._model = host, job.model
        self._last = self._talks = ""
        self._denied: list[str] = []
        self._ending: Ending | None = None

    def hear(self, message: Message) -> None:
        """Passes on what a message says."""
        kind, part, thread = message.get("type"), message.get("part"), message.get("sessionID")
        if isinstance(thread, str) and thread and not self._talks:
            self._talks = thread
            self._host.report(Talks(thread))
        if kind == "text":
            self._last = str(inner(part, "text") or "")
            self._host.report(Said(self._last))
        elif kind == "tool_use":
            self._used(part)
        elif kind == "step_finish":
            self._spent(part)
            # More follows a step that ended with calls of tools.
            if inner(part, "reason") != "tool-calls":
                self._ending = Ending(ok=True, result=self._last, exit_code=0)
        elif kind == "error":
            said = (
                inner(message, "error", "data", "message")
                or inner(message, "error", "message")
                or inner(message, "error", "name")
            )
            self._ending = judged(str(said or "it failed"), whole(inner(message, "error", "data", "statusCode")))

    def ending(self) -> Ending | None:
        """How the turn went. A refusal ends it without a last word."""
        if self._denied and (self._ending is None or self._ending.ok):
            return denied(self._denied)
        return self._ending

    def over(self) -> None:
        """It told all that it tells."""

    def _used(self, part: object) -> None:
        """It tells of a tool when it is over."""
        name, tool, state = str(inner(part, "callID")), str(inner(part, "tool")), inner(part, "state")
        ok, why = inner(state, "status") == "completed", str(inner(state, "error") or "")
        if not ok and _REFUSED.search(why):
            self._denied.append(tool)
        self._host.report(Used(name, tool, about(inner(state, "input"))))
        self._host.report(Used(name, tool, last_line(why), ok))

    def _spent(self, part: object) -> None:
        cost, tokens = inner(part, "cost"), inner(part, "tokens")
        # It tells 0 for a model whose price it does not know.
        usd = float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) and 0 < cost < 1e9 else None
        self._host.report(
            Spent(
                model=self._model,
                input=whole(inner(tokens, "input")) + whole(inner(tokens, "cache", "write")),
                cached=whole(inner(tokens, "cache", "read")),
                output=whole(inner(tokens, "output")) + whole(inner(tokens, "reasoning")),
                usd=usd,
            )
        )
