"""Budgets of time: what counts, by task and by kind of agent, and what happens when it is used up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skep.core import inputs as inp
from skep.core.budgets import worked_by
from skep.core.clocks import worked
from skep.core.model import AgentSpec, Budget, Limits, Plan, Task
from skep.core.rules import Action
from skep.errors import Conflict, Exhausted, Invalid
from tests.core.desk import PYTHON, ROOM, SHELL, Desk, run

CODER = AgentSpec(name="coder", runtime="claude", count=0)


def desk(*specs: AgentSpec, time: float = 0.0) -> Desk:
    made = Desk(room=None)
    agents = (SHELL, PYTHON, *(specs or (CODER,)))
    made.tell(inp.ChangePlan(at=0, plan=Plan(name="desk", limits=Limits(agents=4, time=time), agents=agents)))
    made.join(room=ROOM)
    return made


def asking(name: str, seconds: float = 0.0, **more: Any) -> Task:
    return Task(id=name, prompt="do it", budget=Budget(time=seconds) if seconds else None, **more)


def ask(at: Desk, task: str, key: str) -> None:
    action = Action(tool="Bash", command=key)
    more = {"about": key, "arguments": "{}", "digest": key, "shape": key, "otherwise": "ask", "can_ask": True}
    at.tell(at.report(inp.Ask, task, action=action, key=key, **more))


def seconds(at: Desk, task: str) -> float:
    return worked(at.entry(task), at.at) / 1000


def test_the_time_of_a_task_is_that_of_all_its_attempts_and_it_fails_when_that_is_used_up() -> None:
    at = desk()
    at.submit(asking("a", 60, retries=9), asking("b"), asking("after", needs=("a",)))
    at.tick(39)
    at.fail("a")
    at.tick(9)
    assert (at.entry("a").state, seconds(at, "a"), at.wake()) == ("running", 49.0, at.at + 11_000)
    at.tick(11)
    assert (at.entry("a").state, at.entry("a").cause) == ("failed", "limit")
    assert at.entry("a").detail == "its budget of 60 s at work is used up"
    assert (at.attempt("a").ending, at.entry("after").state) == ("limit", "skipped")
    at.tick(30)
    assert seconds(at, "a") == 60.0, "what it takes to end does not count"
    at.gone("a")
    assert isinstance(at.refused(inp.Retry(at=0, task="a")), Conflict)
    at.ok("b")
    assert not at.state.paused


def test_a_failure_after_which_no_time_is_left_is_the_last() -> None:
    at = desk()
    at.submit(asking("a", 10, retries=9))
    at.say(at.report(inp.Ended, "a", outcome="failed", cause="exit"), after=12_000)
    assert (at.entry("a").state, at.entry("a").attempts) == ("failed", 1)


def test_a_result_that_comes_in_the_same_moment_counts() -> None:
    at = desk()
    at.submit(asking("a", 10))
    at.say(at.report(inp.Ended, "a", outcome="ok"), after=10_000)
    assert at.entry("a").state == "done"


def test_what_waits_for_a_person_or_for_the_next_attempt_counts_nothing() -> None:
    at = desk()
    at.submit(asking("a", 60, retries=3))
    at.spawn("a")
    ask(at, "a", "one")
    ask(at, "a", "two")
    before = seconds(at, "a")
    at.tick(300)
    at.tell(inp.Permit(at=0, ask="a/1", allowed=True, by="ann"))
    at.tick(200)
    assert (seconds(at, "a"), at.entry("a").state) == (before, "running"), "one question still waits"
    at.tell(inp.Permit(at=0, ask="a/2", allowed=False, by="ann"))
    at.tick(10)
    assert seconds(at, "a") == before + 10
    assert at.wake() == at.at + int((60 - before - 10) * 1000)


def test_a_question_that_nobody_answers_in_time_starts_the_clock_again() -> None:
    at = desk()
    at.submit(asking("a", 60))
    at.spawn("a")
    ask(at, "a", "one")
    before = seconds(at, "a")
    at.tick(600)
    at.tick(5)
    assert seconds(at, "a") == before + 5


def test_neither_a_verification_nor_what_is_parked_nor_a_pause_counts() -> None:
    at = desk()
    at.submit(asking("a", 60, verify=("true",), merge="never"), asking("b", 60))
    at.tick(10)
    at.tell(at.report(inp.Worked, "a", commit="c"))
    at.tell(at.report(inp.Ended, "b", outcome="interrupted", cause="limit", until=at.at + 500_000))
    assert (seconds(at, "a"), seconds(at, "b")) == (11.0, 12.0)
    at.tell(inp.Pause(at=0, stop=True))
    at.tick(200)
    at.ok("a")
    assert (seconds(at, "a"), seconds(at, "b"), at.entry("a").state) == (11.0, 12.0, "done")


def test_while_nobody_carries_it_out_no_time_is_used() -> None:
    at = desk(time=100)
    at.submit(asking("a", 60), asking("b", 60))
    at.spawn("a")
    at.tick(18)
    at.spawn("b")
    before, session = seconds(at, "a"), at.state.at_work(at.at)
    at.reload()
    at.say(inp.JoinNode(at=0, node="here", boot="b2", capacity=ROOM, slots=9), after=3_600_000)
    assert (seconds(at, "a"), at.attempt("a").ending, at.state.paused) == (before, "lost", False)
    assert at.state.at_work(at.at) == session, "nor of the session"
    at.gone("a", "b")
    at.tick(20)
    assert seconds(at, "a") == before + 21


def test_the_time_of_a_kind_is_used_up_by_all_its_agents_together() -> None:
    dear = AgentSpec(name="dear", runtime="claude", count=2, budget=Budget(time=100))
    at = desk(CODER, dear)
    at.submit(asking("a", agent="dear"), asking("b", agent="dear"), asking("c", agent="coder"))
    at.tick(29)
    at.ok("c")
    assert at.wake() == at.at + 20_000, "two at work use it up twice as fast"
    at.tick(19)
    at.ok("a")
    assert worked_by(at.state, "dear", at.at) == 100_000
    assert (at.state.paused, at.state.why) == (True, "the budget of an agent is used up: dear")
    assert at.attempt("b").ending == "stopped"
    at.tick(50)
    at.gone("b")
    assert worked_by(at.state, "dear", at.at) == 100_000
    assert isinstance(at.refused(inp.Resume(at=0)), Exhausted)


def test_raised_in_the_file_it_goes_on_with_what_was_used() -> None:
    dear = AgentSpec(name="dear", runtime="claude", budget=Budget(time=10))
    at = desk(dear)
    at.submit(asking("a", agent="dear"))
    at.tick(10)
    at.gone("a")
    assert at.state.paused
    raised = AgentSpec(name="dear", runtime="claude", budget=Budget(time=30))
    at.tell(inp.ChangePlan(at=0, plan=Plan(name="desk", limits=Limits(agents=4), agents=(SHELL, raised)), keep=("a",)))
    at.tell(inp.Resume(at=0))
    assert at.wake() == at.at + 20_000


def test_a_fork_keeps_the_time_that_was_used() -> None:
    at = desk()
    at.submit(asking("a", 60))
    at.tick(19)
    at.spawn("a")
    at.tell(inp.ForkSession(at=0, session="desk-2", origin="desk-1"), after=500_000)
    at.join(boot="b9")
    assert seconds(at, "a") == 20.0
    assert worked_by(at.state, "coder", at.at) == 20_000


def test_shell_tasks_have_time_too_and_what_is_claimed_by_hand_has_not() -> None:
    at = desk()
    at.submit(run("a", budget=Budget(time=5)), run("z"))
    at.tick(5)
    assert at.entry("a").cause == "limit"
    at.gone("a")
    at.tell(inp.Pause(at=0))
    at.submit(asking("b", 5))
    at.tell(inp.Claim(at=0, task="b"))
    at.tick(500)
    assert (at.entry("b").state, seconds(at, "b")) == ("running", 0.0)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_a_time_that_means_nothing_is_refused(bad: float) -> None:
    at = desk()
    assert isinstance(at.refused(inp.Submit(at=0, tasks=(asking("a", bad),))), Invalid)
    plan = Plan(name="d", limits=Limits(agents=1), agents=(AgentSpec(name="x", runtime="claude", budget=Budget(time=bad)),))
    assert isinstance(at.refused(inp.ChangePlan(at=0, plan=plan)), Invalid)


STEPS = st.tuples(
    st.sampled_from(("wait", "ok", "fail", "ask", "answer", "stop", "die", "limited")), st.integers(0, 3), st.integers(1, 9)
)


@settings(max_examples=60)
@given(st.lists(STEPS, max_size=40), st.integers(5, 60), st.integers(20, 120))
def test_no_more_than_the_budget_is_ever_worked(steps: list[tuple[str, int, int]], own: int, together: int) -> None:
    """Ground truth: a ledger of its own, in seconds, of who was at work between two steps."""
    kind = AgentSpec(name="coder", runtime="claude", count=3, budget=Budget(time=together))
    at = desk(kind)
    at.thorough = False
    at.submit(*(asking(f"n{number}", own, retries=100, agent="coder") for number in range(4)))
    ledger, boots = {f"n{number}": 0 for number in range(4)}, 0

    def at_work(name: str) -> bool:
        attempt = at.entry(name).attempt
        waits = attempt is not None and any(not asking.said for asking in (attempt.asks or {}).values())
        return attempt is not None and attempt.stage in ("starting", "working") and not waits

    for what, number, pause in steps:
        name = f"n{number}"
        for _ in range(pause):
            busy = [name for name in ledger if at_work(name)]
            at.tick(1)
            for one in busy:
                ledger[one] += 1
            _check(at, ledger, own, together)
        attempt = at.entry(name).attempt
        if what == "die":
            boots += 1
            for one in [one for one in ledger if at_work(one)]:
                ledger[one] -= (at.at - at.state.at) // 1000  # since then the log was told nothing
            at.state = at.replayed().rebuild()
            at.say(inp.JoinNode(at=0, node="here", boot=f"d{boots}", capacity=ROOM, slots=9), after=77_000)
        elif attempt is not None and attempt.stage == "ending":
            at.say(at.report(inp.Gone, name), after=0)
        elif attempt is not None and what == "answer":
            for asking_ in [one for one in (attempt.asks or {}).values() if not one.said]:
                at.say(inp.Permit(at=0, ask=f"{name}/{asking_.number}", allowed=True, by="ann"), after=0)
        elif attempt is not None and what == "ask":
            action = Action(tool="Bash", command="x")
            more = {"about": "x", "arguments": "{}", "digest": f"{at.at}", "shape": "x", "otherwise": "ask", "can_ask": True}
            if attempt.stage == "starting":
                at.say(at.report(inp.Spawned, name, pid=1, born=1), after=0)
            at.say(at.report(inp.Ask, name, action=action, key=f"{at.at}", **more), after=0)
        elif attempt is not None and what in ("fail", "limited"):
            outcome = "failed" if what == "fail" else "interrupted"
            until = 0 if what == "fail" else at.at + 3_000
            at.say(at.report(inp.Ended, name, outcome=outcome, cause="limit", until=until), after=0)
        elif attempt is not None and what == "ok" and pause > 6:
            at.say(at.report(inp.Ended, name, outcome="ok"), after=0)
        elif what == "stop" and not at.state.paused:
            at.say(inp.Pause(at=0, stop=True), after=0)
        elif what == "stop":
            at.say(inp.Resume(at=0), after=0)


def _check(at: Desk, ledger: dict[str, int], own: int, together: int) -> None:
    for name, mine in ledger.items():
        assert abs(seconds(at, name) - mine) < 1e-6, (name, seconds(at, name), mine)
        assert mine <= own
        entry = at.entry(name)
        ending = entry.attempt is not None and entry.attempt.stage == "ending"
        assert mine < own or ending or entry.state in ("failed", "done"), entry
    total = sum(ledger.values())
    assert worked_by(at.state, "coder", at.at) == total * 1000
    assert total < together + 3
    assert total < together or at.state.paused
