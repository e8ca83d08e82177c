"""Skep's MCP server for one attempt: `python -m skep.agents.door.serving`, JSON-RPC over standard input and output.

Skep hands it to every client that speaks MCP. It carries calls of tools through the door ($SKEP_DOOR) and keeps nothing. By hand,
not on a library: it starts with every attempt, and there are five methods.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import IO, Any

import msgspec

from skep.agents.door.client import Door
from skep.agents.door.tools import TOOLS, Calls, described, schema
from skep.errors import SkepError

#: The protocol's versions that are spoken, newest first.
VERSIONS = ("2025-06-18", "2025-03-26", "2024-11-05")
#: Bytes of one line; a longer one is nothing that a client of ours says.
MAX_LINE = 1 << 20
#: Calls at once; JSON-RPC's numbers for what goes wrong.
MAX_CALLS = 16
NOT_JSON, NOT_A_REQUEST, NO_METHOD, NO_PARAMS, BUSY = -32700, -32600, -32601, -32602, -32000

Message = dict[str, Any]


class Refused(Exception):
    """A request that cannot be answered, with JSON-RPC's number."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Server:
    """One client.

    Args:
        door: to the owner.
        out: takes what is said to the client.
    """

    def __init__(self, door: Door, out: IO[bytes]) -> None:
        self._door, self._out = door, out
        self._calls = Calls()
        self._writing = threading.Lock()
        self._room = threading.Semaphore(MAX_CALLS)

    def serve(self, lines: IO[bytes]) -> None:
        """Answers until the client says nothing more."""
        while line := lines.readline(MAX_LINE + 1):
            if line.strip():
                self.hear(line)

    def hear(self, line: bytes) -> None:
        """One line of the client's."""
        try:
            message = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError):
            self._say({"id": None, "error": {"code": NOT_JSON, "message": "a line that is no JSON"}})
            return
        if not isinstance(message, dict) or not isinstance(message.get("method"), str):
            if not isinstance(message, dict) or ("result" not in message and "error" not in message):
                self._say({"id": None, "error": {"code": NOT_A_REQUEST, "message": "this is no request"}})
            return
        if "id" not in message:
            return  # a notification: there is nothing that it would change
        if message["method"] != "tools/call":
            self._answer(message)
        elif self._room.acquire(blocking=False):
            threading.Thread(target=self._called, args=(message,), daemon=True).start()
        else:
            self._say({"id": message["id"], "error": {"code": BUSY, "message": f"{MAX_CALLS} calls are under way"}})

    def _called(self, message: Message) -> None:
        try:
            self._answer(message)
        finally:
            self._room.release()

    def _answer(self, message: Message) -> None:
        params = message.get("params")
        try:
            result = self._result(message["method"], params if isinstance(params, dict) else {})
            self._say({"id": message["id"], "result": result})
        except Refused as refused:
            self._say({"id": message["id"], "error": {"code": refused.code, "message": str(refused)}})

    def _result(self, method: str, params: Message) -> Message:
        if method == "initialize":
            wanted = params.get("protocolVersion")
            return {
                "protocolVersion": wanted if wanted in VERSIONS else VERSIONS[0],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "skep", "version": "1"},
            }
        if method == "ping":
            return {}
        if method == "tools/list":
            about = {"destructiveHint": False, "openWorldHint": False}
            tools = [{"name": name, "description": described(name), "inputSchema": schema(name)} for name in TOOLS]
            # Claude Code hides the tools of servers behind a search otherwise.
            return {"tools": [{**tool, "annotations": about, "_meta": {"anthropic/alwaysLoad": True}} for tool in tools]}
        if method == "tools/call":
            return self._call(params)
        raise Refused(NO_METHOD, f"there is no method {method!r}")

    def _call(self, params: Message) -> Message:
        name, given = params.get("name"), params.get("arguments") or {}
        if name not in TOOLS or not isinstance(given, dict):
            raise Refused(NO_PARAMS, f"there is no tool {name!r}")
        try:
            request = self._calls.request(name, given)
            return _text(self._calls.text(request, self._door.ask(request)))
        except SkepError as error:
            return {**_text(f"{error.message}. {error.fix}".strip()), "isError": True}

    def _say(self, message: Message) -> None:
        with self._writing:
            self._out.write(msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n")
            self._out.flush()


def _text(text: str) -> Message:
    return {"content": [{"type": "text", "text": text}]}


def main() -> int:
    """Serves the client at standard input; 2 where there is no door."""
    try:
        door = Door.here()
    except SkepError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    Server(door, sys.stdout.buffer).serve(sys.stdin.buffer)
    # The client is gone. A thread may still be writing to it: Python's own way out would wait for its lock, and abort.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
