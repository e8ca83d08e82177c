# tidy: long because one handler of the core a part, each told through
"""What people say: cancel, retry, pause and stop, close; and who falls or rises with whom."""

from __future__ import annotations

import pytest

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.commands import EndAttempt, StartAttempt
from skep.core.model import AgentSpec, Retries, Task
from skep.errors import Conflict, Invalid, NotFound
from tests.core.desk import Desk, run

# Cancel


def test_what_needs_a_cancelled_task_falls_with_it() -> None:
    desk = Desk()
    desk.submit(run("a"), run("b", "a"), run("c", "b"), run("d", "a", condition="always()"), run("e"))
    assert set(desk.cancel("a")) == {"a", "b", "c"}
    assert desk.states() == {"a": "cancelled", "b": "cancelled", "c": "cancelled", "d": "running", "e": "running"}
    assert desk.entry("b").detail == "needs a, which was cancelled"


def test_with_the_subtree_everything_falls() -> None:
    desk = Desk()
    desk.submit(run("a"), run("b", "a", condition="always()"), run("c", "b", condition="failure()"))
    assert set(desk.cancel("a", subtree=True)) == {"a", "b", "c"}
    assert set(desk.states().values()) == {"cancelled"}


def test_several_roots_fall_together_and_each_task_once() -> None:
    desk = Desk()
    desk.submit(run("a"), run("b"), run("c", "a", "b"), run("d", "c", "a"))
    assert sorted(desk.cancel("a", "b", "a")) == ["a", "b", "c", "d"]
    assert sum(isinstance(event, ev.TaskClosed) for event in desk.events) == 4


def test_a_running_task_ends_at_once_and_its_processes_soon_after() -> None:
    desk = Desk(at_once=1)
    desk.submit(run("a"), run("b"))
    desk.spawn("a")
    desk.cancel("a")
    assert (desk.entry("a").state, desk.running()) == ("cancelled", [])
    (owed,) = desk.owed()
    assert isinstance(owed, EndAttempt)
    assert owed.why == "cancelled"
    desk.gone("a", wip="w")
    assert (desk.entry("a").wip, desk.running()) == ("w", ["b"])


def test_a_result_that_comes_before_the_cancellation_counts() -> None:
    desk = Desk()
    desk.submit(run("a"), run("b", "a"))
    late = inp.Cancel(at=0, tasks=("a",))
    desk.ok("a")
    assert isinstance(desk.refused(late), Conflict)
    assert desk.running() == ["b"]


@pytest.mark.parametrize("outcome", ["ok", "failed", "interrupted"])
def test_a_result_that_comes_after_the_cancellation_does_not(outcome: str) -> None:
    desk = Desk(base="c0")
    desk.submit(run("a", retries=5))
    desk.cancel("a")
    desk.tell(desk.report(inp.Ended, "a", outcome=outcome, commit="c1", until=10**15))
    entry = desk.entry("a")
    assert (entry.state, entry.attempt, entry.commit, entry.wip) == ("cancelled", None, "", "c1")


def test_work_that_comes_after_the_cancellation_is_kept_and_not_verified() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a", verify="x"))
    desk.cancel("a")
    desk.tell(desk.report(inp.Worked, "a", commit="c1"))
    assert (desk.entry("a").state, desk.entry("a").wip, desk.owed()) == ("cancelled", "c1", [])


def test_a_verification_is_cancelled_like_everything_else() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a", verify="x"))
    desk.tell(desk.report(inp.Worked, "a", commit="c1"))
    desk.cancel("a")
    assert [type(owed) for owed in desk.owed()] == [EndAttempt]
    desk.ok("a")
    assert desk.entry("a").state == "cancelled"


def test_cancelling_what_is_over_or_not_there_or_being_merged_is_refused() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a"), run("b"), run("c"))
    desk.ok("a", commit="c1")
    desk.ok("b")
    assert isinstance(desk.refused(inp.Cancel(at=0, tasks=("b",))), Conflict)
    assert isinstance(desk.refused(inp.Cancel(at=0, tasks=("c", "b"))), Conflict)
    assert isinstance(desk.refused(inp.Cancel(at=0, tasks=("nobody",))), NotFound)
    assert "being merged" in desk.refused(inp.Cancel(at=0, tasks=("a",))).message
    desk.merged("m1")
    assert desk.entry("a").state == "done"


def test_what_waits_for_its_merge_can_be_cancelled() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a"), run("b"))
    desk.ok("a", commit="c1")
    desk.ok("b", commit="c2")
    desk.cancel("b")
    desk.merged("m1")
    assert (desk.entry("b").state, desk.state.intent, desk.state.tip) == ("cancelled", None, "m1")


@pytest.mark.parametrize("state", ["waiting", "ready", "running", "parked", "needs-you", "merging"])
def test_every_open_state_can_be_cancelled_and_retried(state: str) -> None:
    desk = in_state(state)
    assert desk.entry("x").state == state
    desk.cancel("x")
    assert desk.entry("x").state == "cancelled"
    desk.check()
    desk.retry("x")
    if desk.entry("x").attempt is not None and desk.attempt("x").stage == "ending":
        desk.gone("x")
    assert desk.entry("x").state in ("waiting", "running", "ready")


def in_state(state: str) -> Desk:
    """A desk whose task `x` is in an open state."""
    desk = Desk(at_once=2, base="c0")
    desk.submit(run("other"))
    match state:
        case "waiting":
            desk.submit(run("x", "other"))
        case "ready":
            desk.submit(run("y"), run("x"))
        case "running":
            desk.submit(run("x"))
        case "parked":
            desk.submit(run("x", retries=Retries(max=1, backoff=5.0)))
            desk.fail("x")
        case "needs-you":
            desk.submit(run("x", merge="ask"))
            desk.ok("x", commit="c1")
        case "merging":
            desk.submit(run("x"))
            desk.ok("other", commit="c1")
            desk.ok("x", commit="c2")
        case "expanded":
            raise AssertionError(state)
    return desk


# Retry


def test_a_dead_letter_goes_round_again_and_takes_with_it_what_was_skipped_for_want_of_it() -> None:
    desk = Desk()
    desk.submit(run("a", retries=1), run("b", "a"), run("c", "b"), run("d", "a", condition="failure()"))
    desk.fail("a")
    desk.fail("a")
    desk.ok("d")
    assert desk.states() == {"a": "failed", "b": "skipped", "c": "skipped", "d": "done"}
    desk.retry("a", comment="try harder")
    assert desk.states() == {"a": "running", "b": "waiting", "c": "waiting", "d": "done"}
    assert desk.entry("a").failures == 0
    (owed,) = desk.owed()
    assert isinstance(owed, StartAttempt)
    assert (owed.feedback, owed.n) == ("try harder", 3)
    desk.ok("a", "b", "c")
    assert set(desk.states().values()) == {"done"}
    assert desk.state.counts == {"done": 4, "failed": 0, "skipped": 0}


def test_whom_a_person_cancelled_does_not_rise_with_the_others() -> None:
    desk = Desk()
    desk.submit(run("a"), run("b", "a"), run("c", "a"))
    desk.cancel("b")
    desk.cancel("a")
    desk.gone("a")
    desk.retry("a")
    assert desk.states() == {"a": "running", "b": "cancelled", "c": "waiting"}


def test_a_skipped_task_is_not_retried_before_what_it_needs() -> None:
    desk = Desk()
    desk.submit(run("a"), run("b", "a"))
    desk.fail("a")
    error = desk.refused(inp.Retry(at=0, task="b"))
    assert "'b' needs 'a', which did not succeed" in error.message


def test_neither_is_one_that_fell_with_what_it_needs_unless_it_can_do_without() -> None:
    desk = Desk()
    desk.submit(run("a"), run("b", "a"), run("c", "a", condition="always()"))
    desk.cancel("a", subtree=True)
    assert isinstance(desk.refused(inp.Retry(at=0, task="b")), Conflict)
    desk.retry("c")
    assert desk.entry("c").state == "running"


def test_what_a_condition_left_out_is_asked_again_when_what_it_looks_at_goes_round_again() -> None:
    desk = Desk()
    desk.submit(run("a"), run("clean", "a", condition="failure()"))
    desk.ok("a")
    assert (desk.entry("clean").state, desk.entry("clean").cause) == ("skipped", "condition")
    desk.retry("a")
    assert desk.entry("clean").state == "waiting"
    desk.fail("a")
    assert desk.entry("clean").state == "running"


def test_who_did_not_start_yet_waits_for_what_goes_round_again() -> None:
    desk = Desk(at_once=2)
    desk.submit(run("a"), run("x"), run("b", "a"), run("c", "a"), run("d", "a", retries=Retries(max=1, backoff=5.0)))
    desk.ok("a")
    assert desk.states() == {"a": "done", "x": "running", "b": "running", "c": "ready", "d": "ready"}
    desk.retry("a")
    assert desk.states()["c"] == desk.states()["d"] == "waiting"
    desk.ok("x")
    assert desk.running() == ["b", "a"]
    desk.ok("a")
    assert desk.running() == ["b", "c"]


@pytest.mark.parametrize("backoff", [0.0, 5.0])
@pytest.mark.parametrize("end", ["failed", "interrupted", "gone"])
def test_who_fails_while_its_need_goes_round_again_waits_for_it(end: str, backoff: float) -> None:
    desk = Desk()
    desk.submit(run("a"), run("b", "a", retries=Retries(max=1, backoff=backoff)))
    desk.ok("a")
    desk.retry("a")
    assert desk.running() == ["b", "a"]
    if end == "gone":
        desk.gone("b")
    else:
        desk.tell(desk.report(inp.Ended, "b", outcome=end, cause="limit", until=desk.at + 50_000))
    assert desk.entry("b").state == "waiting"
    desk.tick(100.0)
    assert desk.entry("b").state == "waiting"
    desk.ok("a")
    assert desk.entry("b").state == "running"


def test_a_parked_task_with_a_condition_can_be_retried() -> None:
    desk = Desk()
    desk.submit(run("a", condition="always()", retries=Retries(max=1, backoff=100.0)))
    desk.fail("a")
    assert desk.entry("a").state == "parked"
    desk.retry("a")
    assert desk.entry("a").state == "running"
    desk.tick(500.0)
    assert desk.entry("a").attempts == 2


def test_a_cancelled_task_is_retried_when_its_last_attempt_is_gone() -> None:
    desk = Desk()
    desk.submit(run("a"))
    desk.cancel("a")
    desk.retry("a")
    assert desk.entry("a").state == "ready"
    desk.reload()
    desk.tell(desk.report(inp.Ended, "a", outcome="ok"))
    assert (desk.entry("a").state, desk.entry("a").attempts) == ("running", 2)


def test_a_retry_may_go_to_another_agent() -> None:
    one, two = AgentSpec(name="one", runtime="x", capabilities=("a",)), AgentSpec(name="two", runtime="x", capabilities=("b",))
    desk = Desk(one, two)
    desk.submit(Task(id="a", prompt="x", agent="one"), Task(id="b", prompt="x", capabilities=("a",)))
    desk.fail("a")
    desk.retry("a", agent="two")
    assert desk.entry("a").agent == "two-1"
    desk.fail("b")
    for agent, message in (("nobody", "no agent is called"), ("two", "lacks one of a")):
        error = desk.refused(inp.Retry(at=0, task="b", agent=agent))
        assert isinstance(error, Invalid)
        assert message in error.message


def test_retrying_what_goes_on_is_refused() -> None:
    desk = Desk(base="c0", at_once=1)
    desk.submit(run("a"), run("b"), run("c", "a"))
    for name in "abc":
        assert isinstance(desk.refused(inp.Retry(at=0, task=name)), Conflict)
    desk.ok("a", commit="c1")
    assert isinstance(desk.refused(inp.Retry(at=0, task="a")), Conflict)
    assert isinstance(desk.refused(inp.Retry(at=0, task="nobody")), NotFound)


def test_a_done_task_goes_round_again_with_the_persons_words() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a"), run("b", "a"))
    desk.ok("a", commit="c1")
    desk.merged("m1")
    desk.ok("b")
    desk.retry("a", comment="not like this")
    (owed,) = desk.owed()
    assert isinstance(owed, StartAttempt)
    assert (owed.feedback, owed.base, desk.entry("b").state) == ("not like this", "m1", "done")


# Pause, stop, resume, close


def test_a_pause_starts_nothing_new_and_lets_go_on_what_runs() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a"), run("b", "a"))
    desk.tell(inp.Pause(at=0, why="lunch"))
    assert desk.attempt("a").stage == "starting"
    desk.ok("a", commit="c1")
    desk.submit(run("c"))
    assert desk.states() == {"a": "merging", "b": "waiting", "c": "ready"}
    assert (desk.state.intent, desk.state.why) == (None, "lunch")
    desk.tell(inp.Resume(at=0))
    desk.merged("m1")
    assert desk.running() == ["c", "b"]


def test_a_merge_that_began_before_the_pause_goes_on() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a"), run("b", "a"))
    desk.ok("a", commit="c1")
    desk.tell(inp.Pause(at=0))
    desk.merged("m1")
    assert desk.states() == {"a": "done", "b": "ready"}


def test_a_stop_interrupts_and_no_try_is_counted() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a"), run("v", verify="x"), run("b"))
    desk.spawn("a")
    desk.tell(desk.report(inp.Worked, "v", commit="c1"))
    desk.tell(inp.Pause(at=0, stop=True, why="Ctrl-C"))
    assert {(type(owed), owed.task.id) for owed in desk.owed() if isinstance(owed, EndAttempt)} == {
        (EndAttempt, "a"),
        (EndAttempt, "b"),
    }
    desk.gone("a", "b", wip="w")
    entry = desk.entry("a")
    assert (entry.state, entry.failures, entry.interruptions, entry.wip) == ("ready", 0, 0, "w")
    desk.ok("v")
    desk.tell(inp.Resume(at=0))
    assert desk.states() == {"a": "running", "v": "merging", "b": "running"}


def test_a_stop_that_comes_while_paused_interrupts_all_the_same() -> None:
    desk = Desk()
    desk.submit(run("a"))
    desk.tell(inp.Pause(at=0))
    desk.tell(inp.Pause(at=0, stop=True))
    assert desk.attempt("a").stage == "ending"
    assert sum(isinstance(event, ev.SessionPaused) for event in desk.events) == 1


def test_a_result_that_comes_between_stop_and_end_counts() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a"), run("b", verify="x"))
    gone = [desk.report(inp.Gone, name) for name in "ab"]
    desk.tell(inp.Pause(at=0, stop=True))
    desk.ok("a", commit="c1")
    desk.tell(desk.report(inp.Worked, "b", commit="c2"))
    for report in gone:
        desk.say(report)
    assert desk.states() == {"a": "merging", "b": "running"}
    desk.fail("b", "infrastructure")
    assert desk.entry("b").interruptions == 1, "the stop is forgotten: this was the environment"


def test_what_must_not_run_twice_asks_after_a_stop_as_well() -> None:
    desk = Desk()
    desk.submit(run("a", recovery="ask"), run("b", recovery="ask"))
    desk.spawn("a")
    desk.tell(inp.Pause(at=0, stop=True))
    desk.gone("a", "b")
    assert desk.states() == {"a": "needs-you", "b": "ready"}


def test_closing_ends_everything_and_is_final() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a"), run("b", "a"), run("c", merge="ask"), run("d", retries=Retries(max=1, backoff=9.0)), run("e"))
    desk.ok("c", commit="c1")
    desk.fail("d")
    desk.ok("e")
    desk.tell(inp.Close(at=0, by="me"))
    assert desk.states() == {"a": "cancelled", "b": "cancelled", "c": "cancelled", "d": "cancelled", "e": "done"}
    desk.gone("a")
    assert desk.owed() == []
    for given in (
        inp.Pause(at=0),
        inp.Resume(at=0),
        inp.Retry(at=0, task="a"),
        inp.ChangePlan(at=0, plan=desk.plan),
        inp.Say(at=0, task="c", answer="approve"),
    ):
        assert isinstance(desk.refused(given), Conflict)
    count = len(desk.events)
    desk.tell(inp.Close(at=0))
    assert len(desk.events) == count


def test_a_session_is_not_closed_in_the_middle_of_a_merge() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a"), run("b"))
    desk.ok("a", commit="c1")
    desk.ok("b", commit="c2")
    assert "being merged" in desk.refused(inp.Close(at=0)).message
    desk.merged("m1")
    desk.merged("m2")
    desk.tell(inp.Close(at=0))
    assert desk.states() == {"a": "done", "b": "done"}


def test_a_cancellation_of_ten_thousand_is_quick_enough_to_be_tested() -> None:
    desk = Desk(thorough=False)
    desk.submit(run("a"), *(run(f"n{n}", "a") for n in range(5_000)))
    assert len(desk.cancel("a")) == 5_001
    desk.gone("a")
    desk.retry("a")
    desk.fail("a")
    assert desk.state.counts == {"cancelled": 0, "failed": 1, "skipped": 5_000}
