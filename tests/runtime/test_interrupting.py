"""One agent is interrupted: its work is kept, the others go on, and a person says how its task does."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

import skep
from skep.core import events as ev
from skep.core.model import AgentSpec, Plan, Task
from skep.errors import Conflict, NotFound
from tests.workspace.repository import Repository

#: Works, says so, and then waits at the gate; told something meanwhile, it notes that.
WORK = """echo half > "$SKEP_TASK.txt"; cat "$SKEP_PROMPT" > "$SKEP_TASK-told.txt"
echo up > {0}/up-$SKEP_TASK; read -r x < {0}/gate-$SKEP_TASK"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two tasks for two agents that wait to be let go."""
    for name in ("a", "b"):
        os.mkfifo(tmp_path / f"up-{name}")
        os.mkfifo(tmp_path / f"gate-{name}")
    specs = tuple(AgentSpec(name=f"for-{name}", runtime="shell", options={"run": WORK.format(tmp_path)}) for name in ("a", "b"))
    tasks = tuple(Task(id=name, prompt=f"do {name}", agent=f"for-{name}") for name in ("a", "b"))
    return Plan(name="held", agents=specs, tasks=tasks)


def begun(tmp_path: Path, *names: str) -> None:
    for name in names:
        (tmp_path / f"up-{name}").read_text()


def go(tmp_path: Path, name: str) -> None:
    (tmp_path / f"gate-{name}").write_text("go\n")


async def asks(session: skep.Session) -> None:
    async for _, event in session.follow():
        if isinstance(event, ev.AttemptEnded) and event.question == "held":
            return


async def test_its_task_waits_for_a_word_and_then_goes_on_with_it(repo: Repository, plan: Plan, tmp_path: Path) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan)
        await asyncio.to_thread(begun, tmp_path, "a", "b")
        assert await session.interrupt("a") == "for-a-1"
        await asks(session)
        view = await session.task("a")
        assert (view.state, view.question, view.detail) == ("needs-you", "held", "interrupted by a person")
        assert repo.show(view.wip, "a.txt") == "half"
        assert (await session.task("b")).state == "running"
        with pytest.raises(Conflict, match="no agent is at work on task 'a'"):
            await session.interrupt("a")
        with pytest.raises(NotFound):
            await session.interrupt("none")

        await session.tell("for-a-1", "use the other door")
        await session.answer("a", "approve")
        await asyncio.to_thread(begun, tmp_path, "a")
        go(tmp_path, "a")
        go(tmp_path, "b")
        status = await session.settled()
        assert status.state == "completed"
        assert {task.id: task.attempts for task in status.tasks} == {"a": 2, "b": 1}
        assert "use the other door" in repo.show(status.tip, "a-told.txt")


async def test_a_no_drops_it(repo: Repository, plan: Plan, tmp_path: Path) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan)
        await asyncio.to_thread(begun, tmp_path, "a", "b")
        await session.interrupt("a")
        await asks(session)
        await session.answer("a", "reject", "not worth it")
        go(tmp_path, "b")
        status = await session.settled()
        assert {task.id: task.state for task in status.tasks} == {"a": "cancelled", "b": "done"}
