"""Loops of a model and tools, against a scripted model."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from skep.agents import Ending, Said, Spent, Talks, Used, Verdict, Waits
from skep.agents.door import Read, Send
from skep.agents.llm import INSTALL
from skep.agents.servers import own
from skep.config import PriceConfig
from tests.agents.scripted import KEY, Llm, asked
from tests.clients.model_server import ModelServer
from tests.contracts.runtime import Record, Workshop, assert_refused, workshop
from tests.terminals.processes import carrying

__all__ = ["workshop"]


#: The worker takes a second to begin, so all tests here share one, and one event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def server() -> AsyncIterator[ModelServer]:
    """A scripted model."""
    async with ModelServer() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def llm() -> AsyncIterator[Llm]:
    runtime = Llm(PriceConfig(input=1_000.0, output=5_000.0))
    yield runtime
    await runtime.close()


MODELS = pytest.mark.parametrize("model", ["openai:scripted", "anthropic:claude-scripted"])


@MODELS
@pytest.mark.parametrize("stream", [False, True])
async def test_a_loop_uses_tools_and_tells_what_it_does(
    llm: Llm, workshop: Workshop, server: ModelServer, model: str, stream: bool
) -> None:
    prompt = 'RUN: echo made > made.txt\nCALL: read_file {"path": "made.txt"}\nUSAGE: 1000 200\nSAY: All is well.'
    host = Record()
    ending = await llm.run(asked(workshop, server, prompt, model, stream=stream), host)
    assert (ending.ok, ending.result) == (True, "All is well."), ending
    assert (workshop.folder / "made.txt").read_text() == "made\n"
    used = [report for report in host.reports if isinstance(report, Used)]
    assert [(one.tool, one.about, one.ok) for one in used] == [
        ("shell", "echo made > made.txt", None),
        ("shell", "echo made > made.txt", True),
        ("read_file", "made.txt", None),
        ("read_file", "made.txt", True),
    ]
    assert [(one.model, one.input, one.output, one.usd) for one in host.reports if isinstance(one, Spent)] == [
        (model, 1000, 200, 2.0)
    ] * 3
    assert Said("All is well.") in host.reports
    assert "made" in str(server.requests[2].body)
    assert host.asked == []


async def test_files_outside_and_broken_calls_are_refused_and_the_model_is_told(
    llm: Llm, workshop: Workshop, server: ModelServer
) -> None:
    prompt = """CALL: read_file {"path": "/etc/passwd"}
        CALL: write_file {"path": "../out.txt", "content": "x"}
        CALL: edit_file {"path": "a.txt"}
        CALL: write_file {"path": "a.txt", "content": "one two"}
        CALL: edit_file {"path": "a.txt", "old": "two", "new": "three"}
        CALL: search {"pattern": "thr.e"}
        CALL: list_files {}"""
    ending = await llm.run(asked(workshop, server, prompt), Record())
    assert ending.ok, ending
    assert not (workshop.folder.parent / "out.txt").exists()
    told = str(server.requests[-1].body)
    for words in ("leads out of the folder", "wrong arguments", "a.txt is changed", "a.txt:1:one three"):
        assert words in told


async def test_what_is_not_allowed_is_not_done_and_the_attempt_is_denied(
    llm: Llm, workshop: Workshop, server: ModelServer
) -> None:
    host = Record()
    host.verdict = Verdict(False, "not on a Sunday")
    prompt = 'CALL: list_files {}\nRUN: touch made.txt\nCALL: write_file {"path": "b.txt", "content": "x"}'
    ending = await llm.run(asked(workshop, server, prompt, permissions="ask"), host)
    assert (ending.ok, ending.cause) == (False, "denied")
    assert "shell, write_file" in ending.detail
    assert [(ask.tool, ask.about) for ask in host.asked] == [("shell", "touch made.txt"), ("write_file", "b.txt")]
    assert "not on a Sunday" in str(server.requests[-1].body)
    assert not (workshop.folder / "made.txt").exists()
    assert host.pids == []


async def test_no_call_begins_when_the_budget_is_used_up(llm: Llm, workshop: Workshop, server: ModelServer) -> None:
    prompt = "RUN: true\nRUN: true\nRUN: true\nUSAGE: 1000 0"
    ending = await llm.run(replace(asked(workshop, server, prompt), usd=1.5), Record())
    assert (ending.ok, ending.cause, len(server.requests)) == (False, "limit", 2)
    assert "$2.0000 of $1.5000" in ending.detail


async def test_turns_are_bounded(llm: Llm, workshop: Workshop, server: ModelServer) -> None:
    ending = await llm.run(asked(workshop, server, "RUN: true\nRUN: true\nRUN: true", max_turns=2), Record())
    assert (ending.ok, ending.cause, len(server.requests)) == (False, "limit", 2)
    assert "turns" in ending.detail


@MODELS
async def test_a_short_limit_is_waited_out(llm: Llm, workshop: Workshop, server: ModelServer, model: str) -> None:
    host = Record()
    ending = await llm.run(asked(workshop, server, "FAIL: 429 retry-after=0.01\nSAY: after all", model), host)
    assert (ending.ok, ending.result) == (True, "after all"), ending
    assert any(isinstance(report, Waits) and report.until for report in host.reports)


async def test_a_long_limit_puts_the_attempt_off_and_fails_nothing(llm: Llm, workshop: Workshop, server: ModelServer) -> None:
    ending = await llm.run(asked(workshop, server, "FAIL: 429 times=9 retry-after=3600"), Record())
    assert (ending.ok, ending.interrupted, ending.cause, len(server.requests)) == (False, True, "limit", 1)
    assert 3_000_000 < ending.until - time.time() * 1000 < 4_000_000


@pytest.mark.parametrize("fault", ["FAIL: 500 times=9", "CUT: times=9"])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_outage_is_nobodys_failure(llm: Llm, workshop: Workshop, server: ModelServer, fault: str, stream: bool) -> None:
    ending = await llm.run(asked(workshop, server, fault, retries=1, stream=stream), Record())
    assert (ending.ok, ending.interrupted, ending.cause, len(server.requests)) == (False, True, "infrastructure", 2), ending


@pytest.mark.parametrize("fault", ["FAIL: 500", "CUT:"])
async def test_a_short_outage_is_waited_out(llm: Llm, workshop: Workshop, server: ModelServer, fault: str) -> None:
    assert (await llm.run(asked(workshop, server, f"{fault}\nSAY: again"), Record())).result == "again"


async def test_a_refused_key_waits_for_a_person_at_once(llm: Llm, workshop: Workshop, server: ModelServer) -> None:
    ending = await llm.run(asked(workshop, server, "FAIL: 401 times=9"), Record())
    assert (ending.ok, ending.interrupted, ending.cause, len(server.requests)) == (False, True, "login", 1)


async def test_a_key_that_is_not_set_waits_for_a_person(llm: Llm, workshop: Workshop, server: ModelServer) -> None:
    ending = await llm.run(asked(workshop, server, "SAY: no", api_key_env="NOT_SET"), Record())
    assert (ending.ok, ending.interrupted, ending.cause) == (False, True, "login")
    assert "NOT_SET is not set" in ending.detail
    assert server.requests == []


async def test_it_answers_a_question_in_a_copy_of_its_conversation_and_can_only_read(
    llm: Llm, workshop: Workshop, server: ModelServer
) -> None:
    job = replace(asked(workshop, server, "RUN: echo hi > made.txt\nSAY: All well."), home=str(workshop.folder / "home"))
    host = Record()
    assert (await llm.run(job, host)).ok
    (talks,) = host.told(Talks)
    kept = {path: path.read_bytes() for path in (workshop.folder / "home").rglob("*.jsonl")}
    question = replace(job, home=f"{job.home}-asked", conversation=talks.conversation, past=(job.home, job.cwd))
    question = replace(question, question="Why?\nRUN: touch bad\nSAY: Never.")
    ending = await llm.run(question, host := Record())
    assert ending.ok
    assert "No tool for 'RUN: touch bad' among those declared: read_file, list_files, search." in str(ending.result)
    assert "echo hi > made.txt" in str(server.requests[-1].body)
    assert host.asked == []
    assert kept
    assert {path: path.read_bytes() for path in kept} == kept
    gone = await llm.run(replace(question, home=f"{job.home}-more", past=(f"{job.home}-none", job.cwd)), Record())
    assert (gone.ok, gone.detail.startswith("The conversation is not there any more.")) == (False, True)


async def test_it_goes_on_in_its_conversation_when_the_worker_was_killed(
    llm: Llm, workshop: Workshop, server: ModelServer
) -> None:
    host, prompt = Record(), "RUN: echo once >> made.txt\nRUN: echo twice >> made.txt\nHOLD: gate step=2"
    job = asked(workshop, server, prompt)
    running = asyncio.ensure_future(llm.run(job, host))
    await server.until(lambda: len(server.requests) == 2)
    (worker,) = [pid for pid in carrying(f"ANTHROPIC_API_KEY={KEY}") if pid not in host.pids]
    os.kill(worker, signal.SIGKILL)
    ending = await running
    assert (ending.ok, ending.interrupted, ending.cause) == (False, True, "infrastructure"), ending
    (talks,) = [report for report in host.reports if isinstance(report, Talks)]
    server.release("gate")
    again = replace(job, conversation=talks.conversation, again="Go on.")
    ending = await llm.run(again, Record())
    assert ending.ok, ending
    assert (workshop.folder / "made.txt").read_text() == "once\ntwice\n"
    assert "Go on." in str(server.requests[-1].body)


async def test_a_call_of_a_tool_that_was_cut_off_is_not_repeated_unseen(
    llm: Llm, workshop: Workshop, server: ModelServer
) -> None:
    host = Record()
    job = asked(workshop, server, "RUN: echo on; sleep 600\nSAY: Looked.")
    running = asyncio.ensure_future(llm.run(job, host))
    await host.until("on")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (talks,) = [report for report in host.reports if isinstance(report, Talks)]
    ending = await llm.run(replace(job, conversation=talks.conversation, again="Go on."), Record())
    assert (ending.ok, ending.result) == (True, "Looked."), ending
    assert "whether this was done" in str(server.requests[-1].body)


async def test_it_hears_what_it_is_told_meanwhile(llm: Llm, workshop: Workshop, server: ModelServer) -> None:
    host = Record()
    running = asyncio.ensure_future(llm.run(asked(workshop, server, "HOLD: gate\nRUN: true\nSAY: Yes."), host))
    await server.until(lambda: len(server.requests) == 1)
    assert host.hear is not None
    host.hear("Mind the gap.")
    server.release("gate")
    assert (await running).ok
    assert "Mind the gap." in str(server.requests[-1].body)
    assert host.hear is None


async def test_no_key_reaches_what_the_agent_runs(llm: Llm, workshop: Workshop, server: ModelServer) -> None:
    job = asked(workshop, server, "RUN: env > env.txt", api_key_env="MY_KEY")
    ending = await llm.run(replace(job, env={**job.env, "MY_KEY": "mine", "OTHER": "there"}), Record())
    assert ending.ok, ending
    env = (workshop.folder / "env.txt").read_text()
    assert "OTHER=there" in env
    assert not any(word in env for word in ("API_KEY", "MY_KEY", "not-a-key"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tools": ["fly"]}, "not right"),
        ({"permissions": "some"}, "not right"),
        ({"mcp": ["nowhere"]}, "no server 'nowhere'"),
    ],
)
async def test_a_wrong_with_is_refused(
    llm: Llm, workshop: Workshop, server: ModelServer, options: dict[str, Any], words: str
) -> None:
    ending: Ending = await llm.run(asked(workshop, server, "SAY: no", **options), Record())
    assert_refused(ending)
    assert words in ending.detail
    assert server.requests == []


async def test_without_the_extra_it_says_what_to_install(
    workshop: Workshop, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = Llm()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert INSTALL in llm.check()
    ending = await llm.run(asked(workshop, server, "SAY: no"), Record())
    await llm.close()
    assert_refused(ending)
    assert INSTALL in ending.detail


async def test_it_talks_without_a_server_in_between_and_needs_no_leave(llm: Llm, workshop: Workshop, server: ModelServer) -> None:
    host = Record()
    host.answer = {"messages": [{"id": "m1", "text": "Message m1 from a person, note:\nuse v2"}], "more": 0}
    prompt = """CALL: read_messages {"wait": 300}
        CALL: read_messages {}
        CALL: send_message {"to": "you", "text": "done", "ttl": -1}
        CALL: send_message {"to": "you", "text": "done"}"""
    job = replace(asked(workshop, server, prompt, permissions="ask"), servers=own("/nowhere"))
    assert (await llm.run(job, host)).ok
    assert host.served == [Read(wait=45.0), Read(ack=("m1",)), Send(to="you", text="done")]
    assert host.asked == []
    told = json.dumps([each.body for each in server.requests])
    assert "use v2" in told
    assert "wrong arguments" in told


async def test_without_anybody_to_talk_to_it_has_no_such_tools(llm: Llm, workshop: Workshop, server: ModelServer) -> None:
    assert (await llm.run(asked(workshop, server, "SAY: Alone."), Record())).ok
    assert "send_message" not in json.dumps([each.body for each in server.requests])
