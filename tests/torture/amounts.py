"""How much of each: the short form for every change, the long one for `make torture`; and the dice, which can be thrown again."""

from __future__ import annotations

import os
import random

import pytest

#: Set to 1, everything takes its long form: what `make torture` does.
LONG = "SKEP_LONG"
#: What is counted -> short, long. `python -m tests.torture` sets any of them by its option.
AMOUNTS = {
    "kills": (6, 1_000),
    "guest-kills": (2, 300),
    "syncs": (12, 400),
    "io-errors": (10, 500),
    "bit-flips": (60, 1_000),
    "power-cuts": (3, 100),
    "merge-crashes": (9, 60),
    "full-disks": (3, 20),
    "clock-jumps": (5, 50),
    "suspends": (1, 20),
    "pauses": (1, 100),
    "bombs": (1, 30),
    "output-mb": (200, 5_000),
    "line-mb": (40, 1_000),
    "noise-mb": (10, 250),
    "sleepers": (200, 1_000),
    "machine-tasks": (120, 5_000),
    "machine-faults": (3, 40),
    "redis-tasks": (60, 3_000),
    "redis-kills": (2, 30),
    "cluster-tasks": (40, 1_000),
    "cluster-rounds": (2, 20),
    "failovers": (1, 30),
    "partitions": (0, 100),
    "minorities": (0, 30),
    "weather-tasks": (0, 1_000),
    "flaps": (0, 60),
    "wire-tasks": (50, 2_000),
    "cuts": (4, 60),
}


def variable(name: str) -> str:
    """The environment variable that sets an amount."""
    return f"SKEP_TORTURE_{name.upper().replace('-', '_')}"


def amount(name: str) -> int:
    """How many, or how much, this time."""
    short, long = AMOUNTS[name]
    return int(os.environ.get(variable(name)) or (long if os.environ.get(LONG) == "1" else short))


def is_long(name: str) -> bool:
    """Whether it is more than on every change."""
    return amount(name) > AMOUNTS[name][0]


def timeout(*names: str) -> pytest.MarkDecorator:
    """Marks tests that may take as long as they take in the long form of any amount."""
    return pytest.mark.timeout(0 if any(map(is_long, names)) else 300)


def dice(what: str) -> random.Random:
    """The dice for a test: the same each time, but in the long form. The seed is printed, so that a failure can be seen again."""
    fresh = random.SystemRandom().randrange(10**6) if os.environ.get(LONG) == "1" else 0
    seed = os.environ.get("SKEP_TORTURE_SEED") or str(fresh)
    print(f"{what}: SKEP_TORTURE_SEED={seed}")
    return random.Random(f"{seed} {what}")
