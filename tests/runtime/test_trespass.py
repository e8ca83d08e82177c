"""A node that says "ok" of a commit which does what none may: whoever merges looks again."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

import skep
from skep import nodes
from skep.config import Config, SandboxConfig, StoreConfig
from skep.core.model import AgentSpec, Limits, Plan, Task
from skep.runtime import attempt
from skep.runtime.node import Here, Role
from tests import servers
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository


async def nothing(*_: object) -> str:
    """What a node says that looks at nothing."""
    return ""


async def test_an_invited_node_that_changes_what_is_protected_is_not_merged(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "trespasses", nothing)
    server = servers.valkey_server()
    server.tell("FLUSHALL")
    config = Config(store=StoreConfig(url=server.url, key=str(tmp_path / "key")), sandbox=SandboxConfig(mode="off"))
    base = repo("rev-parse", "HEAD")
    (tmp_path / "east").mkdir()
    async with nodes.join(repo.top, config, Role(here=Here(name="leader", slots=0))) as leader:
        await nodes.invite(tmp_path, config, "east", tmp_path / "east.invite")
        invited = replace(config, store=replace(config.store, key="", invite=str(tmp_path / "east.invite")))
        async with nodes.join(tmp_path / "east", invited, Role(here=Here(name="east", slots=2), serves=True, hosted=True)):
            run = f'echo "$SKEP_FEEDBACK" >> {tmp_path}/told; echo evil > a.txt; echo b > b.txt'
            evil = Task(id="evil", run=run, protect=("a.*",), retries=1)
            good = Task(id="good", run="echo c > c.txt", protect=("a.*",))
            session = await leader.start(Plan(name="held", tasks=(evil, good)))
            view = await session.settled()
    tasks = {task.id: task for task in view.tasks}
    assert (tasks["evil"].state, tasks["evil"].attempts, tasks["evil"].cause) == ("failed", 2, "protected")
    assert tasks["evil"].detail == "it changed protected paths: a.txt"
    assert tasks["good"].state == "done"
    merged = f"refs/skep/{session.name}/main"
    assert repo.files(merged) - repo.files(base) == {"c.txt"}
    assert (tmp_path / "told").read_text().split("\n") == ["", "it changed protected paths: a.txt", ""]


async def test_marks_that_a_node_did_not_look_for_are_not_merged(
    repo: Repository, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "unresolved", nothing)
    both = tuple(Task(id=name, run=f"{gate.PASS}; echo {name} > a.txt", env=gate.env, on_conflict="task") for name in ("x", "y"))
    fixer = AgentSpec(name="fixer", runtime="shell", options={"run": "echo more >> a.txt"})
    async with skep.open(repo.top) as hive:
        session = await hive.start(Plan(name="two", agents=(fixer,), tasks=both, limits=Limits(agents=4)))
        await gate.begun(2)
        gate.go(2)
        view = await session.settled()
    made = next(task for task in view.tasks if task.parent)
    parent = next(task for task in view.tasks if task.id == made.parent)
    assert made.state == "done", "the node said so"
    assert (parent.state, parent.question, parent.detail) == ("needs-you", "conflict", "it left conflict markers in a.txt")
    assert "<<<" not in repo.show("refs/skep/two-1/main", "a.txt")
