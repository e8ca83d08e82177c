"""Money and tokens: reserved, added up, stopped at."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.core import inputs as inp
from skep.core.budgets import COST_LIMIT, TOKEN_LIMIT
from skep.core.commands import StartAttempt
from skep.core.model import AgentSpec, Budget, Cost, Limits, Plan, Task
from skep.core.placement import BY_HAND
from skep.errors import Exhausted, Invalid
from skep.interfaces.cli.exits import LIMIT, exit_code
from skep.runtime.views import session_view
from tests.core.desk import PYTHON, ROOM, SHELL, Desk, run

CODER = AgentSpec(name="coder", runtime="claude", count=0)


def asking(name: str, *needs: str, **more: Any) -> Task:
    return Task(id=name, prompt="do it", needs=needs, **more)


def desk(cost: float = 0.0, tokens: int = 0, *specs: AgentSpec, reserve: float = 0.0, at_once: int = 4) -> Desk:
    limits = Limits(agents=at_once, cost_usd=cost, tokens=tokens, reserve_usd=reserve)
    made = Desk(room=None)
    plan = Plan(name="desk", limits=limits, agents=(SHELL, PYTHON, *(specs or (CODER,))))
    made.tell(inp.ChangePlan(at=0, plan=plan))
    made.join(room=ROOM)
    return made


def spend(at: Desk, task: str, usd: float = 0.0, tokens: int = 0, unpriced: int = 0, model: str = "m") -> None:
    at.tell(at.report(inp.Spent, task, cost=Cost(output=tokens, usd=usd, unpriced=unpriced), model=model))


def begun(at: Desk, *tasks: str) -> None:
    for number, task in enumerate(tasks):
        at.tell(at.report(inp.Spawned, task, pid=100 + number, born=1))


def test_what_is_spent_is_added_up_by_task_agent_model_and_session() -> None:
    at = desk()
    at.submit(asking("a"), asking("b"))
    spend(at, "a", 0.5, 100, model="big")
    spend(at, "a", 0.25, 50, model="big")
    spend(at, "b", 1.0, 10, model="small")
    assert at.entry("a").cost == Cost(output=150, usd=0.75)
    assert at.state.cost == Cost(output=160, usd=1.75)
    assert {name: cost.usd for name, cost in at.state.costs.items()} == {"big": 0.75, "small": 1.0}
    assert sorted(agent.cost.usd for agent in at.state.agents.values() if agent.cost) == [0.75, 1.0]


def test_a_report_that_comes_too_late_is_refused() -> None:
    at = desk()
    at.submit(asking("a"))
    late = at.report(inp.Spent, "a", cost=Cost(usd=9.0))
    at.ok("a")
    at.refused(late)
    assert at.state.cost.usd == 0.0


def test_at_the_limit_everything_is_ended_and_its_work_is_kept() -> None:
    at = desk(3.0)
    at.submit(asking("a"), asking("b"), run("free"), asking("later", "a"))
    begun(at, "a", "b")
    spend(at, "a", 2.9)
    assert not at.state.paused
    spend(at, "b", 0.2)
    assert (at.state.paused, at.state.why) == (True, "cost limit reached")
    assert {at.attempt(name).ending for name in ("a", "b", "free")} == {"stopped"}
    at.gone("a", wip="w")
    assert (at.entry("a").state, at.entry("a").failures, at.entry("a").interruptions) == ("ready", 0, 0)
    error = at.refused(inp.Resume(at=0))
    assert isinstance(error, Exhausted)
    assert "cost limit reached" in error.message


def test_after_the_limit_was_raised_it_goes_on() -> None:
    at = desk(1.0)
    at.submit(asking("a"))
    spend(at, "a", 1.0)
    at.gone("a")
    raised = Plan(name="desk", limits=Limits(agents=4, cost_usd=2.0), agents=(SHELL, PYTHON, CODER))
    at.tell(inp.ChangePlan(at=0, plan=raised, keep=("a",)))
    at.tell(inp.Resume(at=0))
    assert at.entry("a").state == "running"


def test_an_attempt_begins_only_if_there_is_money_for_it_and_what_is_free_goes_on_at_the_end() -> None:
    at = desk(1.0, reserve=0.6)
    at.submit(asking("a"), asking("b"), asking("c"))
    assert [at.attempt(name).held for name in ("a", "b")] == [0.6, 0.4]
    assert at.entry("c").state == "ready"
    assert not at.state.paused
    at.ok("a")
    assert at.attempt("c").held == 0.6
    spend(at, "b", 0.4)
    spend(at, "c", 0.6)
    assert at.state.why == "cost limit reached"


def test_the_client_is_told_how_much_is_left() -> None:
    at = desk(2.0, reserve=0.5)
    at.submit(asking("a"), asking("b", budget=Budget(usd=0.3)))
    told = {command.task.id: command.usd for command in at.owed() if isinstance(command, StartAttempt)}
    assert told == {"a": pytest.approx(1.7), "b": pytest.approx(0.3)}


def test_a_task_that_used_up_its_own_budget_fails_and_the_others_go_on() -> None:
    at = desk(0.0, 0)
    at.submit(asking("a", budget=Budget(tokens=100)), asking("b"), asking("after", "a"))
    spend(at, "a", tokens=99)
    assert at.entry("a").state == "running"
    spend(at, "a", tokens=1)
    assert (at.entry("a").state, at.entry("a").cause) == ("failed", "limit")
    assert at.entry("a").detail == "its budget of 100 tokens is used up"
    assert at.attempt("a").ending == "limit"
    assert at.entry("after").state == "skipped"
    at.gone("a")
    assert "used up" in at.refused(inp.Retry(at=0, task="a")).message
    at.ok("b")
    assert not at.state.paused


def test_the_budget_of_a_kind_of_agent_holds_for_all_of_it() -> None:
    at = desk(0.0, 0, CODER, AgentSpec(name="dear", runtime="claude", count=2, budget=Budget(usd=1.0)))
    at.submit(asking("a", agent="dear"), asking("b", agent="dear"), asking("c", agent="coder"))
    spend(at, "c", 50.0)
    spend(at, "a", 0.6)
    assert not at.state.paused
    spend(at, "b", 0.6)
    assert at.state.why == "the budget of an agent is used up: dear"


def test_agents_of_a_kind_that_begin_together_share_its_budget_and_are_told_their_part() -> None:
    dear = AgentSpec(name="dear", runtime="claude", count=4, budget=Budget(usd=1.0))
    at = desk(0.0, 0, CODER, dear, reserve=0.4)
    at.submit(*(asking(name, agent="dear") for name in "abcd"))
    assert [at.attempt(name).held for name in "abc"] == [0.4, 0.4, pytest.approx(0.2)]
    assert at.entry("d").state == "ready"
    told = {command.task.id: command.usd for command in at.owed() if isinstance(command, StartAttempt)}
    assert sum(told.values()) == pytest.approx(1.0), "what they may spend together is the budget"
    begun(at, "a", "b", "c")
    spend(at, "a", 0.1)
    at.ok("a")
    assert at.attempt("d").held == pytest.approx(0.3), "what was held and not spent is there for the next"
    spend(at, "b", 0.9)
    assert at.state.why == "the budget of an agent is used up: dear"
    for name in "bcd":
        at.gone(name)
    assert {agent.held for agent in at.state.agents.values()} == {0.0}


def test_an_unknown_price_is_no_zero() -> None:
    at = desk(3.0)
    at.submit(asking("a"))
    spend(at, "a", tokens=10, unpriced=1)
    assert at.state.why == "a price is not known, so the cost limit cannot be held"
    free = desk(0.0)
    free.submit(asking("a"))
    spend(free, "a", tokens=10, unpriced=1)
    assert (free.state.paused, free.state.cost.unpriced) == (False, 1)


@pytest.mark.parametrize("end", ["gone", "fail", "ok", "lost"])
def test_who_never_told_the_cost_is_charged_what_was_held(end: str) -> None:
    at = desk(3.0, reserve=0.5)
    at.submit(asking("a"))
    begun(at, "a")
    if end == "lost":
        at.join(boot="b2")
        at.gone("a")
    else:
        getattr(at, end)("a")
    assert (at.state.cost.usd, at.state.cost.estimated) == (0.5, 0.5)


def test_tokens_whose_price_was_never_told_are_charged_what_was_held() -> None:
    at = desk(3.0, reserve=0.5)
    at.submit(asking("a"), asking("b"))
    begun(at, "a", "b")
    for name in ("a", "b"):
        at.tell(at.report(inp.Spent, name, cost=Cost(input=10), number=1, owing=True))
    at.tell(at.report(inp.Spent, "b", cost=Cost(usd=0.2), number=2))
    at.gone("a")
    assert (at.state.cost.tokens, at.state.cost.usd, at.state.cost.estimated) == (20, 0.7, 0.5)
    at.gone("b")
    assert (at.state.cost.usd, at.state.cost.estimated) == (0.7, 0.5), "it told the price, too"


@pytest.mark.parametrize(("told", "charged"), [(0.1, 0.5), (0.5, 0.5), (0.9, 0.9)])
def test_who_was_lost_is_charged_what_was_held_or_what_it_told_last_if_that_is_more(told: float, charged: float) -> None:
    at = desk(3.0, reserve=0.5)
    at.submit(asking("a"))
    begun(at, "a")
    spend(at, "a", told)
    at.join(boot="b2")
    at.gone("a")
    assert at.state.cost.usd == pytest.approx(charged)
    assert at.state.cost.estimated == pytest.approx(charged - told)
    stopped = desk(3.0, reserve=0.5)
    stopped.submit(asking("a"))
    begun(stopped, "a")
    spend(stopped, "a", told)
    stopped.tell(inp.Pause(at=0, stop=True))
    stopped.gone("a")
    assert stopped.state.cost.usd == told, "who was ended in order told all of it"


def test_what_never_began_and_what_told_its_cost_is_charged_nothing_more() -> None:
    at = desk(3.0)
    at.submit(asking("a"), asking("b"), run("c"))
    at.gone("a")
    begun(at, "b")
    spend(at, "b", 0.1)
    at.gone("b")
    begun(at, "c")
    at.ok("c")
    assert (at.state.cost.usd, at.state.cost.estimated) == (0.1, 0.0)


def test_without_a_limit_the_cost_of_who_never_told_it_is_unknown() -> None:
    at = desk()
    at.submit(asking("a"))
    begun(at, "a")
    at.gone("a")
    assert at.state.cost == Cost(unpriced=1)


def test_a_failure_that_used_up_the_budget_is_not_tried_again() -> None:
    at = desk()
    at.submit(asking("a", budget=Budget(usd=1.0), retries=5))
    at.fail("a", "limit")
    assert at.entry("a").state == "running"
    spend(at, "a", 0.99)
    at.fail("a")
    spend(at, "a", 0.02)
    assert (at.entry("a").state, at.entry("a").cause) == ("failed", "limit")


@pytest.mark.parametrize("bad", [Budget(usd=-1.0), Budget(usd=float("nan")), Budget(tokens=-1)])
def test_a_budget_that_means_nothing_is_refused(bad: Budget) -> None:
    at = desk()
    assert isinstance(at.refused(inp.Submit(at=0, tasks=(asking("a", budget=bad),))), Invalid)
    plan = Plan(name="d", limits=Limits(agents=1), agents=(AgentSpec(name="x", runtime="claude", budget=bad),))
    assert isinstance(at.refused(inp.ChangePlan(at=0, plan=plan)), Invalid)


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(1, 40)), max_size=60),
    st.integers(50, 300),
    st.integers(1, 60),
)
def test_more_than_the_limit_is_spent_by_one_report_of_each_attempt_at_most(
    reports: list[tuple[int, int]], limit: int, reserve: int
) -> None:
    """Ground truth: the reports themselves, added up here."""
    at = desk(limit / 100, reserve=reserve / 100, at_once=3)
    at.thorough = False
    at.submit(*(asking(f"n{number}") for number in range(8)))
    told, largest, most = 0, 0, 0
    for number, cents in reports:
        entry = at.state.entries.get(f"n{number}")
        if entry is None or entry.attempt is None:
            continue
        most = max(most, at.state.running)
        if not at.state.paused:
            assert told < limit, "it went on although the limit was reached"
        spend(at, f"n{number}", cents / 100)
        told, largest = told + cents, max(largest, cents)
        if not at.state.paused:
            at.ok(f"n{number}")
        assert at.state.cost.usd == pytest.approx(told / 100)
    assert at.state.paused == (told >= limit)
    assert at.state.held == pytest.approx(sum(e.attempt.held for e in at.state.entries.values() if e.attempt))


def test_a_kind_whose_money_is_all_held_keeps_nobody_else_from_work() -> None:
    small = AgentSpec(name="small", runtime="claude", count=0, budget=Budget(usd=0.2))
    at = desk(0.0, 0, small, AgentSpec(name="other", runtime="codex", count=0), at_once=9)
    at.submit(asking("a", agent="small"), asking("b", agent="small"), asking("c", agent="other"), run("d"))
    assert at.running() == ["a", "c", "d"]
    spend(at, "a", 0.05)
    at.ok("a")
    assert sorted(at.running()) == ["b", "c", "d"]
    spend(at, "b", 0.15)
    assert at.state.why == "the budget of an agent is used up: small"


def test_an_attempt_whose_kind_the_plan_has_no_more_is_still_bounded_by_the_session() -> None:
    at = desk(5.0, 0, CODER, AgentSpec(name="other", runtime="codex", count=0), at_once=1)
    at.submit(asking("a"))
    assert at.attempt("a").agent == "coder-1"
    left = msgspec.structs.replace(at.state.plan, agents=(SHELL, PYTHON, AgentSpec(name="other", runtime="codex")))
    at.tell(inp.ChangePlan(at=0, plan=left, keep=("a",)))
    (command,) = at.owed()
    assert isinstance(command, StartAttempt)
    assert command.usd == 5.0


def test_what_is_charged_after_the_end_does_not_pause_what_is_closed() -> None:
    at = desk(1.0)
    at.submit(asking("a"))
    at.ok("a")
    at.tell(inp.Close(at=0))
    at.tell(inp.Inquired(at=0, task="a", cost=Cost(usd=3.0)))
    assert (at.state.cost.usd, at.state.paused) == (3.0, False)


def test_that_only_claims_go_on_does_not_take_the_place_of_a_limit() -> None:
    at = desk(1.0)
    at.submit(asking("a"), asking("b"))
    spend(at, "a", 2.0)
    why = at.state.why
    at.tell(inp.Pause(at=0, why=BY_HAND))
    assert at.state.why == why == COST_LIMIT
    at.refused(inp.Claim(at=0, task="b"))


def test_a_limit_that_the_last_report_passes_is_reached_although_every_task_is_done() -> None:
    at = desk(0.0, 100)
    at.submit(asking("a"))
    begun(at, "a")
    at.say(at.report(inp.Spent, "a", cost=Cost(output=101), model="m"), at.report(inp.Ended, "a", outcome="ok"))
    view = session_view(at.state, "desk-1")
    assert (view.state, view.limit, view.why, exit_code(view)) == ("completed", True, TOKEN_LIMIT, LIMIT)
    within = desk(0.0, 102)
    within.submit(asking("a"))
    within.say(within.report(inp.Spent, "a", cost=Cost(output=101), model="m"), within.report(inp.Ended, "a", outcome="ok"))
    assert exit_code(session_view(within.state, "desk-1")) == 0
