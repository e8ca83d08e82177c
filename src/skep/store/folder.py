"""The files of a SQLite store, opened in the one order in which nothing can be lost, and checked after an unclean stop."""

from __future__ import annotations

import hmac
import os
import sqlite3
from pathlib import Path

from skep.disk.database import explain_read, open_reader, open_writer
from skep.disk.durable import make_folder, sync_folder
from skep.errors import Invalid, Unavailable
from skep.store import chain
from skep.store.key import Key
from skep.store.schema import LADDER


class Files:
    """The key, and the two connections to the database, of one state folder."""

    def __init__(self, key: Key, writer: sqlite3.Connection, reader: sqlite3.Connection, unclean: bool) -> None:
        self.key = key
        self.writer = writer
        self.reader = reader
        #: Whether the last one to have it open did not close it.
        self.unclean = unclean

    @staticmethod
    def open(folder: Path) -> Files:
        """Opens or makes them. Raises what `SqliteLog.open` raises."""
        path = folder / "skep.db"
        try:
            make_folder(folder)
            fresh = not path.exists() or path.stat().st_size == 0
            key = Key(folder / "key", fresh)
            try:
                if not path.exists():
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
                    sync_folder(folder)
                return _open(path, key)
            except BaseException:
                key.close()
                raise
        except sqlite3.Error as error:
            raise explain_read(error, str(path)) from None
        except OSError as error:
            raise Unavailable(
                f"the state folder {folder} cannot be used: {error.strerror}", fix="Free space, or name another folder."
            ) from None


def mark(database: sqlite3.Connection, name: str, value: int | bytes) -> None:
    """Keeps a value of the whole store."""
    database.execute("INSERT OR REPLACE INTO mark VALUES (?, ?)", (name, value))


def _open(path: Path, key: Key) -> Files:
    writer = open_writer(path, LADDER)
    try:
        _check_key(writer, path, key.secret)
        unclean = _marked(writer, "clean") != 1
        if unclean:
            _recover(writer, path)
        mark(writer, "clean", 0)
        return Files(key, writer, open_reader(path), unclean)
    except BaseException:
        writer.close()
        raise


def _marked(database: sqlite3.Connection, name: str) -> object:
    row = database.execute("SELECT value FROM mark WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def _check_key(database: sqlite3.Connection, path: Path, secret: bytes) -> None:
    """The database remembers which key is its own: one message for the wrong key instead of a damaged log."""
    proof = chain.seal(secret, "key")
    known = _marked(database, "key")
    if known is None:
        mark(database, "key", proof)
    elif not isinstance(known, bytes) or not hmac.compare_digest(known, proof):
        raise Invalid(f"the key beside {path} is not the one it was written with", fix="Put the right key back from a backup.")


def _recover(database: sqlite3.Connection, path: Path) -> None:
    """Folds what the last writer left into the database, so that it lies on the disk whatever became of its last sync, and checks
    the database."""
    busy, _, _ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise Unavailable(
            f"another program reads {path}, so it cannot be checked", fix="Close it (a database shell?) and repeat."
        )
    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise Invalid(f"{path} is damaged: {found}", fix="Put the state folder back from a backup.")
