"""One SQLite file of Skep: how it is opened, and what must hold before anything is written to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from skep.errors import Invalid, SkepError, Unavailable

#: In the file's header, so that `file` and other programs know whose it is: "Skep".
APPLICATION = 0x536B6570

#: Pragma -> what it must say after it was set. Nothing is written by a connection of which one of these does not hold.
#: The write-ahead log is folded into the database by the writer itself, between commits, never within one.
DURABILITY: dict[str, str | int] = {
    "journal_mode": "wal",
    "synchronous": 2,  # FULL: a commit is on the disk before it is answered
    "fullfsync": 1,  # where fsync alone does not reach the disk (macOS)
    "checkpoint_fullfsync": 1,
    "wal_autocheckpoint": 0,
    "busy_timeout": 250,
}

#: Values of the whole file, by name: of the first step of every ladder. `clean`: whether the last one to have it open closed it.
MARKS = (
    "CREATE TABLE mark (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "INSERT INTO mark VALUES ('clean', 1)",
)


def open_writer(path: Path, ladder: Sequence[Sequence[str]]) -> sqlite3.Connection:
    """Opens the one connection that writes, with every pragma of `DURABILITY`, its tables brought up to date.

    Raises:
        Invalid: the file is no database of Skep, or of a later Skep.
        Unavailable: SQLite or the file system cannot give the durability that is promised.
    """
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        check_ours(database, path, len(ladder))
        for pragma, wanted in DURABILITY.items():
            database.execute(f"PRAGMA {pragma}={wanted}").fetchall()
            (got,) = database.execute(f"PRAGMA {pragma}").fetchone()
            if got != wanted:
                raise Unavailable(
                    f"{path} cannot be made durable: {pragma} is {got}, not {wanted}",
                    fix="Keep the state folder on a local file system.",
                )
        database.execute("PRAGMA cache_size=-16384")
        database.execute("PRAGMA journal_size_limit=16777216")
        climb(database, ladder)
    except BaseException:
        database.close()
        raise
    return database


def open_reader(path: Path) -> sqlite3.Connection:
    """Opens a connection that can only read."""
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA query_only=1")
    database.text_factory = partial(
        str, encoding="utf-8", errors="surrogateescape"
    )  # damage must not hide behind a decoding error
    return database


def explain_read(error: sqlite3.Error, what: str) -> SkepError:
    """What to tell a caller for whom something could not be read or opened."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Invalid(f"{what} is damaged: {error}", fix="Put the state folder back from a backup.")
    if code == sqlite3.SQLITE_FULL:
        return Unavailable(f"the disk is full: {what} cannot be used", fix="Free some space, then repeat.")
    return Unavailable(f"{what} cannot be read: {error}", fix="Check the disk and the rights of the state folder, then repeat.")


def check_ours(database: sqlite3.Connection, path: Path, known: int) -> None:
    """Raises Invalid for a database that is not of Skep, or of a schema later than version `known`."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION and (application or version or tables):
        raise Invalid(f"{path} is a database, but not one of Skep", fix="Move it away, or name another state folder.")
    if version > known:
        raise Invalid(
            f"{path} was written by a later Skep: its schema has version {version}, this Skep knows {known}",
            fix="Install that Skep.",
        )


def climb(database: sqlite3.Connection, ladder: Sequence[Sequence[str]]) -> None:
    """Takes the database up the ladder, each step in a transaction of its own."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    for step in range(version, len(ladder)):
        database.execute("BEGIN IMMEDIATE")
        try:
            for statement in ladder[step]:
                database.execute(statement)
            database.execute(f"PRAGMA application_id={APPLICATION}")
            database.execute(f"PRAGMA user_version={step + 1}")
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise


def mark(database: sqlite3.Connection, name: str, value: int | bytes | str) -> None:
    """Keeps a value of the whole file."""
    database.execute("INSERT OR REPLACE INTO mark VALUES (?, ?)", (name, value))


def marked(database: sqlite3.Connection, name: str) -> object:
    """A value of the whole file, None if it was never kept."""
    row = database.execute("SELECT value FROM mark WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def recover(database: sqlite3.Connection, path: Path) -> None:
    """After an unclean stop: folds what the last writer left into the database, so that it lies on the disk whatever became of
    its last sync, and checks the database.

    Raises:
        Invalid: it is damaged.
        Unavailable: another program reads it.
    """
    busy, _, _ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise Unavailable(
            f"another program reads {path}, so it cannot be checked", fix="Close it (a database shell?) and repeat."
        )
    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise Invalid(f"{path} is damaged: {found}", fix="Put the state folder back from a backup.")
