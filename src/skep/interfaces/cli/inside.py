"""`message`: what an agent at work may ask, as commands, through the door of its attempt ($SKEP_DOOR)."""

from __future__ import annotations

import sys
from typing import Any

import click

from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import Finite, Group, json_option


@click.group("message", cls=Group)
def message() -> None:
    """Inside an attempt: send and read messages, see whom you may write to, hand work on, ask whoever is above.

    For programs of agents at work, which find the door in $SKEP_DOOR. People use `skep tell` and `skep messages`.
    """


def _ask(request: Any) -> Any:
    from skep.agents.door.client import Door

    return Door.here().ask(request)


def _print(as_json: bool, answer: dict[str, Any], line: str) -> None:
    out = Out()
    if as_json:
        out.json(document(**answer))
    else:
        out.line(line)


@message.command("send", examples=(("skep message send coder-2 'the API is ready'", "it waits there until it is read"),))
@click.argument("to", metavar="AGENT")
@click.argument("text")
@click.option("--type", "kind", default="note", show_default=True, help="What kind of message it is.")
@click.option("--answers", default="", metavar="ID", help="The message or question that it answers.")
@click.option("--ttl", type=Finite(min=0), default=0.0, metavar="SECONDS", help="Drop it unread after this.")
@click.option("--id", "name", default="", help="A name of your own: the same again is the same message.")
@json_option
def send(to: str, text: str, kind: str, answers: str, ttl: float, name: str, as_json: bool) -> None:
    """Write TEXT to AGENT, or to `you`: the person who runs the session. TEXT `-` is read from standard input."""
    from skep.agents.door import Send

    said = sys.stdin.read() if text == "-" else text
    answer = _ask(Send(to=to, text=said, type=kind, answers=answers, ttl=ttl, id=name))
    _print(as_json, answer, answer["id"])


@message.command("read", examples=(("skep message read --wait 60", "waits up to a minute for one"),))
@click.option("--wait", type=Finite(min=0, max=300), default=0.0, metavar="SECONDS", help="Wait for one, if need be.")
@click.option("--most", type=click.IntRange(1, 100), default=100, show_default=True, help="So many at most.")
@click.option("--keep", is_flag=True, help="Have them come again: they are not told as delivered.")
@json_option
def read(wait: float, most: int, keep: bool, as_json: bool) -> None:
    """Print the messages that wait for this agent, oldest first. They are told as delivered once they are printed."""
    from skep.agents.door import Read

    answer = _ask(Read(wait=wait, most=most))
    found = answer["messages"]
    _print(as_json, answer, "\n\n".join(one["text"] for one in found) or "no messages")
    sys.stdout.flush()
    if found and not keep:
        _ask(Read(ack=tuple(one["id"] for one in found), most=1))


@message.command("contacts", examples=(("skep message contacts --json", "for programs"),))
@json_option
def contacts(as_json: bool) -> None:
    """Print whom this agent may write to, who is above it, and to whom it may hand work."""
    from skep.agents.door import Contacts

    answer = _ask(Contacts())
    lines = [f"you are {answer['you_are']} in a {answer['topology']}; above you: {answer['above']}"]
    lines += [f"write to {name} ({what})" for name, what in answer["write_to"].items()]
    lines += [f"hand work to {kind}" for kind in answer["delegate"]]
    _print(as_json, answer, "\n".join(lines))


@message.command("delegate", examples=(("skep message delegate coder 'Fix the parser.' --id parser", "proposed, not started"),))
@click.argument("agent")
@click.argument("prompt")
@click.option("--id", "name", required=True, help="A short name for the task.")
@click.option("--needs", multiple=True, metavar="ID", help="Another task that you delegated, to come first.")
@click.option("--verify", default="", metavar="CMD", help="A command that judges the result.")
@json_option
def delegate(agent: str, prompt: str, name: str, needs: tuple[str, ...], verify: str, as_json: bool) -> None:
    """Propose a task for AGENT, a kind of agent. It starts after your own has ended well and the proposal was accepted."""
    from skep.agents.door import Delegate

    answer = _ask(Delegate(agent=agent, prompt=prompt, id=name, needs=needs, verify=verify))
    _print(as_json, answer, f"{answer['task']} is proposed. {answer['then']}")


@message.command("escalate", examples=(("skep message escalate 'v1 or v2 of the API?'", "to whoever is above, or to a person"),))
@click.argument("question")
@click.option("--id", "name", default="", help="A name of your own: the same again is the same question.")
@json_option
def escalate(question: str, name: str, as_json: bool) -> None:
    """Ask whoever is above this agent, or a person. The answer comes as a message that answers the id."""
    from skep.agents.door import Escalate

    answer = _ask(Escalate(question=question, id=name))
    _print(as_json, answer, f"{answer['id']} was asked of {answer['to']}")
