"""How long it takes to find something among 100,000 entries that are remembered: by words, by meaning; and by simpler ways.

The texts have 15 to 60 words each, drawn from 30,000 by Zipf's law, so the commonest stands in four of five entries. Queries of
1, 3 and 8 words are drawn in the same way, common words included. All of it is the same in each run.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bench.shape import Clock, Numbers, median, peak_memory, serve
from skep.config import MemoryConfig
from skep.memory import Change, Entry, Kind, Record, Search
from skep.memory.opening import open_bank
from skep.memory.records import identity
from skep.memory.search.hashed import Hashed
from skep.memory.search.index import Index
from skep.memory.sqlite import SqliteStore
from skep.store.blobs import FileBlobs

ENTRIES, VOCABULARY, SEED, BATCH = 100_000, 30_000, 7, 500
LENGTHS, QUERIES, NAIVE_QUERIES, WARM = (1, 3, 8), 300, 40, 20
#: Numbers of a vector, and questions by vector.
SIZE, QUESTIONS = 384, 100
#: Entries of a large bank, those written at once, and the vector that each has.
MANY, MANY_AT_ONCE, SMALL = 1_000_000, 1_000, struct.pack("<4f", 1, 0, 0, 0)


class Words:
    """Draws words of a language that is not one, as often as words of languages come."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._words = [_word(number) for number in range(VOCABULARY)]
        self._weights = list(itertools.accumulate(1 / (number + 2) for number in range(VOCABULARY)))

    def text(self, count: int = 0) -> str:
        """So many words; 15 to 60 of them unless said."""
        count = count or self._chance.randint(15, 60)
        return " ".join(self._chance.choices(self._words, cum_weights=self._weights, k=count))


def queries() -> dict[int, list[str]]:
    """The queries, by how many words they have."""
    words = Words(SEED + 1)
    return {length: [words.text(length) for _ in range(QUERIES)] for length in LENGTHS}


def percentile(times: Sequence[float], share: float) -> float:
    """What so large a share of the times stays below."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


async def by_words(folder: Path) -> Numbers:
    """The index, and beside it FTS5's own ranking of entries with any of three words: all of them, and those of up to 5 %."""
    index = await filled(folder / "index.db", "working")
    found: Numbers = {}
    for length, texts in queries().items():
        for text in texts[:WARM]:
            await index.find(Search(text=text, mode="words"))
        times = []
        for text in texts:
            clock = Clock()
            ranked, _ = await index.find(Search(text=text, mode="words"))
            times.append(clock.ms())
            assert ranked, text
        found |= {f"p50, {length} words": median(times), f"p99, {length} words": percentile(times, 0.99)}
    await index.close()
    database = plain(folder / "plain.db")
    asked = queries()[3][:NAIVE_QUERIES]
    every = [timed(partial(ranked_by_fts5, database, text.split())) for text in asked]
    rarer = [timed(partial(ranked_without_common, database, text.split())) for text in asked]
    for name, times in (("all", every), ("no common", rarer)):
        found |= {f"naive p50, {name}": median(times), f"naive p99, {name}": percentile(times, 0.99)}
    return found


def timed(work: Callable[[], object]) -> float:
    """Milliseconds that it takes."""
    clock = Clock()
    work()
    return clock.ms()


def plain(path: Path) -> sqlite3.Connection:
    """The same texts in FTS5 as its manual has it."""
    database = sqlite3.connect(path)
    database.execute("CREATE VIRTUAL TABLE words USING fts5(text, tokenize='porter unicode61')")
    database.execute("CREATE VIRTUAL TABLE counts USING fts5vocab(words, row)")
    words = Words(SEED)
    for _ in range(ENTRIES // BATCH):
        database.executemany("INSERT INTO words VALUES (?)", [(words.text(),) for _ in range(BATCH)])
        database.commit()
    return database


def ranked_by_fts5(database: sqlite3.Connection, words: Sequence[str]) -> list[tuple[int]]:
    """The best ten with any of the words."""
    match = " OR ".join(f'"{word}"' for word in words)
    query = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT 10"
    return database.execute(query, (match,)).fetchall() if words else []


def ranked_without_common(database: sqlite3.Connection, words: Sequence[str]) -> list[tuple[int]]:
    """The best ten with any of those words that stand in at most 5 % of the entries."""
    query = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
    most = ENTRIES // 20
    return ranked_by_fts5(
        database, [word for word in words if database.execute(query, (f'"{word}"', most + 1)).fetchone()[0] <= most]
    )


async def by_meaning(folder: Path) -> Numbers:
    """100,000 vectors of 384 numbers, each compared with each question; the first one loads them."""
    import numpy as np

    chance = np.random.default_rng(SEED)
    index = await Index.open(folder / "index.db", Hashed())
    for start in range(0, ENTRIES, BATCH):
        vectors = chance.standard_normal((BATCH, SIZE), dtype=np.float32)
        await index.feed(
            "n", [(start + at + 1, record(start + at, "", "vector", row.tobytes())) for at, row in enumerate(vectors)]
        )
    questions = [tuple(float(one) for one in row) for row in chance.standard_normal((QUESTIONS + 1, SIZE), dtype=np.float32)]
    times = []
    for question in questions:
        clock = Clock()
        ranked, _ = await index.find(Search(vector=question))
        times.append(clock.ms())
        assert len(ranked) == 10
    await index.close()
    rows, one = chance.standard_normal((ENTRIES, SIZE), dtype=np.float32), chance.standard_normal(SIZE, dtype=np.float32)
    naive = [timed(lambda: np.argpartition(rows @ one, -10)[-10:]) for _ in range(QUESTIONS)]
    return {"p50": median(times[1:]), "p99": percentile(times[1:], 0.99), "first": times[0], "numpy alone": median(naive)}


def opened(folder: Path) -> Numbers:
    """A million entries with small vectors are stored and indexed; then a process of its own opens the bank and finds one."""
    asyncio.run(stored(folder))
    command = [sys.executable, "-m", "bench.finding", "-", "reopen", str(folder)]
    found: Numbers = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


async def stored(folder: Path) -> None:
    """Fills a bank and its index."""
    store, index = await SqliteStore.open(folder), await Index.open(folder / "index.db", Hashed())
    words = Words(SEED)
    for start in range(0, MANY, MANY_AT_ONCE):
        entries = [record(start + at, words.text(6), "vector", SMALL) for at in range(MANY_AT_ONCE)]
        await store.commit([Change(one) for one in entries])
    place = 0
    while page := await store.changes("n", place, MANY_AT_ONCE):
        await index.feed("n", page)
        place = page[-1][0]
    await index.close()
    await store.close()


async def reopened(folder: Path) -> Numbers:
    """What opening takes, and how much memory once something was found by words."""
    clock = Clock()
    bank = await open_bank(MemoryConfig(), folder, lambda: 1, FileBlobs(folder / "blobs"))
    seconds = clock.ms() / 1000
    found = await bank.search(Search(text=queries()[3][0], mode="words"))
    assert found.hits
    assert not found.behind
    await bank.close()
    return {"open": seconds, "memory": peak_memory()}


async def filled(path: Path, kind: Kind) -> Index:
    """An index of the entries, opened anew."""
    words = Words(SEED)
    index = await Index.open(path, Hashed())
    for start in range(0, ENTRIES, BATCH):
        changes = [(start + at + 1, record(start + at, words.text(), kind)) for at in range(BATCH)]
        await index.feed("n", changes)
    await index.close()
    return await Index.open(path, Hashed())


def record(number: int, text: str, kind: Kind, vector: bytes = b"") -> Record:
    """What a store would tell of one entry."""
    key = f"k{number}"
    entry = Entry(
        id=identity("n", key),
        namespace="n",
        key=key,
        value=text,
        kind=kind,
        vector=vector,
        updated=number,
        writer="w",
        stamp=number,
    )
    return Record(namespace="n", key=key, clock={"w": number}, entries=(entry,))


def _word(number: int) -> str:
    return "".join(_syllables(number + 1))


def _syllables(number: int) -> Iterator[str]:
    while number:
        yield "bcdfghjklmnprstvwz"[number % 18] + "aeiou"[number // 18 % 5]
        number //= 90


if __name__ == "__main__":
    serve(
        {
            "words": lambda _, folder: asyncio.run(by_words(folder)),
            "open": lambda _, folder: opened(folder),
            "reopen": lambda _, folder: asyncio.run(reopened(folder)),
            "meaning": lambda _, folder: asyncio.run(by_meaning(folder)),
        }
    )
