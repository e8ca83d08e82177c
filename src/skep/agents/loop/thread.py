"""A conversation as a file: a line of JSON for each message, written as soon as it is there; an end at any time loses none."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelRequest, ModelResponse, ToolCallPart, ToolReturnPart

#: What a tool is taken to have said whose end nobody saw.
UNKNOWN = "It was interrupted: whether this was done, wholly or in part, is unknown. Look before you do it again."
#: Bytes of a conversation that is gone on with. More fits no model, and a new one is begun.
MAX_THREAD = 64 << 20


class Thread:
    """The file of one conversation.

    Args:
        path: made when the first message is written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = 0

    def load(self) -> list[ModelMessage]:
        """The messages so far, each call of a tool answered; none if there is no such file, or none that can be read."""
        try:
            if self._path.stat().st_size > MAX_THREAD:
                return []
            lines = self._path.read_bytes().split(b"\n")[:-1]  # the last one may have been cut off
            messages = [message for line in lines for message in ModelMessagesTypeAdapter.validate_json(line)]
        except (OSError, ValueError):
            return []
        self._written = len(messages)
        last = messages[-1] if messages else None
        if isinstance(last, ModelResponse):
            calls = [part for part in last.parts if isinstance(part, ToolCallPart)]
            lost = [ToolReturnPart(tool_name=c.tool_name, content=UNKNOWN, tool_call_id=c.tool_call_id) for c in calls]
            messages += [ModelRequest(parts=lost)] if lost else []
        return messages

    def keep(self, messages: list[ModelMessage]) -> None:
        """Writes those that are new. Raises OSError."""
        new = messages[self._written :]
        if new:
            data = b"".join(ModelMessagesTypeAdapter.dump_json([message]) + b"\n" for message in new)
            with open(self._path, "ab", opener=_private) as file:
                file.write(data)
            self._written = len(messages)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
