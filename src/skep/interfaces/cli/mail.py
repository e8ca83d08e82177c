"""`tell` and `messages`: a word to an agent, and what waits for whom."""

from __future__ import annotations

import click

from skep.interfaces.cli import place
from skep.interfaces.cli.faces import now
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import Finite, command, json_option, session_option
from skep.interfaces.cli.words import duration, one_line


@command(
    "tell",
    ("skep tell coder-1 'the API changed: use v2'", "at once if it can hear, else at its next attempt"),
    ("skep tell coder-1 'stop at noon' --ttl 3600", "dropped if it was not delivered within the hour"),
    ("skep tell coder-1 'use v2' --answers q7", "answers what it asked: `skep inbox` has the id"),
)
@click.argument("agent")
@click.argument("text")
@click.option("--ttl", type=Finite(min=0), default=0.0, metavar="SECONDS", help="Drop it undelivered after this.")
@click.option("--answers", metavar="ID", default="", help="The question that it answers.")
@session_option
@json_option
def tell(agent: str, text: str, ttl: float, answers: str, session: str, as_json: bool) -> None:
    """Send TEXT to AGENT, such as coder-1. Agents that can hear while they work get it at once, others with their next prompt."""

    async def work() -> None:
        async with place.session(session) as found:
            handed = await found.tell(agent, text, ttl, answers)
            out = Out()
            if as_json:
                out.json(document(session=found.name, message=handed.id, target=agent, delivered=handed.delivered))
            elif handed.delivered:
                out.line(f"{agent} has it")
            else:
                out.line(f"{handed.id} waits: {agent} gets it with its next prompt")

    place.go(work())


@command(
    "messages", ("skep messages", "all that wait"), ("skep messages --agent you --json | jq '.waiting[].payload'", "for scripts")
)
@click.option("--agent", default="", help="Only those for this agent; `you` for those to a person.")
@session_option
@json_option
def messages(agent: str, session: str, as_json: bool) -> None:
    """Show the messages that wait to be delivered, and how many were sent, delivered and dropped."""

    async def work() -> None:
        async with place.session(session) as found:
            view = await found.messages(agent)
            out = Out()
            if as_json:
                import msgspec

                out.json(document(**msgspec.to_builtins(view)))
                return
            for one in view.waiting:
                age = duration((now() - one.timestamp) / 1000)
                said = one.payload if isinstance(one.payload, str) else repr(one.payload)
                out.line((f"{one.id}  {one.source} -> {one.target}  ", "bold"), f"{one.type}  {age}  {one_line(said)}")
            out.line(f"{len(view.waiting)} wait, {view.sent} sent, {view.delivered} delivered, {view.expired} dropped")

    place.go(work())
