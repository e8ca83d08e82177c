"""What the scripted model does: lines of the newest prompt, the same for every protocol.

    RUN: make test               a call of the client's shell tool; several run one after another
    CALL: send {"to": "a"}       a call of any tool that the client declares, by its name or the end of it
    SAY: All is well.            the last words ("Done." otherwise)
    ANSWER: {"vote": "b"}        a structured answer, as a text or through the tool that the client declares for it
    USAGE: 1000 200              tokens in and out that each reply reports
    DELAY: 0.5 step=2            seconds before the second reply
    HOLD: gate step=1            no reply before the test opens this gate
    FAIL: 429 step=1 times=1 retry-after=1
    FAIL: 400 The wheel came off.
    FAIL: 429 times=9 limit=3600     the usage of a plan is used up for so many seconds, in its vendor's own way
    FAIL: 429 times=9 of=/responses  only of requests with this in their path: of one vendor
    CUT: step=1 times=1          half of the reply, then the connection ends

A step is a request of the prompt: step 1 is the prompt itself, step 2 carries the first tool's result. Which step it is follows
from the conversation in the request, so the model keeps nothing in mind (but how often a step failed) and survives every
restart of its client. Without `step=` a line holds for step 1, without `times=` once. A prompt without any such line goes on
with the one before it: so does a resumed agent.

Clients also ask for titles and the like, with the prompt in the request but without tools: these get plain words, never a
failure.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

LINE = re.compile(r"^[ \t]*(RUN|CALL|SAY|ANSWER|USAGE|DELAY|HOLD|FAIL|CUT):[ \t]*(.*?)[ \t]*$", re.MULTILINE)
OPTION = re.compile(r"([\w-]+)=(\S+)")
#: How clients name the tool that runs a command: Claude Code, Codex, Gemini CLI, OpenCode, Skep's own.
SHELLS = ("bash", "shell_command", "exec_command", "shell", "run_shell_command", "local_shell")
#: How clients name the tool that takes a structured answer: Claude Code, pydantic-ai.
ANSWERS = ("StructuredOutput", "final_result")


@dataclass(frozen=True)
class Tool:
    """A tool as a request declares it, with the JSON schema of its arguments; `server` is the namespace it stands in, if any."""

    name: str
    schema: dict[str, Any]
    namespace: str = ""


@dataclass(frozen=True)
class Asked:
    """What a request asks, whatever its protocol. `turns` are `("user", text)` and `("result", text)` in their order."""

    turns: list[tuple[str, str]]
    tools: list[Tool]
    stream: bool
    model: str
    forced: str = ""


@dataclass(frozen=True)
class Reply:
    """What the model answers: words, or one call of a tool."""

    text: str
    tool: Tool | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    usage: tuple[int, int] = (100, 20)


@dataclass(frozen=True)
class Fault:
    """Something that befalls a step: `kind` is DELAY, HOLD, FAIL or CUT."""

    kind: str
    value: str
    step: int
    times: int
    options: dict[str, str]


class Script:
    """The newest prompt with lines for the model, and how far the conversation is in it."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.prompt, self.step = newest(asked.turns)
        self.lines: list[tuple[str, str]] = LINE.findall(self.prompt)
        #: Whether this is the agent's own request, not one for a title.
        self.own = bool(asked.tools or self.values("ANSWER"))

    def values(self, word: str) -> list[str]:
        """The rest of each line that begins with this word."""
        return [value for kind, value in self.lines if kind == word]

    def faults(self) -> list[Fault]:
        """What befalls this step."""
        found = []
        for kind, value in self.lines if self.own else ():
            options = dict(OPTION.findall(value))
            step, times = int(options.pop("step", 1)), int(options.pop("times", 1))
            if kind in ("DELAY", "HOLD", "FAIL", "CUT") and step == self.step:
                found.append(Fault(kind, OPTION.sub("", value).strip(), step, times, options))
        return found

    def reply(self) -> Reply:
        """What the model answers at this step."""
        tokens = (self.values("USAGE") or ["100 20"])[-1].split()
        usage = (int(tokens[0]), int(tokens[1]))
        calls = [(kind, value) for kind, value in self.lines if kind in ("RUN", "CALL")]
        said = "\n".join(self.values("SAY")) or "Done."
        if not self.own:
            return Reply(said, usage=usage)
        if self.step <= len(calls):
            return self.call(*calls[self.step - 1], usage)
        if answers := self.values("ANSWER"):
            tool = self.answering()
            if not tool:
                return Reply(answers[-1], usage=usage)
            if self.step == len(calls) + 1:
                return Reply("", tool, json.loads(answers[-1]), usage)
        return Reply(said, usage=usage)

    def call(self, kind: str, value: str, usage: tuple[int, int]) -> Reply:
        """The call of one line; words that say what is wrong if the client has no such tool."""
        name, _, arguments = value.partition(" ")
        wanted = SHELLS if kind == "RUN" else (name.lower(),)
        for each in wanted:
            for tool in self.asked.tools:
                if tool.name.lower() == each or (kind == "CALL" and tool.name.lower().endswith(f"_{each}")):
                    return Reply("", tool, shaped(tool, value) if kind == "RUN" else json.loads(arguments or "{}"), usage)
        declared = ", ".join(tool.name for tool in self.asked.tools)
        return Reply(f"No tool for '{kind}: {value}' among those declared: {declared}.", usage=usage)

    def answering(self) -> Tool | None:
        """The tool that takes the structured answer."""
        names = (self.asked.forced, *ANSWERS)
        return next((tool for tool in self.asked.tools if tool.name in names), None)


def newest(turns: list[tuple[str, str]]) -> tuple[str, int]:
    """The newest prompt with lines for the model, and the step it is at."""
    step = 1
    for kind, text in reversed(turns):
        # OpenCode puts its prompt in quotes.
        prompt = text[1:-1] if text[:1] == text[-1:] == '"' else text
        if kind == "user" and LINE.search(prompt):
            return prompt, step
        step += kind == "result"
    return "", step


def shaped(tool: Tool, command: str) -> dict[str, Any]:
    """The arguments with which this shell tool runs the command, from the schema that it declares."""
    properties = tool.schema.get("properties", {})
    name = next((each for each in ("command", "cmd") if each in properties), "command")
    wants_list = properties.get(name, {}).get("type") == "array"
    words = {
        each: "Runs the command." for each in tool.schema.get("required", ()) if properties.get(each, {}).get("type") == "string"
    }
    return {**words, name: ["bash", "-lc", command] if wants_list else command}
