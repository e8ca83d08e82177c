"""`ask`: a question to the agent of a finished task."""

from __future__ import annotations

import click

from skep.interfaces.cli import place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option, session_option
from skep.interfaces.cli.words import clean, money


@command(
    "ask",
    ("skep ask api 'why not a cursor?'", "its agent answers from what it knows of the task"),
    ("skep ask api 'what is left?' --json | jq -r .answer", "for scripts"),
)
@click.argument("task")
@click.argument("question")
@session_option
@json_option
def ask(task: str, question: str, session: str, as_json: bool) -> None:
    """Ask the agent of TASK a QUESTION, after its end.

    It is asked in a copy of its conversation and has no tools: its work, its conversation and the task stay as they are. The
    answer costs what a turn of its model costs; that is counted as the session's, and shown.
    """

    async def work() -> None:
        async with place.session(session) as found:
            said = await found.ask(task, question)
            out = Out()
            if as_json:
                out.json(document(session=said.name, task=task, agent=said.agent, answer=said.answer, cost=said.cost))
                return
            for line in clean(said.answer).splitlines():
                out.line(line)
            out.line((f"{said.agent}, {money(said.cost)}", "dim"))

    place.go(work())
