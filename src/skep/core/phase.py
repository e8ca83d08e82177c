"""Phases: the ordered parts of a session, each with a gate. The nouns, and how tasks of a phase are tied to its gate.

A gate is a task: it needs every other task of its phase, and every task of the next phase needs it. So a phase opens when the
gate before it is done, what follows a gate that failed is skipped with the reason, and a retry of the gate takes it along, by the
rules that hold for all tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from skep.core.task import Task

PhaseState = Literal[
    "waiting",  # the gate before it is still to be passed
    "open",  # its tasks may start
    "passed",  # so is its gate: the next phase is open
    "failed",  # its gate did not pass
    "closed",  # it never opened: something before it failed
]
#: Phases of one session.
MAX_PHASES = 50
#: What begins the id of every gate.
GATE = "gate:"


class Phase(Struct, kw_only=True, omit_defaults=True, gc=False):
    """A phase as it stands. `gate`: id of the task that is its gate. `base`: the tip when it opened. Times are wall-clock ms.

    `why` says what is in the way, for a phase that failed or is closed.
    """

    gate: str
    state: PhaseState = "waiting"
    why: str = ""
    base: str = ""
    opened: int = 0
    ended: int = 0


class PhaseOpened(Struct, frozen=True, array_like=True, gc=False, tag="phase.opened"):
    """The tasks of a phase may start: the gate before it was passed. `channel` is the name of the channel that its agents
    coordinate by; `base` the session's tip."""

    at: int
    phase: str
    channel: str
    base: str = ""


class PhaseEnded(Struct, frozen=True, array_like=True, gc=False, tag="phase.ended"):
    """The gate of a phase passed or failed, or the phase is closed since something before it failed, or it waits again since
    something before it goes round again (`state`). `why` says what is in the way."""

    at: int
    phase: str
    state: PhaseState
    why: str = ""


def gate_of(phase: str) -> str:
    """The id of a phase's gate."""
    return GATE + phase


def channel_of(phase: str) -> str:
    """The name of the channel that the agents of a phase coordinate by."""
    return f"phase:{phase}:coordination"


def linked(tasks: Sequence[Task], there: Mapping[str, str]) -> tuple[Task, ...]:
    """Tasks with the needs that their phases give them; those that have them already stay as they are.

    Args:
        tasks: all with ids; gates in the order of their phases.
        there: phase -> id of its gate, for those that there are already, in order. Gates among the tasks follow them.
    """
    order = {**there, **{task.phase: task.id for task in tasks if task.gate}}
    names, gates = list(order), list(order.values())
    before = dict(zip(names, ["", *gates], strict=False))
    members: dict[str, list[str]] = {}
    for task in tasks:
        if task.phase and not task.gate:
            members.setdefault(task.phase, []).append(task.id)
    result = []
    for task in tasks:
        if task.phase:
            needs = (*task.needs, *(members.get(task.phase, ()) if task.gate else ()))
            first = before.get(task.phase, "")
            task = replace(task, needs=tuple(dict.fromkeys((*needs, first) if first else needs)))
        result.append(task)
    return tuple(result)
