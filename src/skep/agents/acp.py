"""Runtime `acp`: any agent that speaks the Agent Client Protocol (version 1): JSON-RPC, a message a line, both ways.

The agent keeps its own files and terminals; of what the protocol has for the other side only asking for leave is offered.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from skep.agents import Ability, Ask, Ending, Host, Job, Said, Spent, Talks, Used, Waits, claude, codex, gemini, opencode
from skep.agents.client import Client, about, inner, whole
from skep.agents.endings import bounded
from skep.agents.lines import Lines, Message
from skep.agents.options import AcpOptions, read
from skep.agents.outage import judged, last_line, plain
from skep.agents.process import to_the_end
from skep.agents.servers import for_acp
from skep.errors import SkepError
from skep.terminals import Terminals

#: Clients that speak it, by themselves or by an adapter whose name begins with theirs.
KNOWN = (claude.CLIENT, codex.CLIENT, gemini.CLIENT, opencode.CLIENT)
#: Whatever the agent is, it gets what the known ones want.
CLIENT = Client(
    name="acp",
    install="as its own manual says",
    wants=("ANTHROPIC_*", "CLAUDE_CODE_*", "OPENAI_*", "CODEX_*", "GEMINI_*", "GOOGLE_*", "OPENCODE_*", "IS_SANDBOX"),
    logins=tuple(path for client in KNOWN for path in client.logins),
    settings=tuple(path for client in KNOWN for path in client.settings),
)
ABOUT_US = {
    "protocolVersion": 1,
    "clientCapabilities": {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False},
    "clientInfo": {"name": "skep", "title": "Skep", "version": "1"},
}
#: Its code for an agent that is not logged in.
LOGIN = -32000
NOT_FOUND = {"code": -32601, "message": "not available"}
#: Agents that take a turn that is cancelled out of the thread, with its prompt and all that was done: these end without a word.
TAKES_BACK = ("gemini-cli",)
#: Seconds in which it may bring a turn that is cancelled to its end.
GRACE = 3.0


class AcpRuntime:
    """Carries `prompt` tasks out by the agent that its `with` names; see `AcpOptions`.

    Args:
        terminals: where processes come from.
    """

    name = "acp"
    can: frozenset[Ability] = frozenset({"prompts", "asks", "resumes", "spends"})
    wants = CLIENT.wants

    def __init__(self, terminals: Terminals) -> None:
        self._terminals = terminals

    def check(self) -> str:
        """Nothing is needed but the agent itself, which a plan names."""
        return ""

    async def run(self, job: Job, host: Host) -> Ending:
        """See the port."""
        return await bounded(job, self._run(job, host))

    async def _run(self, job: Job, host: Host) -> Ending:
        options = read(AcpOptions, job.options)
        CLIENT.ready(job, options.command[0])
        with CLIENT.at_home(job) as env:
            async with Lines(self._terminals, job, host, options.command, env, input=True) as client:
                return await Session(job, host, client, options).go()

    async def close(self) -> None:
        """Nothing is kept."""


class _Refused(Exception):
    """The agent answered a request with an error; `code` is that error's, or the status of HTTP that it means."""

    def __init__(self, why: str, code: object) -> None:
        super().__init__(why)
        self.code = 401 if code == LOGIN else whole(code)


class _Over(Exception):
    """The agent ended before it answered."""


class Session:
    """One session of the protocol, and what the agent asks and says in it."""

    def __init__(self, job: Job, host: Host, client: Lines, options: AcpOptions) -> None:
        self.job, self.host, self.client, self.options = job, host, client, options
        self.session = ""
        #: Whether a turn is under way; before that the agent only repeats what was.
        self.prompted = False
        #: Whether a turn that is cancelled would be gone from the thread.
        self.takes_back = False
        self.number = 0
        self.saying: list[str] = []
        self.message = ""
        self.last = ""
        #: Id -> kind of the tools that it spoke of, and the ids of those that were passed on.
        self.tools: dict[str, str] = {}
        self.begun: set[str] = set()
        self.refused: list[str] = []
        self.usd = 0.0
        #: Whether its last word on its own state is that it failed.
        self.broken = False

    async def go(self) -> Ending:
        """From the greeting to the end of the turn. When cancelled, has the agent end its turn in order."""
        try:
            resumed = await self.open()
            self.prompted = True
            text = self.job.again if resumed else self.job.prompt
            told = {"sessionId": self.session, "prompt": [{"type": "text", "text": text}]}
            return self.judge(await self.call("session/prompt", told))
        except _Refused as refused:
            return judged(str(refused), refused.code if 400 <= refused.code < 600 else 0)
        except _Over:
            ending = await self.client.failure()
            found = judged(self.client.complaint())
            return found if found.interrupted and not ending.interrupted else ending
        except asyncio.CancelledError:
            await to_the_end(self.part_ways())
            raise

    async def open(self) -> bool:
        """Greets, then loads the thread that there is or begins one. Returns whether it goes on in one."""
        about_it = await self.call("initialize", ABOUT_US)
        self.takes_back = inner(about_it, "agentInfo", "name") in TAKES_BACK
        http = inner(about_it, "agentCapabilities", "mcpCapabilities", "http") is True
        for name in (name for name, one in self.job.servers.items() if not (one.command or http)):
            self.host.report(Said(f"(the MCP server {name} is left out: this agent takes no addresses)"))
        where = {"cwd": self.job.cwd, "mcpServers": for_acp(self.job.servers, http)}
        begun: Message | None = None
        if self.job.conversation and inner(about_it, "agentCapabilities", "loadSession"):
            with contextlib.suppress(_Refused):  # it does not have it any more
                begun = await self.call("session/load", {"sessionId": self.job.conversation, **where})
                self.session = self.job.conversation
        resumed = begun is not None
        if begun is None:
            begun = await self.call("session/new", where)
            self.session = str(begun.get("sessionId") or "")
        self.host.report(Talks(self.session))
        if self.options.mode:
            await self.call("session/set_mode", {"sessionId": self.session, "modeId": self.options.mode})
        elif resumed and (mode := inner(begun, "modes", "currentModeId")):
            # Changes nothing: Gemini repeats what was after it has said that it is loaded, and with this it has done so.
            with contextlib.suppress(_Refused):
                await self.call("session/set_mode", {"sessionId": self.session, "modeId": mode})
        if self.job.model:
            await self.call("session/set_model", {"sessionId": self.session, "modelId": self.job.model})
        return resumed

    async def call(self, method: str, params: Message) -> Message:
        """The result of a request; what the agent says and asks meanwhile is heard. Raises _Refused, _Over."""
        self.number = number = self.number + 1
        self.client.say({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        async for message in self.client.heard():
            if "method" in message:
                await self.hear(message)
            elif message.get("id") == number:
                self.say()
                if "error" in message:
                    error = message["error"]
                    words = [inner(error, "message"), inner(error, "data", "details") or inner(error, "data", "message")]
                    said = ": ".join(str(word) for word in words if word) or f"{method} was refused"
                    raise _Refused(" ".join(said.split()), inner(error, "code"))
                result = message.get("result")
                return result if isinstance(result, dict) else {}
        raise _Over

    async def part_ways(self) -> None:
        """Cancels the turn and hears how it ends, for a short while."""
        if not self.prompted or self.takes_back:
            return
        with contextlib.suppress(SkepError, TimeoutError):
            async with asyncio.timeout(GRACE):
                self.client.say({"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": self.session}})
                async for message in self.client.heard():
                    if "method" not in message and message.get("id") == self.number:
                        return
                    if "id" in message:  # it still asks: the answer to all of it is that it is over
                        self.answer(message, {"result": {"outcome": {"outcome": "cancelled"}}})

    async def hear(self, message: Message) -> None:
        """Something the agent says or asks."""
        if message.get("method") == "session/update":
            if self.prompted:
                self.update(inner(message, "params", "update"))
        elif message.get("method") == "session/request_permission":
            self.say()
            self.answer(message, {"result": {"outcome": await self.decide(message)}})
        elif "id" in message:
            self.answer(message, {"error": NOT_FOUND})

    def answer(self, message: Message, reply: Message) -> None:
        """Answers a request of the agent's."""
        self.client.say({"jsonrpc": "2.0", "id": message["id"], **reply})

    async def decide(self, message: Message) -> Message:
        """Whether the agent may do what it asks: one of the options that it offers, or none."""
        call, offered = inner(message, "params", "toolCall"), inner(message, "params", "options")
        given = inner(call, "rawInput")
        title = str(inner(call, "title") or inner(call, "kind") or "a tool")
        # Gemini tells the command in the title alone: rules are to know it as one.
        alone = "command" if inner(call, "kind") == "execute" else "title"
        given = given if isinstance(given, dict) else {alone: title}
        allowed = self.options.permissions == "all"
        if not allowed:
            ask = Ask(str(inner(call, "toolCallId")), str(inner(call, "kind") or "tool"), given, about(given) or title)
            verdict = await self.host.ask(ask)
            allowed = verdict.allowed
            # The protocol has no words for a reason: the next attempt reads it.
            if not allowed:
                self.refused.append(f"{title} ({verdict.why})" if verdict.why else title)
        kinds = ("allow_once", "allow_always") if allowed else ("reject_once", "reject_always")
        options: dict[str, Any] = {}
        for one in offered if isinstance(offered, list) else []:
            options.setdefault(str(inner(one, "kind")), inner(one, "optionId"))
        chosen = next((options[kind] for kind in kinds if kind in options), None)
        return {"outcome": "cancelled"} if chosen is None else {"outcome": "selected", "optionId": chosen}

    def update(self, update: object) -> None:
        """What it says and does."""
        kind = inner(update, "sessionUpdate")
        if kind == "agent_message_chunk":
            if (message := str(inner(update, "messageId") or "")) != self.message:
                self.say()
                self.message = message
            self.saying.append(str(inner(update, "content", "text") or ""))
            return
        if kind in ("tool_call", "tool_call_update"):
            self.say()
            self.used(update)
        elif kind == "usage_update":
            self.cost(inner(update, "cost", "amount"), inner(update, "cost", "currency"))
        elif kind == "session_info_update":
            self.codex(inner(update, "_meta", "codex"))

    def codex(self, told: object) -> None:
        """Codex ends a turn that failed as if all were well: that it failed, and that it tries again, it tells here."""
        self.broken = inner(told, "threadStatus", "type") == "systemError" or (self.broken and not inner(told, "threadStatus"))
        if inner(told, "error", "willRetry"):
            why = inner(told, "error", "additionalDetails") or inner(told, "error", "message")
            self.host.report(Waits(last_line(plain(why)) or "its provider does not answer"))

    def used(self, update: object) -> None:
        """A tool, when it begins and when it is over. It begins when it is told what it is about: agents say that by and by."""
        name, status = str(inner(update, "toolCallId")), inner(update, "status")
        given = about(inner(update, "rawInput"))
        if name in self.tools or len(self.tools) < 100_000:
            self.tools.setdefault(name, str(inner(update, "kind") or "tool"))
            if name not in self.begun and (given or status in ("in_progress", "completed", "failed")):
                self.begun.add(name)
                self.host.report(Used(name, self.tools[name], given or str(inner(update, "title") or "")))
        if status in ("completed", "failed"):
            self.host.report(Used(name, self.tools.get(name, "tool"), last_line(_text(update)), ok=status == "completed"))

    def say(self) -> None:
        """It says things in pieces; they are passed on whole."""
        if text := "".join(self.saying):
            self.last = text
            self.host.report(Said(text))
        self.saying.clear()

    def cost(self, amount: object, currency: object) -> None:
        """Money is told as a total of the session."""
        if currency == "USD" and isinstance(amount, int | float) and not isinstance(amount, bool) and self.usd < amount < 1e9:
            self.host.report(Spent(model=self.job.model, usd=float(amount) - self.usd))
            self.usd = float(amount)

    def judge(self, result: Message) -> Ending:
        """How the turn ended, by the agent's own word."""
        reason = str(result.get("stopReason"))
        usage, quota = result.get("usage"), inner(result, "_meta", "quota", "token_count")  # Gemini has only the second
        if isinstance(usage, dict) or isinstance(quota, dict):
            read = whole(inner(usage, "inputTokens") or inner(quota, "input_tokens"))
            written = whole(inner(usage, "outputTokens") or inner(quota, "output_tokens"))
            cached, usd = whole(inner(usage, "cachedReadTokens")), 0.0 if self.usd else None
            self.host.report(Spent(model=self.job.model, input=read, cached=cached, output=written, usd=usd))
        if self.refused:
            return Ending(ok=False, cause="denied", detail=f"it was not allowed: {', '.join(dict.fromkeys(self.refused))}"[:500])
        if self.broken:
            return judged(self.last)
        if reason == "end_turn":
            return Ending(ok=True, result=self.last, exit_code=0)
        if reason in ("max_tokens", "max_turn_requests"):
            return Ending(ok=False, cause="limit", detail=f"the agent stopped: {reason}")
        return Ending(ok=False, cause="error", detail=f"the agent stopped: {reason}")


def _text(update: object) -> str:
    content = inner(update, "content")
    parts = [inner(one, "content", "text") for one in content] if isinstance(content, list) else []
    return "\n".join(str(part) for part in parts if part)
