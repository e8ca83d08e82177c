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
from skep.memory.search.texts import COPIES, wanted

#: Words of a query that count.
MOST_TERMS = 32
#: A word of more entries than that is a common one; and how many entries are looked at for all rare words of a query, about.
RARE, MOST_RARE = 1_000, 1_500
#: Common words whose counts are kept.
MOST_COUNTS = 10_000
#: Entries that are ranked by what stands in them, and characters that are read of each.
RANKED, READ = 150, 8_000
#: Entries that are looked for by several common words together, and how many must be found before fewer words will do.
TOGETHER, ENOUGH = 200, 100
#: Common words that are looked for together, at most.
MOST_TOGETHER = 5
#: BM25: how soon a word that comes again adds little, and how much longer texts are held back.
K1, B = 1.2, 0.75
#: A word in the key or a tag counts as so many in the text.
HEAD = 2


class Term(Struct, frozen=True):
    """A word looked for. `at`, `shown`: as it was typed. `df`: entries that have it, about. `rare`: all of them are looked at."""

    text: str
    at: int
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


def find(database: sqlite3.Connection, counts: Counts, text: str, filter: Filter, most: int) -> tuple[list[Scored], str]:
    """At most `most` entries that the filter lets through, best first; and what the answer leaves out."""
    facts = dict(database.execute("SELECT name, value FROM fact WHERE name IN ('entries', 'length')"))
    entries, average = facts["entries"], max(1.0, facts["length"] / max(1, facts["entries"]))
    asked = counts.asked(database, text, entries)
    if not asked:
        return [], "there is no word in the query"
    within = Within(database, filter)
    found = _candidates(within, asked, entries)
    best = [id for _, id in heapq.nlargest(max(most, RANKED), ((worth, id) for id, worth in found.items()))]
    ranked = _ranked(database, best, asked, entries, average)
    return ranked[:most], _left_out(asked, len(found) > len(best))


class Within:
    """The entries that a filter lets through: all but its times and its prefix are words of the index, too."""

    def __init__(self, database: sqlite3.Connection, filter: Filter) -> None:
        self._database = database
        self._marks = [f"({any_of(choices)})" for choices in wanted(filter)]
        self._but = "" if filter.namespaces else f' NOT "{COPIES}"'
        self.where, self.values = limits(filter)

    def rows(self, expression: str, most: int) -> list[int]:
        """The newest so many that have what an expression of FTS5 says; it is empty only where there is a filter."""
        match = " AND ".join([*([f"({expression})"] if expression else []), *self._marks])
        if not match:
            query = f"SELECT id FROM doc d WHERE {self.where} AND instr(d.marks, ?) = 0 ORDER BY id DESC LIMIT ?"
            return [row[0] for row in self._database.execute(query, (*self.values, COPIES, most))]
        match = f"({match}){self._but}"
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


class Counts:
    """How many entries have a word, about: kept for common words, of which it takes longest to count them."""

    def __init__(self) -> None:
        self._known: dict[str, float] = {}
        self._entries = 0

    def asked(self, database: sqlite3.Connection, text: str, entries: int) -> list[Term]:
        """The words of a query, each once, the rarest first; those of too many rare entries count as common ones.

        Args:
            entries: that there are.
        """
        if abs(entries - self._entries) > self._entries / 10 or len(self._known) > MOST_COUNTS:
            self._known, self._entries = {}, entries
        shown: dict[str, str] = {}
        for term, typed in terms(text[:READ]):
            shown.setdefault(term, typed)
            if len(shown) == MOST_TERMS:
                break
        found = [(self._count(database, term), at, term, typed) for at, (term, typed) in enumerate(shown.items())]
        looked_at, asked = 0.0, []
        for df, at, term, typed in sorted(found):
            looked_at += df
            rare = df <= RARE and looked_at <= MOST_RARE
            asked.append(Term(term, at, typed, df, rare))
        return asked

    def _count(self, database: sqlite3.Connection, term: str) -> float:
        if term in self._known:
            return self._known[term]
        newest = database.execute("SELECT max(id) FROM doc").fetchone()[0] or 0
        query = "SELECT count(*), min(rowid) FROM (SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid DESC LIMIT ?)"
        count, oldest = database.execute(query, (f'"{term}"', RARE + 1)).fetchone()
        if count <= RARE:
            return float(count)
        # As many among the older ones as among the newest.
        self._known[term] = float(count * newest / (newest - oldest + 1))
        return self._known[term]


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
        both = f"({any_of(term.text for term in rare)}) AND {all_of(term.text for term in common[:2])}"
        add(within.rows(both, TOGETHER), sum(term.weight(entries) for term in common[:2]))
    # The two rarest of the common words together; more of them, as long as that says too little; one, if it says too much.
    for count in range(max(1, min(2, len(common))), min(MOST_TOGETHER, len(common)) + 1):
        together = within.rows(all_of(term.text for term in common[:count]), TOGETHER)
        worth = sum(term.weight(entries) for term in common[:count])
        for one in together:
            found[one] = max(found.get(one, 0.0), worth)
        if len(together) < TOGETHER:
            break
    if len(common) > 1 and len(found) < ENOUGH:
        for one in within.rows(all_of([common[0].text]), TOGETHER):
            found.setdefault(one, common[0].weight(entries))
    return found


def _ranked(
    database: sqlite3.Connection, ids: Sequence[int], asked: Sequence[Term], entries: int, average: float
) -> list[Scored]:
    """Entries in the order of BM25 over the words that stand in them."""
    typed = sorted(asked, key=lambda term: term.at)
    weights = {term.text: term.weight(entries) for term in typed if term.df}
    shown = {term.text: term.shown for term in typed}
    found = []
    query = f"SELECT id, length, head, substr(body, 1, {READ}) FROM doc WHERE id IN ({','.join('?' * len(ids))})"
    for id, length, head, body in database.execute(query, list(ids)):
        times: dict[str, int] = {}
        for words, counts in ((head, HEAD), (body, 1)):
            for word in words.split():
                if word in weights:
                    times[word] = times.get(word, 0) + counts
        held = K1 * (1 - B + B * length / average)
        score = sum(weights[word] * count * (K1 + 1) / (count + held) for word, count in times.items())
        found.append(Scored(id, score, tuple([shown[word] for word in weights if word in times])))
    return sorted(found, key=lambda one: (one.score, one.id), reverse=True)


def _left_out(asked: Sequence[Term], cut: bool) -> str:
    said = []
    asked = sorted(asked, key=lambda term: term.at)
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
