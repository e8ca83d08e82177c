"""What real clients ask leave for, and what the answer comes to: Claude Code, and an agent of the Agent Client Protocol."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

import skep
from skep.core import events as ev
from tests.clients.drive import BIN, CLAUDE_ENV, need
from tests.clients.model_server import ModelServer
from tests.interfaces.cli.terminal import User
from tests.runtime.traces import left_behind
from tests.workspace.repository import Repository

AGENTS: dict[str, dict[str, Any]] = {
    "claude": {"runtime": "claude", "model": "sonnet"},
    "claude-agent-acp": {"runtime": "acp", "options": {"command": ("claude-agent-acp",)}},
}
EACH = [pytest.param(name, marks=() if name == "claude" else pytest.mark.clients) for name in AGENTS]
MAKES = "RUN: touch made.txt\nSAY: All well."
COLOUR = json.dumps(
    {
        "questions": [
            {
                "question": "Which colour?",
                "header": "Colour",
                "options": [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}],
                "multiSelect": False,
            }
        ]
    }
)


@pytest.fixture(autouse=True)
def user(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    """Somebody at a shell, whose clients are set up for the scripted model."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_", "SKEP_", "ANTHROPIC_", "CLAUDE_"))]:
        monkeypatch.delenv(name)
    env = {name: value.replace("{url}", server.url) for name, value in CLAUDE_ENV.items()}
    env |= {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path / "no-home"), "SKEP_SANDBOX": "off"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    repo = Repository(tmp_path / "work")
    repo.commit({"a.txt": "one\n"})
    found = User(repo, tmp_path)
    found.env |= env
    return found


def plan(name: str, prompt: str = MAKES, within: float = 0.0) -> skep.Plan:
    """One task for one agent."""
    need(name)
    task = skep.Task(id="a", prompt=prompt, agent="it")
    limits = skep.Limits(answer_within=within)
    return skep.Plan(name="p", agents=(skep.AgentSpec(name="it", **AGENTS[name]),), tasks=(task,), limits=limits)


async def asked(session: skep.Session, number: int = 1) -> ev.ApprovalAsked:
    """This question, once it is in the log."""
    async for _, event in session.follow():
        if isinstance(event, ev.ApprovalAsked) and event.number >= number:
            return event
    raise AssertionError


async def story(session: skep.Session) -> list[str]:
    """What was asked, answered and used, in the order of the log."""
    last, found = (await session.status()).seq, []
    async for number, event in session.follow():
        if isinstance(event, ev.ApprovalAsked | ev.ApprovalAnswered | ev.ApprovalUsed):
            found.append(f"{type(event).__name__.removeprefix('Approval')} {event.number}")
        if number >= last:
            return found
    raise AssertionError


def heard(server: ModelServer) -> str:
    """All that the model was told in the last request of the client's own work."""
    return json.dumps([each.body for each in server.requests if each.body.get("tools")][-1])


@pytest.mark.parametrize("name", EACH)
async def test_it_waits_for_a_yes_which_is_in_the_log_before_it_goes_on(name: str, user: User) -> None:
    async with skep.open(user.repo.top) as hive:
        session = await hive.start(plan(name))
        await asked(session)
        (need_,) = await hive.inbox()
        assert "touch made.txt" in need_.about
        assert not list(Path(await session.open("a")).glob("made.txt"))
        await session.allow(need_.id)
        assert (await session.results(["a"]))[0].ok
        assert "made.txt" in user.repo.files("refs/skep/p-1/main")
        assert await story(session) == ["Asked 1", "Answered 1", "Used 1"]
    assert left_behind(user.repo.top) == []


@pytest.mark.parametrize("name", EACH)
async def test_always_is_asked_once(name: str, user: User) -> None:
    twice = "RUN: echo x >> made.txt\nRUN: echo x >> made.txt\nSAY: All well."
    async with skep.open(user.repo.top) as hive:
        session = await hive.start(plan(name, twice))
        await asked(session)
        await session.allow("a/1", always=True)
        assert (await session.results(["a"]))[0].ok
        assert user.repo.show("refs/skep/p-1/main", "made.txt").split() == ["x", "x"]


@pytest.mark.parametrize("name", EACH)
async def test_a_no_reaches_the_agent_and_its_reason_whoever_works_next(name: str, user: User, server: ModelServer) -> None:
    async with skep.open(user.repo.top) as hive:
        session = await hive.start(plan(name))
        await asked(session)
        await session.refuse("a/1", "use what is there")
        (result,) = await session.results(["a"])
        assert (result.state, result.cause) == ("failed", "denied")
        if name == "claude":
            assert "Not allowed: use what is there." in heard(server), "the agent reads it at once"
        else:
            assert "use what is there" in result.detail, "the protocol has no words for it: the next attempt reads it"


@pytest.mark.parametrize("name", EACH)
async def test_nobody_in_time_is_a_no(name: str, user: User) -> None:
    async with skep.open(user.repo.top) as hive:
        session = await hive.start(plan(name, within=0.5))
        (result,) = await session.results(["a"])
        assert (result.state, result.cause) == ("failed", "denied")
        assert await story(session) == ["Asked 1", "Answered 1"]


async def test_a_pipeline_asks_nobody_and_says_so_by_its_exit_code(user: User) -> None:
    need("claude")
    user.write("wf.yaml", json.dumps({"version": 1, "agents": {"it": {"runtime": "claude"}}, "tasks": {"a": {"prompt": MAKES}}}))
    ran = await asyncio.to_thread(user.run, "run", "wf.yaml", "--ci")
    assert (ran.code, "1 action refused, as nobody is asked with --ci" in ran.out) == (4, True)


async def test_a_question_of_claude_is_answered_in_words(user: User, server: ModelServer) -> None:
    async with skep.open(user.repo.top) as hive:
        session = await hive.start(plan("claude", f"CALL: AskUserQuestion {COLOUR}\nRUN: touch made.txt\nSAY: All well."))
        await asked(session)
        (need_,) = await hive.inbox()
        assert (need_.tool, need_.about) == ("question", "Which colour? (Red | Blue)")
        with pytest.raises(skep.Invalid, match="asks for words"):
            await session.allow("a/1")
        await session.allow("a/1", comment="Green, please")
        await asked(session, 2)
        assert "Green, please" in heard(server)
        await session.allow("a/2")
        assert (await session.results(["a"]))[0].ok


async def test_a_question_that_nobody_answers_is_no_denial_and_the_agent_goes_on(user: User, server: ModelServer) -> None:
    async with skep.open(user.repo.top) as hive:
        session = await hive.start(plan("claude", f"CALL: AskUserQuestion {COLOUR}\nRUN: touch made.txt\nSAY: All well."))
        await asked(session)
        await session.refuse("a/1", "decide yourself")
        await asked(session, 2)
        assert "decide yourself" in heard(server)
        await session.allow("a/2")
        assert (await session.results(["a"]))[0].ok
