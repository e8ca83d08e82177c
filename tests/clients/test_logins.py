"""A coding client, the real one, that is not logged in: its task waits for a person and then goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

import skep
from tests.clients.agents import AGENTS, IMPATIENT, Agent, each, set_up
from tests.clients.drive import need
from tests.clients.model_server import ModelServer
from tests.workspace.repository import Repository

#: Over ACP OpenCode tells only the words of its provider, and those of the scripted one say nothing of a login.
TELLING = [name for name in AGENTS if name != "opencode-acp"]


@pytest.mark.parametrize("agent", each(*TELLING))
async def test_its_task_waits_for_a_person_and_then_goes_on(
    agent: Agent, server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(agent.program)
    set_up(server.url, tmp_path / "user", monkeypatch)
    if agent.name == "claude-agent-acp":  # tries for minutes, and does not say that it does
        for name, value in IMPATIENT.items():
            monkeypatch.setenv(name, value)
    repo = Repository(tmp_path / "work")
    repo.commit({"a.txt": "one\n"})
    (tmp_path / "work" / "skep.toml").write_text('[environment]\nallow = ["SCRIPTED_*"]\n')
    server.refuses = 401
    task = skep.Task(id="a", prompt="RUN: echo hi > made.txt\nSAY: All well.")
    async with skep.open(repo.top) as hive:
        session = await hive.start(skep.Plan(name="bench", agents=(agent.spec(),), tasks=(task,)))
        view = await session.settled()
        found = view.tasks[0]
        assert (found.state, found.question, found.attempts) == ("needs-you", "login", 1), found.detail
        (asked,) = await hive.inbox()
        assert asked.question == "login"
        assert any(word in asked.about for word in ("run `", "set ", "log in")), asked.about
        server.refuses = 0
        await session.answer("a", "approve")
        (result,) = await session.results(["a"])
        assert (result.state, result.detail) == ("done", "")
