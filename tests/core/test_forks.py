"""A fork: the same log under another name. Attempts and approvals of the old one are void; what was done is done."""

from __future__ import annotations

import pytest

from skep.core import inputs as inp
from skep.core.model import Foreach, Resources, Retries
from tests.core.desk import Desk, run


def fork(desk: Desk) -> None:
    desk.tell(inp.ForkSession(at=0, session="fork-1", origin=desk.state.session))


def test_attempts_are_void_and_run_again_with_a_nonce_of_their_own() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a", resources=Resources(cpu=2.0), locks=("db",)), run("b", "a"), run("v", verify="x"))
    desk.tell(desk.report(inp.Worked, "v", commit="c1"))
    late = desk.report(inp.Ended, "a", outcome="ok")
    fork(desk)
    assert (desk.state.session, desk.state.origin, desk.state.nodes, desk.state.running) == ("fork-1", "desk-1", {}, 0)
    assert desk.states() == {"a": "ready", "b": "waiting", "v": "ready"}
    assert desk.refused(late)
    desk.join("new")
    assert desk.states() == {"a": "running", "b": "waiting", "v": "running"}
    assert desk.attempt("a").n == 2
    assert desk.refused(late)
    desk.ok("a")
    assert desk.entry("b").state == "running"


def test_the_intent_of_a_merge_is_void_and_what_was_merged_stays() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a"), run("b"), run("c"))
    desk.ok("a", commit="c1")
    desk.merged("m1")
    desk.ok("b", commit="c2")
    desk.ok("c", commit="c3")
    intent = desk.intent()
    fork(desk)
    assert (desk.state.intent, desk.state.merge_queue, desk.state.tip) == (None, [], "m1")
    assert desk.refused(inp.MergeEnded(at=0, intent=intent, commits=("m2",)))
    desk.join("new")
    assert desk.states() == {"a": "done", "b": "running", "c": "running"}


@pytest.mark.parametrize("approved", [True, False])
def test_approvals_are_asked_for_again(approved: bool) -> None:
    desk = Desk(at_once=1)
    desk.submit(run("x"), run("a", approve="before"))
    if approved:
        desk.answer("a", "approve")
    fork(desk)
    desk.join("new")
    desk.ok("x")
    assert desk.entry("a").question == "approve before"


def test_questions_about_results_stay() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a", merge="ask"))
    desk.ok("a", commit="c1")
    fork(desk)
    desk.answer("a", "merge")
    assert desk.entry("a").state == "merging"


def test_keys_are_void_and_numbers_go_on() -> None:
    desk = Desk()
    assert desk.submit(run(), key="k") == ("t1",)
    fork(desk)
    desk.join("new")
    assert desk.submit(run(), key="k") == ("t2",)


def test_a_closed_session_can_go_on_as_a_fork() -> None:
    desk = Desk()
    desk.submit(run("a"), run("b", retries=Retries(max=1, backoff=1_000.0)))
    desk.fail("b")
    desk.tell(inp.Close(at=0))
    fork(desk)
    desk.join("new")
    assert not desk.state.closed
    desk.retry("a")
    assert desk.running() == ["a"]


def test_items_go_on_too() -> None:
    desk = Desk(at_once=9)
    desk.submit(run("list"), run("each", "list", foreach=Foreach(source="needs.list.result", max_parallel=1)))
    desk.ok("list", result=["a", "b"])
    fork(desk)
    desk.join("new")
    desk.ok("each[a]")
    desk.ok("each[b]")
    assert desk.entry("each").state == "done"


def test_time_between_the_copy_and_the_fork_does_not_count() -> None:
    desk = Desk(time=100.0)
    desk.submit(run("a"))
    desk.tick(30.0)
    desk.fail("a")
    desk.at += 10_000_000
    fork(desk)
    desk.join("new")
    assert not desk.state.paused
    assert 30_000 <= desk.state.at_work(desk.at) < 40_000


def test_a_fork_needs_a_name_of_its_own() -> None:
    desk = Desk()
    assert desk.refused(inp.ForkSession(at=0, session="desk-1", origin="desk-1"))
