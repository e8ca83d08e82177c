"""What a plan may cost: its tasks that cost something, what tasks of earlier sessions here did cost, and the table of prices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from skep.config import Config
from skep.core import inputs as inp
from skep.core.budgets import FREE
from skep.core.estimates import Ahead, Estimate, Past, Priced, Tokens, estimate
from skep.core.model import AgentSpec, Plan, Task
from skep.core.placement import explain, kind_of
from skep.core.state import State
from skep.errors import Invalid
from skep.runtime import node, plans
from skep.runtime.prices import Prices

#: What is read of the past: the newest sessions, those with longer logs left out, and so many tasks of them in all.
MAX_SESSIONS, MAX_EVENTS, MAX_PAST = 20, 50_000, 2_000


def ahead(plan: Plan, join: inp.JoinNode, prices: Prices) -> list[Ahead]:
    """The tasks of a plan that cost something, each as often as it is carried out by agents: candidates and voters count.

    Args:
        plan: complete.
        join: the node it would run on.
        prices: the table.

    Raises:
        Invalid, Conflict, Exhausted: the plan can never work, or a limit in dollars could not be held.
    """
    specs = {spec.name: spec for spec in plan.agents}
    if all(spec.runtime in FREE for spec in plan.agents) or not any(map(_costs, plan.tasks)):
        return []
    state = plans.rehearse(plan, join)
    found = []
    for task in plan.tasks:
        if _costs(task):
            for spec, type in _hired(task, specs, state):
                _refuse_unpriced(plan, task, spec, prices)
                found.append(Ahead(task.id, spec.runtime, spec.model, type, task.foreach is not None))
    return found


def _refuse_unpriced(plan: Plan, task: Task, spec: AgentSpec, prices: Prices) -> None:
    """Raises Invalid where it is known before that a limit in dollars cannot be held: neither the agent's client nor the table of
    prices can tell them. Found out in the middle it would only stop the work.
    """
    bounds = {
        "limits.cost_usd": plan.limits.cost_usd,
        f"the budget of agent '{spec.name}'": spec.budget.usd if spec.budget is not None else 0.0,
        f"the budget of task '{task.id}'": task.budget.usd if task.budget is not None else 0.0,
    }
    bound = next((name for name, usd in bounds.items() if usd), "")
    if not bound or prices.knows(spec.runtime, spec.model):
        return
    named = f"the model '{spec.model}'" if spec.model else "its model, which is not named"
    say = "" if spec.model else f"Set `model:` of agent '{spec.name}' and its"
    raise Invalid(
        f"{bound} cannot be held: agent '{spec.name}' ({spec.runtime}) of task '{task.id}' tells no dollars, and skep.toml has "
        f"no price for {named}",
        f"{say or 'Set its'} price under [prices] in skep.toml, or limit tokens or time instead.",
    )


def _costs(task: Task) -> bool:
    """Whether agents are asked: for its work, or for their votes on a gate."""
    return kind_of(task) == "prompt" or task.vote is not None


def _hired(task: Task, specs: dict[str, AgentSpec], state: State) -> Iterator[tuple[AgentSpec, str]]:
    """Who works on a task, and with what type of task that is comparable."""
    for name in () if task.gate else task.candidates or (task.agent,):
        spec = specs.get(name) or _best(task, specs, state)
        if spec is not None and spec.runtime not in FREE:
            yield spec, task.type
    judge = specs.get(task.vote.by) if task.vote is not None else None
    if judge is not None and judge.runtime not in FREE:
        for _ in range(max(1, judge.count)):
            yield judge, judge.type or "review"


def _best(task: Task, specs: dict[str, AgentSpec], state: State) -> AgentSpec | None:
    """The agent that would get it, if nobody is named."""
    found = explain(state, task)
    agent = state.agents.get(found.target) if found is not None else None
    return specs.get(agent.spec) if agent is not None else None


def past(state: State) -> Iterator[Past]:
    """What the tasks of a session cost that are over, as far as their agents told it."""
    for entry in state.entries.values():
        agent = state.agents.get(entry.agent)
        spec = state.specs.get(agent.spec) if agent is not None else None
        cost = entry.cost
        if spec is not None and cost is not None and cost.tokens and not cost.estimated and entry.ended:
            tokens = Tokens(cost.input, cost.cached, cost.output)
            yield Past(spec.runtime, spec.model, entry.task.type, tokens, None if cost.unpriced else cost.usd)


def priced(prices: Prices) -> Priced:
    """The table, as an estimate asks it."""

    def of(model: str, tokens: Tokens) -> float | None:
        return prices.dollars(model, tokens.input, tokens.cached, tokens.output)

    return of


def foretell(plan: Plan, folder: Path, config: Config) -> Estimate:
    """The estimate where there is no past. Raises as `ahead`."""
    join = node.Here().join(folder, node.SystemClock())
    prices = Prices(config.prices)
    return estimate(ahead(plans.complete(plan, config), join, prices), (), priced(prices))
