"""The scripted model speaks each protocol as its vendor does; asked by plain HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any

import pytest

from tests.clients.model_server import ModelServer

SHELL = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
ANTHROPIC_TOOLS = [{"name": "Bash", "input_schema": SHELL}]
CHAT_TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": SHELL}}]
RESPONSES_TOOLS = [{"type": "function", "name": "shell", "parameters": {"properties": {"command": {"type": "array"}}}}]
GEMINI_TOOLS = [{"functionDeclarations": [{"name": "run_shell_command", "parametersJsonSchema": SHELL}]}]
STREAM = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
WHOLE = "/v1beta/models/gemini-2.5-flash:generateContent?key=abc"
ONE_RUN = "Please.\nRUN: echo hi\nSAY: All well."


async def ask(server: ModelServer, path: str, body: dict[str, Any], method: str = "POST") -> tuple[int, dict[str, str], str]:
    """Status, headers and text of one answer."""

    def exchange() -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        try:
            connection.request(method, path, json.dumps(body), {"X-Api-Key": "very secret", "Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(exchange)


async def whole(server: ModelServer, path: str, body: dict[str, Any]) -> Any:
    status, _, text = await ask(server, path, body)
    assert status == 200
    return json.loads(text)


async def events(server: ModelServer, path: str, body: dict[str, Any]) -> list[Any]:
    status, headers, text = await ask(server, path, body)
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


def anthropic(prompt: str, *results: str, **more: Any) -> dict[str, Any]:
    """A conversation in which the prompt has got these results of tools."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
    for result in results:
        messages.append({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}]})
        messages.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": result}]})
    return {"model": "m", "messages": messages, "tools": ANTHROPIC_TOOLS, "max_tokens": 10} | more


def user(prompt: str) -> list[dict[str, Any]]:
    """A conversation of one prompt, as OpenAI has it."""
    return [{"role": "user", "content": prompt}]


async def test_anthropic_calls_the_shell_and_then_speaks(server: ModelServer) -> None:
    first = await whole(server, "/v1/messages", anthropic(ONE_RUN))
    assert first["content"][0] | {"id": ""} == {"type": "tool_use", "id": "", "name": "Bash", "input": {"command": "echo hi"}}
    assert first["stop_reason"] == "tool_use"
    second = await whole(server, "/v1/messages?beta=true", anthropic(ONE_RUN, "hi"))
    assert (second["content"], second["stop_reason"]) == ([{"type": "text", "text": "All well."}], "end_turn")
    assert first["id"] != second["id"]


async def test_anthropic_streams(server: ModelServer) -> None:
    frames = await events(server, "/v1/messages", anthropic(ONE_RUN + "\nUSAGE: 7 3", stream=True))
    assert [frame["type"] for frame in frames] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert json.loads("".join(frame["delta"]["partial_json"] for frame in frames[2:4])) == {"command": "echo hi"}
    assert frames[5]["usage"] == {"input_tokens": 7, "output_tokens": 3}


async def test_chat_completions_whole_and_streamed(server: ModelServer) -> None:
    messages = user(ONE_RUN)
    body = {"model": "m", "messages": messages, "tools": CHAT_TOOLS}
    choice = (await whole(server, "/v1/chat/completions", body))["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"command": "echo hi"}
    messages += [choice["message"], {"role": "tool", "tool_call_id": "c", "content": "hi"}]
    frames = await events(server, "/v1/chat/completions", body | {"stream": True})
    assert frames.pop() == "[DONE]"
    deltas = [choice["delta"] for frame in frames for choice in frame["choices"]]
    assert "".join(delta.get("content", "") for delta in deltas) == "All well."
    assert frames[-1]["usage"]["total_tokens"] == 120


async def test_responses_stream_with_a_command_as_a_list(server: ModelServer) -> None:
    entries: list[dict[str, Any]] = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": ONE_RUN}]}]
    body = {"model": "m", "input": entries, "tools": RESPONSES_TOOLS, "stream": True}
    frames = await events(server, "/v1/responses", body)
    assert (frames[0]["type"], frames[-1]["type"]) == ("response.created", "response.completed")
    call = frames[-1]["response"]["output"][0]
    assert (call["name"], json.loads(call["arguments"])) == ("shell", {"command": ["bash", "-lc", "echo hi"]})
    entries += [call, {"type": "function_call_output", "call_id": call["call_id"], "output": "hi"}]
    frames = await events(server, "/v1/responses", body)
    assert frames[-1]["response"]["output"][0]["content"][0]["text"] == "All well."
    said = "".join(frame["delta"] for frame in frames if frame["type"] == "response.output_text.delta")
    assert said == "All well."


async def test_responses_take_a_tool_from_a_namespace(server: ModelServer) -> None:
    tools = [{"type": "namespace", "name": "mcp__skep", "tools": [{"type": "function", "name": "send", "parameters": {}}]}]
    body = {"model": "m", "input": 'CALL: send {"to": "a"}', "tools": tools}
    call = (await whole(server, "/v1/responses", body))["output"][0]
    assert (call["namespace"], call["name"], json.loads(call["arguments"])) == ("mcp__skep", "send", {"to": "a"})


async def test_gemini_whole_and_streamed(server: ModelServer) -> None:
    contents: list[dict[str, Any]] = [{"role": "user", "parts": [{"text": ONE_RUN}]}]
    body = {"contents": contents, "tools": GEMINI_TOOLS}
    call = (await whole(server, WHOLE, body))["candidates"][0]["content"]["parts"][0]["functionCall"]
    assert (call["name"], call["args"]) == ("run_shell_command", {"command": "echo hi"})
    assert server.requests[-1].path.endswith("key=(secret)")
    contents += [
        {"role": "model", "parts": [{"functionCall": call}]},
        {"role": "user", "parts": [{"functionResponse": {"name": call["name"], "response": {"output": "hi"}}}]},
    ]
    frames = await events(server, STREAM, body)
    assert "".join(part["text"] for frame in frames for part in frame["candidates"][0]["content"]["parts"]) == "All well."
    assert frames[-1]["candidates"][0]["finishReason"] == "STOP"
    assert frames[-1]["usageMetadata"]["totalTokenCount"] == 120


async def test_a_gemini_schema_in_capitals_is_understood(server: ModelServer) -> None:
    shell = {"type": "OBJECT", "properties": {"command": {"type": "ARRAY"}}}
    tools = [{"functionDeclarations": [{"name": "shell", "parameters": shell}]}]
    answer = await whole(server, WHOLE, {"contents": [{"parts": [{"text": "RUN: ls"}]}], "tools": tools})
    assert answer["candidates"][0]["content"]["parts"][0]["functionCall"]["args"] == {"command": ["bash", "-lc", "ls"]}


async def test_tokens_are_counted(server: ModelServer) -> None:
    assert (await whole(server, "/v1/messages/count_tokens", anthropic("Hello")))["input_tokens"] > 10
    assert (await whole(server, "/v1beta/models/m:countTokens", {"contents": []}))["totalTokens"] > 0


async def test_several_commands_come_one_after_another_and_a_second_prompt_goes_on(server: ModelServer) -> None:
    prompt = "RUN: one\nRUN: two"
    body = anthropic(prompt, "1")
    body["messages"].append({"role": "user", "content": "You were interrupted; go on."})
    assert (await whole(server, "/v1/messages", body))["content"][0]["input"] == {"command": "two"}
    assert (await whole(server, "/v1/messages", anthropic(prompt, "1", "2")))["content"][0]["text"] == "Done."
    body["messages"].append({"role": "user", "content": "RUN: three"})
    assert (await whole(server, "/v1/messages", body))["content"][0]["input"] == {"command": "three"}


@pytest.mark.parametrize("forced", [True, False])
async def test_a_structured_answer_goes_through_the_tool_for_it(server: ModelServer, forced: bool) -> None:
    name = "chosen_by_the_client" if forced else "StructuredOutput"
    tools = [*ANTHROPIC_TOOLS, {"name": name, "input_schema": {}}]
    more = {"tools": tools} | ({"tool_choice": {"type": "tool", "name": name}} if forced else {})
    prompt = 'RUN: look\nANSWER: {"vote": "b"}'
    assert (await whole(server, "/v1/messages", anthropic(prompt, **more)))["content"][0]["input"] == {"command": "look"}
    answer = (await whole(server, "/v1/messages", anthropic(prompt, "seen", **more)))["content"][0]
    assert (answer["name"], answer["input"]) == (name, {"vote": "b"})
    assert (await whole(server, "/v1/messages", anthropic(prompt, "seen", "ok", **more)))["content"][0]["text"] == "Done."


async def test_a_structured_answer_is_text_where_no_tool_takes_it(server: ModelServer) -> None:
    body = {"model": "m", "messages": user('ANSWER: {"vote": "b"}')}
    assert (await whole(server, "/v1/chat/completions", body))["choices"][0]["message"]["content"] == '{"vote": "b"}'


async def test_a_request_for_a_title_gets_words_and_no_failure(server: ModelServer) -> None:
    answer = await whole(server, "/v1/messages", anthropic("RUN: ls\nFAIL: 500\nSAY: A title.", tools=[]))
    assert answer["content"] == [{"type": "text", "text": "A title."}]


async def test_a_tool_that_the_client_lacks_is_named(server: ModelServer) -> None:
    answer = await whole(server, "/v1/messages", anthropic("CALL: fly"))
    assert answer["content"][0]["text"] == "No tool for 'CALL: fly' among those declared: Bash."


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/v1/messages", anthropic, "rate_limit_error"),
        ("/v1/chat/completions", lambda prompt: {"messages": user(prompt), "tools": CHAT_TOOLS}, "rate_limit_exceeded"),
        ("/v1/responses", lambda prompt: {"input": user(prompt), "tools": RESPONSES_TOOLS}, "rate_limit_exceeded"),
        (WHOLE, lambda prompt: {"contents": [{"parts": [{"text": prompt}]}], "tools": GEMINI_TOOLS}, "RESOURCE_EXHAUSTED"),
    ],
)
async def test_a_step_fails_as_often_as_the_script_says(server: ModelServer, path: str, body: Any, kind: str) -> None:
    asked = body("FAIL: 429 step=1 times=2 retry-after=3\nSAY: At last.")
    for _ in range(2):
        status, headers, text = await ask(server, path, asked)
        assert (status, headers["Retry-After"]) == (429, "3")
        assert kind in text
    status, _, text = await ask(server, path, asked)
    assert status == 200
    assert "At last." in text


async def test_a_later_step_fails(server: ModelServer) -> None:
    prompt = "RUN: one\nFAIL: 500 step=2"
    assert (await ask(server, "/v1/messages", anthropic(prompt)))[0] == 200
    assert (await ask(server, "/v1/messages", anthropic(prompt, "1")))[0] == 500
    assert (await ask(server, "/v1/messages", anthropic(prompt, "1")))[0] == 200


async def test_a_step_of_gemini_is_the_same_one_when_the_folder_has_changed(server: ModelServer) -> None:
    def asked(folder: str) -> dict[str, Any]:
        context = {"text": f"<session_context>\n{folder}\n</session_context>"}
        return {"contents": [{"parts": [context, {"text": "FAIL: 500\nSAY: At last."}]}], "tools": GEMINI_TOOLS}

    assert (await ask(server, WHOLE, asked("a.txt")))[0] == 500
    assert (await ask(server, WHOLE, asked("a.txt made.txt")))[0] == 200


async def test_one_vendor_fails_and_another_does_not(server: ModelServer) -> None:
    prompt = "FAIL: 429 times=9 of=/messages\nSAY: Well."
    chat = {"messages": user(prompt), "tools": CHAT_TOOLS}
    assert (await ask(server, "/v1/messages", anthropic(prompt)))[0] == 429
    assert (await ask(server, "/v1/chat/completions", chat))[0] == 200
    assert (await ask(server, "/v1/messages", anthropic(prompt)))[0] == 429


@pytest.mark.parametrize("stream", [True, False])
async def test_a_reply_is_cut_in_the_middle_once(server: ModelServer, stream: bool) -> None:
    body = anthropic("CUT:\nSAY: Long words.", stream=stream)
    with pytest.raises(http.client.IncompleteRead) as cut:
        await ask(server, "/v1/messages", body)
    assert b"message_start" in cut.value.partial or not stream
    assert (await ask(server, "/v1/messages", body))[0] == 200


async def test_a_reply_waits_for_its_gate(server: ModelServer) -> None:
    asking = asyncio.ensure_future(ask(server, "/v1/messages", anthropic("HOLD: gate\nDELAY: 0")))
    await server.until(lambda: len(server.requests) == 1)
    assert not asking.done()
    server.release("gate")
    assert (await asking)[0] == 200


async def test_an_unanswered_client_does_not_keep_the_server_open() -> None:
    async with ModelServer() as server:
        asking = asyncio.ensure_future(ask(server, "/v1/messages", anthropic("HOLD: for ever")))
        await server.until(lambda: len(server.requests) == 1)
    with pytest.raises((http.client.HTTPException, OSError)):
        await asking


async def test_requests_are_kept_without_secrets(server: ModelServer) -> None:
    await ask(server, "/v1/messages", anthropic("Hello"))
    kept = server.requests[0]
    assert (kept.method, kept.path, kept.headers["x-api-key"]) == ("POST", "/v1/messages", "(secret)")
    assert kept.body["messages"][0]["content"][0]["text"] == "Hello"


async def test_what_is_not_served_is_said(server: ModelServer) -> None:
    status, _, text = await ask(server, "/v2/other", {})
    assert status == 404
    assert "POST /v2/other is not served here." in text
    assert (await ask(server, "/", {}, "HEAD"))[0] == 200
