"""`cost`: what a session has spent, by task, agent and model."""

from __future__ import annotations

import click

from skep.interfaces.cli import place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option
from skep.interfaces.cli.words import Line, money, one_line


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
    lines: list[Line] = [[(view.name, "bold"), (f"  {money(view.total, view.limits.cost_usd)}", "")]]
    for title, costs in (("tasks", view.tasks), ("agents", view.agents), ("models", view.models)):
        if costs:
            lines.append([(title, "bold")])
            width = min(40, max(len(one_line(key or "not told", 40)) for key in costs))
            ranked = sorted(costs.items(), key=lambda item: -item[1].usd)
            lines += [
                [(f"  {one_line(key or 'not told', 40):{width}}  {money(one):>14}  {one.tokens:>12,} tokens", "")]
                for key, one in ranked
            ]
    if not view.tasks:
        lines.append([("nothing was spent, as far as agents report", "dim")])
    out.lines(lines)
