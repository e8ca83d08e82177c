"""The database of the SQLite store: its tables and their ladder, and where a log lies in them."""

from __future__ import annotations

from skep.disk.database import MARKS
from skep.store.chain import LAST_EVENT

#: A row of `log` is found by one number, session << 40 | last event: one tree then holds every log in order, without an index.
SEQ_BITS = LAST_EVENT.bit_length()
LAST_SESSION = 2 ** (63 - SEQ_BITS) - 1

#: Step n takes a database from version n to n + 1. A step that was released is never changed.
LADDER: tuple[tuple[str, ...], ...] = (
    (
        *MARKS,
        """CREATE TABLE session (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL,
        epoch INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL, seal BLOB NOT NULL, note TEXT NOT NULL)""",
        """CREATE TABLE log (place INTEGER PRIMARY KEY, first INTEGER NOT NULL, epoch INTEGER NOT NULL, batch BLOB NOT NULL,
        hash BLOB NOT NULL, blob BLOB NOT NULL)""",
        """CREATE TABLE archive (session INTEGER NOT NULL, task TEXT NOT NULL, seal BLOB NOT NULL, blob BLOB NOT NULL,
        PRIMARY KEY (session, task)) WITHOUT ROWID""",
    ),
)


def place(number: int, seq: int) -> int:
    """Where the append of session `number` lies whose last event is `seq`."""
    return (number << SEQ_BITS) | seq
