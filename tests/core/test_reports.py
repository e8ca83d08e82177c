"""What attempts report: accepted with the current attempt and nonce, whatever order it comes in, and never twice."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from skep.core import apply
from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.commands import EndAttempt, StartAttempt, VerifyAttempt
from skep.core.model import Output, Resources, Retries, Task
from skep.core.retry import MAX_INTERRUPTIONS
from skep.errors import Conflict
from tests.core.desk import Desk, run


def started(*tasks: Task, **more: Any) -> Desk:
    """A desk whose task `a` (and others given) runs."""
    desk = Desk(**more)
    desk.submit(*(tasks or (run("a"),)))
    return desk


# The ordinary way


def test_an_attempt_is_started_spawned_and_ends() -> None:
    desk = started(run("a", objective="title"), base="c0")
    (owed,) = desk.owed()
    assert isinstance(owed, StartAttempt)
    attempt = desk.attempt("a")
    assert (owed.task.id, owed.n, owed.nonce, owed.agent, owed.spec, owed.base) == (
        "a",
        1,
        attempt.nonce,
        "shell-1",
        "shell",
        "c0",
    )
    assert len(owed.nonce) == 32
    desk.spawn("a", pid=7)
    assert (desk.attempt("a").pid, desk.attempt("a").stage) == (7, "working")
    assert len(desk.owed()) == 1, "what is owed stays owed until it is reported"
    outputs = {"x": Output(digest="d", size=1, text="t")}
    desk.ok("a", result={"n": 1}, exit_code=0, outputs=outputs)
    entry = desk.entry("a")
    assert (entry.state, entry.result, entry.exit_code, entry.outputs, entry.attempt) == ("done", {"n": 1}, 0, outputs, None)
    assert desk.owed() == []
    assert entry.ended == desk.at


def test_every_attempt_has_a_nonce_of_its_own() -> None:
    desk = started(run("a", retries=3), run("b", retries=3))
    for _ in range(3):
        desk.fail("a")
        desk.fail("b")
    nonces = [event.nonce for event in desk.events if isinstance(event, ev.TaskAssigned)]
    assert len(nonces) == len(set(nonces)) == 8


def test_work_is_verified_and_the_verified_commit_counts() -> None:
    desk = started(run("a", verify="make test"), base="c0")
    desk.spawn("a")
    desk.tell(desk.report(inp.Worked, "a", commit="c1", result="r", exit_code=0, outputs={"x": Output("d", 1)}))
    (owed,) = desk.owed()
    assert isinstance(owed, VerifyAttempt)
    assert (owed.commit, owed.n, owed.nonce) == ("c1", 1, desk.attempt("a").nonce)
    desk.reload()
    desk.ok("a", commit="other", result="other")
    entry = desk.entry("a")
    assert (entry.state, entry.commit, entry.result, entry.exit_code) == ("merging", "c1", "r", 0)


def test_a_failed_verification_is_a_failure_with_feedback() -> None:
    desk = started(run("a", verify="make test", retries=1), base="c0")
    desk.tell(desk.report(inp.Worked, "a", commit="c1", result="r"))
    desk.fail("a", "verify-failed", detail="exit 2", feedback="200 lines")
    entry = desk.entry("a")
    assert (entry.state, entry.attempts, entry.failures, entry.wip) == ("running", 2, 1, "c1")
    assert (entry.commit, entry.result, entry.outputs) == ("", None, None), "nothing unverified is shown as accepted"
    (owed,) = desk.owed()
    assert isinstance(owed, StartAttempt)
    assert owed.feedback == "200 lines"


def test_a_success_without_changes_is_done_without_a_merge() -> None:
    desk = started(run("a"), run("b", verify="x"), base="c0")
    desk.ok("a", commit="c0")
    desk.tell(desk.report(inp.Worked, "b", commit="c0"))
    desk.ok("b")
    assert desk.states() == {"a": "done", "b": "done"}
    assert desk.entry("a").commit == ""


# Failures


def test_a_task_fails_at_most_as_often_as_it_may() -> None:
    desk = started(run("a", retries=2))
    for n in range(1, 4):
        assert desk.entry("a").attempts == n
        desk.fail("a", detail=f"d{n}", feedback=f"f{n}", exit_code=n)
    entry = desk.entry("a")
    assert (entry.state, entry.failures, entry.cause, entry.detail, entry.exit_code) == ("failed", 3, "exit", "d3", 3)


def test_the_next_attempt_is_told_why_the_last_one_failed_unless_it_is_not_to_be() -> None:
    desk = started(run("a", retries=1), run("b", retries=Retries(max=1, feedback=False)))
    desk.fail("a", feedback="why")
    desk.fail("b", feedback="why")
    assert {one.task.id: one.feedback for one in desk.owed() if isinstance(one, StartAttempt)} == {"a": "why", "b": ""}


def test_a_success_forgets_what_went_wrong_before() -> None:
    desk = started(run("a", retries=1))
    desk.fail("a", detail="d", feedback="f")
    desk.ok("a")
    entry = desk.entry("a")
    assert (entry.cause, entry.detail, entry.feedback) == ("", "", "")


def test_long_texts_keep_their_end() -> None:
    desk = started(run("a", retries=1))
    desk.fail("a", detail="x" * 5_000 + "end", feedback="y" * 50_000 + "end")
    entry = desk.entry("a")
    assert (len(entry.detail), len(entry.feedback)) == (2_000, 32_000)
    assert entry.detail.endswith("end")
    assert entry.feedback.endswith("end")


def test_a_backoff_parks_the_task_until_its_time() -> None:
    desk = started(run("a", retries=Retries(max=2, backoff=10.0)))
    desk.fail("a")
    entry = desk.entry("a")
    assert entry.state == "parked"
    assert 10_000 <= entry.until - desk.at <= 12_500
    assert desk.wake() == entry.until
    desk.reload()
    desk.tick(9.0)
    assert desk.entry("a").state == "parked"
    desk.tick(4.0)
    assert (desk.entry("a").state, desk.entry("a").until) == ("running", 0)


def test_the_next_attempt_may_go_on_from_what_the_last_one_left() -> None:
    last, fresh = Retries(max=1, start="last"), Retries(max=1)
    desk = started(run("a", retries=last), run("b", retries=fresh), run("c", retries=last), base="c0")
    desk.fail("a", commit="w1")
    desk.fail("b", commit="w2")
    desk.fail("c")
    assert {name: desk.attempt(name).base for name in "abc"} == {"a": "w1", "b": "c0", "c": "c0"}


def test_what_was_begun_before_a_need_went_round_again_is_not_gone_on_from() -> None:
    last = Retries(max=3, start="last")
    desk = started(run("a"), run("b"), base="c0")
    desk.submit(run("x", "a", retries=last), run("y", "b", retries=last))
    desk.ok("a", "b")
    desk.fail("x", commit="w1")
    desk.retry("a")
    desk.ok("a", commit="c1")
    desk.merged("m1")
    desk.fail("x", commit="w2")
    desk.fail("y", commit="w3")
    assert (desk.attempt("x").base, desk.attempt("y").base) == ("m1", "w3"), "w2 was begun without m1"
    desk.reload()
    desk.fail("x", commit="w4")
    assert desk.attempt("x").base == "w4"


# Interruptions


def test_a_provider_that_cannot_be_reached_is_no_attempt_that_counts() -> None:
    desk = started(run("a"))
    for _ in range(20):
        until = desk.at + 60_000
        desk.tell(desk.report(inp.Ended, "a", outcome="interrupted", cause="limit", detail="rate limit", until=until))
        assert (desk.entry("a").state, desk.entry("a").until) == ("parked", until)
        desk.tick(60.0)
    assert (desk.entry("a").failures, desk.entry("a").interruptions, desk.entry("a").state) == (0, 0, "running")


def test_a_time_to_wait_for_that_is_past_counts_as_an_interruption() -> None:
    desk = started(run("a"))
    for _ in range(MAX_INTERRUPTIONS):
        desk.tell(desk.report(inp.Ended, "a", outcome="interrupted", cause="limit", until=1))
    assert desk.entry("a").state == "gave-up"


def test_an_environment_that_fails_is_waited_for_longer_and_longer_and_then_given_up() -> None:
    desk = started(run("a", retries=0))
    waits = []
    for _ in range(MAX_INTERRUPTIONS - 1):
        desk.fail("a", "infrastructure", detail="no disk")
        waits.append(desk.entry("a").until - desk.at)
        assert desk.entry("a").state == "parked"
        desk.tick(60.0)
    assert waits == [1_000, 2_000, 4_000, 8_000]
    desk.fail("a", "infrastructure", detail="no disk")
    entry = desk.entry("a")
    assert (entry.state, entry.failures, entry.interruptions, entry.cause) == ("gave-up", 0, 5, "infrastructure")


def test_a_process_that_vanishes_counts_as_an_interruption() -> None:
    desk = started(run("a"))
    desk.gone("a")
    assert (desk.entry("a").state, desk.entry("a").interruptions) == ("running", 1)
    assert desk.last(ev.AttemptEnded).detail == "its process vanished"
    for _ in range(MAX_INTERRUPTIONS - 1):
        desk.gone("a")
    assert desk.entry("a").state == "gave-up"


def test_failures_and_interruptions_are_counted_apart() -> None:
    desk = started(run("a", retries=1))
    desk.gone("a")
    desk.fail("a")
    desk.gone("a")
    desk.fail("a")
    entry = desk.entry("a")
    assert (entry.state, entry.failures, entry.interruptions, entry.attempts) == ("failed", 2, 2, 4)


def test_what_must_not_run_twice_asks_after_an_interruption() -> None:
    desk = started(run("a", recovery="ask"))
    desk.spawn("a")
    desk.gone("a")
    assert (desk.entry("a").state, desk.entry("a").question) == ("needs-you", "rerun")
    desk.answer("a", "rerun")
    assert desk.entry("a").state == "running"


def test_what_never_began_may_simply_begin_again() -> None:
    desk = started(run("a", recovery="ask"))
    desk.join("b2")
    desk.gone("a")
    assert desk.entry("a").state == "running"


def test_a_callable_may_have_begun_without_saying_so() -> None:
    desk = started(Task(id="a", call="m:f", recovery="ask"))
    desk.join("b2")
    desk.gone("a")
    assert desk.entry("a").question == "rerun"


# Fences


def reports(desk: Desk) -> list[inp.Input]:
    """One report of each kind about the current attempt of `a`."""
    return [
        desk.report(inp.Spawned, "a", pid=1, born=1),
        desk.report(inp.Worked, "a", commit="c"),
        desk.report(inp.Ended, "a", outcome="ok"),
        desk.report(inp.Ended, "a", outcome="failed"),
        desk.report(inp.Ended, "a", outcome="interrupted"),
        desk.report(inp.Gone, "a"),
    ]


def test_reports_of_another_attempt_nonce_or_task_are_refused() -> None:
    desk = started(run("a", retries=9))
    late = reports(desk)
    wrong = [replace(report, nonce="0" * 32) for report in late]
    strange = [replace(report, task="nobody") for report in late]
    desk.fail("a")
    for report in (*late, *wrong, *strange, *(replace(report, n=7) for report in reports(desk))):
        assert isinstance(desk.refused(report), Conflict)


def test_reports_about_a_finished_task_are_refused() -> None:
    desk = started()
    late = reports(desk)
    desk.ok("a")
    for report in late:
        assert isinstance(desk.refused(report), Conflict)


@pytest.mark.parametrize("index", range(6))
def test_the_same_report_twice_changes_nothing_the_second_time(index: int) -> None:
    desk = started(run("a"))
    report = reports(desk)[index]
    desk.say(report)
    before = desk.state.digest()
    (answer,) = desk.say(report)
    assert desk.state.digest() == before
    if isinstance(report, inp.Spawned | inp.Worked):
        assert answer is None, "it is the current attempt, and this is so"


def test_a_late_spawned_does_not_undo_a_verification() -> None:
    desk = started(run("a", verify="x"), base="c0")
    spawned = desk.report(inp.Spawned, "a", pid=1, born=1)
    desk.tell(spawned)
    desk.tell(desk.report(inp.Worked, "a", commit="c1"))
    assert isinstance(desk.refused(spawned), Conflict)
    assert isinstance(desk.owed()[0], VerifyAttempt)


def test_another_process_of_the_same_attempt_is_refused() -> None:
    desk = started()
    desk.spawn("a", pid=1)
    assert isinstance(desk.refused(desk.report(inp.Spawned, "a", pid=2, born=1)), Conflict)


def test_a_gone_that_comes_after_the_work_does_not_undo_it() -> None:
    desk = started(run("a", verify="x"), base="c0")
    gone = desk.report(inp.Gone, "a")
    desk.tell(desk.report(inp.Worked, "a", commit="c1"))
    desk.tell(gone)
    desk.ok("a")
    assert desk.entry("a").state == "merging"


def test_what_ended_but_is_not_gone_holds_what_it_held() -> None:
    desk = started(run("a", resources=Resources(cpu=3.0), locks=("db",)))
    desk.submit(run("b", locks=("db",)), run("c", resources=Resources(cpu=2.0)))
    desk.ok("a", gone=False)
    assert desk.states() == {"a": "done", "b": "ready", "c": "ready"}
    (owed,) = desk.owed()
    assert isinstance(owed, EndAttempt)
    desk.gone("a", wip="w")
    assert desk.states() == {"a": "done", "b": "running", "c": "running"}
    assert desk.entry("a").wip == "w"


def test_a_retry_waits_until_the_last_attempt_is_gone() -> None:
    desk = started(run("a", retries=1))
    desk.fail("a", gone=False)
    assert desk.entry("a").state == "ready"
    desk.gone("a")
    assert (desk.entry("a").state, desk.entry("a").attempts) == ("running", 2)


# What cannot be kept


def test_a_result_that_cannot_be_kept_fails_the_attempt_and_nothing_else() -> None:
    desk = started(run("a"), run("b"))
    for name, result in (("a", object()), ("b", {"n": 2**80})):
        desk.ok(name, result=result)
        entry = desk.entry(name)
        assert (entry.state, entry.cause) == ("failed", "error")
        assert entry.detail.startswith("what it returned cannot be kept: ")


def test_a_result_is_taken_in_as_it_will_be_read() -> None:
    desk = started()
    desk.ok("a", result=(1, {2}, {"x": (3,)}))
    assert desk.entry("a").result == [1, [2], {"x": [3]}]


def test_a_report_with_half_a_character_is_made_legible_and_counts() -> None:
    desk = started(run("a"), run("b", verify="x"), run("c"), base="c0")
    desk.fail("a", detail="bad: \udcff", feedback="\ud800")
    assert (desk.entry("a").state, desk.entry("a").detail) == ("failed", "bad: \\udcff")
    desk.ok("c", commit="c1")
    desk.unmerged(detail="conflicts in \udcff")
    assert desk.last(ev.MergeFailed).detail == "conflicts in \\udcff"
    desk.tell(desk.report(inp.Worked, "b", commit="c9", result=object()))
    assert desk.entry("b").state == "failed"


# Nodes


def test_what_ran_under_another_boot_is_lost_and_runs_again() -> None:
    desk = started(run("a"), run("b", verify="x"), base="c0")
    desk.spawn("a")
    late = reports(desk)
    desk.tell(desk.report(inp.Worked, "b", commit="c1"))
    desk.reload()
    desk.join("b2")
    assert {type(one) for one in desk.owed()} == {EndAttempt, VerifyAttempt}
    assert isinstance(desk.refused(late[0]), Conflict)
    desk.gone("a", wip="w1")
    entry = desk.entry("a")
    assert (entry.state, entry.attempts, entry.interruptions, entry.failures, entry.wip) == ("running", 2, 1, 0, "w1")
    assert desk.attempt("b").n == 1, "a verification is simply begun again"


def test_the_same_boot_again_loses_nothing() -> None:
    desk = started()
    desk.spawn("a")
    desk.join("b1")
    assert desk.attempt("a").stage == "working"


@pytest.mark.parametrize("outcome", ["ok", "failed", "interrupted"])
def test_the_result_of_a_lost_attempt_is_void(outcome: str) -> None:
    desk = started(run("a"), base="c0")
    desk.spawn("a")
    desk.join("b2")
    words = {"cause": "infrastructure", "detail": "its own words"}
    desk.tell(desk.report(inp.Ended, "a", outcome=outcome, commit="c1", until=desk.at + 10**6, **words))
    entry = desk.entry("a")
    assert (entry.cause, entry.detail) == ("interrupted", "its owner or node died")
    assert (entry.state, entry.attempts, entry.interruptions, entry.failures, entry.wip) == ("running", 2, 1, 0, "c1")


def test_the_work_of_a_lost_attempt_is_void_too() -> None:
    desk = started(run("a", verify="x"), base="c0")
    desk.join("b2")
    desk.tell(desk.report(inp.Worked, "a", commit="c1"))
    assert (desk.entry("a").state, desk.entry("a").attempts, desk.entry("a").wip) == ("running", 2, "c1")


def test_a_task_that_kills_its_owner_gives_up() -> None:
    desk = started(run("a", retries=9), run("after", "a"))
    for n in range(MAX_INTERRUPTIONS):
        desk.spawn("a")
        desk.reload()
        desk.join(f"boot{n}")
        desk.gone("a")
    assert desk.states() == {"a": "gave-up", "after": "skipped"}
    desk.retry("a")
    assert desk.states() == {"a": "running", "after": "waiting"}


def test_on_a_lost_node_nothing_is_placed_until_it_is_back() -> None:
    desk = started(run("a"))
    desk.tell(inp.LoseNode(at=0, node="here", why="no heartbeat"))
    desk.submit(run("b"))
    assert desk.entry("b").state == "ready"
    count = len(desk.events)
    desk.tell(inp.LoseNode(at=0, node="here"))
    assert len(desk.events) == count
    desk.join("b2")
    assert desk.entry("b").state == "running"
    assert desk.refused(inp.LoseNode(at=0, node="nowhere"))


def test_a_node_that_comes_back_is_told_again_what_it_owes() -> None:
    desk = started(run("a"), run("b", verify="x"), base="c0")
    desk.tell(desk.report(inp.Worked, "b", commit="c1"))
    desk.cancel("a")
    desk.state.due.fresh.clear()
    desk.join("b2")
    assert {key[:2] for key in desk.state.due.fresh} == {("end", "a"), ("verify", "b")}


def test_nobody_works_while_nobody_is_there() -> None:
    desk = Desk(base="c0")
    desk.say(inp.Submit(at=0, tasks=(run("a"),)), hands=False)
    assert desk.entry("a").state == "ready"
    desk.say(inp.Tick(at=0))
    desk.say(desk.report(inp.Ended, "a", outcome="ok", commit="c1"), hands=False)
    assert (desk.entry("a").state, desk.state.intent) == ("merging", None)
    desk.say(inp.Tick(at=0))
    assert desk.state.intent is not None


def test_a_result_that_is_too_large_fails_the_attempt() -> None:
    desk = started(run("a"), run("b", verify="x"), run("c"), base="c0", thorough=False)
    desk.ok("a", result="x" * 5_000_000)
    desk.tell(desk.report(inp.Worked, "b", commit="c1", result=["y" * 5_000_000]))
    assert {desk.entry(name).state for name in "ab"} == {"failed"}
    assert "bytes large, more than" in desk.entry("a").detail
    desk.ok("c", commit="c1")
    desk.unmerged(feedback="z" * 5_000_000)
    assert len(desk.entry("c").feedback) == 32_000


def test_an_agent_keeps_records_of_so_many_types() -> None:
    with patch.object(apply, "MAX_TYPES", 3):
        desk = Desk(at_once=1)
        for n in range(6):
            desk.ok(*desk.submit(run(type=f"k{n % 5}")))
    assert desk.state.agents["shell-1"].types == {"k0": [2, 0], "k1": [1, 0], "k2": [1, 0]}
