"""Money, tokens, time: what an attempt holds in reserve, what it is charged, when no more may be spent.

What is held when an attempt begins only decides whether it may begin. While it runs, each report of its client is added up, and
when a limit is reached everything under way is ended. What can be spent beyond a limit is therefore what one report covers, for
each attempt under way: one call of a model where the client tells each call, one turn where it tells at the end.

Time is nobody's report: the core counts it by itself (`core.clocks`), so nothing is held for it, and what uses it up is told to
end at that very moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skep.core.clocks import Meter, worked
from skep.core.model import Agent, AgentSpec, Budget, Cost, Entry

if TYPE_CHECKING:
    from skep.core.state import State

#: Runtimes whose work costs nothing that could be told.
FREE = frozenset({"shell", "python", "inprocess", "hand"})
#: Dollars held for an attempt where nothing else is said.
RESERVE = 0.25
#: Why a session is paused that may not spend more.
COST_LIMIT, TOKEN_LIMIT = "cost limit reached", "token limit reached"
UNPRICED = "a price is not known, so the cost limit cannot be held"
AGENT_LIMIT = "the budget of an agent is used up"
REASONS = frozenset({COST_LIMIT, TOKEN_LIMIT, UNPRICED, AGENT_LIMIT})


def reserve(state: State, entry: Entry, spec: AgentSpec, elsewhere: float = 0.0) -> float | None:
    """Dollars to hold for an attempt of the task by this kind of agent; None if that or the session cannot afford another now.

    Args:
        elsewhere: dollars that are held and that the state does not know of.
    """
    limited = state.plan.limits.cost_usd or (spec.budget is not None and spec.budget.usd)
    if not limited or spec.runtime in FREE:
        return 0.0
    left = min(_free(state, spec), default=0.0) - elsewhere
    wanted = left_of(entry) or state.plan.limits.reserve_usd or RESERVE
    return round(min(wanted, left), 6) if left > 1e-6 else None


def waits_for_its_kind(state: State, agent: Agent) -> bool:
    """Whether the session could afford another attempt, and only what other agents of this one's kind hold is in its way."""
    limits = state.plan.limits
    affords = not limits.cost_usd or limits.cost_usd - state.cost.usd - state.held > 1e-6
    return affords and any(other.held > 1e-6 for other in state.agents.values() if other.spec == agent.spec)


def _free(state: State, spec: AgentSpec | None) -> list[float]:
    """Dollars that neither are spent nor held, of each limit that holds for this kind of agent; None = it is no more."""
    found = []
    if state.plan.limits.cost_usd:
        found.append(state.plan.limits.cost_usd - state.cost.usd - state.held)
    if spec is not None and spec.budget is not None and spec.budget.usd:
        held = sum(agent.held for agent in state.agents.values() if agent.spec == spec.name)
        found.append(spec.budget.usd - held - spent_by(state, spec.name).usd)
    return found


def left_of(entry: Entry) -> float:
    """Dollars that are left of the task's own budget, 0 if it has none."""
    budget = entry.task.budget
    return max(0.0, budget.usd - (entry.cost.usd if entry.cost is not None else 0.0)) if budget is not None else 0.0


def cap(state: State, entry: Entry) -> float:
    """Dollars that the attempt under way may cost at most, for a client that can hold that itself; 0 = no bound."""
    bounds = []
    if entry.task.budget is not None and entry.task.budget.usd:
        bounds.append(left_of(entry))
    agent = state.agents.get(entry.attempt.agent) if entry.attempt is not None else None
    if entry.attempt is not None and agent is not None:
        bounds += [free + entry.attempt.held for free in _free(state, state.specs.get(agent.spec))]
    return max(0.01, min(bounds)) if bounds else 0.0


def over(entry: Entry, at: int) -> str:
    """Why the task may spend no more at that time (wall-clock ms), or nothing."""
    found = _used_up(entry.task.budget, entry.cost, worked(entry, at))
    return f"its budget of {found} is used up" if found else ""


def out_of_time(entry: Entry, at: int) -> bool:
    """Whether the task has used up its time at that moment (wall-clock ms)."""
    return _used_up(entry.task.budget, None, worked(entry, at)) != ""


def ends(entry: Entry) -> int:
    """When the attempt under way will have used up its task's time, wall-clock ms; 0 = never."""
    since = entry.attempt.since if entry.attempt is not None else 0
    budget = entry.task.budget
    return since + max(0, _ms(budget) - entry.worked) if since and budget is not None and budget.time else 0


def kinds_end(state: State) -> int:
    """When a kind of agents will have used up its time, wall-clock ms; 0 = never."""
    if state.paused or state.closed:
        return 0
    found = [
        state.clocks[spec.name].full(_ms(spec.budget))
        for spec in state.specs.values()
        if spec.budget is not None and spec.budget.time and spec.name in state.clocks
    ]
    return min((time for time in found if time), default=0)


def used_up(state: State, at: int) -> str:
    """Why the session may spend no more at that time (wall-clock ms), or nothing."""
    limits, cost = state.plan.limits, state.cost
    if limits.cost_usd and cost.usd >= limits.cost_usd - 1e-9:
        return COST_LIMIT
    if limits.tokens and cost.tokens >= limits.tokens:
        return TOKEN_LIMIT
    if limits.cost_usd and cost.unpriced:
        return UNPRICED
    for spec in state.specs.values():
        if spec.budget is not None and _used_up(spec.budget, spent_by(state, spec.name), worked_by(state, spec.name, at)):
            return f"{AGENT_LIMIT}: {spec.name}"
    return ""


def spent_by(state: State, spec: str) -> Cost:
    """What all agents of a kind have spent."""
    return state.kinds.get(spec, Cost())


def worked_by(state: State, spec: str, at: int) -> int:
    """How long all agents of a kind have worked by then, added up, ms."""
    return state.clocks.get(spec, Meter()).at(at)


def unreported(state: State, entry: Entry) -> Cost | None:
    """What an attempt is charged at its end beside what it told: if it never told its cost, or was lost before it could tell the
    rest, then up to what was held for it, or a cost that nobody knows."""
    attempt = entry.attempt
    if attempt is None or not attempt.pid:
        return None
    if attempt.cost is not None and not attempt.owing and attempt.ending != "lost":
        return None
    agent = state.agents.get(attempt.agent)
    spec = state.specs.get(agent.spec) if agent is not None else None
    if spec is None or spec.runtime in FREE:
        return None
    if not attempt.held:
        return Cost(unpriced=1)
    rest = round(attempt.held - (attempt.cost.usd if attempt.cost is not None else 0.0), 6)
    return Cost(usd=rest, estimated=rest) if rest > 0 else None


def _used_up(budget: Budget | None, cost: Cost | None, time: int) -> str:
    if budget is None:
        return ""
    if budget.usd and cost is not None and cost.usd >= budget.usd - 1e-9:
        return f"${budget.usd:g}"
    if budget.tokens and cost is not None and cost.tokens >= budget.tokens:
        return f"{budget.tokens} tokens"
    return f"{budget.time:g} s at work" if budget.time and time >= _ms(budget) else ""


def _ms(budget: Budget) -> int:
    """Its time in milliseconds, at least one."""
    return max(1, int(budget.time * 1000))
