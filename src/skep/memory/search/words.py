"""Finding by words: FTS5 says which entries have them, BM25 over the best few hundred of those says in which order.

FTS5's own ranking looks at every entry that has any of the words: with a word like "the" over 100,000 entries that is 50 ms and
more. So rare words say which entries are looked at, whole; of common ones only those entries that have several of them together,
and the newest. Common words then still decide between entries. Which words were too common is said with the answer.
"""

from __future__ import annotations

import heapq
import math
import sqlite3
from collections.abc import Iterable, Sequence

from msgspec import Struct

from skep.memory import Filter
from skep.memory.search.terms import terms
from skep.memory.search.texts import wanted

#: Words of a query that count.
MOST_TERMS = 32
#: A word of more entries than that is a common one.
RARE = 1_000
#: Entries that are ranked by what stands in them, and characters that are read of each.
RANKED, READ = 200, 8_000
#: Entries that are looked for by several common words together, and how many must be found before fewer words will do.
TOGETHER, ENOUGH = 300, 100
#: BM25: how soon a word that comes again adds little, and how much longer texts are held back.
K1, B = 1.2, 0.75
#: A word in the key or a tag counts as so many in the text.
HEAD = 2


class Term(Struct, frozen=True):
    """A word looked for. `shown`: as it was typed. `df`: entries that have it, about. `rare`: all of them are looked at."""

    text: str
    shown: str
    df: float
    rare: bool

    def weight(self, entries: int) -> float:
        """What it is worth to have it: the more, the fewer do."""
        return math.log(1 + (max(0.0, entries - self.df) + 0.5) / (self.df + 0.5))


class Scored(Struct, frozen=True):
    """An entry that was found, and which of the words it has."""

    id: int
    score: float
    words: tuple[str, ...]


def find(database: sqlite3.Connection, text: str, filter: Filter, most: int) -> tuple[list[Scored], str]:
    """At most `most` entries that the filter lets through, best first; and what the answer leaves out."""
    facts = dict(database.execute("SELECT name, value FROM fact WHERE name IN ('entries', 'length')"))
    entries, average = facts["entries"], max(1.0, facts["length"] / max(1, facts["entries"]))
    asked = _asked(database, text)
    if not asked:
        return [], "there is no word in the query"
    within = Within(database, filter)
    found = _candidates(within, asked, entries)
    best = heapq.nlargest(max(most, RANKED), found, key=lambda one: (found[one], one))
    ranked = _ranked(database, best, asked, entries, average)
    return ranked[:most], _left_out(asked, len(found) > len(best))


class Within:
    """The entries that a filter lets through: all but its times and its prefix are words of the index, too."""

    def __init__(self, database: sqlite3.Connection, filter: Filter) -> None:
        self._database = database
        self.marks = " AND ".join(f"({any_of(choices)})" for choices in wanted(filter))
        self.where, self.values = limits(filter)

    def rows(self, expression: str, most: int) -> list[int]:
        """The newest so many that have what an expression of FTS5 says."""
        match = f"({expression}) AND {self.marks}" if expression else self.marks
        if not self.where:
            query = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid DESC LIMIT ?"
            return [row[0] for row in self._database.execute(query, (match, most))]
        few = self._database.execute(f"SELECT id FROM doc d WHERE {self.where} LIMIT ?", (*self.values, RARE + 1)).fetchall()
        if len(few) <= RARE:
            inside = {row[0] for row in few}
            query = "SELECT rowid FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid DESC"
            ends = (min(inside), max(inside)) if inside else (0, 0)
            return [row[0] for row in self._database.execute(query, (match, *ends)) if row[0] in inside][:most]
        query = f"""SELECT w.rowid FROM words w CROSS JOIN doc d ON d.id = w.rowid
                    WHERE w.words MATCH ? AND {self.where} ORDER BY w.rowid DESC LIMIT ?"""
        return [row[0] for row in self._database.execute(query, (match, *self.values, most))]


def limits(filter: Filter) -> tuple[str, list[object]]:
    """The part of a filter that is no mark, as a condition on `doc d`; empty = there is none."""
    parts: list[tuple[str, list[object]]] = []
    if filter.since:
        parts.append(("d.updated >= ?", [filter.since]))
    if filter.until:
        parts.append(("d.updated <= ?", [filter.until]))
    if filter.prefix:
        # Keys are compared by their UTF-8: behind all that begin so comes the prefix with the last of all signs.
        parts.append(("d.key >= ? AND d.key < ?", [filter.prefix, filter.prefix + "\U0010ffff" * 8]))
        parts.append(("substr(d.key, 1, ?) = ?", [len(filter.prefix), filter.prefix]))
    return " AND ".join(text for text, _ in parts), [value for _, values in parts for value in values]


def any_of(choices: Iterable[str]) -> str:
    """The expression of FTS5 for: one of these. None of them is anything but a word there."""
    return " OR ".join(f'"{choice}"' for choice in choices)


def all_of(choices: Iterable[str]) -> str:
    """The expression of FTS5 for: each of these."""
    return " AND ".join(f'"{choice}"' for choice in choices)


def _asked(database: sqlite3.Connection, text: str) -> list[Term]:
    """The words of a query, each once, the rarest first."""
    shown: dict[str, str] = {}
    for term, typed in terms(text[:READ]):
        shown.setdefault(term, typed)
        if len(shown) == MOST_TERMS:
            break
    newest = database.execute("SELECT max(id) FROM doc").fetchone()[0] or 0
    query = "SELECT count(*), min(rowid) FROM (SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid DESC LIMIT ?)"
    found = []
    for term, typed in shown.items():
        count, oldest = database.execute(query, (f'"{term}"', RARE + 1)).fetchone()
        # As many among the older ones as among the newest.
        df = count if count <= RARE else count * newest / max(count, newest - oldest + 1)
        found.append(Term(term, typed, df, count <= RARE))
    return sorted(found, key=lambda term: term.df)


def _candidates(within: Within, asked: Sequence[Term], entries: int) -> dict[int, float]:
    """Entries that may be among the best, each with what its words are worth, as far as that is known."""
    found: dict[int, float] = {}

    def add(ids: Iterable[int], worth: float) -> None:
        for one in ids:
            found[one] = found.get(one, 0.0) + worth

    rare = [term for term in asked if term.rare and term.df]
    common = [term for term in asked if not term.rare]
    for term in rare:
        add(within.rows(all_of([term.text]), RARE), term.weight(entries))
    if rare and common and len(found) > RANKED:
        both = f"({any_of(term.text for term in rare)}) AND {all_of(term.text for term in common[:3])}"
        add(within.rows(both, TOGETHER), sum(term.weight(entries) for term in common[:3]))
    alone = 0
    for count in dict.fromkeys((len(common), 3, 2, 1)):
        if 0 < count <= len(common) and alone < ENOUGH:
            together = within.rows(all_of(term.text for term in common[:count]), TOGETHER)
            worth = sum(term.weight(entries) for term in common[:count])
            alone += len(together)
            for one in together:
                found[one] = max(found.get(one, 0.0), worth)
    return found


def _ranked(
    database: sqlite3.Connection, ids: Sequence[int], asked: Sequence[Term], entries: int, average: float
) -> list[Scored]:
    """Entries in the order of BM25 over the words that stand in them."""
    weights = [(term, term.weight(entries)) for term in asked if term.df]
    found = []
    marks = ",".join("?" * len(ids))
    query = f"SELECT id, length, head, substr(body, 1, {READ}) FROM doc WHERE id IN ({marks})"
    for id, length, head, body in database.execute(query, list(ids)):
        title, words = head.split(), body.split()
        held = K1 * (1 - B + B * length / average)
        score, had = 0.0, []
        for term, weight in weights:
            times = words.count(term.text) + HEAD * title.count(term.text)
            if times:
                score += weight * times * (K1 + 1) / (times + held)
                had.append(term.shown)
        found.append(Scored(id, score, tuple(had)))
    return sorted(found, key=lambda one: (one.score, one.id), reverse=True)


def _left_out(asked: Sequence[Term], cut: bool) -> str:
    said = []
    if common := [term.shown for term in asked if not term.rare]:
        only = "only those with several of the words, and the newest, were looked at" if len(common) == len(asked) else (
            "they only sort what the other words found"
        )  # fmt: skip
        said.append(f"common words ({', '.join(common[:8])}): {only}")
    if unknown := [term.shown for term in asked if not term.df]:
        said.append(f"no entry has {', '.join(unknown[:8])}")
    if cut and not common:
        said.append(f"many entries have these words: {RANKED} were ranked")
    return "; ".join(said)
