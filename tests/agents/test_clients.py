"""What coding clients were seen to say, as reports and endings; and that nothing that they could say makes their readers fail."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.agents import (
    Ending,
    Job,
    Report,
    Said,
    Spent,
    Talks,
    Used,
    Verdict,
    Waits,
    acp,
    claude,
    codex,
    gemini,
    opencode,
)
from skep.agents.lines import Lines
from skep.agents.options import AcpOptions, ClaudeOptions
from skep.agents.servers import Server
from skep.agents.tally import Tally
from skep.core.model import Task
from skep.terminals.native import Native
from tests.clients.agents import MADE
from tests.contracts.runtime import Record, Workshop

RECORDED = Path(__file__).parents[1] / "clients"
PLAYER = Path(__file__).with_name("player.py")
GOOD = ("success", "rate-limited")
BAD: dict[str, tuple[int, str, str]] = {
    # recording -> exit code, cause, a part of the detail
    "claude-denied": (0, "denied", "not allowed to use Bash"),
    "claude-turns": (1, "limit", "turns"),
    "claude-budget": (1, "limit", "budget"),
    "claude-error": (1, "error", "The script says 400"),
    "codex-error": (1, "error", "The script says 400"),
    "gemini-denied": (0, "denied", "not allowed to use run_shell_command"),
    "gemini-turns": (53, "limit", "turns"),
    "gemini-error": (144, "error", "The script says 400"),
    "gemini-cut": (1, "infrastructure", "terminated"),
    "opencode-error": (1, "error", "The script says 400"),
    "opencode-unanswered": (0, "denied", "bash"),
}


@pytest.fixture
async def terminals() -> AsyncIterator[Native]:
    source = Native()
    yield source
    await source.close()


async def play(
    terminals: Native, folder: Path, name: str, file: Path, code: int = 0, allowed: bool = True
) -> tuple[Ending, Record]:
    """Has a runtime listen to a recording in its client's place."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\nexec {shlex.join([sys.executable, str(PLAYER), str(file), str(code)])}\n")
    program.chmod(0o755)
    options: dict[str, Any] = {"command": [str(program)]} if name == "acp" else {"program": str(program)}
    job = Workshop(folder).job(Task(prompt="do it"), **options)
    host = Record()
    host.verdict = Verdict(allowed, "no")
    ending = await MADE[name](terminals).run(replace(job, prompt="do it", home=str(folder / "home")), host)
    return ending, host


def of(kind: type, reports: list[Report]) -> list[Any]:
    return [report for report in reports if isinstance(report, kind)]


@pytest.mark.parametrize("name", ["claude", "codex", "gemini", "opencode"])
async def test_a_success_is_told_in_the_same_reports_by_all(name: str, terminals: Native, tmp_path: Path) -> None:
    ending, host = await play(terminals, tmp_path, name, RECORDED / "streams" / f"{name}-success.jsonl")
    assert (ending.ok, ending.result) == (True, "All well.")
    assert len(of(Talks, host.reports)) == 1
    begun, over = of(Used, host.reports)
    assert (begun.id, begun.ok, over.ok) == (over.id, None, True)
    assert "echo hi > made.txt" in begun.about
    assert [said.text for said in of(Said, host.reports)] == ["All well."]
    spent = of(Spent, host.reports)
    assert (sum(one.input for one in spent), sum(one.output for one in spent)) == (200, 40)


@pytest.mark.parametrize("name", ["claude", "codex", "gemini", "opencode"])
async def test_a_limit_that_passed_is_no_failure(name: str, terminals: Native, tmp_path: Path) -> None:
    ending, host = await play(terminals, tmp_path, name, RECORDED / "streams" / f"{name}-rate-limited.jsonl")
    assert (ending.ok, ending.result) == (True, "All well.")
    assert bool(of(Waits, host.reports)) == (name in ("claude", "codex"))


@pytest.mark.parametrize("recorded", BAD)
async def test_what_went_wrong_has_its_cause(recorded: str, terminals: Native, tmp_path: Path) -> None:
    code, cause, detail = BAD[recorded]
    name = recorded.partition("-")[0]
    ending, _ = await play(terminals, tmp_path, name, RECORDED / "streams" / f"{recorded}.jsonl", code)
    assert (ending.ok, ending.cause, ending.interrupted) == (False, cause, cause == "infrastructure")
    assert detail in ending.detail


@pytest.mark.parametrize("agent", ["claude-agent-acp", "gemini-acp", "opencode-acp"])
@pytest.mark.parametrize("allowed", [True, False])
async def test_agents_of_the_protocol_ask(agent: str, allowed: bool, terminals: Native, tmp_path: Path) -> None:
    file = RECORDED / "talks" / f"{agent}-{'allowed' if allowed else 'refused'}.jsonl"
    ending, host = await play(terminals, tmp_path, "acp", file, allowed=allowed)
    assert len(host.asked) == 1
    assert "touch made.txt" in host.asked[0].about
    assert "touch made.txt" in host.asked[0].arguments["command"]  # by which rules know it
    assert (ending.ok, ending.cause) == ((True, "") if allowed else (False, "denied"))
    assert sum(one.output for one in of(Spent, host.reports)) in (20, 40)
    if allowed or agent != "opencode-acp":  # which ends there
        assert of(Said, host.reports)[-1].text == ("All well." if allowed else "I could not.")


def said(**update: Any) -> dict[str, Any]:
    return {"method": "session/update", "params": {"update": update}}


def words(text: str, message: str = "") -> dict[str, Any]:
    return said(sessionUpdate="agent_message_chunk", messageId=message, content={"text": text})


async def talk(*messages: dict[str, Any], conversation: str = "") -> tuple[Ending, Record]:
    """A session of the protocol in which the agent says this after the prompt."""
    begun: list[dict[str, Any]] = [
        {"id": 1, "result": {"agentCapabilities": {"loadSession": True}}},
        {"id": 2, "result": {"sessionId": "s", "modes": {"currentModeId": "default"}}},
    ]
    client, host = cast(Lines, Saying([*begun, *messages])), Record()
    job = replace(JOB, prompt="x", conversation=conversation)
    session = acp.Session(job, host, client, AcpOptions(command=("x",)))
    return await session.go(), host


OVER = {"id": 3, "result": {"stopReason": "end_turn"}}


async def test_codex_over_the_protocol_fails_though_it_ends_its_turn_as_if_all_were_well() -> None:
    state = {"sessionUpdate": "session_info_update", "_meta": {"codex": {"threadStatus": {"type": "systemError"}}}}
    tries = {"error": {"message": "Reconnecting... 1/5", "additionalDetails": "status: 429", "willRetry": True}}
    again = said(sessionUpdate="session_info_update", _meta={"codex": tries})
    ending, host = await talk(again, said(**state), words("last status: 429 Too Many Requests\n\n"), OVER)
    assert (ending.ok, ending.cause, ending.interrupted) == (False, "limit", True)
    assert [waits.why for waits in of(Waits, host.reports)] == ["status: 429"]
    active = {**state, "_meta": {"codex": {"threadStatus": {"type": "active"}}}}
    ending, _ = await talk(said(**state), said(**active), words("All well."), OVER)
    assert (ending.ok, ending.result) == (True, "All well.")


async def test_what_an_agent_repeats_after_it_loaded_its_session_is_no_news() -> None:
    again = (words("All well."), said(sessionUpdate="tool_call", toolCallId="1", status="completed"))
    ending, host = await talk(*again, {"id": 3, "result": {}}, words("Again."), {**OVER, "id": 4}, conversation="s")
    assert (ending.ok, ending.result) == (True, "Again.")
    assert [type(report) for report in host.reports] == [Talks, Said]


async def test_messages_of_an_agent_are_told_apart_and_tools_told_when_it_is_known_what_for() -> None:
    tool = {"sessionUpdate": "tool_call", "toolCallId": "1", "kind": "execute", "status": "pending", "title": "Terminal"}
    known = {"sessionUpdate": "tool_call_update", "toolCallId": "1", "rawInput": {"command": "make"}}
    over = {"sessionUpdate": "tool_call_update", "toolCallId": "1", "status": "completed"}
    messages = (
        words("Careful."),
        words("I ", "m1"),
        words("see.", "m1"),
        said(**tool),
        said(**known),
        said(**over),
        words("Done.", "m2"),
    )
    ending, host = await talk(*messages, OVER)
    assert ending.result == "Done."
    assert [each.text for each in of(Said, host.reports)] == ["Careful.", "I see.", "Done."]
    assert [(each.about, each.ok) for each in of(Used, host.reports)] == [("make", None), ("", True)]


@pytest.mark.parametrize("name", MADE)
async def test_a_client_that_is_not_there_is_named_with_the_command_that_installs_it(
    name: str, terminals: Native, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"command": ["no-such"]} if name == "acp" else {"program": "no-such"}
    ending = await MADE[name](terminals).run(Workshop(tmp_path).job(Task(prompt="x"), **options), Record())
    assert (ending.ok, ending.cause, ending.interrupted) == (False, "error", False)
    assert "no-such is not on the PATH; install it: " in ending.detail


#: Keys that clients use, and words that they use as values.
SPOKEN = Path(__file__).with_name("spoken.txt").read_text(encoding="utf-8").split("\n\n")
KEYS, WORDS = (st.sampled_from(words.split()) for words in SPOKEN)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=6),
    max_leaves=10,
)
MESSAGES = st.lists(
    st.builds(dict, st.dictionaries(KEYS, VALUES, max_size=8), type=WORDS) | st.dictionaries(KEYS, VALUES, max_size=8), max_size=8
)


class Saying:
    """Stands for a client that says these messages."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages = iter(messages)
        self.told: list[dict[str, Any]] = []

    def say(self, message: dict[str, Any]) -> None:
        self.told.append(message)

    def finish(self) -> None:
        pass

    async def heard(self) -> AsyncIterator[dict[str, Any]]:
        for message in self.messages:
            yield message

    async def failure(self) -> Ending:
        return Ending(ok=False, cause="exit", detail="exit code 0")

    def complaint(self) -> str:
        return ""


JOB = Job(task=Task(prompt="x"), n=1, nonce="0" * 32, agent="a", options={}, cwd="/", out="/", env={}, feedback="")


@settings(max_examples=60)
@given(MESSAGES)
def test_nothing_that_a_client_says_makes_its_reader_fail(messages: list[dict[str, Any]]) -> None:
    for kind in (codex.Reader, gemini.Reader, opencode.Reader):
        reader = kind(JOB, Record())
        for message in messages:
            reader.hear(message)
        assert reader.ending() is None or isinstance(reader.ending(), Ending)


@settings(max_examples=60)
@given(MESSAGES)
def test_nothing_that_claude_or_an_agent_of_the_protocol_says_makes_skep_fail(messages: list[dict[str, Any]]) -> None:
    async def both() -> None:
        told = claude.Talk(JOB, Record(), cast(Lines, Saying(messages)), Tally(Record(), "", None))
        assert isinstance(await told.go("x"), Ending)
        answers: list[dict[str, Any]] = [{"id": n, "result": {"sessionId": "s"}} for n in (1, 2)]
        client = cast(Lines, Saying([*answers, *messages, OVER]))
        session = acp.Session(JOB, Record(), client, AcpOptions(command=("x",)))
        assert isinstance(await session.go(), Ending)

    asyncio.run(both())


def test_a_users_own_server_does_not_take_the_place_of_one_of_the_job(tmp_path: Path) -> None:
    settings = tmp_path / "user" / ".gemini" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"theme": "dark", "mcpServers": {"skep": {"command": "old"}, "notes": {"command": "notes"}}}))
    job = Workshop(tmp_path).job(Task(prompt="go"))
    job = replace(job, env={"HOME": str(tmp_path / "user")}, home=str(tmp_path / "home"), servers={"skep": Server(command="new")})
    with gemini.CLIENT.at_home(job) as env:
        found = json.loads(Path(env["HOME"], ".gemini", "settings.json").read_text())
    assert {name: one["command"] for name, one in found["mcpServers"].items()} == {"skep": "new", "notes": "notes"}
    assert found["theme"] == "dark"


def test_what_claude_is_told_of_servers_is_for_nobody_else_to_see(tmp_path: Path) -> None:
    job = Workshop(tmp_path).job(Task(prompt="go"))
    job = replace(job, home=str(tmp_path / "home"), servers={"db": Server(command="db", env={"TOKEN": "canary-4711"})})
    words = claude.arguments(job, ClaudeOptions(), "")
    assert "canary-4711" not in " ".join(words)
    file = Path(words[words.index("--mcp-config") + 1])
    with claude.CLIENT.at_home(job):
        assert "canary-4711" in file.read_text()
        assert Path(job.home).stat().st_mode & 0o077 == 0
    assert not file.exists()
