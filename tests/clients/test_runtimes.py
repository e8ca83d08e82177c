"""Every coding client, the real one, carries a task of Skep out against the scripted model, and goes on in its thread."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import skep
from skep.agents import Runtime, Talks, acp, claude, codex, gemini, opencode
from skep.config import SandboxConfig
from skep.core.model import Task
from skep.runtime.bounds import bounds, of_agent
from skep.runtime.confined import Wards
from skep.security import Sandbox
from skep.security.choice import choose
from skep.security.egress import Egress
from skep.terminals import Terminals
from skep.terminals.native import Native
from skep.workspace import Around
from tests.clients.drive import BIN, CLIENTS, TALKERS, need
from tests.clients.model_server import ModelServer
from tests.contracts.runtime import Record, Workshop
from tests.runtime.traces import left_behind
from tests.workspace.repository import Repository

MAKES = "RUN: echo hi > made.txt\nSAY: All well."
ALL: dict[str, Any] = {"permissions": "all"}
#: Name -> runtime, program, model, `with`. Gemini's choice of a model is a question to a model.
AGENTS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "codex": ("codex", "codex", "", ALL),
    "gemini": ("gemini", "gemini", "gemini-2.5-flash", ALL),
    "opencode": ("opencode", "opencode", "", ALL),
    "claude-agent-acp": ("acp", "claude-agent-acp", "", {**ALL, "command": ["claude-agent-acp"]}),
    "codex-acp": ("acp", "codex-acp", "", {**ALL, "command": ["codex-acp"], "mode": "agent-full-access"}),
    "gemini-acp": ("acp", "gemini", "", {**ALL, "command": ["gemini", "--acp", "-m", "gemini-2.5-flash"]}),
    "opencode-acp": ("acp", "opencode", "", {**ALL, "command": ["opencode", "acp"]}),
}
MADE: dict[str, Callable[[Terminals], Runtime]] = {
    "claude": claude.ClaudeRuntime,
    "codex": codex.runtime,
    "gemini": gemini.runtime,
    "opencode": opencode.runtime,
    "acp": acp.AcpRuntime,
}
EACH = [pytest.param(name, marks=() if name == "codex" else pytest.mark.clients) for name in AGENTS]


@pytest.fixture(autouse=True)
def user(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A user whose clients are set up for the scripted model, in their home and their environment."""
    home = tmp_path / "user"
    env = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(home)}
    for client in (*CLIENTS.values(), *TALKERS.values()):
        env |= {name: value.replace("{url}", server.url) for name, value in client.env.items()}
        for path, text in client.files.items():
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            (home / path).write_text(text.replace("{url}", server.url), encoding="utf-8")
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_", "SKEP_"))]:
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


def confinable(folder: Path) -> Sandbox:
    """What confines programs here; skips the test if nothing does."""
    found = choose(folder / "sandbox")
    if isinstance(found, str):
        pytest.skip(found)
    if "hosts" in found.lost:
        pytest.skip(found.lost["hosts"])
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", EACH)
async def test_confined_its_change_is_committed_verified_and_merged(name: str, tmp_path: Path, user: dict[str, str]) -> None:
    await merges(name, tmp_path, "confined (")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", EACH)
async def test_unconfined_its_change_is_committed_verified_and_merged(
    name: str, tmp_path: Path, user: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKEP_SANDBOX", "off")
    await merges(name, tmp_path, "unconfined")


async def merges(name: str, tmp_path: Path, confinement: str) -> None:
    """A client's work from a task to the session's branch."""
    runtime, program, model, options = AGENTS[name]
    need(program)
    if confinement != "unconfined":
        confinable(tmp_path)
    repo = Repository(tmp_path / "work")
    repo.commit({"a.txt": "one\n"})
    agent = skep.AgentSpec(name="worker", runtime=runtime, model=model, options=options)
    (tmp_path / "work" / "skep.toml").write_text('[environment]\nallow = ["SCRIPTED_*"]\n')
    task = skep.Task(id="a", prompt=MAKES, verify="grep hi made.txt")
    async with skep.open(repo.top) as hive:
        session = await hive.start(skep.Plan(name="bench", agents=(agent,), tasks=(task,)))
        (result,) = await session.results(["a"])
        assert (result.state, result.detail, result.value, result.attempts) == ("done", "", "All well.", 1)
        view = await session.settled()
        assert repo.show("refs/skep/bench-1/main", "made.txt") == "hi"
        assert view.tasks[0].cost is not None
        assert view.tasks[0].cost.output > 0
        assert view.tasks[0].confinement.startswith(confinement)
    assert left_behind(repo.top) == []


# Gemini over ACP offers to load a session and then begins a new one.
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [each for each in EACH if each.values != ("gemini-acp",)])
async def test_it_goes_on_in_its_thread(name: str, server: ModelServer, tmp_path: Path, user: dict[str, str]) -> None:
    runtime, program, model, options = AGENTS[name]
    need(program)
    found, folder, home = confinable(tmp_path), tmp_path / "work", tmp_path / "home"
    wards, workshop = Wards(Native(), found, Egress(tmp_path / "sandbox")), Workshop(folder)
    carried = MADE[runtime](wards)
    folder.mkdir()
    job = workshop.job(Task(prompt="x"), **options)
    job = replace(job, prompt=MAKES, again="SAY: Again.", model=model, home=str(home), env={**job.env, **user}, confined=True)
    spec = skep.AgentSpec(name="worker", runtime=runtime, options=options)
    said = of_agent(SandboxConfig(), skep.Plan(name="bench"), spec)
    home.mkdir()
    within = bounds(said, folder, tmp_path / "state", job.env, Around(write=(str(folder),)), (str(home),), str(tmp_path / "own"))
    first = Record()
    with wards.of(job.nonce, within, hosts=said.network):
        assert (await carried.run(job, first)).ok
        thread = next(report.conversation for report in first.reports if isinstance(report, Talks))
        ending = await carried.run(replace(job, conversation=thread), Record())
    assert ending.ok
    assert ending.result.endswith("Again.")  # Codex over ACP says a warning first
    # The first prompt is still in mind.
    assert "echo hi > made.txt" in json.dumps(next(each.body for each in reversed(server.requests) if "Again." in str(each.body)))
    await wards.close()
