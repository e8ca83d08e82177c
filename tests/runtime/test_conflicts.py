"""Conflicts that agents resolve, in a real repository: both sides in one worktree, one commit of it lands, nothing half-done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import skep
from skep.core.model import AgentSpec, Limits, Plan, Task
from skep.errors import Invalid
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository

#: Takes the marks out and keeps both sides; tells the test what it was told.
KEEPS_BOTH = 'cat "$SKEP_PROMPT" > {seen}; git diff --cached --stat >> {seen}; sed -i "/^[<=>]\\{{7\\}}/d" a.txt'
LEAVES_MARKS = "echo more >> a.txt"


def plan(gate: Gate, resolves: str, **more: Any) -> Plan:
    """Two tasks that write the same line, and an agent that is to bring them together."""
    both = tuple(
        Task(id=name, run=f"{gate.PASS}; echo {name} > a.txt", env=gate.env, on_conflict="task", **more) for name in ("x", "y")
    )
    agent = AgentSpec(name="fixer", runtime="shell", options={"run": resolves})
    return Plan(name="two", agents=(agent,), tasks=both, limits=Limits(agents=4))


async def test_both_sides_are_resolved_by_an_agent_and_its_commit_lands(repo: Repository, gate: Gate, tmp_path: Path) -> None:
    seen = tmp_path / "seen.txt"
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan(gate, KEEPS_BOTH.format(seen=seen), verify="! grep -q '<<<<' a.txt"))
        await gate.begun(2)
        gate.go(2)
        view = await session.settled()
        assert view.state == "completed"
        made = next(task for task in view.tasks if task.parent)
        parent = next(task for task in view.tasks if task.id == made.parent)
        assert (made.id, made.agent, made.merged) == (f"{parent.id}[conflict]", "fixer-1", "")
        assert parent.commit == made.commit
        assert repo("log", "-1", "--format=%P", parent.merged).split()[1] == made.commit
        assert sorted(repo.show("refs/skep/two-1/main", "a.txt").split()) == ["x", "y"]
        assert "+" + parent.id in await session.diff(parent.id)
        assert repo("rev-parse", f"refs/skep/two-1/task/{parent.id}/1") != made.commit, "what did not merge is kept"
    told = seen.read_text()
    other = "x" if parent.id == "y" else "y"
    for part in (
        "conflict markers",
        f"echo {parent.id} > a.txt",
        f"\n{other}\n",
        "CONFLICT (content)",
        "git show",
        "1 file changed",
    ):
        assert part in told


async def test_marks_that_are_left_fail_the_attempt_and_then_a_person_is_asked(repo: Repository, gate: Gate) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan(gate, LEAVES_MARKS, retries=1))
        await gate.begun(2)
        gate.go(2)
        view = await session.settled()
        made = next(task for task in view.tasks if task.parent)
        parent = next(task for task in view.tasks if task.id == made.parent)
        assert (made.state, made.attempts, made.cause) == ("skipped", 2, "conflict")
        assert made.detail == "it left conflict markers in a.txt"
        assert (parent.state, parent.question) == ("needs-you", "conflict")
        assert "left conflict markers in a.txt" in parent.detail
        assert "<<<" not in repo.show("refs/skep/two-1/main", "a.txt")
        await session.answer(parent.id, "rerun")
        await gate.begun()
        gate.go()
        assert (await session.settled()).state == "completed"
        assert repo.show("refs/skep/two-1/main", "a.txt") == parent.id


async def test_a_resolution_that_fails_asks_a_person_who_may_drop_the_task(repo: Repository, gate: Gate) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan(gate, "exit 3"))
        await gate.begun(2)
        gate.go(2)
        view = await session.settled()
        asking = next(task for task in view.tasks if task.state == "needs-you")
        assert "did not resolve it: exit code 3" in asking.detail
        await session.answer(asking.id, "skip")
        assert (await session.settled()).state == "completed"


async def test_without_an_agent_that_takes_prompts_it_is_refused(repo: Repository) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        with pytest.raises(Invalid, match="nobody could resolve a conflict"):
            await session.submit(Task(id="a", run="true", on_conflict="task"))
