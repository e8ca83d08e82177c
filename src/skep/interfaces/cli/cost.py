"""`cost`: what a session has spent, by task, agent and model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skep.interfaces.cli import place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option
from skep.interfaces.cli.words import Line, count, dollars, duration, money, one_line

if TYPE_CHECKING:
    from skep.runtime.views import CostView


@command("cost", ("skep cost", "the newest session"), ("skep cost feature-7 --json", "for scripts"))
@click.argument("name", metavar="[SESSION]", default="")
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
    from skep.core.model import Budget

    tokens = f"{view.total.tokens:,}" + (f"/{view.limits.tokens:,}" if view.limits.tokens else "")
    lines: list[Line] = [[(view.name, "bold"), (f"  {money(view.total, view.limits.cost_usd)}  {tokens} tokens", "")]]
    parts = (("tasks", view.tasks), ("agents", view.agents), ("models", view.models), ("budgets of agents", view.kinds))
    for title, costs in parts:
        if costs:
            lines.append([(title, "bold")])
            width = min(40, max(len(one_line(key or "not told", 40)) for key in costs))
            for key, one in sorted(costs.items(), key=lambda item: -item[1].usd):
                budget = view.budgets.get(key, Budget()) if title in ("tasks", "budgets of agents") else Budget()
                amount = f"{one.tokens:,}" + (f"/{budget.tokens:,}" if budget.tokens else "")
                took = f"  {duration(view.took.get(key, 0) / 1000)}" if title == "tasks" else ""
                named = f"  {one_line(key or 'not told', 40):{width}}"
                lines.append([(f"{named}  {money(one, budget.usd):>14}  {amount:>12} tokens{took}", "")])
    if not view.tasks:
        lines.append([("nothing was spent, as far as agents report", "dim")])
    if view.total.estimated:
        held = dollars(view.total.estimated)
        lines.append([(f"~ {held} of it nobody told: it was held for attempts that ended without a word of their cost", "dim")])
    if view.total.unpriced:
        reports = count(view.total.unpriced, "report")
        lines.append([(f"+? of {reports} nobody knows the price: [prices] in skep.toml tells it", "dim")])
    return lines
