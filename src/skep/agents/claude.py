"""Runtime `claude`: Claude Code, spoken to in JSON both ways, so that it can ask, hear, be bounded, and go on in its thread."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from skep.agents import Ability, Ask, Ending, Host, Job, Said, Talks, Used, Verdict, Waits
from skep.agents.client import Client, about, inner, whole
from skep.agents.endings import bounded, denied
from skep.agents.lines import Lines, Message
from skep.agents.logins import CLAUDE
from skep.agents.options import ClaudeOptions, read
from skep.agents.outage import LONGEST, REFUSALS, judged, last_line
from skep.agents.process import to_the_end
from skep.agents.servers import OWN, for_claude
from skep.agents.tally import Tally
from skep.errors import Invalid, SkepError
from skep.terminals import Terminals

#: Where its MCP servers stand, below its HOME: its arguments could be read by every user of the machine.
SERVERS = ".claude/skep-servers.json"
CLIENT = Client(
    name="claude",
    install="npm install -g @anthropic-ai/claude-code",
    wants=(
        "ANTHROPIC_*",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_MAX_RETRIES",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_VERTEX",
        "AWS_*",
        "IS_SANDBOX",
    ),
    logins=CLAUDE.files,
    merged={SERVERS: for_claude},
    hosts=("*.anthropic.com", "claude.ai", "claude.com", "*.claude.com"),
    addresses=("ANTHROPIC_BASE_URL", "ANTHROPIC_BEDROCK_BASE_URL", "ANTHROPIC_VERTEX_BASE_URL", "ANTHROPIC_FOUNDRY_BASE_URL"),
    threads=".claude/projects/{cwd}/{id}.jsonl",
    quiet={
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    },
)
#: Subtypes of a result that mean that a bound was reached.
_BOUNDS = {"error_max_turns": "its turns are used up", "error_max_budget_usd": "its budget is used up"}
_MODES = {"ask": (), "edits": ("--permission-mode", "acceptEdits"), "all": ("--dangerously-skip-permissions",)}
#: Answers that refuse its login, one after the other, after which it is not heard any further: by itself it tries for minutes,
#: and the first may only mean that its token is to be refreshed.
REFUSED = 3
#: Its tool that asks a person something.
QUESTIONS = "AskUserQuestion"
#: Seconds in which it may bring a turn that is interrupted to its end, so that its thread can be gone on with.
GRACE = 3.0


class ClaudeRuntime:
    """Carries `prompt` tasks out. Its `with` is told at `ClaudeOptions`.

    Args:
        terminals: where processes come from.
    """

    name = "claude"
    can: frozenset[Ability] = frozenset({"prompts", "asks", "hears", "resumes", "spends", "calls-reported", "answers"})
    wants = CLIENT.wants

    def __init__(self, terminals: Terminals) -> None:
        self._terminals = terminals

    def check(self) -> str:
        """Whether the client is there."""
        return CLIENT.lack()

    async def run(self, job: Job, host: Host) -> Ending:
        """See the port."""
        return await bounded(job, self._run(job, host))

    async def _run(self, job: Job, host: Host) -> Ending:
        options = read(ClaudeOptions, job.options)
        CLIENT.ready(job, options.program)
        if job.question and not CLIENT.lend(job):
            raise Invalid("The conversation is not there any more.", "Its folder below .skep/homes was removed.")
        thread = CLIENT.thread(job)
        with CLIENT.at_home(job) as env:
            # Without it the client looks for the user's own folder by HOME alone, and that is another one now.
            env = {**env, "CLAUDE_CONFIG_DIR": f"{job.home}/.claude"} | ({"IS_SANDBOX": "1"} if job.confined else {})
            async with Lines(self._terminals, job, host, arguments(job, options, thread), env, input=True) as client:
                tally = Tally(host, job.model, CLIENT.kept(job.home, job.cwd, thread))
                return await Talk(job, host, client, tally).go(job.question or (job.again if thread else job.prompt))

    async def close(self) -> None:
        """Nothing is kept."""


def arguments(job: Job, options: ClaudeOptions, thread: str) -> tuple[str, ...]:
    """The command line."""
    words = [options.program, "-p", "--verbose", "--include-partial-messages"]
    words += ["--input-format", "stream-json", "--output-format", "stream-json", "--permission-prompt-tool", "stdio"]
    if not job.question:
        words += _MODES[options.permissions]
    if job.model:
        words += ["--model", job.model]
    if thread:
        words += ["--resume", thread]
    if job.question:
        return (*words, "--fork-session", "--no-session-persistence", "--tools", "", "--strict-mcp-config", *options.args)
    if job.usd:
        words += ["--max-budget-usd", f"{job.usd:.4f}"]
    if options.max_turns:
        words += ["--max-turns", str(options.max_turns)]
    # Otherwise it also starts what stands in the agent's own copy of .mcp.json, which the agent can change.
    words += ["--strict-mcp-config", *(["--mcp-config", f"{job.home}/{SERVERS}"] if job.servers else [])]
    if tools := (*options.tools, *([f"mcp__{OWN}"] if OWN in job.servers else [])):
        words += ["--allowed-tools", ",".join(tools)]
    return (*words, *options.args)


class Talk:
    """One conversation: what the client says, and what it is answered."""

    def __init__(self, job: Job, host: Host, client: Lines, tally: Tally) -> None:
        self.job, self.host, self.client, self.tally = job, host, client, tally
        self.tools: dict[str, str] = {}
        #: Wall-clock ms at which a limit of the provider's ends, once it is reached.
        self.until = 0
        self.refusals = 0

    async def go(self, prompt: str) -> Ending:
        """Tells it the task and listens until it says how it went. When cancelled, has it end its turn in order."""
        self.tell(prompt)
        self.host.listen(self.tell)
        try:
            ending = await self.listen()
            return ending or await self.client.failure()
        except asyncio.CancelledError:
            await to_the_end(self.part_ways())
            raise
        finally:
            self.host.listen(None)

    async def listen(self) -> Ending | None:
        """Passes on what it says, to the end of the turn; None if the program ended before that."""
        async for message in self.client.heard():
            kind = message.get("type")
            if kind == "control_request":
                await self.answer(message)
            elif kind == "result":
                self.tally.result(message)
                self.client.finish()
                return self.judge(message)
            else:
                self.pass_on(kind, message)
                if self.refusals >= REFUSED:
                    return judged(str(message.get("error") or ""), whole(message.get("error_status")))
        return None

    async def part_ways(self) -> None:
        """Interrupts the turn and hears what it still says, for a short while."""
        with contextlib.suppress(SkepError, TimeoutError):
            async with asyncio.timeout(GRACE):
                self.client.say({"type": "control_request", "request_id": "stop", "request": {"subtype": "interrupt"}})
                await self.listen()

    def tell(self, text: str) -> None:
        """A turn of the user's."""
        self.client.say({"type": "user", "message": {"role": "user", "content": text}})

    async def answer(self, message: Message) -> None:
        """The client asks whether it may use a tool."""
        number = message.get("request_id")
        if inner(message, "request", "subtype") != "can_use_tool":
            said: Message = {"subtype": "error", "request_id": number, "error": "not available"}
        else:
            tool, given = str(inner(message, "request", "tool_name")), inner(message, "request", "input")
            given = given if isinstance(given, dict) else {}
            if tool == QUESTIONS:
                words = _question(given)
                decision = _answered(await self.host.ask(Ask(str(number), "question", {"question": words}, words)), given)
            else:
                decision = _decision(await self.host.ask(Ask(str(number), tool, given, about(given))), given)
            said = {"subtype": "success", "request_id": number, "response": decision}
        self.client.say({"type": "control_response", "response": said})

    def pass_on(self, kind: object, message: Message) -> None:
        """What it says and does."""
        subtype = message.get("subtype")
        if kind == "system" and subtype == "init" and isinstance(thread := message.get("session_id"), str):
            self.host.report(Talks(thread))
        elif kind == "system" and subtype == "api_retry":
            self.host.report(_waits(message))
            self.refusals += message.get("error_status") in REFUSALS
        elif kind == "rate_limit_event" and inner(message, "rate_limit_info", "status") == "rejected":
            self.until = whole(inner(message, "rate_limit_info", "resetsAt")) * 1000
        elif kind == "stream_event":
            self.tally.stream(message)
        elif kind in ("assistant", "user"):
            self.refusals = 0
            content = inner(message, "message", "content")
            for part in content if isinstance(content, list) else []:
                self.part(part)

    def part(self, part: object) -> None:
        """One part of a message."""
        kind, name = inner(part, "type"), str(inner(part, "id") or inner(part, "tool_use_id") or "")
        if kind == "text":
            self.host.report(Said(str(inner(part, "text") or "")))
        elif kind == "tool_use":
            tool = str(inner(part, "name"))
            if len(self.tools) < 100_000:
                self.tools[name] = tool
            self.host.report(Used(name, tool, about(inner(part, "input"))))
        elif kind == "tool_result":
            self.host.report(
                Used(name, self.tools.get(name, "tool"), _words(inner(part, "content")), ok=not inner(part, "is_error"))
            )

    def judge(self, result: Message) -> Ending:
        """How it went, by what the client itself says; its exit code says less."""
        subtype, text = str(result.get("subtype")), str(result.get("result") or "")
        errors, denials = result.get("errors"), result.get("permission_denials")
        if subtype in _BOUNDS:
            return Ending(ok=False, cause="limit", detail=_BOUNDS[subtype])
        if result.get("is_error") or subtype != "success":
            said = text or "\n".join(map(str, errors if isinstance(errors, list) else [])) or subtype
            if result.get("terminal_reason") == "api_error" or result.get("api_error_status") or self.until:
                return judged(said, whole(result.get("api_error_status")), self.until)
            return Ending(ok=False, cause="error", detail=last_line(said))
        tools = [str(inner(one, "tool_name")) for one in denials] if isinstance(denials, list) else []
        if set(tools) - {QUESTIONS}:  # a question that nobody answered is nothing that it was not allowed to do
            return denied(tool for tool in tools if tool != QUESTIONS)
        return Ending(ok=True, result=text, exit_code=0)


def _asked(given: Message) -> list[object]:
    found = given.get("questions")
    return found if isinstance(found, list) else []


def _question(given: Message) -> str:
    """What it asks a person, in words: each question with the answers that it offers."""
    lines = []
    for one in _asked(given):
        options = inner(one, "options")
        offered = [str(inner(option, "label")) for option in options] if isinstance(options, list) else []
        lines.append(str(inner(one, "question") or "") + (f" ({' | '.join(offered)})" if offered else ""))
    return "\n".join(lines) or about(given)


def _answered(verdict: Verdict, given: Message) -> Message:
    """What it gets to hear: the answer, a line for each question if there are several; or that it gets none, and why."""
    if not verdict.allowed:
        return {"behavior": "deny", "message": f"No answer. {verdict.why or 'Not available.'} Go on as well as you can."}
    asked = [str(inner(one, "question")) for one in _asked(given)]
    lines = verdict.why.splitlines() if len(asked) > 1 else [verdict.why]
    answers = {question: lines[min(number, len(lines) - 1)] for number, question in enumerate(asked)}
    return {"behavior": "allow", "updatedInput": {**given, "answers": answers}}


def _decision(verdict: Verdict, given: dict[str, Any]) -> Message:
    if verdict.allowed:
        return {"behavior": "allow", "updatedInput": given}
    return {"behavior": "deny", "message": verdict.why or "Not allowed."}


def _waits(message: Message) -> Waits:
    """It tries again by itself, after a while that it tells."""
    why, status = str(message.get("error") or message.get("message") or "no answer"), message.get("error_status")
    delay = min(whole(message.get("retry_delay_ms")), LONGEST)
    said = f"its provider says {status}, {why}" if status else f"its provider does not answer: {why}"
    return Waits(said, int(time.time() * 1000) + delay if delay else 0)


def _words(content: object) -> str:
    if isinstance(content, list):
        content = next((inner(part, "text") for part in content if inner(part, "text")), "")
    return last_line(str(content or ""))
