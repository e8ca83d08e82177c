"""Phases and their gates under crashes and repetitions, judged from the log; and that the checker sees what is planted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from skep.core import closing, gates, phase, scope, settle
from skep.core import events as ev
from skep.core.model import Entry, Task, TaskState
from skep.core.state import State
from skep.core.turn import Turn
from skep.errors import Bug as Broken
from tests.simulation.phased import Phased
from tests.simulation.planted import Bug, swap, swapped
from tests.simulation.world import Violated

SEEDS = 120
_without, _linked, _considered = scope.without, phase.linked, gates.consider


def _whatever_the_gate(state: State, entry: Entry) -> list[str]:
    """A condition that asks how tasks ended opens gates, too."""
    found = _without(state, entry)
    return [] if entry.task.condition else found


@contextmanager
def _not_tied() -> Iterator[None]:
    """Tasks of a phase do not need the gate before it."""

    def linked(tasks: tuple[Task, ...], there: dict[str, str]) -> tuple[Task, ...]:
        tied = _linked(tasks, there)
        return tuple(new if new.gate else old for old, new in zip(tasks, tied, strict=True))

    with swapped(gates, "linked", linked):
        yield


def _not_joined(self: State, fresh: list[Entry]) -> None:
    """What joins a phase later is not waited for."""


def _judged_early(turn: Turn, entry: Entry) -> None:
    """A gate is judged as soon as something of its phase has ended."""
    held, entry.unmet = entry.unmet, 0
    _considered(turn, entry)
    entry.unmet = held


def _passed(turn: Turn, entry: Entry) -> None:
    """A gate without a command is passed without a vote and without a person."""
    turn.emit(ev.TaskClosed(turn.at, entry.task.id, "done"))


def _unasked(entry: Entry, commit: str) -> tuple[TaskState, str]:
    """Nobody is asked after the command of a gate."""
    return ("done", "") if entry.task.gate else _after(entry, commit)


_after = closing.after_success


@contextmanager
def _asks_nobody() -> Iterator[None]:
    from skep.core import attempts

    with swapped(attempts, "after_success", _unasked):
        yield


PLANTED: dict[str, Bug] = {
    "a task of a later phase starts before the gate passed": _not_tied,
    "a condition opens a gate that failed": swap(settle, "without", _whatever_the_gate),
    "what joins a phase is not waited for": swap(State, "_join", _not_joined),
    "a gate is judged before its phase is over": swap(gates, "consider", _judged_early),
    "a gate is passed without its vote and its yes": swap(gates, "gather", _passed),
    "nobody is asked after a gate's command": _asks_nobody,
    "a gate stays passed when its phase goes round again": swap(gates, "behind", lambda state, task: []),
}


def test_no_phase_begins_before_the_gate_before_it_is_passed() -> None:
    for seed in range(SEEDS):
        Phased(seed).go()


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    with PLANTED[name]():
        assert any(broken(seed) for seed in range(SEEDS)), f"{SEEDS} seeds did not find it"


def broken(seed: int) -> bool:
    """Whether the seed shows it, by an objection or by what cannot be applied."""
    try:
        Phased(seed).go()
    except (Violated, Broken):
        return True
    return False
