"""What a voter sees: the task, and what each candidate made of it, without names and in an order that says nothing."""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from skep.core.consensus import Poll
from skep.core.model import Entry
from skep.core.references import render, spell
from skep.core.scope import lookup, text
from skep.core.state import State
from skep.errors import NotFound
from skep.runtime.environment import Told
from skep.workspace import Workspace

#: Characters of a difference, and of a result or an output, that a voter is shown of each candidate.
MAX_DIFF = 60_000
MAX_TEXT = 8_000


class _Shown(Struct, frozen=True):
    """A candidate as the voters know it."""

    option: str
    base: str
    commit: str
    said: dict[str, str]


async def put_before(workspace: Workspace, state: State, voter: Entry, told: Told) -> Told:
    """What the voter is told, with the task and the candidates put below it.

    Raises:
        NotFound: its ballot is not open any more.
        Unavailable, Invalid: git cannot show a candidate's difference.
    """
    parent = state.entries.get(voter.task.parent)
    poll = parent.poll if parent is not None else None
    if parent is None or poll is None or voter.task.id not in poll.voters.values():
        raise NotFound(f"the ballot '{voter.task.ballot}' is not open any more")
    # All of the state is read before anything is waited for.
    shown = _candidates(state, poll)
    parts = [told.prompt, f"# The task\n\n{the_task(state, parent)}"]
    for one in shown:
        await workspace.have(state.session, one.base, one.commit)
        diff = await workspace.diff(one.base, one.commit) if one.commit else ""
        parts.append(_section(one, diff))
    return msgspec.structs.replace(told, prompt="\n\n".join(parts) + "\n")


def _candidates(state: State, poll: Poll) -> list[_Shown]:
    found = []
    for option, name in poll.options.items():
        entry = state.entries[name]
        said = {} if entry.result in (None, "") else {"result": spell(entry.result)}
        said |= {f"output {key}": text(output) for key, output in (entry.outputs or {}).items()}
        found.append(_Shown(option, entry.base, entry.commit, said))
    return found


def the_task(state: State, parent: Entry) -> str:
    """A task in words: its title, and its prompt or command."""
    task = parent.task
    title = [task.objective] if task.objective else []
    if task.prompt is not None:
        return "\n\n".join([*title, render(task.prompt, lookup(state, parent))])
    command = task.run if task.run is not None else task.call
    return "\n\n".join([*title, fenced(spell(command))])


def _section(one: _Shown, diff: str) -> str:
    parts = [f"# Candidate {one.option}"]
    parts.append(f"What it changes:\n\n{fenced(_cut(diff, MAX_DIFF))}" if diff else "It changes no file.")
    parts += [f"Its {name}:\n\n{fenced(_cut(said, MAX_TEXT))}" for name, said in one.said.items()]
    return "\n\n".join(parts)


def _cut(said: str, most: int) -> str:
    return said if len(said) <= most else f"{said[:most]}\n... ({len(said) - most} more characters are not shown)"


def fenced(said: str) -> str:
    """In a fence that is longer than any within: what a candidate wrote cannot end it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", said)), default=0))
    return f"{fence}\n{said.rstrip(chr(10))}\n{fence}"
