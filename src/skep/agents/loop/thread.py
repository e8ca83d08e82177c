"""A conversation as a file: a line of JSON for each message, written as soon as it is there; an end at any time loses none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
)

from skep.agents.loop import MAX_THREAD

#: What a tool is taken to have said whose end nobody saw.
UNKNOWN = "It was interrupted: whether this was done, wholly or in part, is unknown. Look before you do it again."


class Thread:
    """The file of one conversation, which is gone on with if it is there and can be read.

    Args:
        path: made when the first message is written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        #: So far, model and others in turn.
        self.messages: list[ModelMessage] = []
        #: Answers to calls of tools that nobody saw the end of.
        self._owed: list[ModelRequestPart] = []
        for message in self._read():
            self._join(message)
        last = self.messages[-1] if self.messages else None
        calls = [part for part in last.parts if isinstance(part, ToolCallPart)] if isinstance(last, ModelResponse) else []
        self._owed += [ToolReturnPart(call.tool_name, UNKNOWN, call.tool_call_id) for call in calls]

    def tell(self, parts: Sequence[ModelRequestPart]) -> None:
        """Adds what the model is told next, and writes it. Raises OSError."""
        self._add(ModelRequest([*self._owed, *parts]))
        self._owed = []

    def answered(self, response: ModelResponse) -> None:
        """Adds what the model said, and writes it. Raises OSError."""
        self._add(response)

    def close(self) -> None:
        """Closes the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read(self) -> list[ModelMessage]:
        try:
            if self._path.stat().st_size > MAX_THREAD:
                return []
            *lines, rest = self._path.read_bytes().split(b"\n")
            if rest:  # cut off while it was written: what comes now must not stand on the same line
                os.truncate(self._path, self._path.stat().st_size - len(rest))
            return [message for line in lines for message in ModelMessagesTypeAdapter.validate_json(line)]
        except (OSError, ValueError):
            return []

    def _add(self, message: ModelMessage) -> None:
        if self._file < 0:
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        data = memoryview(ModelMessagesTypeAdapter.dump_json([message]) + b"\n")
        while data:
            data = data[os.write(self._file, data) :]
        self._join(message)

    def _join(self, message: ModelMessage) -> None:
        """What is told before the model answered is told together."""
        last = self.messages[-1] if self.messages else None
        if isinstance(message, ModelRequest) and isinstance(last, ModelRequest):
            self.messages[-1] = ModelRequest([*last.parts, *message.parts])
        else:
            self.messages.append(message)
