"""Phases in a workflow file: what they become, what is refused and where, and how a plan that was proposed is written again."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from skep.core.model import AgentSpec, Plan, Task, Vote
from skep.core.terms import Proposals
from skep.errors import Invalid
from skep.workflow import definitions, parse, select, written
from skep.workflow.proposal import read

FILE = """
version: 1
agents:
  judge: {runtime: shell, count: 3, with: {run: "true"}}
phases:
  design: {objective: Agree on it, gate: {approve: true}}
  build: {gate: {verify: make test, timeout: 10m}}
  review: {gate: {vote: {by: judge, otherwise: fail}}}
  ship: {}
tasks:
  sketch: {run: "true", phase: design}
  code: {run: "true", phase: build}
  docs: {run: "true", phase: build, needs: [sketch]}
  look: {run: "true", phase: review}
  tag: {run: "true", phase: ship, if: always()}
"""


def plan_of(text: str) -> Plan:
    return parse(text, "w.yaml", {}, now=0)


def said(text: str) -> str:
    with pytest.raises(Invalid) as error:
        plan_of(text)
    return str(error.value)


def test_a_phase_becomes_a_task_that_is_its_gate() -> None:
    tasks = {task.id: task for task in plan_of(FILE).tasks}
    assert list(tasks) == ["sketch", "code", "docs", "look", "tag", "gate:design", "gate:build", "gate:review", "gate:ship"]
    assert tasks["gate:design"] == Task(
        id="gate:design", phase="design", gate=True, objective="Agree on it", type="gate", approve="after", mode="none",
        merge="never", needs=("sketch",),
    )  # fmt: skip
    assert (tasks["gate:build"].run, tasks["gate:build"].timeout, tasks["gate:build"].mode) == ("make test", 600.0, "isolated")
    assert tasks["gate:build"].needs == ("code", "docs", "gate:design")
    assert tasks["gate:review"].vote == Vote(by="judge", otherwise="fail")
    assert tasks["docs"].needs == ("sketch", "gate:design")
    assert tasks["tag"].needs == ("gate:review",)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (", phase: ship, if", ", if", "w.yaml:15:8: task 'tag' does not say its `phase`, one of design, build, review, ship"),
        ("phase: ship", "phase: shipp", "w.yaml:15:29: task 'tag': there is no phase 'shipp'; did you mean 'ship'?"),
        ("phase: ship", "phase: build", "w.yaml:9:3: phase 'ship' has no task"),
        ("phase: design}", "phase: design, needs: [code]}", "needs 'code', which is of a later one, 'build'"),
        ("by: judge", "by: jury", "w.yaml:8:30: task 'gate:review': no agent is called 'jury'"),
        ("otherwise: fail}", "otherwise: fail}, verify: x", "has both a command and a vote"),
        ("by: judge,", "by: judge, weights: {judge-4: 2},", "'judge-4' is no voter"),
        ("{approve: true}", "{approve: yes}", "phases.design.gate.approve: expected true or false"),
        ("ship: {}", "ship:", "phases.ship: expected a mapping (phase), found nothing"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_place(old: str, new: str, words: str) -> None:
    assert old in FILE
    assert words in said(FILE.replace(old, new, 1))


def test_a_task_has_no_phase_where_there_are_none() -> None:
    assert "w.yaml:2:21: task 'a' has a phase, and the file declares no `phases`" in said(
        "version: 1\ntasks: {a: {phase: x, run: 'true'}}"
    ).replace("2:20", "2:21")


def test_a_part_of_a_plan_has_the_gates_that_it_names() -> None:
    plan = plan_of(FILE)
    alone = select(plan, "code")
    assert [(task.id, task.needs, task.phase) for task in alone.tasks] == [("code", (), "")]
    upto = select(plan, "+gate:build")
    assert [task.id for task in upto.tasks] == ["sketch", "code", "docs", "gate:design", "gate:build"]
    assert {task.phase for task in upto.tasks} == {"design", "build"}


def test_who_opens_a_gate_is_part_of_what_it_is() -> None:
    plan = plan_of(FILE)
    other = plan_of(FILE.replace("approve: true", "approve: false"))
    changed = {name for name, one in definitions(plan).items() if definitions(other)[name] != one}
    assert "gate:design" in changed
    assert "code" in changed, "it is behind the gate"
    assert "sketch" not in changed


BOUNDS = Proposals(agents=("coder",), max_tasks=2)
AGENTS = {"coder": AgentSpec(name="coder", runtime="claude", count=2)}
PLAN = b"""
version: 1
phases: {one: {gate: {verify: make test, vote: null}}, two: {}}
tasks:
  a: {prompt: do it, phase: one}
  b: {prompt: do more, phase: two}
""".replace(b", vote: null", b"")


def test_a_plan_of_a_model_may_have_phases_and_what_a_task_proposes_may_not() -> None:
    plan = read(PLAN, "plan.yaml", BOUNDS, AGENTS, "", 0)
    assert not plan.refused
    assert [task.id for task in plan.tasks] == ["a", "b", "gate:one", "gate:two"]
    assert plan.amount == 2
    assert "phases are for a plan" in read(PLAN, "propose.yaml", BOUNDS, AGENTS, "a", 0).refused
    voted = PLAN.replace(b"verify: make test", b"vote: {by: judge}")
    assert "no agent is called 'judge'" in read(voted, "plan.yaml", BOUNDS, AGENTS, "", 0).refused


def test_a_plan_with_phases_is_written_as_a_file_that_means_the_same(tmp_path: Path) -> None:
    plan = plan_of(FILE)
    again = plan_of(written(plan))
    assert [replace(task, inferred={}) for task in again.tasks] == [replace(task, inferred={}) for task in plan.tasks]
