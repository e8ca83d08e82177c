"""The turns of a model and its tools, with models that are functions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import (
    FinishReason,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import ToolDefinition

from skep.agents import Report
from skep.agents.endings import Failed
from skep.agents.loop import Request
from skep.agents.loop.files import Folder, Refused
from skep.agents.loop.thread import UNKNOWN, Thread
from skep.agents.loop.tools import Attempt, Tool
from skep.agents.loop.turns import SPEAK, Turns
from skep.agents.options import LlmOptions

Said = ModelResponse | Callable[[], ModelResponse]


class Nobody:
    """An attempt that has nobody behind it."""

    def __init__(self, folder: Path) -> None:
        self.options, self.folder, self.denied = LlmOptions(), Folder(str(folder)), list[str]()

    def report(self, report: Report) -> None:
        """Nobody reads it."""

    async def request(self, request: Request) -> Any:
        """Nobody answers."""
        raise Refused("nobody answers")


def tool(name: str, do: Callable[[dict[str, Any]], Any], alone: bool = False) -> Tool:
    """One that does this."""

    async def use(attempt: Attempt, ident: str, given: dict[str, Any]) -> str:
        found = do(given)
        return str(await found if asyncio.iscoroutine(found) else found)

    return Tool(ToolDefinition(name=name), use, alone)


class Scene:
    """A conversation in a folder, whose model says one thing after the other."""

    def __init__(self, folder: Path, *said: Said, tools: Sequence[Tool] = (), most: int = 20) -> None:
        self.folder, self.path = folder, folder / "thread.jsonl"
        self.asked: list[list[ModelMessage]] = []
        self._said = list(said)
        self.thread = Thread(self.path)
        self.turns = Turns(Nobody(folder), self._answer, {each.shown.name: each for each in tools}, self.thread, most)

    async def go(self, prompt: str) -> str:
        """Carries it out, to the model's last words."""
        try:
            return await self.turns.go(prompt)
        finally:
            self.thread.close()

    async def _answer(self, messages: list[ModelMessage], _: ModelRequestParameters) -> ModelResponse:
        self.asked.append(list(messages))
        said = self._said.pop(0)
        return said if isinstance(said, ModelResponse) else said()

    def told(self, turn: int = -1) -> list[str]:
        """What the model was told last before it was asked."""
        last = self.asked[turn][-1]
        assert isinstance(last, ModelRequest)
        return [str(part.content) for part in last.parts if isinstance(part, UserPromptPart | ToolReturnPart)]

    def kept(self) -> list[ModelMessage]:
        """What the file holds."""
        lines = self.path.read_bytes().splitlines()
        return [message for line in lines for message in ModelMessagesTypeAdapter.validate_json(line)]


def says(text: str) -> ModelResponse:
    """Words."""
    return ModelResponse([TextPart(text)])


def calls(*named: str, args: str | dict[str, Any] | None = None) -> ModelResponse:
    """Calls of tools."""
    return ModelResponse([ToolCallPart(name, args, f"{name}-{n}") for n, name in enumerate(named)])


def nothing(why: FinishReason | None = None) -> ModelResponse:
    """Thoughts alone."""
    return ModelResponse([ThinkingPart("hm")], finish_reason=why)


async def test_a_message_that_comes_with_the_last_word_gets_a_turn_of_its_own(tmp_path: Path) -> None:
    def last() -> ModelResponse:
        scene.turns.hear("Mind the gap.")
        return says("Done.")

    scene = Scene(tmp_path, last, says("Minded."))
    assert await scene.go("Go.") == "Minded."
    assert scene.told() == ["Mind the gap."]


async def test_calls_that_are_wrong_are_answered_and_the_model_goes_on(tmp_path: Path) -> None:
    given = list[dict[str, Any]]()
    said = (
        calls("gone"),
        calls("note", args="{broken"),
        calls("note", args="[1]"),
        calls("note", args='{"a": 1}'),
        says("Done."),
    )
    scene = Scene(tmp_path, *said, tools=[tool("note", given.append)])
    assert await scene.go("Go.") == "Done."
    assert "there is no tool 'gone'; there are note" in scene.told(1)[0]
    assert scene.told(2)[0].startswith("wrong arguments")
    assert scene.told(3)[0].startswith("wrong arguments")
    assert given == [{"a": 1}]


async def test_a_model_that_says_nothing_is_told_so_and_then_given_up(tmp_path: Path) -> None:
    scene = Scene(tmp_path, nothing(), nothing(), says("Done."))
    assert await scene.go("Go.") == "Done."
    assert scene.told() == [SPEAK]
    silent = Scene(tmp_path, *[nothing() for _ in range(9)])
    with pytest.raises(Failed) as failed:
        await silent.go("Go.")
    assert "said nothing 4 times" in failed.value.ending.detail


@pytest.mark.parametrize(("why", "words"), [("length", "max_tokens"), ("content_filter", "filter")])
async def test_what_asking_again_does_not_mend_fails_at_once(tmp_path: Path, why: FinishReason, words: str) -> None:
    scene = Scene(tmp_path, nothing(why))
    with pytest.raises(Failed) as failed:
        await scene.go("Go.")
    assert (failed.value.ending.cause, len(scene.asked)) == ("error", 1)
    assert words in failed.value.ending.detail


async def test_tools_are_used_at_the_same_time_but_for_those_that_want_to_be_alone(tmp_path: Path) -> None:
    at_once, most, together = 0, list[int](), asyncio.Event()

    async def meet(_: dict[str, Any]) -> str:
        nonlocal at_once
        at_once += 1
        if at_once == 2:
            together.set()
        await together.wait()
        at_once -= 1
        return "met"

    def alone(_: dict[str, Any]) -> str:
        most.append(at_once)
        return "alone"

    scene = Scene(
        tmp_path, calls("meet", "meet", "shell", "meet"), says("Done."), tools=[tool("meet", meet), tool("shell", alone, True)]
    )
    assert await scene.go("Go.") == "Done."
    assert scene.told() == ["met", "met", "alone", "met"]
    assert most == [0]


async def test_what_tools_answered_is_kept_before_the_model_is_asked_again(tmp_path: Path) -> None:
    def look() -> ModelResponse:
        kept.extend(scene.kept())
        return says("Done.")

    kept = list[ModelMessage]()
    scene = Scene(tmp_path, calls("note"), look, tools=[tool("note", lambda given: "noted")])
    await scene.go("Go.")
    assert kept == scene.asked[1]
    assert scene.kept() == scene.thread.messages


async def test_a_conversation_goes_on_after_a_line_that_was_cut_off(tmp_path: Path) -> None:
    scene = Scene(tmp_path, calls("note"), says("Done."), tools=[tool("note", lambda given: "noted")])
    await scene.go("Go.")
    whole = scene.path.read_bytes()
    scene.path.write_bytes(whole[:-10])
    again = Scene(tmp_path, says("Twice."))
    assert await again.go("Go on.") == "Twice."
    assert again.told() == ["noted", "Go on."]
    third = Scene(tmp_path, says("Thrice."))
    assert await third.go("And again.") == "Thrice."
    assert [type(message) for message in third.asked[0]] == [ModelRequest, ModelResponse] * 2 + [ModelRequest]


async def test_a_call_whose_end_nobody_saw_is_answered_once(tmp_path: Path) -> None:
    def die(_: dict[str, Any]) -> str:
        raise KeyError("gone")

    scene = Scene(tmp_path, calls("die"), tools=[tool("die", die)])
    with pytest.raises(KeyError):
        await scene.go("Go.")
    for words in ("Go on.", "And on."):
        again = Scene(tmp_path, says("Looked."))
        await again.go(words)
        assert again.told()[-1] == words
        assert str(again.asked).count(UNKNOWN) == 1
