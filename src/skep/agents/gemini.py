"""Runtime `gemini`: Gemini CLI, told its task once. It says what a turn cost at the end of it, in tokens."""

from __future__ import annotations

from skep.agents import Ending, Host, Job, Said, Talks, Used
from skep.agents.client import Client, about, inner, spent
from skep.agents.endings import denied
from skep.agents.lines import Message
from skep.agents.logins import GEMINI
from skep.agents.oneway import OneWay
from skep.agents.options import GeminiOptions, read
from skep.agents.outage import judged, last_line
from skep.agents.servers import for_gemini
from skep.terminals import Terminals

CLIENT = Client(
    name="gemini",
    install="npm install -g @google/gemini-cli",
    wants=("GEMINI_*", "GOOGLE_*"),
    logins=(*GEMINI.files, ".gemini/google_accounts.json"),
    settings=(".gemini/settings.json",),
    merged={".gemini/settings.json": for_gemini},
    # Each by its name: at others of googleapis.com anybody's files can be stored.
    hosts=("generativelanguage.googleapis.com", "cloudcode-pa.googleapis.com", "oauth2.googleapis.com", "accounts.google.com"),
    addresses=("GOOGLE_GEMINI_BASE_URL", "GOOGLE_VERTEX_BASE_URL"),
    threads=".gemini/tmp/**/chats/*{id:.8}*.json*",
    # It refuses to go on in a thread in which the model has said nothing yet.
    holds=lambda file, thread: b'"type":"gemini"' in file.read_bytes(),
    # The folder is a worktree of the user's own repository: running the task there is the trust.
    quiet={"GEMINI_CLI_TRUST_WORKSPACE": "true", "GEMINI_TELEMETRY_ENABLED": "false"},
)
_MODES = {"edits": "auto_edit", "all": "yolo"}
#: Errors that mean that a bound of the client's was reached.
_BOUNDS = ("FatalTurnLimitedError",)


def runtime(terminals: Terminals) -> OneWay:
    """The runtime."""
    return OneWay(terminals, CLIENT, arguments, Reader, frozenset({"resumes", "spends"}))


def arguments(job: Job, thread: str) -> tuple[str, ...]:
    """The command line; the prompt comes through standard input."""
    options = read(GeminiOptions, job.options)
    words = [options.program, "--output-format", "stream-json", "--approval-mode", _MODES[options.permissions]]
    words += ["--include-directories", job.out]
    words += ["--model", job.model] if job.model else []
    words += ["--resume", thread] if thread else []
    return (*words, *options.args)


class Reader:
    """See `oneway.Reader`."""

    def __init__(self, job: Job, host: Host) -> None:
        self._host, self._model = host, job.model
        self._saying: list[str] = []
        self._last = ""
        self._denied: list[str] = []
        self._tools: dict[str, str] = {}
        self._ending: Ending | None = None

    def hear(self, message: Message) -> None:
        """Passes on what a message says."""
        kind, name = message.get("type"), str(message.get("tool_id"))
        if kind == "message" and message.get("role") == "assistant":
            self._saying.append(str(message.get("content") or ""))
            return
        self._say()
        if kind == "init":
            self._model = str(message.get("model") or self._model)
            self._host.report(Talks(str(message.get("session_id") or "")))
        elif kind == "tool_use":
            self._tools[name] = str(message.get("tool_name"))
            self._host.report(Used(name, self._tools[name], about(message.get("parameters"))))
        elif kind == "tool_result":
            self._result(name, message)
        elif kind == "result":
            self._over(message)

    def ending(self) -> Ending | None:
        """How the turn went."""
        self._say()
        return self._ending

    def over(self) -> None:
        """It told all that it tells."""

    def _say(self) -> None:
        """It says things in pieces; they are passed on whole."""
        if text := "".join(self._saying):
            self._last = text
            self._host.report(Said(text))
        self._saying.clear()

    def _result(self, name: str, message: Message) -> None:
        ok, tool = message.get("status") == "success", self._tools.get(name, "tool")
        if inner(message, "error", "type") == "policy_violation":
            self._denied.append(tool)
        self._host.report(Used(name, tool, last_line(str(message.get("output") or "")), ok))

    def _over(self, message: Message) -> None:
        self._host.report(spent(self._model, inner(message, "stats"), "cached"))
        kind, said = inner(message, "error", "type"), str(inner(message, "error", "message") or "")
        if message.get("status") != "success":
            bound = Ending(ok=False, cause="limit", detail="its turns are used up")
            self._ending = bound if kind in _BOUNDS else judged(said)
        elif self._denied:
            self._ending = denied(self._denied)
        else:
            self._ending = Ending(ok=True, result=self._last, exit_code=0)
