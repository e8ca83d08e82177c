"""Runtime `codex`: Codex, told its task once (`codex exec --json`).

It says what its thread has cost, in tokens, at the end of a turn. The thread's file has it for turns that come to no end.
"""

from __future__ import annotations

import contextlib
import json

import msgspec

from skep.agents import Ending, Host, Job, Said, Talks, Used, Waits
from skep.agents.client import Client, about, inner, spent, tail, whole
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
    "asked": ("--sandbox", "read-only"),
}
#: Features that are tools, which a question goes without.
_TOOLS = ("shell_tool", "unified_exec", "multi_agent", "goals", "apps", "plugins", "browser_use", "computer_use")
_TOKENS = ("input_tokens", "cached_input_tokens", "output_tokens")
#: Kinds of things that it does; the rest of its items are words.
_DOES = ("command_execution", "file_change", "mcp_tool_call", "web_search", "collab_tool_call")


def runtime(terminals: Terminals) -> OneWay:
    """The runtime."""
    return OneWay(terminals, CLIENT, arguments, Reader, frozenset({"resumes", "spends", "reads", "answers"}))


def arguments(job: Job, thread: str) -> tuple[str, ...]:
    """The command line; the prompt comes through standard input."""
    options = read(CodexOptions, job.options)
    mode = "confined" if job.confined and options.permissions == "edits" else options.permissions
    words = [options.program, "exec", "--json", "--skip-git-repo-check"]
    if job.question:
        words += [*_MODES["confined" if job.confined else "asked"], "--config", 'web_search="disabled"']
        words += [word for tool in _TOOLS for word in ("--config", f"features.{tool}=false")]
    else:
        words += [*_MODES[mode], "--config", f"sandbox_workspace_write.writable_roots={json.dumps([job.out])}"]
        words += for_codex(job.servers)
    words += ["--model", job.model] if job.model else []
    words += options.args
    return (*words, "resume", thread, "-") if thread else (*words, "-")


class Reader:
    """See `oneway.Reader`."""

    def __init__(self, job: Job, host: Host) -> None:
        self._job, self._host, self._thread = job, host, ""
        self._last = ""
        self._ending: Ending | None = None
        #: What the thread had cost when that was told last.
        self._told = self._in_thread(job.conversation)

    def hear(self, message: Message) -> None:
        """Passes on what a message says."""
        kind, item = message.get("type"), message.get("item")
        if kind == "thread.started":
            self._thread = str(message.get("thread_id") or "")
            self._host.report(Talks(self._thread))
        elif kind == "error":
            self._host.report(Waits(last_line(plain(message.get("message"))) or "its provider does not answer"))
        elif kind in ("item.started", "item.completed") and isinstance(item, dict):
            self._item(item, done=kind == "item.completed")
        elif kind == "turn.completed":
            self._spent(message.get("usage"))
            self._ending = Ending(ok=True, result=self._last, exit_code=0)
        elif kind == "turn.failed":
            self._ending = judged(str(inner(message, "error", "message") or ""))

    def ending(self) -> Ending | None:
        """How the turn went."""
        return self._ending

    def over(self) -> None:
        """A turn that was interrupted, or failed, has cost something all the same."""
        self._spent(self._in_thread(self._thread))

    def _spent(self, total: object) -> None:
        """Reports what is new in what the thread has cost so far: going on in it does not begin at nothing."""
        new = {name: max(0, whole(inner(total, name)) - whole(inner(self._told, name))) for name in _TOKENS}
        if any(new.values()):
            self._told = total
            self._host.report(spent(self._job.model, new, "cached_input_tokens"))

    def _in_thread(self, thread: str) -> object:
        """What the file of a thread says that it has cost."""
        for line in tail(CLIENT.kept(self._job.home, self._job.cwd, thread)):
            if b'"token_count"' in line:
                with contextlib.suppress(msgspec.DecodeError):
                    found = msgspec.json.decode(line)
                    if usage := inner(found, "payload", "info", "total_token_usage"):
                        return usage
        return None

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
