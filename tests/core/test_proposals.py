"""Tasks that tasks propose: nothing starts that nobody said yes to, and nothing goes beyond the bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.model import Foreach, Proposal, Task
from skep.core.proposals import length
from skep.core.terms import Proposals
from skep.errors import Conflict
from tests.core.desk import Desk, run


def proposal(*tasks: Task, **more: Any) -> Proposal:
    return Proposal(tasks=tasks, fingerprint="f1", **more)


def piece(name: str, *needs: str, **more: Any) -> Task:
    """A task that does something of its own."""
    return Task(id=name, run=f"make {name}", needs=needs, **more)


def desk_with(**bounds: Any) -> Desk:
    """A session with such a rule, whose task `a` runs."""
    desk = Desk(base="c0")
    desk.tell(inp.ChangePlan(at=0, plan=replace(desk.plan, proposals=Proposals(**bounds))))
    desk.submit(run("a"))
    return desk


def test_by_default_a_person_is_asked_and_only_then_the_tasks_are_there() -> None:
    desk = desk_with()
    desk.ok("a", proposal=proposal(piece("a-docs", "a")))
    desk.reload()
    assert desk.states() == {"a": "needs-you"}
    desk.answer("a", "approve", by="eva")
    desk.reload()
    assert desk.states() == {"a": "done", "a-docs": "running"}
    assert desk.last(ev.ProposalAccepted) == ev.ProposalAccepted(desk.at, "a", "f1", "eva")
    assert desk.entry("a-docs").task.generation == 1
    assert desk.state.proposed == 1


def test_what_is_left_out_starts_nothing_and_the_work_of_the_task_counts() -> None:
    desk = desk_with()
    desk.ok("a", commit="c1", proposal=proposal(piece("a-docs", "a")))
    desk.answer("a", "skip")
    desk.merged("m1")
    assert desk.states() == {"a": "done"}


def test_by_the_rule_auto_they_join_with_the_success_and_wait_for_its_merge() -> None:
    desk = desk_with(rule="auto")
    desk.ok("a", commit="c1", proposal=proposal(piece("a-docs", "a")))
    assert desk.states() == {"a": "merging", "a-docs": "waiting"}
    desk.merged("m1")
    assert desk.states() == {"a": "done", "a-docs": "running"}


def test_the_rule_auto_never_takes_a_plan() -> None:
    desk = desk_with(rule="auto")
    desk.submit(run("plan", plans=True))
    desk.ok("plan", proposal=proposal(piece("one"), verify="make test"))
    assert desk.entry("plan").question == "plan"
    desk.answer("plan", "approve")
    assert desk.states() == {"a": "running", "plan": "done", "one": "running"}
    assert desk.state.plan.verify == "make test"


def test_an_approval_of_another_plan_than_the_one_that_is_there_is_refused() -> None:
    desk = desk_with()
    desk.submit(run("plan", plans=True))
    desk.ok("plan", proposal=proposal(piece("one")))
    assert isinstance(desk.refused(inp.Say(at=0, task="plan", answer="approve", fingerprint="f0")), Conflict)
    desk.tell(inp.Say(at=0, task="plan", answer="approve", fingerprint="f1"))
    assert desk.states()["one"] == "running"


def test_what_verify_refuses_proposes_nothing() -> None:
    desk = desk_with(rule="auto")
    desk.tell(desk.report(inp.Worked, "a", commit="c1", proposal=proposal(piece("a-docs", "a"))))
    desk.fail("a", cause="verify-failed")
    assert desk.states() == {"a": "failed"}
    assert desk.entry("a").proposal is None


def test_what_passes_verify_joins() -> None:
    desk = desk_with(rule="auto")
    desk.tell(desk.report(inp.Worked, "a", commit="c1", proposal=proposal(piece("a-docs", "a"))))
    desk.reload()
    desk.ok("a")
    assert desk.states() == {"a": "merging", "a-docs": "waiting"}


def test_names_that_others_took_meanwhile_are_not_taken_twice() -> None:
    desk = desk_with(rule="auto")
    desk.tell(desk.report(inp.Worked, "a", commit="c1", proposal=proposal(piece("a-docs", "a"))))
    desk.submit(run("a-docs"))
    desk.ok("a")
    assert desk.states() == {"a": "merging", "a-docs": "running"}
    assert "there is a task 'a-docs' already" in desk.last(ev.TaskProposed).refused


REFUSED: dict[str, tuple[dict[str, Any], tuple[Task, ...], str]] = {
    "never": ({"rule": "never"}, (piece("x"),), "takes no proposals"),
    "too many": ({"max_tasks": 2}, (piece("x"), piece("y"), piece("z")), "3 tasks in one proposal, more than 2"),
    "a foreach": (
        {"max_tasks": 2},
        (piece("x", "a", foreach=Foreach(source="needs.a.result", max_items=3)),),
        "3 tasks in one proposal, more than 2",
    ),
    "in the session": ({"most": 1}, (piece("x"), piece("y")), "the session takes 1"),
    "a long way": ({"length": 1}, (piece("x"), piece("y", "x")), "2 tasks come one after the other, more than 1"),
    "the same twice": ({}, (piece("x"), replace(piece("x"), id="y")), "task 'y' asks for the same as 'x'"),
    "the same as one that is there": ({}, (replace(run("x"), needs=("a",)),), "task 'x' asks for the same as 'a'"),
    "a name that is taken": ({}, (piece("a"),), "there is a task 'a' already"),
    "a need that is not there": ({}, (piece("x", "nobody"),), "needs 'nobody', which does not exist"),
    "a circle": ({}, (piece("x", "y"), piece("y", "x")), "in a circle"),
    "nobody who could": ({}, (piece("x", agent="nobody"),), "could never run here"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_goes_beyond_the_bounds_is_refused_and_the_task_is_done_all_the_same(case: str) -> None:
    bounds, tasks, why = REFUSED[case]
    desk = desk_with(**bounds)
    desk.ok("a", proposal=proposal(*tasks))
    assert desk.states() == {"a": "done"}
    assert why in desk.last(ev.TaskProposed).refused


def test_a_refused_plan_goes_back_to_its_planner_with_the_reason() -> None:
    desk = desk_with(max_tasks=1)
    desk.submit(run("plan", plans=True, retries=1))
    desk.ok("plan", proposal=proposal(piece("x"), piece("y")))
    assert desk.states()["plan"] == "running"
    assert "more than 1" in desk.entry("plan").feedback
    desk.ok("plan")
    assert (desk.entry("plan").state, desk.entry("plan").detail) == ("failed", "it left no plan")


def test_proposals_of_proposals_end() -> None:
    desk = desk_with(rule="auto", depth=2)
    desk.ok("a", proposal=proposal(piece("b", "a")))
    desk.ok("b", proposal=proposal(piece("c", "b")))
    desk.ok("c", proposal=proposal(piece("d", "c")))
    assert desk.states() == {"a": "done", "b": "done", "c": "done"}
    assert desk.last(ev.TaskProposed).refused == "it was proposed itself, and proposals of proposals end after 2"


@given(st.lists(st.integers(1, 4), max_size=20), st.integers(1, 12), st.integers(1, 4))
def test_never_more_than_the_bounds_whatever_is_proposed(amounts: list[int], most: int, depth: int) -> None:
    desk = Desk(at_once=100, thorough=False)
    bounds = Proposals(rule="auto", most=most, depth=depth, max_tasks=3)
    desk.tell(inp.ChangePlan(at=0, plan=replace(desk.plan, proposals=bounds)))
    desk.submit(run("a"))
    for turn, amount in enumerate(amounts):
        if not (running := desk.running()):
            break
        proposer = running[turn % len(running)]
        desk.ok(proposer, proposal=proposal(*(piece(f"{proposer}-{n}", proposer) for n in range(amount))))
    assert len(desk.state.entries) - 1 == desk.state.proposed <= most
    assert all(entry.task.generation <= depth for entry in desk.state.entries.values())


def test_the_length_of_the_longest_way() -> None:
    assert length([piece("x"), piece("y", "x"), piece("z", "a")]) == 2
