"""Conflicts that tasks resolve, under crashes and repetitions, judged from outside; and that the checker sees what is planted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from skep.core import apply as applying
from skep.core import events as ev
from skep.core import resolving
from skep.core.closing import after_success
from skep.core.model import Entry
from skep.core.state import State
from skep.core.turn import Turn, is_open
from tests.simulation.clashes import Clashes
from tests.simulation.planted import Bug, swap, swapped
from tests.simulation.world import Violated

SEEDS = 120
_resolved = applying._APPLY[ev.ConflictResolved]


def _keeps_old(state: State, event: ev.ConflictResolved) -> None:
    """What did not merge goes to the merge again."""
    commit = state.entries[event.task].commit
    _resolved(state, event)
    state.entries[event.task].commit = commit


def _lands_what_is_there(state: State, event: ev.ConflictResolved) -> None:
    _resolved(state, event)
    made = state.entries[event.resolver]
    state.entries[event.task].commit = made.commit or made.wip


def _takes_anything(turn: Turn, entry: Entry) -> None:
    made = turn.state.entries[entry.children[-1]]
    if not is_open(made):
        then, question = after_success(entry, made.commit or made.wip)
        turn.emit(ev.ConflictResolved(turn.at, entry.task.id, made.task.id, then, question))


@contextmanager
def _marks_accepted() -> Iterator[None]:
    """What an agent leaves with its markers in it is taken for a resolution."""
    with swapped(resolving, "gather", _takes_anything), swap(applying._APPLY, ev.ConflictResolved, _lands_what_is_there)():
        yield


PLANTED: dict[str, Bug] = {
    "what did not merge is merged again": swap(applying._APPLY, ev.ConflictResolved, _keeps_old),
    "markers accepted": _marks_accepted,
    "a failed resolution fails the session": swap(resolving, "dismiss", lambda turn, entry: None),
}


def test_every_seed_keeps_what_is_promised_and_conflicts_are_resolved() -> None:
    resolved = failed = 0
    for seed in range(SEEDS):
        world = Clashes(seed)
        world.go()
        resolved += sum(isinstance(event, ev.ConflictResolved) for event in world.log)
        failed += sum(isinstance(event, ev.TaskAsked) for event in world.log)
    assert min(resolved, failed) > SEEDS // 4, "too little happened to show anything"


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    with PLANTED[name]():
        assert any(broken(seed) for seed in range(SEEDS)), f"{SEEDS} seeds did not find it"


def broken(seed: int) -> bool:
    """Whether the seed shows it."""
    try:
        Clashes(seed).go()
    except Violated:
        return True
    return False
