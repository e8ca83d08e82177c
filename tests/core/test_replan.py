"""A session that goes on with another version of its file: what is kept stays, everything else is replaced."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core import state as state_module
from skep.core.commands import EndAttempt, StartAttempt
from skep.core.model import AgentSpec, Foreach, Limits, Retries, Task
from skep.core.terms import Placement
from skep.errors import Conflict, Invalid
from tests.core.desk import Desk, run


def change(desk: Desk, *tasks: Task, keep: tuple[str, ...] = (), **more: Any) -> inp.ChangePlan:
    known = {name: entry.state for name, entry in desk.archive.items()}
    return inp.ChangePlan(at=0, plan=replace(desk.plan, tasks=tasks, **more), keep=keep, known=known)


def test_what_is_kept_stays_and_what_is_new_comes() -> None:
    desk = Desk()
    desk.submit(run("a"), run("b", "a"), run("c", "b"))
    desk.ok("a", result="r")
    new = (run("a"), run("b", "a"), run("d", "a"))
    assert desk.tell(change(desk, *new, keep=("a", "b"))) == ("d",)
    assert desk.states() == {"a": "done", "b": "running", "c": "replaced", "d": "running"}
    assert (desk.entry("a").result, desk.entry("b").attempts) == ("r", 1)
    desk.ok("b", "d")
    assert desk.state.open_tasks == 0


def test_the_same_id_with_another_definition_takes_its_place() -> None:
    desk = Desk()
    desk.submit(run("a"), run("b", "a"))
    desk.ok("a")
    desk.tell(change(desk, Task(id="a", run="other"), run("b", "a")))
    assert desk.states() == {"b": "waiting", "a": "running"}
    assert (desk.entry("a").task.run, desk.entry("a").attempts) == ("other", 2)
    assert desk.attempt("a").n == 2, "attempts count on: nothing is ever named as an earlier one was"
    late = replace(desk.report(inp.Ended, "a", outcome="ok"), n=1)
    assert isinstance(desk.refused(late), Conflict)
    desk.gone("b") if desk.entry("b").attempt is not None else None
    desk.ok("a")
    desk.ok("b")
    assert desk.state.counts == {"done": 2, "replaced": 2}


def test_what_runs_of_a_replaced_task_ends_before_the_new_one_starts() -> None:
    desk = Desk(base="c0")
    desk.submit(
        run("a", locks=("old",), retries=Retries(max=3, start="last")), run("x", locks=("old",)), run("y", locks=("new",))
    )
    desk.spawn("a")
    last = Retries(max=1, start="last")
    desk.tell(change(desk, run("a", locks=("new",), retries=last), keep=("x", "y")))
    assert (desk.entry("a").state, desk.running()) == ("ready", ["y"])
    assert any(isinstance(owed, EndAttempt) and owed.why == "replaced" for owed in desk.owed())
    desk.reload()
    desk.ok("y")
    assert desk.state.locks == {"old": ["a"]}
    desk.tell(desk.report(inp.Ended, "a", outcome="ok", commit="c1", result="of the old one"))
    assert desk.state.locks == {"new": ["a"], "old": ["x"]}
    entry = desk.entry("a")
    assert (entry.state, entry.attempts, entry.result, entry.wip, desk.attempt("a").base) == ("running", 2, None, "", "c0")


@pytest.mark.parametrize("end", ["ok", "fail", "cancel", "skip", "give up"])
def test_a_finished_task_that_is_not_kept_is_replaced_too(end: str) -> None:
    desk = Desk()
    desk.submit(run("z"), run("a", "z"), run("after", "a"))
    if end == "skip":
        desk.fail("z")
    else:
        desk.ok("z")
    if end == "ok":
        desk.ok("a")
    if end == "fail":
        desk.fail("a")
    if end == "cancel":
        desk.cancel("a")
        desk.gone("a")
    for _ in range(5 * (end == "give up")):
        desk.gone("a")
    desk.tell(change(desk, run("new")))
    assert desk.states()["a"] == "replaced"
    if end == "ok":
        desk.gone("after")
    desk.ok("new")
    assert desk.state.open_tasks == 0
    assert desk.state.counts.get("failed", 0) == 0


def test_what_was_replaced_cannot_be_retried_needed_or_kept() -> None:
    desk = Desk()
    desk.submit(run("a"))
    desk.ok("a")
    desk.tell(change(desk, run("b")))
    assert "no part of the plan any more" in desk.refused(inp.Retry(at=0, task="a")).message
    assert isinstance(desk.refused(inp.Cancel(at=0, tasks=("a",))), Conflict)
    assert "which does not exist" in desk.refused(inp.Submit(at=0, tasks=(run("x", "a"),))).message
    assert "no task 'a' to keep" in desk.refused(change(desk, run("a"), keep=("a",))).message
    desk.submit(run("a"))
    assert desk.entry("a").attempts == 2


def test_dependents_are_linked_to_what_took_the_place() -> None:
    desk = Desk(at_once=9)
    desk.submit(run("k"), run("a", "k"), run("b", "a"))
    for _ in range(3):
        desk.tell(change(desk, run("k"), run("a", "k"), run("b", "a", "k"), keep=("k",)))
    assert desk.entry("k").dependents == ["a", "b"]
    desk.ok("k")
    assert desk.running() == ["a"]
    desk.ok("a")
    assert desk.running() == ["b"]
    desk.ok("b")


def test_a_foreach_is_replaced_with_its_items_and_may_make_the_same_ones_again() -> None:
    desk = Desk(at_once=9)
    each = run("each", "list", foreach=Foreach(source="needs.list.result"))
    desk.submit(run("list"), each)
    desk.ok("list", result=["a", "b"])
    desk.ok("each[a]")
    desk.tell(change(desk, run("list"), replace(each, run="other"), keep=("list",)))
    assert desk.states()["each"] == "expanded"
    assert desk.running() == ["each[a]"]
    desk.gone("each[b]")
    assert (desk.entry("each[a]").attempts, desk.entry("each[b]").attempts, desk.entry("each[b]").task.run) == (2, 2, "other")
    desk.ok("each[a]", "each[b]")
    assert desk.entry("each").state == "done"


def test_a_kept_foreach_keeps_its_items() -> None:
    desk = Desk(at_once=9)
    each = run("each", "list", foreach=Foreach(source="needs.list.result"))
    desk.submit(run("list"), each)
    desk.ok("list", result=["a", "b"])
    desk.tell(change(desk, run("list"), each, run("x"), keep=("list", "each")))
    assert desk.running() == ["each[a]", "each[b]", "x"]


def test_limits_agents_weights_and_checks_are_those_of_the_new_plan() -> None:
    one = AgentSpec(name="one", runtime="x", count=1)
    desk = Desk(one, at_once=2)
    desk.submit(run("k"), Task(id="p", prompt="x"))
    three = replace(one, count=3)
    agents = (*desk.plan.agents[:2], three)
    plan = change(
        desk, Task(id="q", prompt="x"), keep=("k", "p"), limits=Limits(agents=3), agents=agents,
        verify="make test", placement=Placement(profile="routing"),
    )  # fmt: skip
    desk.tell(plan)
    assert desk.entry("q").agent == "one-2"
    assert (desk.state.plan.verify, desk.state.plan.tasks) == ("make test", ())
    assert desk.state.queue.weights["cost"] == 0.15


def test_an_agent_that_a_kept_open_task_wants_cannot_go() -> None:
    one = AgentSpec(name="one", runtime="x")
    desk = Desk(one)
    desk.submit(Task(id="p", prompt="x"), Task(id="q", prompt="x"))
    without = desk.plan.agents[:2]
    assert "could never run any more" in desk.refused(change(desk, keep=("p", "q"), agents=without)).message
    desk.tell(change(desk, run("r"), agents=without))
    assert set(desk.states().values()) == {"replaced", "running"}
    desk.gone("p")
    assert desk.state.agents["one-1"].load == 0
    assert "no declared agent takes prompt tasks" in desk.refused(inp.Submit(at=0, tasks=(Task(prompt="x"),))).message


def test_a_merge_under_way_is_waited_for() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a"), run("b"))
    desk.ok("a", commit="c1")
    desk.ok("b", commit="c2")
    assert "being merged" in desk.refused(change(desk, keep=("b",))).message
    desk.tell(change(desk, keep=("a",)))
    assert desk.states() == {"a": "merging", "b": "replaced"}
    desk.merged("m1")
    desk.tell(change(desk, run("a")))
    assert (desk.entry("a").state, desk.attempt("a").base, desk.entry("a").merged) == ("running", "m1", "")


@pytest.mark.parametrize(
    ("tasks", "keep", "message"),
    [
        ((run("n", "nobody"),), ("a",), "needs 'nobody', which does not exist"),
        ((run("n", "b"),), ("a",), "needs 'b', which does not exist"),
        ((run("x", "y"), run("y", "x")), ("a",), "in a circle"),
        ((run("n"), run("n")), ("a",), "there is a task 'n' already"),
        ((Task(id="n", prompt="x"),), ("a",), "no declared agent takes prompt tasks"),
        ((), ("nobody",), "no task 'nobody' to keep"),
        ((), ("b",), "'b' cannot stay: it needs 'a', which is replaced"),
    ],
)
def test_a_plan_that_cannot_work_changes_nothing(tasks: tuple[Task, ...], keep: tuple[str, ...], message: str) -> None:
    desk = Desk()
    desk.submit(run("a"), run("b", "a"))
    assert message in desk.refused(change(desk, *tasks, keep=keep)).message


def test_plans_without_sense_are_refused() -> None:
    desk = Desk()
    assert isinstance(desk.refused(change(desk, limits=Limits(agents=0))), Invalid)
    assert isinstance(desk.refused(change(desk, placement=Placement(weights={"luck": 1.0}))), Invalid)


def test_what_left_for_the_archive_can_be_kept_and_needed_but_not_replaced() -> None:
    with patch.object(state_module, "KEEP_FINISHED", 2), patch.object(state_module, "LEAVE_TOGETHER", 1):
        desk = Desk()
        desk.submit(run("a"))
        desk.ok("a")
        for _ in range(9):
            desk.ok(*desk.submit(run()))
        assert "a" in desk.archive
        error = desk.refused(change(desk, run("a")))
        assert isinstance(error, Conflict)
        assert "in the archive and cannot be replaced" in error.message
        desk.tell(change(desk, run("a"), run("b", "a"), keep=("a",)))
        assert desk.entry("b").state == "running"
        for _ in range(9):
            desk.tell(change(desk, run("b"), run("c"), keep=("b",)))
        desk.gone("c")
        assert desk.entry("c").attempts == 2


def test_who_is_replaced_does_not_decide_about_who_is_not() -> None:
    desk = Desk()
    desk.submit(run("c", "b"), run("b", "a"), run("a"))
    desk.ok("a")
    desk.tell(change(desk, run("a"), keep=("a",)))
    closed = [event.task for event in desk.events if isinstance(event, ev.TaskClosed)]
    assert sorted(closed) == ["b", "c"]
    assert {event.state for event in desk.events if isinstance(event, ev.TaskClosed)} == {"replaced"}


def test_a_paused_session_stays_paused() -> None:
    desk = Desk()
    desk.submit(run("a"))
    desk.tell(inp.Pause(at=0, stop=True))
    desk.gone("a")
    desk.tell(change(desk, run("b")))
    assert desk.states() == {"a": "replaced", "b": "ready"}
    desk.tell(inp.Resume(at=0))
    assert [owed.task.id for owed in desk.owed() if isinstance(owed, StartAttempt)] == ["b"]
