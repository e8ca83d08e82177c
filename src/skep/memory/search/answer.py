"""One search of an index: by words, by meaning or by both, and why each hit is one. In the thread that finds."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from msgspec import Struct

from skep.memory import Ranked, Search
from skep.memory.search import words
from skep.memory.search.fused import fused
from skep.memory.search.meaning import Vectors

#: Of each list at least so many go into one order with the other's.
DEEP = 50
#: What lies further away than this from a text has nothing to do with it.
NEAR = 0.15


class Answer(Struct, frozen=True):
    """What was found, best first, and what that leaves out."""

    ranked: list[Ranked]
    note: str


def answer(database: sqlite3.Connection, counts: words.Counts, vectors: Vectors, search: Search, vector: bytes) -> Answer:
    """Finds.

    Args:
        vector: what is looked for by meaning, of length one; empty = by words alone.
    """
    notes = []
    most = max(search.limit, DEEP)
    hits: list[words.Scored] = []
    # Without numpy only what was found by words is compared by meaning.
    if search.text and (search.mode != "meaning" or not search.vector):
        hits, note = words.find(database, counts, search.text, search.filter, most)
        notes.append(note if search.mode != "meaning" else "")
    near: list[tuple[int, float]] = []
    if vector and search.mode != "words":
        own = 1 if search.vector else 0
        near, note = vectors.closest(database, vector, own, search.filter, most, [hit.id for hit in hits])
        near = [one for one in near if own or one[1] >= NEAR]
        notes.append(note)
    lists = {
        "words": [[hit.id for hit in hits]],
        "meaning": [[id for id, _ in near]],
        "both": [[hit.id for hit in hits], [id for id, _ in near]],
    }[search.mode if vector else "words"]
    order = fused([ids for ids in lists if ids])[: search.limit]
    why: dict[int, list[str]] = {id: [] for id, _ in order}
    if search.mode != "meaning":
        for hit in hits:
            if hit.id in why:
                why[hit.id].append(f"words: {', '.join(hit.words)}")
    for id, closeness in near:
        if id in why:
            why[id].append(f"meaning {closeness:.2f}")
    return Answer(_named(database, order, why), "; ".join(note for note in notes if note))


def _named(database: sqlite3.Connection, order: Sequence[tuple[int, float]], why: dict[int, list[str]]) -> list[Ranked]:
    ids = [id for id, _ in order]
    query = f"SELECT id, namespace, key FROM doc WHERE id IN ({','.join('?' * len(ids))})"
    names = {id: (namespace, key) for id, namespace, key in database.execute(query, ids)}
    return [Ranked(*names[id], score=round(score, 4), why=tuple(why[id])) for id, score in order if id in names]
