"""What agents ask leave for under crashes, late and repeated answers; and that the checker sees what is planted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from skep.core import apply as applying
from skep.core import events as ev
from skep.core.state import State
from skep.core.turn import Turn
from skep.runtime import asking
from skep.runtime.asking import Leave
from tests.simulation.asks import Asks
from tests.simulation.planted import Bug, swap, swapped
from tests.simulation.world import Violated

SEEDS, STEPS = 40, 60
_assigned, _ending = applying._APPLY[ev.TaskAssigned], applying._APPLY[ev.AttemptEnding]
_release = State.release


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "WAIT", 0.0)


@contextmanager
def _of_an_earlier_attempt() -> Iterator[None]:
    """What an attempt asked and was allowed is there for the next one."""
    kept: dict[tuple[int, str], Any] = {}

    def release(self: State, entry: Any) -> None:
        kept[id(self), entry.task.id] = entry.attempt.asks
        _release(self, entry)

    def assigned(state: State, event: ev.TaskAssigned) -> None:
        _assigned(state, event)
        attempt = state.entries[event.task].attempt
        assert attempt is not None
        attempt.asks = kept.get((id(state), event.task))

    def ending(state: State, event: ev.AttemptEnding) -> None:
        attempt = state.entries[event.task].attempt
        asks = attempt.asks if attempt is not None else None
        _ending(state, event)
        if attempt is not None:
            attempt.asks = asks

    with (
        swapped(State, "release", release),
        swap(applying._APPLY, ev.TaskAssigned, assigned)(),
        swap(applying._APPLY, ev.AttemptEnding, ending)(),
    ):
        yield


@contextmanager
def _after_the_end() -> Iterator[None]:
    """An attempt that is being ended still asks, is answered, and uses it."""

    def ending(state: State, event: ev.AttemptEnding) -> None:
        attempt = state.entries[event.task].attempt
        assert attempt is not None
        asks = attempt.asks
        _ending(state, event)
        attempt.asks = asks

    with (
        swap(applying._APPLY, ev.AttemptEnding, ending)(),
        swapped(Turn, "at_work", lambda turn, task, n, nonce: turn.fenced(task, n, nonce)),
    ):
        yield


async def _hasty(self: Leave, number: int, digest: str) -> None:
    """It goes on with the answer that it heard."""


PLANTED: dict[str, Bug] = {
    "the approval of an earlier attempt accepted": _of_an_earlier_attempt,
    "an answer after the attempt's end": _after_the_end,
    "an approval used twice": swap(applying._APPLY, ev.ApprovalUsed, lambda state, event: None),
    "released before it is recorded": swap(Leave, "_use", _hasty),
}


def test_every_seed_keeps_what_is_promised() -> None:
    worlds = [Asks(seed) for seed in range(SEEDS)]
    for world in worlds:
        asyncio.run(world.live(STEPS))
    assert sum(world.released for world in worlds) > SEEDS, "hardly anything was allowed, so hardly anything was tried"


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    with PLANTED[name]():
        assert any(broken(seed) for seed in range(SEEDS)), f"{SEEDS} seeds did not find it"


def broken(seed: int) -> bool:
    """Whether the seed shows it."""
    try:
        asyncio.run(Asks(seed).live(STEPS))
    except Violated:
        return True
    return False
