"""The files of a SQLite store, opened in the one order in which nothing can be lost, and checked after an unclean stop."""

from __future__ import annotations

import hmac
import os
import sqlite3
from pathlib import Path

from skep.disk.database import explain_read, mark, marked, open_reader, open_writer, recover
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


def _open(path: Path, key: Key) -> Files:
    writer = open_writer(path, LADDER)
    try:
        _check_key(writer, path, key.secret)
        unclean = marked(writer, "clean") != 1
        if unclean:
            recover(writer, path)
        mark(writer, "clean", 0)
        return Files(key, writer, open_reader(path), unclean)
    except BaseException:
        writer.close()
        raise


def _check_key(database: sqlite3.Connection, path: Path, secret: bytes) -> None:
    """The database remembers which key is its own: one message for the wrong key instead of a damaged log."""
    proof = chain.seal(secret, "key")
    known = marked(database, "key")
    if known is None:
        mark(database, "key", proof)
    elif not isinstance(known, bytes) or not hmac.compare_digest(known, proof):
        raise Invalid(f"the key beside {path} is not the one it was written with", fix="Put the right key back from a backup.")
