"""Records of every shape, for Hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from skep.memory import KINDS, RULES, TRUSTS, Entry, Record
from skep.memory.records import identity

TEXTS = st.text(max_size=20)
ODD = ("a`b", "# x", "](x)", "<b>", "- a: `1`", "```", "Deleted.", "\\", "---")
NAMES = st.text(min_size=1, max_size=20) | st.sampled_from(ODD)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
STAMPS = st.integers(0, 2**63 - 1)
MS = st.integers(-(2**62), 2**62) | st.integers(0, 2_000_000_000_000)


def values() -> st.SearchStrategy[Any]:
    """Whatever JSON knows."""
    plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | FLOATS | TEXTS
    return st.recursive(plain, lambda one: st.lists(one, max_size=4) | st.dictionaries(TEXTS, one, max_size=4), max_leaves=10)


@st.composite
def entries(draw: st.DrawFn, namespace: str, key: str) -> Entry:
    """A value of a key."""
    return Entry(
        id=identity(namespace, key),
        namespace=namespace,
        key=key,
        value=draw(values()),
        kind=draw(st.sampled_from(KINDS)),
        agent=draw(TEXTS),
        session=draw(TEXTS),
        task=draw(TEXTS),
        tags=tuple(draw(st.lists(NAMES, max_size=3))),
        metadata=draw(st.dictionaries(TEXTS, values(), max_size=3)),
        trust=draw(st.sampled_from(TRUSTS)),
        version=draw(st.integers(1, 2**31)),
        created=draw(MS),
        updated=draw(MS),
        expires=draw(MS),
        rule=draw(st.sampled_from(RULES)),
        writer=draw(NAMES),
        stamp=draw(STAMPS),
        counts=draw(st.dictionaries(NAMES, st.tuples(STAMPS, FLOATS), max_size=2)),
        alias=draw(TEXTS),
        vector=draw(st.binary(max_size=16)),
        blob=draw(TEXTS),
        size=draw(STAMPS),
    )


@st.composite
def records(draw: st.DrawFn) -> Record:
    """All of a key, deleted ones too."""
    namespace, key = draw(NAMES), draw(NAMES)
    clock = draw(st.dictionaries(NAMES, STAMPS, max_size=3))
    return Record(namespace=namespace, key=key, clock=clock, entries=tuple(draw(st.lists(entries(namespace, key), max_size=3))))
