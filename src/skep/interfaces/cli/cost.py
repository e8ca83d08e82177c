"""`cost`: what a session has spent, by task, agent and model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skep.interfaces.cli import place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option, session_argument
from skep.interfaces.cli.words import Line, count, dollars, duration, money, one_line

if TYPE_CHECKING:
    from skep.core.model import Budget, Cost
    from skep.runtime.costs import CostView


@command("cost", ("skep cost", "the newest session"), ("skep cost feature-7 --json", "for scripts"))
@session_argument
@json_option
def cost(name: str, as_json: bool) -> None:
    """Show what a session has spent: tokens and dollars, by task, by agent and by model.

    The figures are the clients' own reports; where they tell no dollars, the prices in `skep.toml` are used. What nobody knows is
    counted as unknown, never as zero.
    """
    place.go(_cost(name, as_json))


async def _cost(name: str, as_json: bool) -> None:
    import msgspec

    async with place.session(name) as session:
        view = await session.costs()
    out = Out()
    if as_json:
        out.json(document(**msgspec.to_builtins(view)))
        return
    out.lines(_table(view))


def _table(view: CostView) -> list[Line]:
    tokens = f"{view.total.tokens:,}" + (f"/{view.limits.tokens:,}" if view.limits.tokens else "")
    whole = f"  {money(view.total, view.limits.cost_usd)}  {tokens} tokens  {_time(view.worked, view.limits.time)}"
    lines: list[Line] = [
        [(view.name, "bold"), (whole, "")],
        *_part("tasks", view.tasks, view.budgets, view.took),
        *_part("agents", view.agents, {}, {}),
        *_part("models", view.models, {}, {}),
        *_part("budgets of agents", view.kinds, view.kind_budgets, view.kinds_took),
    ]
    if not view.tasks:
        lines.append([("nothing was spent, as far as agents report", "dim")])
    if view.total.estimated:
        held = dollars(view.total.estimated)
        lines.append([(f"~ {held} of it nobody told: it was held for attempts that ended without a word of their cost", "dim")])
    if view.total.unpriced:
        reports = count(view.total.unpriced, "report")
        lines.append([(f"+? of {reports} nobody knows the price: [prices] in skep.toml tells it", "dim")])
    return lines


def _part(title: str, costs: dict[str, Cost], budgets: dict[str, Budget], took: dict[str, int]) -> list[Line]:
    """One of the tables, dearest first; nothing if it is empty. `took`: ms at work, of those of which it is known."""
    if not costs:
        return []
    width = min(40, max(len(one_line(key or "not told", 40)) for key in costs))
    lines: list[Line] = [[(title, "bold")]]
    for key, cost in sorted(costs.items(), key=lambda item: -item[1].usd):
        budget = budgets.get(key)
        amount = f"{cost.tokens:,}" + (f"/{budget.tokens:,}" if budget is not None and budget.tokens else "")
        time = f"  {_time(took[key], budget.time if budget is not None else 0.0)}" if key in took else ""
        named = f"  {one_line(key or 'not told', 40):{width}}"
        shown = money(cost, budget.usd if budget is not None else 0.0)
        lines.append([(f"{named}  {shown:>14}  {amount:>12} tokens{time}", "")])
    return lines


def _time(took: int, limit: float) -> str:
    """Milliseconds at work, and of how many seconds."""
    return duration(took / 1000) + (f"/{duration(limit)}" if limit else "")
