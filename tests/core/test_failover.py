"""The provider of an agent refuses a task for a while: another kind of agent that may have it takes it, or it waits."""

from __future__ import annotations

from skep.core import inputs as inp
from skep.core import placement
from skep.core.due import next_wake
from skep.core.model import AgentSpec, Task
from tests.core.desk import Desk

ANN = AgentSpec(name="ann", runtime="claude", reliability=0.99)
BOB = AgentSpec(name="bob", runtime="codex", reliability=0.5)


def limited(desk: Desk, task: str, seconds: int) -> int:
    """The provider refuses the task for so long; returns until when."""
    until = desk.at + seconds * 1_000
    desk.tell(desk.report(inp.Ended, task, outcome="interrupted", cause="limit", detail="429", until=until))
    return until


def test_another_kind_of_agent_takes_it_at_once_and_nothing_is_counted() -> None:
    desk = Desk(ANN, BOB)
    desk.submit(Task(id="a", prompt="x"))
    assert desk.attempt("a").agent == "ann-1"
    limited(desk, "a", 3_600)
    entry = desk.entry("a")
    assert (entry.state, desk.attempt("a").agent, entry.failures, entry.interruptions) == ("running", "bob-1", 0, 0)
    desk.reload()
    desk.ok("a")
    assert desk.entry("a").state == "done"


def test_with_all_of_them_refused_it_is_parked_until_the_first_is_not_and_tried_once_each() -> None:
    desk = Desk(ANN, BOB)
    desk.submit(Task(id="a", prompt="x"))
    limited(desk, "a", 3_600)
    soon = limited(desk, "a", 60)
    assert (desk.entry("a").state, desk.entry("a").until, desk.entry("a").attempts) == ("parked", soon, 2)
    desk.tick(61.0)
    assert desk.attempt("a").agent == "bob-1", "the other one's time has not come"
    again = limited(desk, "a", 3_600 * 5)
    assert desk.entry("a").state == "parked"
    assert desk.entry("a").until < again, "it waits for the first of them"
    desk.tick(3_600.0)
    assert desk.attempt("a").agent == "ann-1"


def test_a_task_that_names_its_agent_waits_for_it() -> None:
    desk = Desk(ANN, BOB)
    desk.submit(Task(id="a", prompt="x", agent="ann"))
    until = limited(desk, "a", 3_600)
    assert (desk.entry("a").state, desk.entry("a").until) == ("parked", until)


def test_it_waits_for_what_only_the_refused_one_can_do() -> None:
    able = AgentSpec(name="ann", runtime="claude", capabilities=("paint",))
    other = AgentSpec(name="bob", runtime="codex", capabilities=("sing",))
    desk = Desk(able, other)
    desk.submit(Task(id="a", prompt="x", capabilities=("paint",)))
    limited(desk, "a", 60)
    assert desk.entry("a").state == "parked"


def test_while_the_other_is_busy_it_is_ready_and_says_so_and_other_tasks_may_have_the_refused_one() -> None:
    desk = Desk(ANN, BOB)
    desk.submit(Task(id="b", prompt="x", agent="bob"), Task(id="a", prompt="x"))
    limited(desk, "a", 3_600)
    assert desk.entry("a").state == "ready"
    assert placement.lacks(desk.state, desk.entry("a")) == "all agents that could take it are at work"
    desk.submit(Task(id="c", prompt="x"))
    assert desk.attempt("c").agent == "ann-1"
    desk.ok("b")
    assert desk.attempt("a").agent == "bob-1"


def test_once_its_time_has_come_the_refused_one_may_have_it_again() -> None:
    desk = Desk(ANN, BOB)
    desk.submit(Task(id="a", prompt="x", retries=3))
    limited(desk, "a", 60)
    desk.fail("a")
    assert desk.attempt("a").agent == "bob-1"
    desk.tick(61.0)
    desk.fail("a")
    assert desk.attempt("a").agent == "ann-1"


def test_a_task_that_waits_for_the_busy_other_one_goes_to_the_refused_one_as_soon_as_that_may_have_it() -> None:
    desk = Desk(ANN, BOB)
    desk.submit(Task(id="b", prompt="x", agent="bob"), Task(id="a", prompt="x"))
    until = limited(desk, "a", 60)
    assert (desk.entry("a").state, next_wake(desk.state)) == ("ready", until)
    desk.reload()
    desk.tick(61.0)
    assert desk.attempt("a").agent == "ann-1"
    assert desk.entry("a").avoids is None


def test_a_provider_that_does_not_say_when_is_asked_again_after_a_wait_that_doubles_up_to_half_an_hour() -> None:
    desk = Desk(AgentSpec(name="coder", runtime="claude", count=0))
    desk.submit(Task(id="a", prompt="x"))
    waits = []
    for _ in range(8):
        desk.tell(desk.report(inp.Ended, "a", outcome="interrupted", cause="limit", detail="429"))
        assert (desk.entry("a").state, desk.entry("a").failures, desk.entry("a").interruptions) == ("parked", 0, 0)
        waits.append((desk.entry("a").until - desk.at) / 60_000)
        desk.tick((desk.entry("a").until - desk.at) / 1000 + 1)
    assert all(least <= wait <= least * 1.25 for least, wait in zip((1, 2, 4, 8, 16, 30, 30, 30), waits, strict=True)), waits
    desk.fail("a")
    desk.retry("a")
    desk.tell(desk.report(inp.Ended, "a", outcome="interrupted", cause="limit"))
    assert 60_000 <= desk.entry("a").until - desk.at <= 75_000, "it begins anew once the provider has answered"
