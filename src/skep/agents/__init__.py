"""Port Runtime: what carries a task out. One file per runtime beside this one; all pass `tests/contracts/runtime.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

from msgspec import Struct

from skep.agents.door import Request
from skep.agents.options import wrong_options as wrong_options
from skep.agents.servers import Server
from skep.core.model import Cause, Task


class Job(Struct, frozen=True, kw_only=True, gc=False):
    """One attempt, prepared.

    Args:
        task: its definition.
        n, nonce: the attempt.
        agent: the agent's id, `shell-1`.
        model: which model, for runtimes that have one; empty = the client's own choice.
        options: the agent's `with`.
        cwd: the folder it works in, absolute.
        out: folder for its outputs ($SKEP_OUT), absolute.
        home: a folder of the task's own, which outlives its attempts: the HOME of a coding client.
        env: the whole environment, allow-listed, $SKEP_* included.
        prompt: everything that the agent is told, composed (`prompt` tasks).
        feedback: why the last attempt failed, or empty. The prompt has it already.
        conversation: the client's own thread to go on in, as an earlier attempt told it (`Talks`), or empty.
        again: what the agent is told instead of `prompt` when it goes on in that thread.
        confined: whether Skep confines what it starts: a client then needs no sandbox of its own, and can have none in there.
        servers: MCP servers that it is handed, by name, beside those that its client has by itself.
        question: instead of all that, asked of the conversation, which stays as it is, without tools (of who `answers`).
        past: home and folder in which that conversation was held.
        usd: what it may cost at most, in dollars; 0 = no bound. For clients that can hold it themselves; Skep does in any case.
    """

    task: Task
    n: int
    nonce: str
    agent: str
    options: dict[str, Any]
    cwd: str
    out: str
    env: dict[str, str]
    feedback: str
    model: str = ""
    home: str = ""
    prompt: str = ""
    conversation: str = ""
    again: str = ""
    confined: bool = False
    question: str = ""
    past: tuple[str, str] = ("", "")
    usd: float = 0.0
    servers: dict[str, Server] = {}


class Ending(Struct, frozen=True, kw_only=True, gc=False):
    """How the runtime's work ended. `detail` is the agent's last error line, for people.

    Args:
        ok: the process ended as it should (no more than that: verify and merge come after).
        interrupted: ended by us or by the machine, not by its own doing.
        until: wall-clock ms before which trying again makes no sense (rate limits); 0 = nobody said.
    """

    ok: bool
    cause: Cause = ""
    detail: str = ""
    result: Any = None
    exit_code: int | None = None
    interrupted: bool = False
    until: int = 0


class Said(Struct, frozen=True, gc=False, tag="said"):
    """The agent said something."""

    text: str


class Used(Struct, frozen=True, gc=False, tag="used"):
    """The agent uses a tool: told when it begins (`ok` None) and when it is over.

    Args:
        id: the same at both times.
        about: one line: the command, the path, the question.
    """

    id: str
    tool: str
    about: str
    ok: bool | None = None


class Spent(Struct, frozen=True, kw_only=True, gc=False, tag="spent"):
    """Tokens and money since the last such report. `usd` None: the client does not know; Skep's price table may.

    Args:
        input: tokens read, those from a cache left out.
        cached: tokens read from a cache.
        output: tokens written.
        owing: whether a later report tells what these tokens cost; `usd` is 0 then.
    """

    model: str = ""
    input: int = 0
    cached: int = 0
    output: int = 0
    usd: float | None = None
    owing: bool = False


class Talks(Struct, frozen=True, gc=False, tag="talks"):
    """The id of the client's own thread: a later attempt can go on in it (`Job.conversation`)."""

    conversation: str


class Waits(Struct, frozen=True, gc=False, tag="waits"):
    """The client is alive and waits for its provider. `until`: wall-clock ms, 0 = it does not say."""

    why: str
    until: int = 0


class Remembers(Struct, frozen=True, gc=False, tag="remembers"):
    """The agent wants something kept for others."""

    key: str
    value: Any


Report = Said | Used | Spent | Talks | Waits | Remembers


class Ask(Struct, frozen=True, gc=False):
    """An action for which the client asks leave: the tool, all its arguments, and one line about it for people. Where the tool is
    `question` it is something that only a person can say, and the one argument is that."""

    id: str
    tool: str
    arguments: dict[str, Any]
    about: str


class Verdict(Struct, frozen=True, gc=False):
    """Whether an action may be done; if not, why, for the agent to read. Of a question the answer is `why`."""

    allowed: bool
    why: str = ""


#: What a runtime may be able to do beside carrying out; what it does not name it cannot do, and is never asked to.
#: prompts: carries out `prompt` tasks; asks: `Host.ask` before risky actions; hears: messages while it works;
#: resumes: goes on in a conversation; spends: costs something; calls-reported: tells `Spent` after each call of a model, not only
#: at the end of a turn; reads: it reads AGENTS.md of its folder by itself; answers: `Job.question`.
Ability = Literal["prompts", "asks", "hears", "resumes", "spends", "calls-reported", "reads", "answers"]

#: The ending of an attempt whose terminal was lost: it is carried out again.
LOST = Ending(ok=False, interrupted=True, cause="interrupted", detail="the process that keeps terminals was killed")


class Host(Protocol):
    """What an attempt may ask of the node it runs on."""

    async def spawned(self, pid: int, born: int) -> None:
        """Records the process; returns when the log holds it. Only then may it be released."""

    def output(self, data: bytes) -> None:
        """Bytes for the transcript and for whoever is attached."""

    def report(self, report: Report) -> None:
        """What the agent says, uses, spends: shown in the transcript, and recorded where it counts."""

    async def ask(self, ask: Ask) -> Verdict:
        """Whether the agent may do this: by the rules, or by a person, which may take long. Never raises for a no."""

    async def serve(self, request: Request) -> Any:
        """Does for the agent what needs no leave: messages, questions, proposals. Raises SkepError, with the reason."""

    def listen(self, hear: Callable[[str], None] | None) -> None:
        """From now on messages for the agent go to `hear`; None: it takes no more."""


class Runtime(Protocol):
    """Carries attempts out. One object serves many attempts at once."""

    name: str
    can: frozenset[Ability]
    #: Variables of the owner, as names or patterns, that it needs: a login, the address of a model.
    wants: tuple[str, ...]

    def check(self) -> str:
        """Empty if it can be used here, otherwise what is missing and how to get it."""

    async def run(self, job: Job, host: Host) -> Ending:
        """Carries the attempt out. When it returns, or is cancelled, no process of the attempt is left."""

    async def close(self) -> None:
        """Ends whatever it keeps for reuse."""


#: The runtimes that there are.
RUNTIMES = ("shell", "python", "claude", "codex", "gemini", "opencode", "acp", "llm")
