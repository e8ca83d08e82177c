"""The protocols that coding clients speak to a model: how each asks, and how each is answered, whole or as a stream.

A dialect reads a request's body into `Asked` and writes a `Reply` as one JSON object (`whole`) or as events (`events`:
a name, empty if the protocol has none, and the data). `number` makes the ids of a reply unique.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Protocol

from tests.clients.script import Asked, Reply, Tool

Json = dict[str, Any]


class Dialect(Protocol):
    """One protocol. `last` is the data of an event that ends each stream, if it has one."""

    last: str

    def read(self, path: str, body: Json) -> Asked:
        """What the request asks."""

    def whole(self, asked: Asked, reply: Reply, number: int) -> Json:
        """The answer as one object."""

    def events(self, asked: Asked, reply: Reply, number: int) -> Iterator[tuple[str, Json]]:
        """The answer as a stream."""

    def error(self, status: int, message: str, retry_after: str, limit: int = 0) -> Json:
        """The body of a failure. `limit`: a plan's usage is used up for so many seconds."""

    def limit(self, until: int) -> dict[str, str]:
        """The headers with which a plan's usage is told to be used up until then, in seconds since the epoch."""


def words(content: Any) -> str:
    """The text of a message: a string, or blocks some of which carry text."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content or () if isinstance(part, dict) and isinstance(part.get("text"), str))


def halves(text: str) -> tuple[str, str]:
    """A text in two pieces, as a stream brings it."""
    return text[: len(text) // 2], text[len(text) // 2 :]


class Anthropic:
    """Messages."""

    last = ""

    def read(self, path: str, body: Json) -> Asked:
        turns: list[tuple[str, str]] = []
        for message in body.get("messages", ()):
            content = message["content"]
            blocks = [] if isinstance(content, str) else content
            if message["role"] == "user":
                turns += [("result", words(block.get("content"))) for block in blocks if block.get("type") == "tool_result"]
                turns += [("user", text)] if (text := words(content)) else []
        tools = [Tool(tool["name"], tool.get("input_schema", {})) for tool in body.get("tools", ())]
        return Asked(
            turns, tools, bool(body.get("stream")), body.get("model", ""), (body.get("tool_choice") or {}).get("name", "")
        )

    def block(self, reply: Reply, number: int) -> Json:
        if reply.tool:
            return {"type": "tool_use", "id": f"toolu_{number:06}", "name": reply.tool.name, "input": reply.arguments}
        return {"type": "text", "text": reply.text}

    def whole(self, asked: Asked, reply: Reply, number: int) -> Json:
        return {
            "id": f"msg_{number:06}", "type": "message", "role": "assistant", "model": asked.model,
            "content": [self.block(reply, number)],
            "stop_reason": "tool_use" if reply.tool else "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": reply.usage[0], "output_tokens": reply.usage[1]},
        }  # fmt: skip

    def events(self, asked: Asked, reply: Reply, number: int) -> Iterator[tuple[str, Json]]:
        whole = self.whole(asked, reply, number)
        block = whole["content"][0]
        begun = whole | {"content": [], "stop_reason": None, "usage": whole["usage"] | {"output_tokens": 1}}
        yield "message_start", {"type": "message_start", "message": begun}
        empty = block | (dict[str, Any](input={}) if reply.tool else {"text": ""})
        yield "content_block_start", {"type": "content_block_start", "index": 0, "content_block": empty}
        for piece in halves(json.dumps(reply.arguments) if reply.tool else reply.text):
            delta = {"type": "input_json_delta", "partial_json": piece} if reply.tool else {"type": "text_delta", "text": piece}
            yield "content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}
        yield "content_block_stop", {"type": "content_block_stop", "index": 0}
        ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        yield "message_delta", {"type": "message_delta", "delta": ended, "usage": whole["usage"]}
        yield "message_stop", {"type": "message_stop"}

    def error(self, status: int, message: str, retry_after: str, limit: int = 0) -> Json:
        kind = {
            400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error",
        }.get(status, "api_error")  # fmt: skip
        return {"type": "error", "error": {"type": kind, "message": message}}

    def limit(self, until: int) -> dict[str, str]:
        name = "anthropic-ratelimit-unified"
        return {f"{name}-status": "rejected", f"{name}-reset": str(until), f"{name}-representative-claim": "five_hour"}


class Chat:
    """OpenAI Chat Completions."""

    last = "[DONE]"

    def read(self, path: str, body: Json) -> Asked:
        kinds = {"user": "user", "tool": "result"}
        messages = body.get("messages", ())
        turns = [(kinds[each["role"]], words(each.get("content"))) for each in messages if each["role"] in kinds]
        tools = [Tool(tool["function"]["name"], tool["function"].get("parameters", {})) for tool in body.get("tools", ())]
        choice = body.get("tool_choice")
        forced = choice.get("function", {}).get("name", "") if isinstance(choice, dict) else ""
        return Asked(turns, tools, bool(body.get("stream")), body.get("model", ""), forced)

    def message(self, reply: Reply, number: int) -> Json:
        if not reply.tool:
            return {"role": "assistant", "content": reply.text}
        function = {"name": reply.tool.name, "arguments": json.dumps(reply.arguments)}
        calls = [{"index": 0, "id": f"call_{number:06}", "type": "function", "function": function}]
        return {"role": "assistant", "content": None, "tool_calls": calls}

    def frame(self, asked: Asked, number: int, kind: str, choices: list[Json], usage: tuple[int, int] | None) -> Json:
        total = usage and {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
        return {
            "id": f"chatcmpl-{number:06}",
            "object": kind,
            "created": 0,
            "model": asked.model,
            "choices": choices,
            "usage": total,
        }

    def whole(self, asked: Asked, reply: Reply, number: int) -> Json:
        choice = {"index": 0, "message": self.message(reply, number), "finish_reason": "tool_calls" if reply.tool else "stop"}
        return self.frame(asked, number, "chat.completion", [choice], reply.usage)

    def events(self, asked: Asked, reply: Reply, number: int) -> Iterator[tuple[str, Json]]:
        message = self.message(reply, number)
        deltas = [message] if reply.tool else [{"role": "assistant", "content": piece} for piece in halves(reply.text)]
        for delta in deltas:
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            yield "", self.frame(asked, number, "chat.completion.chunk", [choice], None)
        ended = {"index": 0, "delta": {}, "finish_reason": "tool_calls" if reply.tool else "stop"}
        yield "", self.frame(asked, number, "chat.completion.chunk", [ended], None)
        yield "", self.frame(asked, number, "chat.completion.chunk", [], reply.usage)

    def error(self, status: int, message: str, retry_after: str, limit: int = 0) -> Json:
        code = {400: "invalid_request", 401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(status, "server_error")
        return {"error": {"message": message, "type": code, "code": code, "param": None}}

    def limit(self, until: int) -> dict[str, str]:
        return {}


class Responses(Chat):
    """OpenAI Responses; its failures look as those of Chat, but for a plan whose usage is used up."""

    last = ""

    def error(self, status: int, message: str, retry_after: str, limit: int = 0) -> Json:
        if not limit:
            return super().error(status, message, retry_after)
        return {
            "error": {
                "type": "usage_limit_reached",
                "message": message,
                "plan_type": "plus",
                "resets_at": int(time.time()) + limit,
            }
        }

    def read(self, path: str, body: Json) -> Asked:
        turns: list[tuple[str, str]] = []
        entries = body.get("input", ())
        for entry in [{"role": "user", "content": entries}] if isinstance(entries, str) else entries:
            if entry.get("role") == "user":
                turns.append(("user", words(entry["content"])))
            elif str(entry.get("type")).endswith("_output"):
                turns.append(("result", str(entry.get("output"))))
        tools = [tool for each in body.get("tools", ()) for tool in self.declared(each)]
        choice = body.get("tool_choice")
        forced = choice.get("name", "") if isinstance(choice, dict) else ""
        return Asked(turns, tools, bool(body.get("stream")), body.get("model", ""), forced)

    def declared(self, tool: Json) -> Iterator[Tool]:
        """A function, or the functions of a namespace (so Codex declares those of an MCP server)."""
        if tool["type"] == "function":
            yield Tool(tool["name"], tool.get("parameters", {}))
        for each in tool.get("tools", ()) if tool["type"] == "namespace" else ():
            yield Tool(each["name"], each.get("parameters", {}), tool["name"])

    def item(self, reply: Reply, number: int) -> Json:
        if reply.tool:
            named = {"name": reply.tool.name} | ({"namespace": reply.tool.namespace} if reply.tool.namespace else {})
            call = {"type": "function_call", "id": f"fc_{number:06}", "call_id": f"call_{number:06}", "status": "completed"}
            return call | named | {"arguments": json.dumps(reply.arguments)}
        part = {"type": "output_text", "text": reply.text, "annotations": []}
        return {"type": "message", "id": f"msg_{number:06}", "role": "assistant", "status": "completed", "content": [part]}

    def whole(self, asked: Asked, reply: Reply, number: int) -> Json:
        read, written = reply.usage
        usage = {
            "input_tokens": read, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": written, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": read + written,
        }  # fmt: skip
        about = {"id": f"resp_{number:06}", "object": "response", "created_at": 0, "status": "completed", "model": asked.model}
        settings: Json = {"error": None, "parallel_tool_calls": False, "tool_choice": "auto", "tools": []}
        return about | settings | {"output": [self.item(reply, number)], "usage": usage}

    def events(self, asked: Asked, reply: Reply, number: int) -> Iterator[tuple[str, Json]]:
        whole, item = self.whole(asked, reply, number), self.item(reply, number)
        begun = whole | {"status": "in_progress", "output": [], "usage": None}
        empty = item | {"status": "in_progress"} | ({"arguments": ""} if reply.tool else dict[str, Any](content=[]))
        where: Json = {"item_id": item["id"], "output_index": 0}
        kind = "function_call_arguments" if reply.tool else "output_text"
        place = where if reply.tool else where | {"content_index": 0}
        text = item["arguments"] if reply.tool else reply.text
        frames: list[Json] = [
            {"type": "response.created", "response": begun},
            {"type": "response.output_item.added", "output_index": 0, "item": empty},
        ]
        if not reply.tool:
            part = {"type": "output_text", "text": "", "annotations": []}
            frames.append({"type": "response.content_part.added", **place, "part": part})
        frames += [{"type": f"response.{kind}.delta", **place, "delta": piece} for piece in halves(text)]
        frames.append({"type": f"response.{kind}.done", **place, "arguments" if reply.tool else "text": text})
        frames.append({"type": "response.output_item.done", "output_index": 0, "item": item})
        frames.append({"type": "response.completed", "response": whole})
        for number_in_stream, frame in enumerate(frames):
            yield frame["type"], frame | {"sequence_number": number_in_stream}


class Gemini:
    """generateContent and streamGenerateContent; which of the two, and the model, stand in the path."""

    last = ""

    def read(self, path: str, body: Json) -> Asked:
        turns: list[tuple[str, str]] = []
        heard: set[str] = set()
        for content in body.get("contents", ()):
            parts = content.get("parts", ())
            if content.get("role", "user") == "user":
                for result in (part["functionResponse"] for part in parts if "functionResponse" in part):
                    # Gemini CLI sends a result twice once it goes on in a thread: its file has it with the call and as a turn.
                    if not (result.get("id") and result["id"] in heard):
                        turns.append(("result", json.dumps(result)))
                    heard.add(str(result.get("id")))
                # What it says of the folder changes with each start: a step that failed would not be known as the same again.
                said = [part for part in parts if not str(part.get("text")).startswith("<session_context>")]
                turns += [("user", text)] if (text := words(said)) else []
        declared = [each for tool in body.get("tools", ()) for each in tool.get("functionDeclarations", ())]
        tools = [Tool(each["name"], each.get("parametersJsonSchema") or lower(each.get("parameters", {}))) for each in declared]
        forced = body.get("toolConfig", {}).get("functionCallingConfig", {}).get("allowedFunctionNames", [""])[0]
        model, _, method = path.partition("?")[0].rpartition("/")[2].partition(":")
        return Asked(turns, tools, method == "streamGenerateContent", model, forced)

    def frame(self, asked: Asked, reply: Reply, number: int, parts: list[Json], last: bool) -> Json:
        candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0} | ({"finishReason": "STOP"} if last else {})
        read, written = reply.usage
        usage = {"promptTokenCount": read, "candidatesTokenCount": written, "totalTokenCount": read + written}
        return {
            "candidates": [candidate], "usageMetadata": usage, "modelVersion": asked.model, "responseId": f"r{number:06}",
        }  # fmt: skip

    def call(self, reply: Reply, number: int) -> list[Json]:
        if not reply.tool:
            return []
        return [{"functionCall": {"id": f"call_{number:06}", "name": reply.tool.name, "args": reply.arguments}}]

    def whole(self, asked: Asked, reply: Reply, number: int) -> Json:
        return self.frame(asked, reply, number, self.call(reply, number) or [{"text": reply.text}], True)

    def events(self, asked: Asked, reply: Reply, number: int) -> Iterator[tuple[str, Json]]:
        first, second = halves(reply.text)
        if not reply.tool:
            yield "", self.frame(asked, reply, number, [{"text": first}], False)
        yield "", self.frame(asked, reply, number, self.call(reply, number) or [{"text": second}], True)

    def error(self, status: int, message: str, retry_after: str, limit: int = 0) -> Json:
        kind = {
            400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE",
        }.get(status, "INTERNAL")  # fmt: skip
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_after}s"}
        return {"error": {"code": status, "message": message, "status": kind, "details": [retry] if retry_after else []}}

    def limit(self, until: int) -> dict[str, str]:
        return {}


def lower(schema: Json) -> Json:
    """A schema in Gemini's own spelling (`"type": "STRING"`) as a JSON schema."""
    kind = {"type": schema["type"].lower()} if isinstance(schema.get("type"), str) else {}
    return schema | kind | {"properties": {name: lower(each) for name, each in schema.get("properties", {}).items()}}
