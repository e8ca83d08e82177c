"""Deadlines, the session's time limit, and when the clock is to be looked at next."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from skep.core import due
from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.model import Limits, Retries
from skep.errors import Exhausted
from skep.runtime.views import result_of, task_view
from tests.core.desk import Desk, run

SOON = 1_020_000


@pytest.mark.parametrize("state", ["waiting", "ready", "running", "verifying", "parked", "needs-you", "merging"])
def test_a_deadline_ends_a_task_in_whatever_state_it_is(state: str) -> None:
    desk = Desk(at_once=2, base="c0")
    more: dict[str, Any] = {"deadline": SOON}
    if state == "parked":
        more |= {"retries": Retries(max=1, backoff=200.0)}
    desk.submit(run("other"))
    if state == "ready":
        desk.submit(run("second"))
    more |= {"verify": "v", "merge": "ask" if state == "needs-you" else "auto"}
    desk.submit(run("x", *(["other"] if state == "waiting" else []), **more), run("y", "x"))
    if state in ("verifying", "needs-you", "merging"):
        desk.tell(desk.report(inp.Worked, "x", commit="c1"))
    if state == "parked":
        desk.fail("x")
    if state == "merging":
        desk.ok("other", commit="c9")
    if state in ("needs-you", "merging"):
        desk.ok("x")
    assert desk.entry("x").state == (state if state != "verifying" else "running")
    assert 0 < desk.wake() <= SOON
    desk.reload()
    desk.tick(60.0)
    assert (desk.entry("x").state, desk.entry("x").cause, desk.entry("y").state) == ("failed", "deadline", "skipped")
    if desk.entry("x").attempt is not None:
        desk.gone("x")


def test_what_is_being_merged_when_its_deadline_passes_is_let_through() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a", deadline=SOON))
    desk.ok("a", commit="c1")
    desk.tick(60.0)
    assert desk.entry("a").state == "merging"
    desk.merged("m1")
    assert desk.entry("a").state == "done"


@pytest.mark.parametrize("restart", [True, False])
def test_and_ends_if_the_merge_fails(restart: bool) -> None:
    desk = Desk(base="c0")
    desk.submit(run("a", deadline=SOON))
    desk.ok("a", commit="c1")
    desk.tick(60.0)
    if restart:
        desk.reload()
    desk.unmerged()
    assert (desk.entry("a").state, desk.entry("a").cause) == ("failed", "deadline")


def test_a_deadline_that_has_passed_already_ends_a_task_at_once() -> None:
    desk = Desk()
    desk.submit(run("a", deadline=5))
    assert (desk.entry("a").state, desk.entry("a").attempts) == ("failed", 0)


def test_whoever_retries_a_late_task_wants_it_late() -> None:
    desk = Desk()
    desk.submit(run("a", deadline=SOON, retries=1), run("b", "a"))
    desk.tick(60.0)
    desk.gone("a")
    desk.retry("a")
    assert desk.entry("a").state == "running"
    desk.fail("a", "infrastructure")
    desk.tick(60.0)
    desk.reload()
    desk.tick(60.0)
    assert desk.entry("a").state == "running"


def test_a_retry_before_the_deadline_keeps_it() -> None:
    desk = Desk()
    desk.submit(run("a", deadline=SOON))
    desk.fail("a")
    desk.reload()
    desk.retry("a")
    assert desk.wake() == SOON
    desk.tick(60.0)
    assert (desk.entry("a").state, desk.entry("a").cause) == ("failed", "deadline")


def test_the_time_limit_stops_the_session_and_keeps_its_work() -> None:
    desk = Desk(time=100.0)
    desk.submit(run("a"), run("b", "a"))
    assert desk.wake() == desk.entry("a").submitted + 100_000
    desk.tick(200.0)
    assert (desk.state.paused, desk.state.why) == (True, "time limit reached")
    assert desk.attempt("a").ending == "stopped"
    desk.gone("a", wip="w")
    assert (desk.entry("a").state, desk.entry("a").interruptions, desk.wake()) == ("ready", 0, 0)
    error = desk.refused(inp.Resume(at=0))
    assert isinstance(error, Exhausted)
    assert "used up its 100 seconds" in error.message


def test_time_while_paused_does_not_count() -> None:
    desk = Desk(time=100.0)
    desk.submit(run("a"))
    desk.tick(40.0)
    desk.tell(inp.Pause(at=0))
    assert desk.wake() == 0
    desk.tick(1_000.0)
    desk.tell(inp.Resume(at=0))
    assert 50_000 < desk.wake() - desk.at < 60_000
    desk.tick(30.0)
    assert not desk.state.paused
    desk.tick(60.0)
    assert desk.state.paused


def test_time_while_nobody_was_there_does_not_count() -> None:
    desk = Desk(time=100.0)
    desk.submit(run("a"))
    desk.tick(40.0)
    desk.fail("a")
    desk.reload()
    desk.at += 10_000_000
    desk.join("b2")
    assert not desk.state.paused
    assert 40_000 <= desk.state.at_work(desk.at) < 50_000


def test_a_session_whose_time_is_up_goes_on_with_more() -> None:

    desk = Desk(time=10.0)
    desk.submit(run("a"))
    desk.tick(20.0)
    desk.gone("a")
    plan = replace(desk.plan, limits=Limits(agents=4, time=1_000.0))
    desk.tell(inp.ChangePlan(at=0, plan=plan, keep=("a",)))
    desk.tell(inp.Resume(at=0))
    assert desk.running() == ["a"]


def test_what_is_parked_and_has_a_deadline_is_looked_at_at_the_first_of_both() -> None:
    desk = Desk()
    desk.submit(run("a", deadline=SOON + 500_000, retries=Retries(max=1, backoff=50.0)))
    desk.fail("a")
    assert desk.wake() == desk.entry("a").until
    desk.tick(70.0)
    assert desk.wake() == SOON + 500_000
    desk.ok("a")
    desk.tick(1_000.0)
    assert desk.wake() == 0


def test_the_same_moment_wakes_all_whose_time_has_come() -> None:
    desk = Desk(at_once=9)
    desk.submit(*(run(f"n{n}", retries=Retries(max=1, backoff=1.0 + n % 2)) for n in range(6)))
    for n in range(6):
        desk.fail(f"n{n}")
    desk.at += 100_000
    desk.say(inp.Tick(at=0))
    assert len(desk.running()) == 6
    assert sum(isinstance(event, ev.TaskReady) for event in desk.events) == 6


def test_times_of_tasks_that_are_over_are_not_kept_for_ever() -> None:
    with patch.object(due, "MAX_STALE", 16):
        desk = Desk(thorough=False)
        desk.reload()
        for n in range(200):
            desk.submit(run(f"n{n}", deadline=SOON * 10))
            desk.ok(f"n{n}")
        desk.submit(run("last", deadline=SOON * 9), run("parked", retries=Retries(max=1, backoff=1.0)))
        desk.fail("parked")
        assert len(desk.state.due.timers) < 40
        desk.check()
        desk.tick(SOON / 10)
        assert (desk.entry("last").cause, desk.entry("parked").state) == ("deadline", "running")


def test_the_time_of_a_task_is_that_of_its_attempts_not_of_the_wait_between_them() -> None:
    desk = Desk()
    desk.submit(run("x", retries=Retries(max=1, backoff=200.0)), run("y"))
    desk.tick(9)
    desk.fail("x")
    assert (desk.entry("x").state, desk.entry("x").spent) == ("parked", 10_000)
    desk.tick(300)
    assert task_view(desk.state, desk.entry("x")).took(desk.at + 2_000) == 12_000
    desk.tick(4)
    desk.ok("x")
    view = task_view(desk.state, desk.entry("x"))
    assert (view.spent, view.begun, view.took(desk.at + 99_000)) == (15_000, 0, 15_000)
    assert view.ended - view.started > 300_000
    assert result_of(desk.entry("x")).seconds == 15.0
    cancelled = desk.at
    desk.tell(inp.Cancel(at=0, tasks=("y",)))
    desk.gone("y")
    assert desk.entry("y").spent == cancelled + 1_000 - desk.entry("y").started
