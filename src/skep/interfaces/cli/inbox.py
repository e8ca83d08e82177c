"""`inbox`: everything that waits for a person, of all sessions."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

import click

from skep.interfaces.cli import asks, place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option
from skep.interfaces.cli.words import Line, duration, one_line

if TYPE_CHECKING:
    from skep.runtime.views import Need


@command("inbox", ("skep inbox", "what waits, and how to answer it"), ("skep inbox --json | jq '.needs[].id'", "for scripts"))
@click.option("--full", is_flag=True, help="With all the arguments of what agents ask for.")
@json_option
def inbox(full: bool, as_json: bool) -> None:
    """List what needs a person in all sessions here: what agents ask leave for, approvals of tasks, conflicts; oldest first.

    Always ends with 0 when it could be shown.
    """
    place.go(_inbox(full, as_json))


async def _inbox(full: bool, as_json: bool) -> None:
    import msgspec

    from skep.interfaces.cli.faces import now

    async with place.hive() as hive:
        needs = await hive.inbox()
    out = Out()
    if as_json:
        out.json(document(needs=[msgspec.to_builtins(need) | {"answers": _answers(need)} for need in needs]))
        return
    lines: list[Line] = []
    for need in needs:
        age = duration(max(0, now() - need.since) / 1000)
        head = f"{one_line(need.name, 60)}  {one_line(need.id, 60)}"
        lines.append([("! ", "yellow"), (head, "bold"), (f"  {need.agent or '-'}  {age}: {one_line(_what(need), 2_000)}", "")])
        if full and need.arguments:
            lines.append([(f"    {one_line(need.arguments, 20_000)}", "")])
        lines.append([(f"    {'  |  '.join(_answers(need))}", "dim")])
    out.lines(lines or [[("nothing needs you", "dim")]])


def _what(need: Need) -> str:
    if need.question == "escalation":
        return f"asks: {need.about}"
    if need.question == "login":
        return f"{asks.words(need.question)} ({need.about})"
    return f"{need.tool}: {need.about}" if need.tool else asks.words(need.question)


def _answers(need: Need) -> list[str]:
    """The command lines that answer it."""
    if need.question == "escalation":
        return [f"{asks.question(need.agent, need.id)} -s {quote(need.name)}"]
    lines = asks.leave(need.id, need.tool) if need.tool else asks.answers(need.question, need.id)
    return [f"{line} -s {quote(need.name)}" if "resume" not in line else f"{line} {quote(need.name)}" for line in lines]
