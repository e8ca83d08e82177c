"""Runtime `codex`: Codex, told its task once (`codex exec --json`). It says what a turn cost at the end of it, in tokens."""

from __future__ import annotations

import json

from skep.agents import Ending, Host, Job, Said, Talks, Used, Waits
from skep.agents.client import Client, about, inner, spent
from skep.agents.lines import Message
from skep.agents.logins import CODEX
from skep.agents.oneway import OneWay
from skep.agents.options import CodexOptions, read
from skep.agents.outage import judged, last_line, plain
from skep.agents.servers import for_codex
from skep.terminals import Terminals

CLIENT = Client(
    name="codex",
    install="npm install -g @openai/codex",
    wants=("OPENAI_*", "CODEX_*", "AZURE_OPENAI_*"),
    logins=CODEX.files,
    settings=CODEX.settings,
    hosts=("*.openai.com", "chatgpt.com", "*.chatgpt.com"),
    addresses=("OPENAI_BASE_URL",),
    threads=".codex/sessions/**/*{id}.jsonl",
)
#: In Skep's sandbox its own cannot be made: it would need namespaces, which nothing confined can make.
_MODES = {
    "confined": ("--sandbox", "danger-full-access"),
    "edits": ("--sandbox", "workspace-write"),
    "all": ("--dangerously-bypass-approvals-and-sandbox",),
}
#: Kinds of things that it does; the rest of its items are words.
_DOES = ("command_execution", "file_change", "mcp_tool_call", "web_search", "collab_tool_call")


def runtime(terminals: Terminals) -> OneWay:
    """The runtime."""
    return OneWay(terminals, CLIENT, arguments, Reader, frozenset({"resumes", "spends", "reads"}))


def arguments(job: Job, thread: str) -> tuple[str, ...]:
    """The command line; the prompt comes through standard input."""
    options = read(CodexOptions, job.options)
    mode = "confined" if job.confined and options.permissions == "edits" else options.permissions
    words = [options.program, "exec", "--json", "--skip-git-repo-check", *_MODES[mode]]
    words += ["--config", f"sandbox_workspace_write.writable_roots={json.dumps([job.out])}"]
    words += for_codex(job.servers)
    words += ["--model", job.model] if job.model else []
    words += options.args
    return (*words, "resume", thread, "-") if thread else (*words, "-")


class Reader:
    """See `oneway.Reader`."""

    def __init__(self, job: Job, host: Host) -> None:
        self._host, self._model = host, job.model
        self._last = ""
        self._ending: Ending | None = None

    def hear(self, message: Message) -> None:
        """Passes on what a message says."""
        kind, item = message.get("type"), message.get("item")
        if kind == "thread.started":
            self._host.report(Talks(str(message.get("thread_id") or "")))
        elif kind == "error":
            self._host.report(Waits(last_line(plain(message.get("message"))) or "its provider does not answer"))
        elif kind in ("item.started", "item.completed") and isinstance(item, dict):
            self._item(item, done=kind == "item.completed")
        elif kind == "turn.completed":
            self._host.report(spent(self._model, message.get("usage"), "cached_input_tokens"))
            self._ending = Ending(ok=True, result=self._last, exit_code=0)
        elif kind == "turn.failed":
            self._ending = judged(str(inner(message, "error", "message") or ""))

    def ending(self) -> Ending | None:
        """How the turn went."""
        return self._ending

    def _item(self, item: Message, done: bool) -> None:
        kind, name = str(item.get("type")), str(item.get("id"))
        if kind == "agent_message" and done:
            self._last = str(item.get("text") or "")
            self._host.report(Said(self._last))
        elif kind in _DOES:
            ok = None if not done else item.get("status") == "completed"
            what = about(item) or about(inner(item, "arguments")) or str(item.get("tool") or "")
            self._host.report(
                Used(name, kind, last_line(str(item.get("aggregated_output") or what)) if ok is False else what, ok)
            )
