"""Worlds full of faults, each from one seed: no promise may be broken in any of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from skep.core.events import Event
from tests.simulation.faults import KINDS, OWN_KINDS
from tests.simulation.run import simulate

#: Seeds of every push, in blocks for parallel runs. `make sim SEEDS=50000` is the long form.
SEEDS = 500
BLOCK = 250
#: Kinds of events that no world tells, and why.
UNTOLD = {
    "TaskInquired": "nobody here asks the agents of finished tasks: tests/runtime",
    "NodeGranted": "a session that is alone has all of its node: tests/core/test_credit.py",
    "LettersTaken": "its store is its own: the world of several processes has letters, tests/simulation/test_nodes.py",
    "NodeLost": "the one node is the owner's own process, which comes back under another boot: tests/core/test_room.py",
    "FleetFormed": "fleets have a session of their own, in which nothing is carried out: tests/core/test_fleets.py",
    "FleetHanded": "the same",
    "FleetRemoved": "the same",
    "FleetRouted": "the same",
    "PhaseEnded": "phases have a small world of their own, `phased`",
    "PhaseOpened": "the same",
}


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_no_promise_is_broken_whatever_fails(first: int) -> None:
    struck: Counter[str] = Counter()
    told: Counter[str] = Counter()
    for seed in range(first, first + BLOCK):
        outcome = simulate(seed)
        struck += outcome.faults
        told += outcome.kinds
    never = [kind for kind in (*KINDS, *OWN_KINDS) if not struck[kind]]
    assert not never, f"these faults never happened, so nothing was shown: {never}"
    untold = {kind.__name__ for kind in get_args(Event) if not told[kind.__name__]}
    assert untold == set(UNTOLD), "every kind of event is told, or it is said why not"


def test_nothing_fails_of_itself_in_a_calm_world() -> None:
    for seed in range(20):
        struck = simulate(seed, calm=True).faults
        assert set(struck) <= set(OWN_KINDS)


def test_a_seed_gives_the_same_world_every_time() -> None:
    for seed in range(8):
        assert simulate(seed).digest == simulate(seed).digest


def test_different_seeds_give_different_worlds() -> None:
    assert len({simulate(seed).digest for seed in range(5)}) == 5


def test_a_world_does_not_depend_on_the_order_of_sets() -> None:
    """Where the core went through a set and the order showed, another hash seed would give another log."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.simulation", "--seeds", "4", "--digest"]
    told = set()
    for number in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": number}
        told.add(subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=True).stdout)
    assert len(told) == 1
    assert len(told.pop().splitlines()) == 4


def test_a_failing_seed_says_how_to_see_it_again() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.simulation", "--seed", "0"]
    told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert "SessionOpened" in told.splitlines()[0]
