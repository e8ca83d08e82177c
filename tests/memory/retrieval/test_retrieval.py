"""How well the index finds what it should, by words, by meaning and by both, on a labelled set; and that the set can tell."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from skep.memory import Entry, Filter, Record, Search
from skep.memory.records import identity
from skep.memory.search import meaning
from skep.memory.search.embedders import embedder_named
from skep.memory.search.index import Index
from skep.memory.search.minilm import PACKAGE
from tests.memory.retrieval.floors import CONTROL, FLOORS
from tests.memory.retrieval.labelled import KINDS, QUERIES, Labelled, labelled, shuffled

SPACE = "notes"


@asynccontextmanager
async def opened(given: Labelled, embedder: str) -> AsyncIterator[Index]:
    """An index of the passages."""
    index = await Index.open(None, embedder_named(embedder))
    try:
        changes = [(place, _record(key, text)) for place, (key, text) in enumerate(given.passages.items(), 1)]
        for start in range(0, len(changes), 500):
            await index.feed(SPACE, changes[start : start + 500])
        await index.find(Search(text="the last one", wait=True))
        yield index
    finally:
        await index.close()


def _record(key: str, text: str) -> Record:
    entry = Entry(id=identity(SPACE, key), namespace=SPACE, key=key, value=text)
    return Record(namespace=SPACE, key=key, clock={}, entries=(entry,))


async def ranks(index: Index, given: Labelled, mode: Any) -> dict[str, list[int]]:
    """Of each kind of query the places at which the answers stand, from 1; 0 = not among the first ten."""
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for query in given.queries:
        hits, _ = await index.find(Search(text=query.text, mode=mode, filter=Filter(namespaces=(SPACE,)), wait=True))
        keys = [hit.key for hit in hits]
        found[query.kind].append(keys.index(query.answer) + 1 if query.answer in keys else 0)
    return found


def recall(places: list[int]) -> float:
    """The share of answers among the first ten."""
    return sum(place > 0 for place in places) / len(places)


def mrr(places: list[int]) -> float:
    """The mean of one over the answer's place."""
    return sum(1 / place for place in places if place) / len(places)


def test_the_set_is_what_it_says() -> None:
    given = labelled()
    assert given == labelled()
    assert len(given.passages) == len(set(given.passages.values())) == 2_000
    assert len(given.queries) == QUERIES
    assert len({query.text for query in given.queries}) == QUERIES
    assert {query.kind for query in given.queries} == set(KINDS)


@pytest.mark.parametrize("embedder", ["hashed", "minilm"])
@pytest.mark.timeout(900)
async def test_what_is_asked_for_is_found(embedder: str, capsys: pytest.CaptureFixture[str]) -> None:
    needs = ("numpy",) if embedder == "hashed" else ("numpy", "tokenizers", "safetensors", PACKAGE)
    if missing := [name for name in needs if importlib.util.find_spec(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed")
    given, low = labelled(), []
    async with opened(given, embedder) as index:
        for (name, mode), (least_recall, least_mrr) in FLOORS.items():
            if name != embedder:
                continue
            by_kind = await ranks(index, given, mode)
            places = [place for one in by_kind.values() for place in one]
            kinds = ", ".join(f"{kind} {recall(one):.2f}" for kind, one in by_kind.items())
            with capsys.disabled():
                print(f"\n{embedder}, {mode}: recall@10 {recall(places):.3f}, MRR {mrr(places):.3f} ({kinds})", end="")
            if recall(places) < least_recall or mrr(places) < least_mrr:
                low.append(f"{embedder}, {mode}: {recall(places):.3f} and {mrr(places):.3f}, not {least_recall} and {least_mrr}")
    assert not low


@pytest.mark.parametrize("mode", ["words", "meaning", "both"])
async def test_shuffled_texts_are_not_found(mode: str) -> None:
    given = shuffled(labelled())
    async with opened(given, "hashed") as index:
        places = [place for one in (await ranks(index, given, mode)).values() for place in one]
    assert recall(places) < CONTROL


async def test_without_numpy_both_is_no_worse_than_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meaning, "numpy", lambda: None)
    given = labelled()
    async with opened(given, "hashed") as index:
        words = [place for one in (await ranks(index, given, "words")).values() for place in one]
        both = [place for one in (await ranks(index, given, "both")).values() for place in one]
    assert recall(both) >= recall(words) - 0.01
    assert mrr(both) >= mrr(words) - 0.03
