"""Finding by meaning: which vectors lie closest to one, exactly, by looking at each of them.

With numpy (extra `vector`) all vectors of one length lie in memory, loaded when they are first asked for. Without it only
the word hits are compared, or, where a caller gave a vector, the newest few thousand; and the answer says so.
"""

from __future__ import annotations

import importlib
import math
import sqlite3
import threading
from array import array
from collections.abc import Sequence
from functools import cache
from typing import Any

from skep.memory import Filter
from skep.memory.search.texts import COPIES, wanted
from skep.memory.search.words import Within, limits

#: Vectors of one length in memory (300 MB of 384 numbers), and those that are compared without numpy.
MOST, MOST_PLAIN = 200_000, 5_000
#: Entries of a filter so narrow that only they are compared.
NARROW = 5_000
#: Vectors are written as float32, little-endian, of length one.
FLOAT = "<f4"

#: Whose vectors, and of how many numbers: only such can be compared. 1 = callers', 0 = the embedder's.
Space = tuple[int, int]


@cache
def numpy() -> Any:
    """The library, loaded when it is first needed; None where the extra `vector` is not installed."""
    try:
        return importlib.import_module("numpy")
    except ImportError:
        return None


def unit(data: bytes) -> bytes:
    """A vector at length one; empty for one that points nowhere."""
    numbers = array("f", data)
    length = math.sqrt(sum(number * number for number in numbers))
    if not length or not math.isfinite(length):
        return b""
    return array("f", (number / length for number in numbers)).tobytes()


def compare(database: sqlite3.Connection, vector: bytes, ids: Sequence[int], own: int) -> list[tuple[int, float]]:
    """These entries by how close they lie, as far as they have a vector of that kind; in plain Python."""
    marks = ",".join("?" * len(ids))
    query = f"SELECT id, data FROM vector WHERE own = ? AND size = ? AND id IN ({marks})"
    mine = array("f", vector)
    found = [
        (id, sum(a * b for a, b in zip(mine, array("f", data), strict=True)))
        for id, data in database.execute(query, (own, len(mine), *ids))
    ]
    return sorted(found, key=lambda one: (one[1], one[0]), reverse=True)


class Vectors:
    """The vectors of an index, as far as they are in memory. Found in one thread, changed by another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Space -> what was changed since it was last looked at; only of those that are loaded.
        self._changes: dict[Space, list[tuple[int, bytes | None]]] = {}
        self._loaded: dict[Space, _Matrix] = {}

    def changed(self, changes: Sequence[tuple[int, int, bytes | None]]) -> None:
        """Takes note of vectors that were kept, as (id, whose, vector), or forgotten (None: whosever it was)."""
        with self._lock:
            for space, waiting in self._changes.items():
                waiting.extend((id, data) for id, own, data in changes if data is None or (own, len(data) // 4) == space)

    def closest(
        self, database: sqlite3.Connection, vector: bytes, own: int, filter: Filter, most: int, hits: Sequence[int]
    ) -> tuple[list[tuple[int, float]], str]:
        """At most `most` entries that the filter lets through, closest first; and what the answer leaves out.

        Args:
            vector: of length one.
            own: 1 = among callers' vectors, 0 = among the embedder's.
            hits: what was found by words, for want of numpy.
        """
        within = Within(database, filter)
        size = len(vector) // 4
        if numpy() is None:
            if not own:
                return compare(database, vector, hits, own)[:most], (
                    "meaning was compared for the word hits alone: install skep[vector] to compare all"
                )
            newest = [row[0] for row in database.execute(
                "SELECT id FROM vector WHERE own = 1 AND size = ? ORDER BY id DESC LIMIT ?", (size, MOST_PLAIN + 1)
            )]  # fmt: skip
            note = f"only the newest {MOST_PLAIN} vectors were compared: install skep[vector] for all"
            near = compare(database, vector, newest[:MOST_PLAIN], own)
            return _let_through(database, near, filter, most), note if len(newest) > MOST_PLAIN else ""
        matrix = self._matrix(database, (own, size))
        ids = within.rows("", NARROW + 1) if wanted(filter) or within.where else None
        if ids is not None and len(ids) <= NARROW:
            return matrix.closest(vector, most, ids), matrix.note
        few = most
        while True:
            near = matrix.closest(vector, few)
            found = _let_through(database, near, filter, most)
            if len(found) == most or len(near) < few:
                return found, matrix.note
            few *= 8

    def _matrix(self, database: sqlite3.Connection, space: Space) -> _Matrix:
        with self._lock:
            known = space in self._changes
            changes = self._changes.get(space, [])
            self._changes[space] = []
        if not known:
            # Changes are collected from here on: what is read now may have them, too, which does no harm.
            try:
                self._loaded[space] = _Matrix.load(database, space)
            except BaseException:
                with self._lock:
                    del self._changes[space]
                raise
        matrix = self._loaded[space]
        for id, data in changes:
            matrix.change(id, data)
        return matrix


class _Matrix:
    """The vectors of one space, a row each, with numpy."""

    def __init__(self, size: int, room: int) -> None:
        np = self._np = numpy()
        self._rows: Any = np.zeros((max(room, 64), size), dtype=np.float32)
        self._ids: Any = np.zeros(len(self._rows), dtype=np.int64)
        self._at: dict[int, int] = {}
        #: Vectors that are left out, since there are too many.
        self.missing = 0

    @classmethod
    def load(cls, database: sqlite3.Connection, space: Space) -> _Matrix:
        """All that are kept, or the newest `MOST` of them."""
        (count,) = database.execute("SELECT count(*) FROM vector WHERE own = ? AND size = ?", space).fetchone()
        made = cls(space[1], min(count, MOST))
        made.missing = max(0, count - MOST)
        for id, data in database.execute(
            "SELECT id, data FROM vector WHERE own = ? AND size = ? ORDER BY id DESC LIMIT ?", (*space, MOST)
        ):
            made.change(id, data)
        return made

    @property
    def note(self) -> str:
        """What it leaves out."""
        return f"{self.missing} older vectors were not compared, there are too many" if self.missing else ""

    def change(self, id: int, data: bytes | None) -> None:
        """Keeps a vector in place of the one of that entry, or forgets it."""
        np, at = self._np, self._at.get(id)
        if data is not None:
            if at is None and len(self._at) >= MOST:
                self.missing += 1
                return
            if at is None:
                at = self._at[id] = len(self._at)
                if at == len(self._rows):
                    self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
                    self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._rows[at] = np.frombuffer(data, dtype=FLOAT)
            self._ids[at] = id
        elif at is not None:
            del self._at[id]
            last = len(self._at)
            if at != last:  # the last one moves into the gap
                self._rows[at], self._ids[at] = self._rows[last], self._ids[last]
                self._at[int(self._ids[at])] = at

    def closest(self, vector: bytes, most: int, ids: Sequence[int] | None = None) -> list[tuple[int, float]]:
        """At most so many, closest first; of these ids, or of all."""
        np, used = self._np, len(self._at)
        places = None if ids is None else np.array([self._at[id] for id in ids if id in self._at], dtype=np.int64)
        rows = self._rows[:used] if places is None else self._rows[places]
        if not len(rows):
            return []
        near = rows @ np.frombuffer(vector, dtype=FLOAT)
        top = np.argpartition(near, -most)[-most:] if most < len(near) else np.arange(len(near))
        found = [(int(self._ids[at if places is None else places[at]]), float(near[at])) for at in top]
        return sorted(found, key=lambda one: (one[1], one[0]), reverse=True)


def _let_through(
    database: sqlite3.Connection, near: Sequence[tuple[int, float]], filter: Filter, most: int
) -> list[tuple[int, float]]:
    """Those of them that the filter lets through, at most `most`."""
    where, values = limits(filter)
    wants = [set(choices) for choices in wanted(filter)]
    found: list[tuple[int, float]] = []
    for start in range(0, len(near), 1_000):
        part = near[start : start + 1_000]
        query = f"SELECT id, marks FROM doc d WHERE id IN ({','.join('?' * len(part))})" + (f" AND {where}" if where else "")
        rows = database.execute(query, (*(id for id, _ in part), *values))
        good = {id for id, marks in rows if _has(marks.split(), wants, bool(filter.namespaces))}
        found += [one for one in part if one[0] in good]
        if len(found) >= most:
            break
    return found[:most]


def _has(marks: Sequence[str], wants: Sequence[set[str]], copies: bool) -> bool:
    """Whether marks are those that a filter asks for; copies only where they may be."""
    return all(choices.intersection(marks) for choices in wants) and (copies or COPIES not in marks)
