"""A conflict becomes a task: one chance for an agent, whose commit takes the place of what did not merge; then a person."""

from __future__ import annotations

from typing import Any

import pytest

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.commands import Merge, Stacked, StartAttempt
from skep.core.intent import Candidate
from skep.core.model import AgentSpec, Foreach, Output, Task
from skep.errors import Conflict, Invalid
from tests.core.desk import Desk, run

CODER = AgentSpec(name="coder", runtime="claude", count=2)
FIX = "a[conflict]"


def clashing(**more: Any) -> Desk:
    """A desk on which the work of `a` did not merge, and an agent is at the conflict."""
    desk = Desk(CODER, at_once=9, base="c0")
    desk.submit(run("a", on_conflict="task", **more), run("b", "a"))
    desk.ok("a", commit="c-a", result="the result")
    desk.unmerged(detail="conflicts in f")
    return desk


def test_the_conflict_is_a_task_of_its_own_with_what_its_parent_asks_of_any_work() -> None:
    desk = clashing(verify="check", protect=("tests/**",), timeout=60.0, retries=1, setup=("deps",), env={"A": "b"})
    made = desk.entry(FIX).task
    assert (made.parent, made.resolves, made.mode, made.merge) == ("a", "c-a", "isolated", "never")
    assert (made.verify, made.protect, made.timeout, made.retries) == ("check", ("tests/**",), 60.0, 1)
    assert (made.setup, made.env, made.run, made.agent) == (("deps",), {"A": "b"}, None, "")
    owed = next(owed for owed in desk.owed() if isinstance(owed, StartAttempt))
    assert (owed.task.id, owed.base, owed.origin) == (FIX, "c0", "c0")
    assert desk.states() == {"a": "expanded", "b": "waiting", FIX: "running"}
    desk.reload()
    desk.from_snapshot()


def test_its_commit_is_merged_and_result_and_outputs_stay_those_of_the_task() -> None:
    desk = clashing()
    desk.ok(FIX, commit="c-fix")
    assert desk.intent().stack == (Candidate("a", 2, "c-fix"),)
    (owed,) = desk.owed()
    assert isinstance(owed, Merge)
    assert owed.tasks == (Stacked("a", resolves=("c0", "c-a")),), "whoever merges looks for marks of this conflict"
    desk.merged("m1")
    entry = desk.entry("a")
    assert (entry.state, entry.commit, entry.merged, entry.result) == ("done", "c-fix", "m1", "the result")
    assert (desk.entry(FIX).state, desk.entry("b").state) == ("done", "running")
    assert desk.attempt("b").base == "m1"


def test_a_task_with_a_prompt_has_its_conflict_resolved_by_its_own_agent() -> None:
    desk = Desk(CODER, AgentSpec(name="other", runtime="codex"), base="c0")
    desk.submit(Task(id="a", prompt="do it", agent="other", on_conflict="task"))
    desk.ok("a", commit="c-a")
    desk.unmerged()
    assert desk.attempt(FIX).agent == "other-1"


@pytest.mark.parametrize("how", ["failed", "cancelled", "nothing changed"])
def test_without_a_resolution_a_person_is_asked_and_that_is_no_failure_of_the_session(how: str) -> None:
    desk = clashing()
    if how == "failed":
        desk.fail(FIX, detail="exit 1")
    elif how == "cancelled":
        desk.cancel(FIX)
    else:
        desk.ok(FIX)
    entry = desk.entry("a")
    assert (entry.state, entry.question, entry.cause, entry.commit) == ("needs-you", "conflict", "conflict", "c-a")
    assert entry.detail.startswith(f"conflicts in f; {FIX} did not resolve it: ")
    assert desk.entry(FIX).state == ("done" if how == "nothing changed" else "skipped")
    desk.answer("a", "merge")
    assert desk.intent().stack == (Candidate("a", 1, "c-a"),)
    desk.merged("m1")
    assert (desk.entry("a").state, desk.state.counts.get("failed", 0), desk.state.counts.get("cancelled", 0)) == ("done", 0, 0)


def test_what_conflicts_again_is_asked_about_and_a_task_that_runs_again_has_another_chance() -> None:
    desk = clashing()
    desk.ok(FIX, commit="c-fix")
    desk.unmerged()
    assert (desk.entry("a").question, desk.entry("a").commit) == ("conflict", "c-fix")
    desk.answer("a", "rerun")
    desk.ok("a", commit="c-again")
    desk.unmerged()
    assert desk.entry("a").question == "conflict", "its one chance is gone"
    desk.answer("a", "reject")
    desk.ok("a", commit="c-third")
    desk.unmerged()
    assert (desk.entry("a").state, desk.entry("a[conflict.2]").task.resolves) == ("expanded", "c-third")
    desk.ok("a[conflict.2]", commit="c-fix-2")
    desk.merged("m1")
    assert desk.entry("a").state == "done"


def test_a_person_who_approves_results_approves_the_resolution_too() -> None:
    desk = Desk(CODER, base="c0")
    desk.submit(run("a", on_conflict="task", merge="ask"))
    desk.ok("a", commit="c-a")
    desk.answer("a", "approve")
    desk.unmerged()
    desk.ok(FIX, commit="c-fix")
    assert (desk.entry("a").state, desk.entry("a").question) == ("needs-you", "merge")
    desk.answer("a", "approve")
    assert desk.intent().stack == (Candidate("a", 2, "c-fix"),)


def test_cancelling_the_task_ends_the_resolution_and_a_retry_begins_again() -> None:
    desk = clashing()
    desk.cancel("a")
    assert set(desk.states().values()) == {"cancelled"}
    desk.gone(FIX)
    desk.retry("a")
    assert (desk.entry("a").state, desk.entry(FIX).state, desk.entry("b").state) == ("running", "skipped", "waiting")
    desk.ok("a", commit="c-2")
    desk.merged("m1")
    assert desk.entry("a").state == "done"


def test_the_resolution_alone_cannot_be_retried() -> None:
    desk = clashing()
    desk.fail(FIX)
    error = desk.refused(inp.Retry(at=0, task=FIX))
    assert isinstance(error, Conflict)
    assert error.fix.startswith("Retry 'a'")


def test_a_fork_resolves_it_anew() -> None:
    desk = clashing()
    desk.tell(inp.Pause(at=0))
    desk.events.append(ev.SessionForked(desk.at, "fork-1", "desk-1", desk.state.seq))
    desk.reload()
    desk.join(boot="b2")
    assert desk.states() == {"a": "expanded", "b": "waiting", FIX: "running"}
    desk.ok(FIX, commit="c-fix")
    desk.merged("m1")
    assert desk.entry("a").state == "done"


def test_an_item_of_a_foreach_has_its_conflict_resolved_and_falls_with_the_others() -> None:
    for fails in (False, True):
        desk = Desk(CODER, at_once=9, base="c0")
        each = run("each", "list", foreach=Foreach(source="needs.list.outputs.l"), on_conflict="task")
        desk.submit(run("list", outputs={"l": "l"}), each)
        desk.ok("list", outputs={"l": Output(digest="d", size=3, text="x\ny\n")})
        desk.ok("each[x]", commit="c-x")
        desk.unmerged()
        if fails:
            desk.fail("each[y]")
            assert desk.entry("each").state == "failed"
            assert (desk.entry("each[x]").state, desk.entry("each[x][conflict]").state) == ("cancelled", "cancelled")
        else:
            desk.ok("each[y]", "each[x][conflict]", commit="c-y")
            desk.merged("m1")
            desk.merged("m2")
            assert desk.entry("each").state == "done"


def test_a_changed_plan_keeps_the_resolution_with_its_task() -> None:
    desk = clashing()
    desk.tell(inp.ChangePlan(at=0, plan=desk.plan, keep=("a", "b")))
    assert desk.states() == {"a": "expanded", "b": "waiting", FIX: "running"}
    desk.tell(inp.ChangePlan(at=0, plan=desk.plan, keep=()))
    assert set(desk.states().values()) == {"replaced"}


def test_it_is_refused_where_nobody_takes_prompts_and_asked_about_where_nobody_does_any_more() -> None:
    desk = Desk(base="c0")
    error = desk.refused(inp.Submit(at=0, tasks=(run("a", on_conflict="task"),)))
    assert isinstance(error, Invalid)
    assert "nobody could resolve a conflict: no declared agent takes prompt tasks" in error.message
    desk = Desk(CODER, base="c0")
    desk.submit(run("a", on_conflict="task"))
    desk.tell(inp.ChangePlan(at=0, plan=Desk(base="c0").plan, keep=("a",)))
    desk.ok("a", commit="c-a")
    desk.unmerged()
    assert (desk.entry("a").state, desk.entry("a").question) == ("needs-you", "conflict")


def test_only_skep_says_what_resolves_what() -> None:
    error = Desk(CODER, base="c0").refused(inp.Submit(at=0, tasks=(Task(id="a", prompt="x", resolves="c1"),)))
    assert "another task made it" in error.message
