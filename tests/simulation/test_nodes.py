"""Several processes in one session, under faults; what they are promised holds, and the checker sees what is planted."""

from __future__ import annotations

import pytest

from tests.simulation.hive import KINDS, Hive
from tests.simulation.planted_nodes import NODES
from tests.simulation.world import Violated

#: Seeds in which everything must hold, in parts; seeds within which each planted bug is found.
SEEDS, PART, PLANTED_SEEDS = 500, 50, 100

pytestmark = pytest.mark.timeout(600)  # worlds that hang end by themselves; the rest is a machine that has much else to do


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_what_several_processes_are_promised_holds(first: int) -> None:
    struck = set()
    for seed in range(first, first + PART):
        struck |= set(Hive(seed).go().faults)
    assert struck == set(KINDS), "each fault happened"


def test_a_seed_is_the_same_each_time() -> None:
    assert Hive(7).go().digest == Hive(7).go().digest


def test_without_faults_nothing_is_given_up() -> None:
    kinds = Hive(1, calm=True).go().kinds
    assert not kinds["NodeLost"]
    assert not kinds["AttemptEnding"]


@pytest.mark.parametrize("name", NODES)
def test_a_planted_bug_is_found(name: str) -> None:
    with NODES[name]():
        assert any(broken(seed) for seed in range(PLANTED_SEEDS)), f"{PLANTED_SEEDS} seeds did not find it"


def broken(seed: int) -> bool:
    """Whether the seed shows that a promise is broken."""
    try:
        Hive(seed).go()
    except Violated:
        return True
    return False
