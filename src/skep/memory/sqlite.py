"""Records in one SQLite file: one connection writes, in a thread of its own, with group commit; two others read.

A record lies at the place of its last change, so that what was changed comes in order without a further index. One reading
connection is used on the loop's own thread: a record is there in a few microseconds, less than it takes to ask a thread.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from skep.disk.database import MARKS, explain_read, mark, marked, open_reader, open_writer, recover
from skep.disk.durable import make_folder, sync_folder
from skep.disk.lock import Lock
from skep.disk.outcome import outcome
from skep.disk.writer import FOLD_AFTER, Writer
from skep.errors import Invalid, SkepError, Unavailable
from skep.memory import Change, Record
from skep.memory.ephemeral import changed
from skep.memory.records import decode, digest, encode

T = TypeVar("T")

#: Step n takes a database from version n to n + 1. A step that was released is never changed. A namespace without a name was
#: dropped and is being erased.
LADDER: tuple[tuple[str, ...], ...] = (
    (
        *MARKS,
        "INSERT INTO mark VALUES ('place', 0)",
        "CREATE TABLE namespace (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE)",
        """CREATE TABLE record (place INTEGER PRIMARY KEY, namespace INTEGER NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL,
        body BLOB NOT NULL)""",
        "CREATE UNIQUE INDEX record_key ON record (namespace, key)",
        "CREATE INDEX record_namespace ON record (namespace)",
    ),
)
# Whatever damage did to the types of a row: the casts give those that are written here.
_BODY = "ifnull(cast(body AS BLOB), x'')"
_OF = "FROM record WHERE namespace = (SELECT number FROM namespace WHERE name = ?)"
_GET = f"SELECT {_BODY} {_OF} AND key = ?"
_PAGE = f"SELECT ifnull(cast(key AS TEXT), ''), {_BODY} {_OF} AND key > ? ORDER BY key LIMIT ?"
_CHANGES = f"SELECT place, ifnull(cast(key AS TEXT), ''), {_BODY} {_OF} AND place > ? ORDER BY place LIMIT ?"
_HEADS = """SELECT cast(name AS TEXT), (SELECT max(place) FROM record WHERE namespace = number) FROM namespace
WHERE name IS NOT NULL ORDER BY name"""
_STATE = "SELECT state FROM record WHERE namespace = ? AND key = ?"
_ADD = "INSERT INTO record VALUES (:place, :namespace, :key, :state, :body) ON CONFLICT (namespace, key) DO NOTHING"
_MOVE = """UPDATE record SET place = :place, state = :state, body = :body
WHERE namespace = :namespace AND key = :key AND state = :expect"""
_KEEP = "INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?, ?)"
#: Rows that are erased in one transaction, of a namespace that was dropped.
_ERASED = 1_000
#: Bytes of the check before a record.
_CHECK = 4


class _Row(Struct, frozen=True, gc=False):
    """A change as it is to be written."""

    record: Record
    state: str
    expect: str
    body: bytes


class SqliteStore:
    """The port `MemoryStore` over `<folder>/memory.db`. Made by `open`; all its methods belong to the loop that opened it."""

    lacks: frozenset[str] = frozenset()

    def __init__(self, files: Files) -> None:
        self._files = files
        self.writer = files.name
        self._quiet = threading.Lock()
        self._pages = ThreadPoolExecutor(1, thread_name_prefix="skep-memory-reader")
        #: Namespaces and the last place, as the writer's transaction sees them; the writer's thread alone touches them.
        self._numbers: dict[str, int] = {}
        self._place = files.place
        self._writer = Writer(files.writer, self._numbers.clear, self._quiet)
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, folder: Path) -> SqliteStore:
        """Opens the memory of a state folder, or makes it. After an unclean stop it is checked first.

        Raises:
            Conflict: another process works with it.
            Invalid: it is damaged, of a later Skep, or not of Skep.
            Unavailable: the disk refuses, or cannot give the durability that is promised.
        """
        store = cls(await asyncio.to_thread(Files.open, folder))
        try:
            for number in await store._read("the memory", store._hidden):
                await store._erase(number)
        except BaseException:
            await store.close()
            raise
        return store

    async def get(self, namespace: str, key: str) -> Record | None:
        """See `MemoryStore.get`."""
        self._check_open()
        try:
            row = self._near().execute(_GET, (namespace, key)).fetchone()
        except sqlite3.Error as error:
            raise explain_read(error, f"'{key}' in '{namespace}'") from None
        except UnicodeEncodeError:  # no such name was ever written
            return None
        return _opened(row[0], namespace, key) if row else None

    async def commit(self, changes: Sequence[Change]) -> None:
        """See `MemoryStore.commit`. A caller that is cancelled goes when it is over; it may well be made."""
        self._check_open()
        rows = [_Row(one.record, digest(one.record), one.expect, _closed(one.record)) for one in changes]
        await outcome(self._writer.submit(partial(self._commit, rows), sum(len(row.body) for row in rows)))

    async def page(self, namespace: str, after: str = "", limit: int = 1000) -> list[Record]:
        """See `MemoryStore.page`."""

        def read(database: sqlite3.Connection) -> list[Record]:
            rows = database.execute(_PAGE, (namespace, after, limit))
            return [_opened(body, namespace, key) for key, body in rows]

        return await self._read(f"namespace '{namespace}'", read)

    async def changes(self, namespace: str, after: int = 0, limit: int = 1000) -> list[tuple[int, Record]]:
        """See `MemoryStore.changes`."""

        def read(database: sqlite3.Connection) -> list[tuple[int, Record]]:
            rows = database.execute(_CHANGES, (namespace, after, limit))
            return [(place, _opened(body, namespace, key)) for place, key, body in rows]

        return await self._read(f"namespace '{namespace}'", read)

    async def heads(self) -> dict[str, int]:
        """See `MemoryStore.heads`."""
        return await self._read("the memory", lambda database: dict(database.execute(_HEADS).fetchall()))

    async def drop(self, namespace: str) -> None:
        """See `MemoryStore.drop`. It is gone at once; its rows go in slices, so that other changes need not wait for them."""
        self._check_open()
        number = await outcome(self._writer.submit(partial(self._hide, namespace)))
        if number is not None:
            await self._erase(number)

    async def close(self) -> None:
        """See `MemoryStore.close`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pages, self._files.far.close)
        self._pages.shutdown()
        self._files.near.close()
        await self._writer.close(partial(mark, self._files.writer, "clean", 1))
        self._files.lock.close()

    def _check_open(self) -> None:
        if self._closing is not None:
            raise Unavailable("the memory is closed", fix="Open it again.")
        if self._writer.broken:
            raise Unavailable(self._writer.broken, fix="Check the disk, then start again.")

    def _near(self) -> sqlite3.Connection:
        """The connection for the loop's thread: all that one turn of the loop reads is one transaction, to begin one costs most.

        Its end stands in line before whatever tells of a commit that it does not see, so nobody reads what was before.
        """
        if not self._files.near.in_transaction:
            self._files.near.execute("BEGIN")
            asyncio.get_running_loop().call_soon(self._look_up)
        return self._files.near

    def _look_up(self) -> None:
        with suppress(sqlite3.Error):  # closed meanwhile, or its next read says what is wrong
            self._files.near.execute("COMMIT")

    async def _read(self, what: str, query: Callable[[sqlite3.Connection], T]) -> T:
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._pages, self._query, what, query)

    def _query(self, what: str, query: Callable[[sqlite3.Connection], T]) -> T:
        """In the reader's thread. A long read would keep the log from being folded, so that waits for it."""
        with self._quiet, _explained(what):
            return query(self._files.far)

    async def _erase(self, number: int) -> None:
        while await self._writer.submit(partial(self._erase_some, number), FOLD_AFTER):
            pass

    @staticmethod
    def _hidden(database: sqlite3.Connection) -> list[int]:
        return [number for (number,) in database.execute("SELECT number FROM namespace WHERE name IS NULL")]

    # What follows runs in the writer's thread, within its transaction. Each checks before it writes.

    def _commit(self, rows: Sequence[_Row]) -> None:
        if len(rows) == 1 and self._keep(rows[0]):
            return
        fresh = []
        for row in rows:
            record = row.record
            number = self._number(record.namespace)
            found = self._files.writer.execute(_STATE, (number, record.key)).fetchone() if number else None
            there = found[0] if found else ""
            if there == row.state:
                continue
            if there != row.expect:
                raise changed(record)
            fresh.append(row)
        for row in fresh:
            self._place += 1
            number = self._number(row.record.namespace) or self._make(row.record.namespace)
            self._files.writer.execute(_KEEP, (self._place, number, row.record.key, row.state, row.body))

    def _keep(self, row: _Row) -> bool:
        """Keeps one change in one statement, if it is in place of what it says."""
        number = self._number(row.record.namespace)
        if number is None:
            return False
        asked = {"place": self._place + 1, "namespace": number, "key": row.record.key, "expect": row.expect}
        statement = _MOVE if row.expect else _ADD
        if not self._files.writer.execute(statement, {**asked, "state": row.state, "body": row.body}).rowcount:
            return False
        self._place += 1
        return True

    def _number(self, namespace: str) -> int | None:
        number = self._numbers.get(namespace)
        if number is None:
            row = self._files.writer.execute("SELECT number FROM namespace WHERE name = ?", (namespace,)).fetchone()
            if row is None:
                return None
            number = self._numbers[namespace] = row[0]
        return number

    def _make(self, namespace: str) -> int:
        number = self._files.writer.execute("INSERT INTO namespace (name) VALUES (?)", (namespace,)).lastrowid
        assert number is not None
        self._numbers[namespace] = number
        return number

    def _hide(self, namespace: str) -> int | None:
        number = self._number(namespace)
        if number is not None:
            # The places of what goes are not given again: whoever knows one would take what is new for what was there.
            mark(self._files.writer, "place", self._place)
            self._files.writer.execute("UPDATE namespace SET name = NULL WHERE number = ?", (number,))
            del self._numbers[namespace]
        return number

    def _erase_some(self, number: int) -> bool:
        """Erases some rows of a namespace that was dropped, or what is left of it; whether there may be more."""
        some = "SELECT place FROM record WHERE namespace = ? LIMIT ?"
        if self._files.writer.execute(f"DELETE FROM record WHERE place IN ({some})", (number, _ERASED)).rowcount:
            return True
        self._files.writer.execute("DELETE FROM namespace WHERE number = ?", (number,))
        return False


class Files:
    """The connections to the database of one state folder: one writes, two read, `near` on the loop's thread."""

    def __init__(self, path: Path, lock: Lock, writer: sqlite3.Connection) -> None:
        self.lock, self.writer = lock, writer
        if marked(writer, "clean") != 1:
            recover(writer, path)
        mark(writer, "clean", 0)
        name, file = marked(writer, "writer"), path.stat().st_ino
        if name is None or marked(writer, "file") != file:
            # Also in a copy, or one put back from a backup: what two write under one name each takes for what it has seen.
            name = secrets.token_hex(8)
            mark(writer, "writer", name)
            mark(writer, "file", file)
        if not isinstance(name, str):
            raise Invalid(f"{path} is damaged: it has lost its name", "Put the state folder back from a backup.")
        #: Who writes here, as vector clocks know it.
        self.name = name
        (last,) = writer.execute("SELECT ifnull(max(place), 0) FROM record").fetchone()
        kept = marked(writer, "place")
        #: The last place that was given.
        self.place: int = max(last, kept if isinstance(kept, int) else 0)
        self.near, self.far = open_reader(path), open_reader(path)
        for reader in (self.near, self.far):
            reader.execute("PRAGMA cache_size=-8192")

    @staticmethod
    def open(folder: Path) -> Files:
        """Opens or makes them. Raises what `SqliteStore.open` raises."""
        path = folder / "memory.db"
        try:
            make_folder(folder)
            lock = Lock(folder / "memory.lock", f"the memory in {folder}")
            try:
                if not path.exists():
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
                    sync_folder(folder)
                writer = open_writer(path, LADDER)
                try:
                    return Files(path, lock, writer)
                except BaseException:
                    writer.close()
                    raise
            except BaseException:
                lock.close()
                raise
        except sqlite3.Error as error:
            raise explain_read(error, str(path)) from None
        except OSError as error:
            fix = "Free space, or name another folder."
            raise Unavailable(f"the memory in {folder} cannot be used: {error.strerror}", fix) from None


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise explain_read(error, what) from None
    except UnicodeEncodeError as error:
        raise Invalid(f"{what}: {error.reason}", "Use Unicode.") from None


def _closed(record: Record) -> bytes:
    """A record as it lies in its row: a check that shows damage, and what it is."""
    body = encode(record)
    return zlib.crc32(body).to_bytes(_CHECK, "big") + body


def _opened(body: bytes, namespace: str, key: str) -> Record:
    """The record of a row. Raises Invalid if it is not what was written there."""
    if len(body) > _CHECK and zlib.crc32(memoryview(body)[_CHECK:]) == int.from_bytes(body[:_CHECK], "big"):
        try:
            record = decode(body[_CHECK:])
        except SkepError:
            pass
        else:
            if record.namespace == namespace and record.key == key:
                return record
    raise Invalid(f"what is kept of '{key[:200]}' in '{namespace[:80]}' is damaged", "Put the memory back from a backup.")
