"""Where the tests of the SQLite store keep it, and the hands of someone who has the files but not the key."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from skep.store import Append, Blobs, Log
from skep.store.blobs import FileBlobs
from skep.store.schema import place
from skep.store.sqlite import SqliteLog


class SqliteHome:
    """A state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def open(self) -> Log:
        return await SqliteLog.open(self.folder)

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.folder / "skep.db", isolation_level=None)) as database:
            yield database

    def number(self, session: str) -> int:
        with self.database() as database:
            return int(database.execute("SELECT number FROM session WHERE name = ?", (session,)).fetchone()[0])

    def rows(self, session: str) -> list[Append]:
        number = self.number(session)
        with self.database() as database:
            rows = database.execute(
                "SELECT first, place - ?, epoch, batch, blob, hash FROM log WHERE place BETWEEN ? AND ? ORDER BY place",
                (place(number, 0), place(number, 0), place(number + 1, 0)),
            ).fetchall()
        return [Append(*row) for row in rows]

    def rewrite(self, session: str, rows: Sequence[Append]) -> None:
        number = self.number(session)
        with self.database() as database:
            database.execute("DELETE FROM log WHERE place BETWEEN ? AND ?", (place(number, 0), place(number + 1, 0)))
            database.executemany(
                "INSERT INTO log (place, first, epoch, batch, blob, hash) VALUES (?, ?, ?, ?, ?, ?)",
                [(place(number, row.last), row.first, row.epoch, row.batch, row.blob, row.hash) for row in rows],
            )

    def spoil_snapshot(self, session: str, seq: int) -> None:
        spoil(self.folder / "snapshots" / str(self.number(session)) / str(seq))

    def spoil_archived(self, session: str, task: str) -> None:
        with self.database() as database:
            database.execute("UPDATE archive SET blob = blob || x'00' WHERE task = ?", (task,))


class FileBlobsHome:
    """A folder of blobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, largest: int = 2**20) -> Blobs:
        return FileBlobs(self.folder, largest)

    def spoil(self, digest: str) -> None:
        spoil(self.folder / digest[:2] / digest[2:])


def spoil(path: Path) -> None:
    """Turns the last bit of a file."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
