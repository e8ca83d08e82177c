"""The owner dies between any two steps of objective, plan, yes, tasks, proposals: nobody is asked twice for what was recorded,
nothing starts that nobody approved, and what there is already is not taken a second time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import skep
from skep.core import events as ev
from skep.core.model import TERMINAL
from skep.errors import Conflict
from tests.runtime.actors import actor
from tests.runtime.traces import left_behind
from tests.torture.amounts import is_long
from tests.workspace.repository import Repository

#: Makes a plan, says yes to it, and waits for its end.
WORK = """
from skep import app
session = await hive.start(app.planning("make it", {folder!r}))
await session.settled()
proposed = await session.proposed("plan")
await session.answer("plan", "approve", fingerprint=proposed.fingerprint)
say("settled", (await session.settled()).counts)
"""
#: Dies before or after the append that holds a certain event of a certain task.
DYING = """
import os
from skep.runtime.loop import Loop
kind, task, when = {point!r}.split()
append = Loop._append

async def dying(self, events, leaving, taken):
    here = any(type(e).__name__ == kind and getattr(e, "task", "-") in (task, "-") for e in events)
    if here and when == "before":
        os._exit(7)
    await append(self, events, leaving, taken)
    if here:
        os._exit(7)

Loop._append = dying
"""
CONFIG = """
[planner]
runtime = "shell"
proposals = "auto"
with = {{run = 'echo "$SKEP_ATTEMPT" >> {effects}/asked; cp {effects}/plan.yaml "$SKEP_OUT/plan.yaml"'}}
"""
PLAN = """
version: 1
tasks:
  one: {run: "echo one >> EFFECTS/ran; cp EFFECTS/more.yaml $SKEP_OUT/propose.yaml; echo x > one"}
  two: {run: "echo two >> EFFECTS/ran; cp EFFECTS/same.yaml $SKEP_OUT/propose.yaml; echo x > two", needs: [one]}
"""
MORE = 'version: 1\ntasks: {more: {run: "echo more >> EFFECTS/ran; echo x > more"}}\n'
STEPS = (
    *("TaskAssigned plan", "AttemptSpawned plan", "TaskProposed plan", "ProposalAccepted plan", "TaskAssigned one"),
    *("TaskProposed one", "Merged one", "TaskProposed two", "TaskAssigned one-more", "Merged one-more"),
)
POINTS = [f"{step} {when}" for step in STEPS for when in ("before", "after")]
#: For every change: around the plan, the yes and what a task proposes.
SHORT = [point for point in POINTS if point.split()[0] in ("TaskProposed", "ProposalAccepted") and " two " not in point]


@pytest.fixture
def scene(repo: Repository, effects: Path) -> Repository:
    """A repository with a planner, whose plan and whose tasks' proposals lie ready."""
    for name, text in (("plan", PLAN), ("more", MORE), ("same", MORE)):
        (effects / f"{name}.yaml").write_text(text.replace("EFFECTS", str(effects)), encoding="utf-8")
    repo.commit({"skep.toml": CONFIG.format(effects=effects)})
    return repo


def noted(effects: Path, name: str) -> list[str]:
    path = effects / name
    return path.read_text().split() if path.exists() else []


async def told(session: skep.Session) -> list[ev.Event]:
    """The log so far."""
    found, seq = [], (await session.status(tasks=False)).seq
    async for number, event in session.follow():
        found.append(event)
        if number >= seq:
            break
    return found


def held(log: list[ev.Event], kind: type[ev.TaskProposed | ev.ProposalAccepted], task: str) -> int:
    return sum(isinstance(event, kind) and event.task == task for event in log)


@pytest.mark.parametrize("point", POINTS if is_long("merge-crashes") else SHORT)
async def test_dying_on_the_way_from_an_objective_to_its_end(scene: Repository, effects: Path, point: str) -> None:
    async with actor(scene.top, DYING.format(point=point) + WORK.format(folder=str(scene.top))) as owner:
        assert await owner.process.wait() == 7, await owner.complaints()
    async with skep.open(scene.top) as hive:
        (brief,) = await hive.sessions()
        session = await hive.find(brief.session)
        before, asked = await told(session), len(noted(effects, "asked"))
        planned, approved = held(before, ev.TaskProposed, "plan"), held(before, ev.ProposalAccepted, "plan")
        assert approved or not noted(effects, "ran"), "something started that nobody approved"
        await session.resume()
        await session.settled()
        assert len(noted(effects, "asked")) == asked + (not planned), "the planner is asked once for what is not recorded"
        if not approved:
            assert not noted(effects, "ran"), "something started that nobody approved"
            proposed = await session.proposed("plan")
            await session.answer("plan", "approve", fingerprint=proposed.fingerprint)
            with pytest.raises(Conflict):
                await session.answer("plan", "approve", fingerprint=proposed.fingerprint)
            await session.settled()
        view = await session.settled()
        assert {task.id: task.state for task in view.tasks} == dict.fromkeys(("plan", "one", "two", "one-more"), "done")
        log = await told(session)
    assert [held(log, ev.ProposalAccepted, name) for name in ("plan", "one", "two")] == [1, 1, 0]
    refused = [event.refused for event in log if isinstance(event, ev.TaskProposed) and event.task == "two"]
    assert set(refused) == {"task 'two-more' asks for the same as 'one-more'"}
    ended = [
        event.task for event in log if isinstance(event, ev.AttemptEnded) and event.then in (*TERMINAL, "merging", "needs-you")
    ]
    assert sorted(ended) == ["one", "one-more", "plan", "two"], "a result was taken twice"
    assert scene.files(view.tip) >= {"one", "two", "more"}
    assert left_behind(scene.top) == []
