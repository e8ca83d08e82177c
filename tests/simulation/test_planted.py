"""The simulator sees: each rule of "What keeps it right" (architecture.md) that holds on one machine is broken, once, in the
production code or in the world's honest parts, and a bounded number of seeds must find it. `planted.PLANTED` is the table, rule
by rule. The same seeds pass unbroken in `test_seeds`.

Not here, for want of a place in the simulated world: rule 4 (lock and socket of the state folder, `tests/runtime`), rule 6 (the
HMAC chain itself, `tests/contracts/log.py`), rules 14 and 16 (prices, pins of blobs).
"""

from __future__ import annotations

import pytest

from tests.simulation.planted import PLANTED as HOUSE
from tests.simulation.planted_agents import AGENTS
from tests.simulation.run import simulate
from tests.simulation.world import Violated

#: Seeds after which a planted bug must have been found.
SEEDS = 500

pytestmark = pytest.mark.timeout(600)  # worlds that hang end by themselves; the rest is a machine that has much else to do
PLANTED = HOUSE | AGENTS
RULES = {1, 2, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, "A2", "F3", "G4"}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    with PLANTED[name].bug():
        assert any(is_broken(seed) for seed in range(SEEDS)), f"{SEEDS} seeds did not find it"


def is_broken(seed: int) -> bool:
    """Whether the seed shows that a promise is broken."""
    try:
        simulate(seed)
    except Violated:
        return True
    return False


def test_every_rule_of_one_machine_is_broken_once() -> None:
    assert {planted.rule for planted in PLANTED.values()} == RULES


def test_what_was_planted_is_taken_out_again() -> None:
    for planted in PLANTED.values():
        with planted.bug():
            pass
    simulate(0)
