"""The turns of a model and its tools: it is asked, the tools that it calls are used, until it has said its last word.

This is Skep's own loop over pydantic-ai's models: its agent does the same in six times the processor, for features that an agent
here does not have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    NativeToolCallPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters

from skep.agents import Ending
from skep.agents.endings import Failed
from skep.agents.loop.files import Refused
from skep.agents.loop.thread import Thread
from skep.agents.loop.tools import Attempt, Tool

#: Answers in a row that say nothing and call nothing, after which it is given up.
MAX_EMPTY = 3
#: What a model is told that said nothing.
SPEAK = "You said nothing. Say what came of it, or call a tool."

_object = msgspec.json.Decoder(dict[str, Any])
#: Asks the model, given what was said so far.
Model = Callable[[list[ModelMessage], ModelRequestParameters], Awaitable[ModelResponse]]


class Turns:
    """One conversation of a model.

    Args:
        attempt: whose.
        model: is asked; what it raises, `go` raises.
        tools: those that it is given, by their names.
        thread: what was said so far; takes what is said now.
        most: turns of the model.
    """

    def __init__(self, attempt: Attempt, model: Model, tools: Mapping[str, Tool], thread: Thread, most: int) -> None:
        self._attempt, self._model, self._tools, self._thread, self._most = attempt, model, tools, thread, most
        self._heard: list[str] = []

    def hear(self, text: str) -> None:
        """A message for the model: it gets it with what it is told next."""
        self._heard.append(text)

    async def go(self, prompt: str) -> str:
        """Begins with the prompt; returns the model's last words. Raises Failed, OSError, and what the model raises."""
        parameters = ModelRequestParameters(function_tools=[tool.shown for tool in self._tools.values()])
        self._tell([UserPromptPart(prompt)])
        empty = 0
        for _ in range(self._most):
            response = await self._model(self._thread.messages, parameters)
            self._thread.answered(response)
            calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
            text = _text(response)
            empty = 0 if calls or text else empty + 1
            if calls:
                self._tell(await self._use(calls))
            elif not text:
                self._tell([UserPromptPart(_unsaid(response, empty))])
            elif self._heard:
                self._tell([])
            else:
                return text
        raise Failed(Ending(ok=False, cause="limit", detail=f"its turns are used up: {self._most} of the model"))

    def _tell(self, parts: Sequence[ToolReturnPart | UserPromptPart]) -> None:
        heard, self._heard = self._heard, []
        self._thread.tell([*parts, *map(UserPromptPart, heard)])

    async def _use(self, calls: Iterable[ToolCallPart]) -> list[ToolReturnPart]:
        """Uses tools, at the same time as far as they bear that; their answers are in the order of the calls."""
        answers: list[ToolReturnPart] = []
        together: list[ToolCallPart] = []
        for call in calls:
            tool = self._tools.get(call.tool_name)
            if tool is not None and tool.alone:
                answers += await self._together(together)
                answers.append(await self._one(call))
                together = []
            else:
                together.append(call)
        return answers + await self._together(together)

    async def _together(self, calls: Sequence[ToolCallPart]) -> list[ToolReturnPart]:
        if len(calls) < 2:
            return [await self._one(call) for call in calls]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(call)) for call in calls]
        except ExceptionGroup as errors:  # one of them says what is wrong
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _one(self, call: ToolCallPart) -> ToolReturnPart:
        try:
            tool = self._tools.get(call.tool_name)
            if tool is None:
                raise Refused(f"there is no tool {call.tool_name!r}; there are {', '.join(self._tools) or 'none'}")
            answer = await tool.use(self._attempt, call.tool_call_id, _arguments(call))
        except Refused as error:
            return ToolReturnPart(call.tool_name, str(error), call.tool_call_id, outcome="failed")
        return ToolReturnPart(call.tool_name, answer, call.tool_call_id)


def _arguments(call: ToolCallPart) -> dict[str, Any]:
    """Of a call. Raises Refused if they are no object."""
    if isinstance(call.args, dict):
        return call.args
    try:
        return _object.decode(call.args or "{}")
    except msgspec.MsgspecError as error:
        raise Refused(f"wrong arguments: {error}") from None


def _text(response: ModelResponse) -> str:
    """What it said: of the text around a tool that its provider used for it, the later part."""
    text = before = ""
    for part in response.parts:
        if isinstance(part, TextPart):
            text += part.content
        elif isinstance(part, NativeToolCallPart):
            text, before = "", text or before
    return text or before


def _unsaid(response: ModelResponse, times: int) -> str:
    """What to tell a model that said nothing. Raises Failed if that would not help."""
    if response.state == "suspended":
        why = "the model put its answer off, which is not available here: take that out of `settings`"
    elif response.finish_reason == "length":
        why = "the model had nothing left to say anything with: raise `max_tokens` in `settings`"
    elif response.finish_reason == "content_filter":
        why = "the provider's filter kept the answer back"
    elif times > MAX_EMPTY:
        why = f"the model said nothing {times} times"
    else:
        return SPEAK
    raise Failed(Ending(ok=False, cause="error", detail=why))
