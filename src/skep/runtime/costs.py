"""What a session has spent, as `skep cost` shows it: money, tokens, and time at work."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from skep.core.budgets import spent_by, worked_by
from skep.core.clocks import worked
from skep.core.model import Budget, Cost, Limits
from skep.core.state import State


class CostView(Struct, frozen=True, kw_only=True):
    """What a session has spent; tasks are those of its live state that cost something or have a budget.

    `kinds` are the kinds of agents that have a budget, `kind_budgets` those budgets; `budgets` are those of tasks. Times in ms:
    `took` is what the attempts of a task worked, as budgets count it, `kinds_took` those of a kind; `worked` is what counts
    against `limits.time`.
    """

    session: str
    name: str
    total: Cost
    limits: Limits
    tasks: dict[str, Cost]
    agents: dict[str, Cost]
    models: dict[str, Cost]
    kinds: dict[str, Cost] = {}
    budgets: dict[str, Budget] = {}
    took: dict[str, int] = {}
    kind_budgets: dict[str, Budget] = {}
    kinds_took: dict[str, int] = {}
    worked: int = 0


def cost_view(state: State, name: str, now: int = 0) -> CostView:
    """What was spent.

    Args:
        now: wall-clock ms; 0 = nobody carries it out: as it stood when the log was told something last.
    """
    at = max(now, state.at)
    shown = {name: entry for name, entry in state.entries.items() if entry.cost is not None or entry.task.budget is not None}
    bounded = {name: spec.budget for name, spec in state.specs.items() if spec.budget is not None}
    return CostView(
        session=state.session,
        name=name,
        total=state.cost,
        limits=state.plan.limits,
        tasks={name: entry.cost or Cost() for name, entry in shown.items()},
        agents={name: agent.cost for name, agent in state.agents.items() if agent.cost is not None},
        models=dict(state.costs),
        kinds={name: replace(spent_by(state, name)) for name in bounded},
        budgets={name: entry.task.budget for name, entry in shown.items() if entry.task.budget is not None},
        took={name: worked(entry, at) for name, entry in shown.items()},
        kind_budgets=bounded,
        kinds_took={name: worked_by(state, name, at) for name in bounded},
        worked=state.at_work(at),
    )
