"""What goes into an index: records as documents, and vectors of those that wait for one. All of it in the thread that writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from skep.memory import Record
from skep.memory.search.meaning import unit
from skep.memory.search.texts import Document, document

#: Tells of a vector that was kept (id, whose, vector) or forgotten (id, 0, None).
Vector = tuple[int, int, bytes | None]

_DOC = "INSERT INTO doc (namespace, key, updated, length, marks, head, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
_WORDS = "INSERT INTO words (rowid, marks, head, body) VALUES (?, ?, ?, ?)"
_UNWORDS = "INSERT INTO words (words, rowid, marks, head, body) VALUES ('delete', ?, ?, ?, ?)"
_PLACE = "INSERT INTO place VALUES (?, ?) ON CONFLICT (namespace) DO UPDATE SET place = excluded.place"


class Feeder:
    """Writes an index. Each method is one transaction and returns what became of vectors.

    Args:
        database: the connection that writes.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database
        self._vectors: list[Vector] = []
        self._entries = self._length = 0

    def feed(self, namespace: str, changes: Sequence[tuple[int, Record]]) -> list[Vector]:
        """Takes records in; the place of the last of them is kept with them."""

        def work() -> None:
            for _, record in changes:
                self._forget(record.namespace, record.key)
                if (found := document(record)) is not None:
                    self._keep(record, found)
            self.database.execute(_PLACE, (namespace, changes[-1][0]))

        return self._commit(work)

    def forget(self, namespace: str) -> list[Vector]:
        """Drops a namespace and its place."""

        def work() -> None:
            for (key,) in self.database.execute("SELECT key FROM doc WHERE namespace = ?", (namespace,)).fetchall():
                self._forget(namespace, key)
            self.database.execute("DELETE FROM place WHERE namespace = ?", (namespace,))

        return self._commit(work)

    def waiting(self, most: int) -> list[tuple[int, str]]:
        """Entries without a vector, the newest first: (id, text)."""
        return self.database.execute("SELECT id, text FROM waiting ORDER BY id DESC LIMIT ?", (most,)).fetchall()

    def embedded(self, made: Sequence[tuple[int, bytes]]) -> list[Vector]:
        """Keeps vectors that were made of texts that waited; those of entries that are gone are nobody's."""

        def work() -> None:
            for id, data in made:
                if self.database.execute("DELETE FROM waiting WHERE id = ?", (id,)).rowcount and (vector := unit(data)):
                    self._keep_vector(id, 0, vector)

        return self._commit(work)

    def _keep(self, record: Record, found: Document) -> None:
        length = found.body.count(" ") + found.head.count(" ") + 2
        row = (record.namespace, record.key, found.updated, length, found.marks, found.head, found.body)
        id = self.database.execute(_DOC, row).lastrowid
        assert id is not None
        self.database.execute(_WORDS, (id, found.marks, found.head, found.body))
        self._entries, self._length = self._entries + 1, self._length + length
        if vector := unit(found.vector):
            self._keep_vector(id, 1, vector)
        if found.meant:
            self.database.execute("INSERT INTO waiting VALUES (?, ?)", (id, found.meant))

    def _keep_vector(self, id: int, own: int, vector: bytes) -> None:
        self.database.execute("INSERT OR REPLACE INTO vector VALUES (?, ?, ?, ?)", (id, own, len(vector) // 4, vector))
        self._vectors.append((id, own, vector))

    def _forget(self, namespace: str, key: str) -> None:
        query = "SELECT id, length, marks, head, body FROM doc WHERE namespace = ? AND key = ?"
        row = self.database.execute(query, (namespace, key)).fetchone()
        if row is None:
            return
        id, length, *texts = row
        self.database.execute(_UNWORDS, (id, *texts))
        for table in ("doc", "vector", "waiting"):
            self.database.execute(f"DELETE FROM {table} WHERE id = ?", (id,))
        self._entries, self._length = self._entries - 1, self._length - length
        self._vectors.append((id, 0, None))

    def _commit(self, work: Callable[[], None]) -> list[Vector]:
        self._vectors, self._entries, self._length = [], 0, 0
        self.database.execute("BEGIN IMMEDIATE")
        try:
            work()
            for name, change in (("entries", self._entries), ("length", self._length)):
                self.database.execute("UPDATE fact SET value = value + ? WHERE name = ?", (change, name))
            self.database.execute("COMMIT")
        except BaseException:
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")
            raise
        return self._vectors
