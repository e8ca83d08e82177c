"""Talks with the clients that listen while they work: over the Agent Client Protocol, or in Claude's own JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.clients.drive import TALKERS, Case, Client, prepared
from tests.clients.model_server import ModelServer

Message = dict[str, Any]
#: Longest line that a client may send, bytes.
LIMIT = 16 * 1024 * 1024


class Talk:
    """A client that runs while this is entered. `said` are the messages of both sides in order: `"us"` or `"it"`, and what."""

    def __init__(self, client: Client, url: str, folder: Path, more: tuple[str, ...] = ()) -> None:
        self.argv, self.env, self.work = prepared(client, url, folder, Case("", more))
        self.said: list[tuple[str, Message]] = []

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self.argv,
            cwd=self.work,
            env=self.env,
            stdin=pipe,
            stdout=pipe,
            stderr=asyncio.subprocess.DEVNULL,
            limit=LIMIT,
            start_new_session=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        # The whole group: adapters leave the client that they started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    def say(self, message: Message) -> None:
        """Sends one message."""
        assert self._process.stdin
        self.said.append(("us", message))
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def hear(self) -> Message:
        """The next message. Raises EOFError when the client has ended."""
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            if line.startswith(b"{"):
                message: Message = json.loads(line)
                self.said.append(("it", message))
                return message
        raise EOFError(f"{self.argv[0]} ended")

    async def until(self, wanted: Callable[[Message], bool], answer: Callable[[Message], Message | None]) -> Message:
        """Hears until a message is the wanted one; what `answer` makes of the others is said."""
        while not wanted(message := await self.hear()):
            if reply := answer(message):
                self.say(reply)
        return message


class Acp:
    """An agent spoken to over ACP. `choice` is the kind of option that answers its questions, `mode` a mode of the session."""

    def __init__(self, talk: Talk, choice: str = "allow_once", mode: str = "") -> None:
        self.talk, self.choice, self.mode = talk, choice, mode
        self.asked: list[Message] = []
        self._last = 0

    async def call(self, method: str, params: Message) -> Message:
        """The result of a request; what the agent asks in between is answered. Raises ValueError with the agent's error."""
        self._last = number = self._last + 1
        self.talk.say({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        reply = await self.talk.until(lambda each: each.get("id") == number and "method" not in each, self._reply)
        if "error" in reply:
            raise ValueError(f"{method}: {reply['error']}")
        result: Message = reply["result"] or {}
        return result

    def _reply(self, message: Message) -> Message | None:
        if "method" not in message or "id" not in message:
            return None
        reply: Message = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] != "session/request_permission":
            return reply | {"error": {"code": -32601, "message": "not available"}}
        self.asked.append(message["params"])
        option = next(each for each in message["params"]["options"] if each["kind"] == self.choice)
        return reply | {"result": {"outcome": {"outcome": "selected", "optionId": option["optionId"]}}}

    async def open(self) -> None:
        """Begins a session."""
        about = {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}
        await self.call("initialize", {"protocolVersion": 1, "clientCapabilities": about})
        session = await self.call("session/new", {"cwd": str(self.talk.work), "mcpServers": []})
        self.session = str(session["sessionId"])
        if self.mode:
            await self.call("session/set_mode", {"sessionId": self.session, "modeId": self.mode})

    async def prompt(self, text: str) -> str:
        """Sends a prompt; gives the reason why the agent stopped."""
        params = {"sessionId": self.session, "prompt": [{"type": "text", "text": text}]}
        return str((await self.call("session/prompt", params))["stopReason"])

    def cancel(self) -> None:
        """Interrupts the prompt."""
        self.talk.say({"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": self.session}})


class Claude:
    """Claude Code, spoken to in its own JSON. `choice` as for ACP."""

    def __init__(self, talk: Talk, choice: str = "allow_once") -> None:
        self.talk, self.choice = talk, choice
        self.asked: list[Message] = []

    async def open(self) -> None:
        """Nothing to do: it says nothing before it is told something."""

    async def prompt(self, text: str) -> str:
        """Sends a prompt; gives the result's subtype and why it ended."""
        self.talk.say({"type": "user", "message": {"role": "user", "content": text}})
        result = await self.talk.until(lambda message: message["type"] == "result", self._reply)
        return f"{result['subtype']} {result['terminal_reason']}"

    def _reply(self, message: Message) -> Message | None:
        if message["type"] != "control_request":
            return None
        self.asked.append(message["request"])
        allowed = {"behavior": "allow", "updatedInput": message["request"]["input"]}
        decision = allowed if self.choice == "allow_once" else {"behavior": "deny", "message": "Not allowed."}
        response = {"subtype": "success", "request_id": message["request_id"], "response": decision}
        return {"type": "control_response", "response": response}

    def cancel(self) -> None:
        """Interrupts the prompt."""
        self.talk.say({"type": "control_request", "request_id": "cancel", "request": {"subtype": "interrupt"}})


#: What can happen in a talk: the prompt, and the kind of option with which the client's questions are answered.
TALKS = {
    "allowed": ("RUN: touch made.txt\nSAY: All well.", "allow_once"),
    "refused": ("RUN: touch made.txt\nSAY: I could not.", "reject_once"),
    "cancelled": ("HOLD: for ever\nSAY: Too late.", "allow_once"),
}


#: Codex asks only if the model itself wants to leave the sandbox.
ESCALATED = 'CALL: exec_command {"cmd": "touch made.txt", "sandbox_permissions": "require_escalated", "justification": "To try."}'


@dataclass(frozen=True)
class Talked:
    """How a talk went: how the prompt ended, what the client asked leave for, and all that was said."""

    ending: str
    asked: list[Message]
    said: list[tuple[str, Message]]


async def talk_with(name: str, case: str, server: ModelServer, folder: Path) -> Talked:
    """Has one of `TALKS` with one of `TALKERS`."""
    text, choice = TALKS[case]
    if name == "codex-acp":
        text = text.replace("RUN: touch made.txt", ESCALATED)
    async with Talk(TALKERS[name], server.url, folder) as talk:
        # In its first mode, `agent`, Codex has another model decide instead of asking.
        mode = "workspace-write" if name == "codex-acp" else ""
        speaker = Acp(talk, choice, mode) if name.endswith("-acp") else Claude(talk, choice)
        await speaker.open()
        ending = asyncio.ensure_future(speaker.prompt(text))
        if case == "cancelled":
            await server.until(lambda: any("HOLD" in str(each.body) and each.body.get("tools") for each in server.requests))
            speaker.cancel()
        return Talked(await ending, speaker.asked, talk.said)
