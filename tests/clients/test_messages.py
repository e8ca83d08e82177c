"""Real clients write to each other with the tools of Skep's MCP server, against the scripted model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import skep
from skep.core.topology import Shape
from tests.clients.agents import Agent, each, set_up
from tests.clients.drive import need
from tests.clients.model_server import ModelServer
from tests.runtime.traces import left_behind
from tests.workspace.repository import Repository


@pytest.fixture(autouse=True)
def user(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A user whose clients are set up for the scripted model."""
    return set_up(server.url, tmp_path / "user", monkeypatch)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("agent", each())
@pytest.mark.parametrize("mode", ["on", "off"])
async def test_it_writes_to_another_agent_and_reads_the_answer(
    agent: Agent, mode: str, server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKEP_SANDBOX", mode)
    asks = {"permissions": "edits"} if agent.runtime != "acp" else {}
    need(agent.program)
    repo = Repository(tmp_path / "work")
    repo.commit({"a.txt": "one\n"})
    (tmp_path / "work" / "skep.toml").write_text('[environment]\nallow = ["SCRIPTED_*"]\n')
    prompt = """CALL: send_message {"to": "other-1", "text": "is v2 ready?", "id": "q"}
CALL: read_messages {"wait": 40}
CALL: send_message {"to": "third-1", "text": "hello"}
SAY: All well."""
    answer = f"""message() {{ {sys.executable} -P -m skep message "$@"; }}
until message read --wait 60 | tee -a "$SKEP_OUT/said" | grep -q ready; do :; done
message send worker-1 "v2 is ready" --answers ask:q"""
    agents = (
        agent.spec(name="worker", count=1, options={**agent.all, **asks}),
        skep.AgentSpec(name="other", runtime="shell", count=1, options={"run": answer}),
        skep.AgentSpec(name="third", runtime="shell", count=1),
        skep.AgentSpec(name="fourth", runtime="shell", count=1),
    )
    tasks = (
        skep.Task(id="ask", prompt=prompt, agent="worker", outputs={}, mode="none"),
        skep.Task(id="answer", prompt="x", agent="other", outputs={"said": "said"}),
    )
    async with skep.open(repo.top) as hive:
        session = await hive.start(skep.Plan(name="bench", agents=agents, tasks=tasks, topology=Shape("ring")))
        asked, answered = await session.results(["ask", "answer"])
        assert (asked.state, asked.detail, asked.value) == ("done", "", "All well.")
        assert answered.ok, answered.detail
        view = await session.messages()
        assert (view.sent, view.delivered, view.waiting) == (2, 2, ())
        assert await hive.inbox() == []
    told = json.dumps([each.body for each in server.requests])
    assert "You are worker-1, and not the only one at work." in told
    assert "from other-1 (an agent like you" in told
    assert "v2 is ready" in told
    assert "in a ring 'worker-1' talks to its two neighbours only" in told
    assert left_behind(repo.top) == []
