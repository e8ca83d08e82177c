"""The file of an index: its tables, and what becomes of one that cannot be used. It is a cache, so that is made anew."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from skep.disk.durable import make_folder
from skep.errors import Unavailable

#: Goes up whenever the same record would be kept in another way: tables, words, marks.
VERSION = 1
_TABLES = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE place (namespace TEXT PRIMARY KEY, place INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE doc (
  id INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, key TEXT NOT NULL, updated INTEGER NOT NULL,
  length INTEGER NOT NULL, marks TEXT NOT NULL, head TEXT NOT NULL, body TEXT NOT NULL
);
CREATE UNIQUE INDEX doc_key ON doc (namespace, key);
CREATE INDEX doc_prefix ON doc (key);
CREATE INDEX doc_updated ON doc (updated);
CREATE VIRTUAL TABLE words USING fts5(
  marks, head, body, content='doc', content_rowid='id', tokenize='ascii', detail='none', columnsize=0
);
CREATE TABLE vector (id INTEGER PRIMARY KEY, own INTEGER NOT NULL, size INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX vector_space ON vector (own, size);
CREATE TABLE waiting (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
"""
#: What belongs to a database file of SQLite.
_PARTS = ("", "-wal", "-shm", "-journal")


def open_index(path: Path | None, embedder: str) -> tuple[sqlite3.Connection, str]:
    """Opens the connection that writes, and makes the file anew if it cannot be used; then it says why, else nothing.

    Args:
        path: of the file; None = in this process's memory.
        embedder: the name of whatever made its vectors.

    Raises:
        Unavailable: the disk refuses.
    """
    if path is None:
        return _made(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False), embedder), ""
    try:
        make_folder(path.parent)
        why = _unusable(path, embedder) if path.exists() else ""
        if why:
            remove(path)
        new = not path.exists()
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        # What a power cut takes from it is made anew: the place of the last change goes with it.
        for pragma in ("journal_mode=wal", "synchronous=normal", "cache_size=-16384", "journal_size_limit=16777216"):
            database.execute(f"PRAGMA {pragma}").fetchall()
        return (_made(database, embedder) if new else database), why
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(f"the index {path} cannot be opened: {error}", "Check the disk, or delete the file.") from None


def open_reader(path: Path) -> sqlite3.Connection:
    """Opens the connection that finds."""
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA cache_size=-32768")
    return database


def remove(path: Path) -> None:
    """Deletes an index, so that it is made anew when it is opened next."""
    for part in _PARTS:
        path.with_name(path.name + part).unlink(missing_ok=True)


def _made(database: sqlite3.Connection, embedder: str) -> sqlite3.Connection:
    database.execute("BEGIN IMMEDIATE")
    for statement in _TABLES.split(";\n"):
        database.execute(statement)
    facts = {"version": VERSION, "embedder": embedder, "entries": 0, "length": 0}
    database.executemany("INSERT INTO fact VALUES (?, ?)", facts.items())
    database.execute("COMMIT")
    return database


def _unusable(path: Path, embedder: str) -> str:
    """Why the index that lies there is of no use; empty if it is."""
    database = None
    try:
        database = sqlite3.connect(path, isolation_level=None)
        facts = dict(database.execute("SELECT name, value FROM fact"))
        database.execute("SELECT rowid FROM words WHERE words MATCH '\"a\"' LIMIT 1").fetchall()
        for table in ("doc", "vector", "waiting", "place"):
            database.execute(f"SELECT * FROM {table} LIMIT 1").fetchall()
    except sqlite3.Error as error:
        return f"it was damaged ({error})"
    finally:
        if database is not None:
            database.close()
    if facts.get("version") != VERSION:
        return "it was of another version of Skep"
    return "" if facts.get("embedder") == embedder else f"its vectors were made by {facts.get('embedder')}, not {embedder}"
