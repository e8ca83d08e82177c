"""A part of a plan, and whether a task is still the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.core.model import Foreach, Plan, Task
from skep.errors import Invalid
from skep.workflow import definitions, fingerprint, select

PLAN = Plan(
    name="p",
    tasks=(
        Task(id="plan", run="plan"),
        Task(id="build", prompt="do ${{ needs.plan.outputs.x }}", needs=("plan",)),
        Task(id="lint", run="lint", needs=("build",)),
        Task(id="test", run="test", needs=("build",)),
        Task(id="ship", run="ship", needs=("lint", "test"), condition="needs.test.state == 'done'"),
        Task(id="other", run="other"),
    ),
)


@pytest.mark.parametrize(
    ("what", "ids"),
    [
        ("plan", ["plan"]),
        ("test", ["test"]),
        ("+test", ["plan", "build", "test"]),
        ("test+", ["test", "ship"]),
        ("+build+", ["plan", "build", "lint", "test", "ship"]),
        ("other, +lint", ["plan", "build", "lint", "other"]),
        ("plan+", ["plan", "build", "lint", "test", "ship"]),
    ],
)
def test_a_part_keeps_the_order_of_the_file_and_needs_nothing_outside(what: str, ids: list[str]) -> None:
    part = select(PLAN, what)
    assert [task.id for task in part.tasks] == ids
    assert {need for task in part.tasks for need in task.needs} <= set(ids)
    assert part.name == PLAN.name


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("buidl", "there is no task 'buidl'; did you mean 'build'?"),
        ("", "there is no task ''"),
        ("a,,b", "there is no task 'a'"),
        ("build+", "task 'build' looks up needs.plan.outputs.x, and 'plan' is not selected"),
        ("ship", "task 'ship' looks up needs.test.state, and 'test' is not selected"),
    ],
)
def test_a_part_that_cannot_be_run_is_refused(what: str, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        select(PLAN, what)
    assert says in caught.value.message


def test_a_foreach_needs_its_list_too() -> None:
    each = Task(id="each", run="x", needs=("plan",), foreach=Foreach(source="needs.plan.outputs.list"))
    with pytest.raises(Invalid, match=r"looks up needs\.plan\.outputs\.list"):
        select(replace(PLAN, tasks=(*PLAN.tasks, each)), "each")


def changed(task: str, **fields: Any) -> set[str]:
    """Tasks whose definition changes when one task does."""
    tasks = tuple(replace(one, **fields) if one.id == task else one for one in PLAN.tasks)
    before, after = definitions(PLAN), definitions(replace(PLAN, tasks=tasks))
    return {name for name in before if before[name] != after[name]}


def test_a_change_reaches_a_task_and_all_that_needs_it() -> None:
    assert changed("test", run="test all") == {"test", "ship"}
    assert changed("plan", env={"A": "1"}) == {"plan", "build", "lint", "test", "ship"}
    assert changed("other", verify="check") == {"other"}
    assert changed("ship", needs=("test",)) == {"ship"}


def test_what_speaks_of_the_way_changes_nothing() -> None:
    way = {"timeout": 9.0, "retries": 3, "priority": "high", "deadline": 5, "metadata": {"a": 1}, "inferred": {"type": "x"}}
    assert changed("plan", **way) == set()
    assert changed("plan", objective="Plan", type="planning", complexity="low", locks=("db",)) == set()


def test_inputs_reach_every_task() -> None:
    before, after = definitions(PLAN), definitions(replace(PLAN, inputs={"a": "1"}))
    assert all(before[name] != after[name] for name in before)


@given(st.permutations(PLAN.tasks), st.permutations(["lint", "test"]))
def test_order_is_no_part_of_a_definition(tasks: list[Task], needs: list[str]) -> None:
    same = tuple(replace(task, needs=tuple(needs)) if task.id == "ship" else task for task in tasks)
    assert definitions(replace(PLAN, tasks=same)) == definitions(PLAN)


def test_a_deep_chain_has_definitions() -> None:
    chain = tuple(Task(id=f"n{n}", run="x", needs=(f"n{n - 1}",) if n else ()) for n in range(5000))
    assert len(set(definitions(Plan(name="p", tasks=chain)).values())) == 5000


def test_a_fingerprint_is_of_what_a_plan_does_and_not_of_where_it_lies() -> None:
    assert fingerprint(replace(PLAN, source="/a/b.yaml")) == fingerprint(PLAN)
    assert fingerprint(replace(PLAN, verify="make")) != fingerprint(PLAN)
    assert fingerprint(replace(PLAN, inputs={"a": "b"})) != fingerprint(PLAN)
