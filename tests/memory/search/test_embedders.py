"""Embedders by name, and what each promises."""

from __future__ import annotations

import math
from array import array

import pytest

from skep.errors import Invalid
from skep.memory.search.embedders import embedder_named


def closeness(one: bytes, other: bytes) -> float:
    """Of two vectors of length one."""
    return sum(a * b for a, b in zip(array("f", one), array("f", other), strict=True))


def test_an_embedder_that_there_is_not_is_refused() -> None:
    with pytest.raises(Invalid, match="no embedder 'bert'"):
        embedder_named("bert")


def test_the_hashed_one_compares_letters_and_says_so() -> None:
    hashed = embedder_named("hashed")
    assert (hashed.name, hashed.real) == ("hashed", False)
    pool, pools, other, empty = hashed.embed(["the redis pool", "redis pools", "a postgres index", "!"])
    assert math.isclose(closeness(pool, pool), 1, rel_tol=1e-5)
    assert closeness(pool, pools) > 0.6 > 0.3 > closeness(pool, other)
    assert closeness(empty, pool) == 0
    assert len(pool) == 4 * hashed.size
