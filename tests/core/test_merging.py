"""The session's branch: one stack of merges at a time, its intent first; conflicts, refusals, what people may say about them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.commands import Merge, Stacked, StartAttempt
from skep.core.intent import Candidate, MergeIntent
from skep.core.model import Retries
from skep.errors import Conflict
from tests.core.desk import Desk, run


def merging(*names: str, **more: Any) -> Desk:
    """A desk whose tasks have all worked; the first is being merged, alone."""
    desk = Desk(at_once=9, base="c0")
    desk.submit(*(run(name, **more) for name in names))
    for name in names:
        desk.ok(name, commit=f"c-{name}")
    return desk


def stacked(*names: str, **more: Any) -> Desk:
    """A desk on which these tasks are being merged, one on the other."""
    desk = merging("first", *names, **more)
    desk.merged("m0")
    assert desk.stack() == list(names)
    return desk


def test_what_waits_when_a_merge_begins_is_merged_with_it_five_at_most_in_the_order_in_which_it_came() -> None:
    desk = merging("a", "b", "c", "d", "e", "f", "g")
    for base, names in (("c0", "a"), ("m-a", "bcdef"), ("m-f", "g")):
        stack = tuple(Candidate(name, 1, f"c-{name}") for name in names)
        intent = desk.state.intent
        assert intent == MergeIntent(base=base, at=desk.last(ev.MergeStarted).at, stack=stack)
        (owed,) = desk.owed()
        assert isinstance(owed, Merge)
        assert (owed.intent, owed.tasks) == (intent, tuple(map(Stacked, names)))
        desk.reload()
        desk.merged(*(f"m-{name}" for name in names))
        for name in names:
            assert (desk.entry(name).state, desk.entry(name).merged) == ("done", f"m-{name}")
        assert desk.state.tip == f"m-{names[-1]}"
    assert (desk.state.intent, desk.state.merge_queue, desk.owed()) == (None, [], [])


def test_what_lies_below_a_refused_one_is_merged_and_what_lies_above_waits_at_the_head_of_the_queue_as_if_nothing_was() -> None:
    desk = stacked("a", "b", "c", "d", "e", retries=1)
    desk.submit(run("late"))
    desk.ok("late", commit="c-late")
    before = {name: desk.entry(name).failures for name in "abde"}
    desk.merged("m-a", "m-b", cause="verify-failed", detail="exit 2", feedback="the log")
    assert [type(event) for event in desk.events[-5:]] == [ev.Merged, ev.Merged, ev.MergeFailed, ev.MergeStarted, ev.TaskAssigned]
    assert (desk.entry("c").state, desk.entry("c").failures, desk.entry("c").feedback) == ("running", 1, "the log")
    assert before == {name: desk.entry(name).failures for name in "abde"}
    assert (desk.intent().base, desk.stack()) == ("m-b", ["d", "e", "late"])
    assert desk.attempt("c").base == "m-b"
    desk.merged("m-d", "m-e", "m-late")
    assert [name for name, state in desk.states().items() if state != "done"] == ["c"]


def test_an_owner_that_finds_part_of_a_stack_on_the_branch_says_so_and_the_rest_is_stacked_anew() -> None:
    desk = stacked("a", "b", "c")
    desk.merged("m-a")
    assert desk.states() == {"first": "done", "a": "done", "b": "merging", "c": "merging"}
    assert (desk.intent().base, desk.stack(), desk.entry("b").failures) == ("m-a", ["b", "c"], 0)


def test_nobody_in_a_stack_can_be_cancelled_and_what_waits_beside_it_can() -> None:
    desk = stacked("a", "b")
    desk.submit(run("late"))
    desk.ok("late", commit="c-late")
    for name in "ab":
        assert desk.refused(inp.Cancel(at=0, tasks=(name,))).message == f"task '{name}' is being merged"
        assert isinstance(desk.refused(inp.Retry(at=0, task=name)), Conflict)
    desk.cancel("late")
    assert isinstance(desk.refused(inp.Close(at=0)), Conflict)
    desk.merged("m-a", cause="conflict", detail="in x")
    assert desk.states() == {"first": "done", "a": "done", "b": "running", "late": "cancelled"}


def test_what_goes_back_from_a_stack_can_be_cancelled_and_waits_while_the_session_is_paused() -> None:
    desk = stacked("a", "b", "c")
    desk.tell(inp.Pause(at=0))
    assert desk.stack() == ["a", "b", "c"]
    desk.merged("m-a")
    assert (desk.state.intent, desk.state.merge_queue) == (None, ["b", "c"])
    desk.cancel("b")
    desk.tell(inp.Resume(at=0))
    assert desk.stack() == ["c"]


def test_a_deadline_that_passed_in_a_stack_counts_when_the_task_goes_back_to_the_queue() -> None:
    desk = stacked("a", "b", deadline=1_060_000)
    desk.tick(100)
    assert desk.states() == {"first": "done", "a": "merging", "b": "merging"}
    desk.merged("m-a")
    desk.tick()
    assert desk.entry("a").state == "done"
    assert (desk.entry("b").state, desk.entry("b").cause) == ("failed", "deadline")


def test_one_that_asks_for_a_yes_is_stacked_when_it_got_it_and_not_before() -> None:
    desk = Desk(at_once=9, base="c0")
    desk.submit(run("first"), run("a"), run("asks", merge="ask"), run("b"))
    desk.ok("first", "a", "asks", "b", commit="c1")
    desk.merged("m0")
    assert desk.stack() == ["a", "b"]
    desk.answer("asks", "merge")
    assert desk.stack() == ["a", "b"]
    desk.merged("m1", "m2")
    assert desk.stack() == ["asks"]


def test_a_dependent_starts_from_a_base_that_contains_what_it_needs() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a"), run("b", "a"))
    desk.ok("a", commit="c1")
    assert desk.entry("b").state == "waiting"
    desk.merged("m1")
    assert desk.attempt("b").base == "m1"


def test_what_is_never_merged_is_done_when_it_worked() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a", merge="never"))
    desk.ok("a", commit="c1")
    assert (desk.entry("a").state, desk.entry("a").commit, desk.state.intent) == ("done", "c1", None)


def test_a_conflict_reruns_the_task_once_on_the_new_tip_and_then_asks() -> None:
    desk = merging("a")
    desk.unmerged(detail="conflicts in x", feedback="both changed x")
    (owed,) = desk.owed()
    assert isinstance(owed, StartAttempt)
    assert (owed.n, owed.feedback, owed.base) == (2, "both changed x", "c0")
    assert (desk.entry("a").failures, desk.entry("a").conflicts) == (0, 1)
    desk.ok("a", commit="c2")
    desk.unmerged(detail="conflicts in y")
    entry = desk.entry("a")
    assert (entry.state, entry.question, entry.cause, entry.detail, entry.commit) == (
        "needs-you", "conflict", "conflict", "conflicts in y", "c2"
    )  # fmt: skip
    desk.answer("a", "rerun")
    desk.ok("a", commit="c3")
    desk.merged("m1")
    assert (desk.entry("a").state, desk.entry("a").cause, desk.entry("a").detail) == ("done", "", "")


def test_a_rerun_after_a_conflict_never_starts_from_what_conflicted() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a", retries=Retries(max=3, start="last")))
    desk.fail("a", commit="w1")
    assert desk.attempt("a").base == "w1"
    desk.ok("a", commit="c1")
    desk.unmerged()
    assert desk.attempt("a").base == "c0"


def test_after_a_merge_by_hand_it_is_tried_again() -> None:
    desk = merging("a", on_conflict="ask")
    desk.unmerged()
    desk.answer("a", "merge")
    assert desk.intent().stack == (Candidate("a", 1, "c-a"),)
    desk.merged("m1")
    assert desk.entry("a").state == "done"


def test_a_merged_commit_that_fails_its_verification_is_a_failure_of_the_task() -> None:
    desk = merging("a", "b", retries=1)
    desk.unmerged("verify-failed", detail="exit 2", feedback="the log")
    entry = desk.entry("a")
    assert (entry.state, entry.failures, entry.wip, entry.commit) == ("running", 1, "c-a", "")
    assert next(owed for owed in desk.owed() if isinstance(owed, StartAttempt)).feedback == "the log"
    assert desk.stack() == ["b"]
    desk.merged("m-b")
    desk.ok("a", commit="c2")
    desk.unmerged("verify-failed")
    assert (desk.entry("a").state, desk.entry("a").failures, desk.entry("a").cause) == ("failed", 2, "verify-failed")


def test_it_waits_like_any_other_failure_and_says_nothing_if_it_is_not_to() -> None:
    desk = merging("a", retries=Retries(max=1, backoff=5.0, feedback=False))
    desk.unmerged("verify-failed", feedback="the log")
    assert (desk.entry("a").state, desk.entry("a").feedback) == ("parked", "")
    assert 5_000 <= desk.entry("a").until - desk.at <= 6_250


def test_a_change_of_what_is_protected_is_a_failure_of_the_task_too() -> None:
    desk = merging("a", protect=("tests/**",), retries=1)
    (owed,) = desk.owed()
    assert isinstance(owed, Merge)
    assert owed.tasks == (Stacked("a", ("tests/**",)),)
    desk.unmerged("protected", feedback="it changed tests/a")
    assert (desk.entry("a").state, desk.entry("a").failures, desk.entry("a").feedback) == ("running", 1, "it changed tests/a")
    desk.ok("a", commit="c2")
    desk.unmerged("protected")
    assert (desk.entry("a").state, desk.entry("a").failures, desk.entry("a").cause) == ("failed", 2, "protected")
    desk.reload()


def test_a_branch_that_somebody_else_moved_is_a_question() -> None:
    desk = merging("a")
    desk.unmerged("infrastructure", detail="the branch is at 123")
    assert (desk.entry("a").state, desk.entry("a").question) == ("needs-you", "merge")
    desk.answer("a", "merge")
    desk.merged("m1")
    assert desk.entry("a").state == "done"


def test_reports_of_another_merge_and_such_as_say_too_much_or_nothing_are_refused() -> None:
    desk = merging("a", "b")
    intent = desk.intent()
    (candidate,) = intent.stack
    for other in (
        replace(intent, at=intent.at - 1),
        replace(intent, base="c9"),
        replace(intent, stack=(Candidate("b", 1, "c-b"),)),
        replace(intent, stack=(candidate, Candidate("b", 1, "c-b"))),
    ):
        assert isinstance(desk.refused(inp.MergeEnded(at=0, intent=other, commits=("m1",))), Conflict)
    for commits, cause in ((("m1", "m2"), ""), (("m1",), "conflict"), ((), "")):
        said = inp.MergeEnded(at=0, intent=intent, commits=commits, cause=cause)  # type: ignore[arg-type]  # one of several
        assert isinstance(desk.refused(said), Conflict)


def test_a_merge_is_reported_once() -> None:
    desk = merging("a")
    intent = desk.intent()
    desk.merged("m1")
    assert isinstance(desk.refused(inp.MergeEnded(at=0, intent=intent, commits=("m1",))), Conflict)
    assert isinstance(desk.refused(inp.MergeEnded(at=0, intent=intent, cause="conflict", detail="d")), Conflict)


def test_merges_begin_although_the_processes_of_the_attempt_are_not_gone_yet() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a"))
    desk.ok("a", commit="c1", gone=False)
    desk.merged("m1")
    assert desk.entry("a").state == "done"
    desk.gone("a")
    assert desk.owed() == []


def test_a_task_that_failed_while_merging_and_is_not_gone_is_retried_when_it_is() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a"))
    desk.ok("a", commit="c1", gone=False)
    desk.unmerged()
    assert desk.entry("a").state == "ready"
    desk.gone("a")
    assert (desk.entry("a").state, desk.entry("a").attempts) == ("running", 2)


def test_a_merge_on_whose_need_somebody_insists_waits_for_it() -> None:
    desk = Desk(base="c0")
    desk.submit(run("n"), run("a", "n"))
    desk.ok("n")
    desk.ok("a", commit="c1")
    desk.retry("n")
    desk.unmerged()
    assert desk.states() == {"n": "running", "a": "waiting"}
    desk.ok("n")
    assert desk.entry("a").state == "running"
