"""Logs in one SQLite file: one connection writes, in a thread of its own, with group commit; another one reads.

What a state folder holds: `skep.db`, `key` (see `store.key`) and `snapshots/`.
"""

from __future__ import annotations

import asyncio
import hmac
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from skep.disk.database import explain_read, mark
from skep.disk.writer import FOLD_AFTER, Writer
from skep.errors import Conflict, Exhausted, SkepError, Unavailable
from skep.store import Append, Head, SessionRow, Taken, chain, letters
from skep.store.chain import LAST_EVENT
from skep.store.folder import Files
from skep.store.schema import LAST_SESSION, place
from skep.store.snapshots import Snapshots

T = TypeVar("T")

# Whatever damage did to the types of a row: the casts give those that are written here.
_SESSION = """SELECT number, ifnull(cast(epoch AS INTEGER), 0), ifnull(cast(seq AS INTEGER), 0), ifnull(cast(hash AS BLOB), x''),
ifnull(cast(seal AS BLOB), x'') FROM session WHERE name = ?"""
_APPENDS = f"""SELECT ifnull(cast(first AS INTEGER), 0), place & {LAST_EVENT}, ifnull(cast(epoch AS INTEGER), 0),
ifnull(cast(batch AS BLOB), x''), ifnull(cast(blob AS BLOB), x''), ifnull(cast(hash AS BLOB), x'')
FROM log WHERE place BETWEEN ? AND ? ORDER BY place """
_ARCHIVED = """SELECT task, ifnull(cast(seal AS BLOB), x''), ifnull(cast(blob AS BLOB), x'') FROM archive
WHERE session = ?"""
_ARCHIVE = "INSERT OR REPLACE INTO archive VALUES (?, ?, ?, ?)"
# Each statement gives up the interpreter's lock and has to win it back, so many rows go into one.
_ROWS = 32
_ARCHIVE_ROWS = _ARCHIVE + ", (?, ?, ?, ?)" * (_ROWS - 1)
#: Begins the name of a session that was dropped and is being erased: no session of a user can be named so.
_DROPPED = "\n"
#: Tasks that one query asks for.
_ASKED = 500


class SqliteLog:
    """The port `Log` over `<folder>/skep.db`. Made by `SqliteLog.open`; all its methods belong to the loop that opened it."""

    lacks = frozenset({"shared"})

    def __init__(self, folder: Path, files: Files) -> None:
        self._key = files.key.secret
        self._files = files
        self._snapshots = Snapshots(folder / "snapshots")
        self._quiet = threading.Lock()
        self._reads = ThreadPoolExecutor(1, thread_name_prefix="skep-store-reader")
        #: The ends of the logs, as the writer's transaction sees them; the writer's thread alone touches it.
        self._tails: dict[str, tuple[int, chain.Tail]] = {}
        self._writer = Writer(files.writer, self._tails.clear, self._quiet)
        self._closing: asyncio.Task[None] | None = None
        #: Session -> what is wrong with the end of its log, found when the store was opened after an unclean stop.
        self.damaged: dict[str, str] = {}

    @classmethod
    async def open(cls, folder: Path) -> SqliteLog:
        """Opens the store of a state folder, or makes it. After an unclean stop it is checked first.

        Raises:
            Conflict: another process works with it.
            Denied: others can read its key.
            Invalid: it is damaged, of a later Skep, not of Skep, or without its key.
            Unavailable: the disk refuses, or cannot give the durability that is promised.
        """
        files = await asyncio.to_thread(Files.open, folder)
        log = cls(folder, files)
        try:
            if files.unclean:
                log.damaged = await log._read(log._check_ends)
            for number in await log._read(log._hidden):
                await log._erase(number)
        except BaseException:
            await log._close(clean=0)
            raise
        return log

    async def create(self, session: str, at: int) -> None:
        """See `Log.create`."""
        chain.check_name(session)
        await self._write(partial(self._create, session, at))

    async def acquire(self, session: str, owner: str = "", after: int = -1) -> Head:
        """See `Log.acquire`."""
        return await self._write(partial(self._acquire, session, after))

    async def append(
        self,
        session: str,
        epoch: int,
        seq: int,
        batch: bytes,
        count: int,
        blob: bytes,
        archive: Sequence[tuple[str, bytes]] = (),
        taken: Sequence[Taken] = (),
    ) -> Head:
        """See `Log.append`. A caller that is cancelled leaves the append as it is: it may well be written."""
        if taken:
            raise letters.not_shared()
        size = len(blob) + sum(len(entry) for _, entry in archive)
        return await self._write(partial(self._append, session, epoch, seq, batch, count, blob, archive), size)

    async def read(self, session: str, after: int = 0, limit: int = 1000) -> list[Append]:
        """See `Log.read`."""
        return (await self._read(partial(self._page, session, after, limit)))[0]

    def follows(self, session: str, head: Head, append: Append) -> bool:
        """See `Log.follows`."""
        return chain.follows(self._key, session, head, append)

    def seal(self, text: bytes) -> bytes:
        """See `Log.seal`."""
        return chain.seal_text(self._key, text)

    def seal_to(self, node: str, text: bytes) -> bytes:
        """See `Log.seal_to`."""
        return chain.seal_text(chain.node_secret(self._key, node), text)

    async def verify(self, session: str) -> Head:
        """See `Log.verify`."""
        after, limit = 0, 1000
        while True:
            page, head = await self._read(partial(self._page, session, after, limit))
            if len(page) < limit:
                return head
            after = page[-1].last

    async def snapshot(self, session: str, seq: int, blob: bytes) -> None:
        """See `Log.snapshot`."""
        await self._read(partial(self._keep_snapshot, session, seq, blob))

    async def latest(self, session: str) -> tuple[int, bytes] | None:
        """See `Log.latest`."""
        return await self._read(partial(self._latest, session))

    async def archived(self, session: str, tasks: Sequence[str]) -> dict[str, bytes]:
        """See `Log.archived`."""
        return await self._read(partial(self._archived, session, tasks))

    async def archive(self, session: str, after: str = "", limit: int = 1000) -> AsyncIterator[tuple[str, bytes]]:
        """See `Log.archive`."""
        while page := await self._read(partial(self._archive_page, session, after, limit)):
            for task, blob in page:
                yield task, blob
            after = page[-1][0]

    async def sessions(self, after: str = "") -> list[SessionRow]:
        """See `Log.sessions`."""
        rows = await self._read(self._sessions)
        place = next((place for place, row in enumerate(rows, 1) if row.session == after), 0)
        return rows[place:]

    async def awake(self) -> list[SessionRow]:
        """See `Log.awake`."""
        return await self.sessions()

    async def rest(self, session: str) -> None:
        """See `Log.rest`. Nobody else would want to know."""

    async def row(self, session: str) -> SessionRow:
        """See `Log.row`."""
        rows = await self._read(partial(self._sessions, session))
        if not rows:
            raise chain.missing(session)
        return rows[0]

    async def annotate(self, session: str, note: str) -> None:
        """See `Log.annotate`."""
        chain.check_note(session, note)
        await self._write(partial(self._annotate, session, note), len(note))

    async def drop(self, session: str, head: Head | None = None) -> None:
        """See `Log.drop`. The session is gone at once; its rows go in slices, so that other sessions need not wait for them."""
        await self._erase(await self._write(partial(self._hide, session, head)))

    async def _erase(self, number: int) -> None:
        await self._read(partial(self._drop_snapshots, number))
        while await self._write(partial(self._erase_some, number), FOLD_AFTER):
            pass

    async def close(self) -> None:
        """See `Log.close`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(clean=0 if self.damaged else 1))
        await asyncio.shield(self._closing)

    async def _close(self, clean: int) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._reads, self._files.reader.close)
        self._reads.shutdown()
        await self._writer.close(partial(mark, self._files.writer, "clean", clean))
        self._files.key.close()

    async def _write(self, work: Callable[[], T], size: int = 0) -> T:
        if self._closing is not None:
            raise _closed()
        return await self._writer.submit(work, size)

    async def _read(self, query: Callable[[], T]) -> T:
        if self._closing is not None:
            raise _closed()
        return await asyncio.get_running_loop().run_in_executor(self._reads, query)

    # What follows runs in the writer's thread, within its transaction. Each checks before it writes.

    def _create(self, session: str, at: int) -> None:
        database = self._files.writer
        if database.execute(_SESSION, (session,)).fetchone():
            raise chain.taken(session)
        (used,) = database.execute("SELECT max(number) FROM session").fetchone()
        if used == LAST_SESSION:
            raise Exhausted("the store has had as many sessions as it can hold", fix="Begin another state folder.")
        head = chain.EMPTY
        database.execute(
            "INSERT INTO session (name, created, epoch, seq, hash, seal, note) VALUES (?, ?, ?, ?, ?, ?, '')",
            (session, at, head.epoch, head.seq, head.hash, chain.seal_head(self._key, session, head)),
        )

    def _acquire(self, session: str, after: int) -> Head:
        number, old, last = self._check_end(self._files.writer, session)
        chain.check_follows(session, old.epoch, after)
        head = Head(old.epoch + 1, old.seq, old.hash)
        self._move(session, number, old, head)
        self._tails[session] = number, chain.Tail.of(head, last)
        return head

    def _append(
        self,
        session: str,
        epoch: int,
        seq: int,
        batch: bytes,
        count: int,
        blob: bytes,
        archive: Sequence[tuple[str, bytes]],
    ) -> Head:
        number, tail = self._tails.get(session) or self._load_tail(session)
        fresh = chain.extend(self._key, session, tail, epoch, seq, batch, count, blob)
        if fresh is None:
            return tail.head
        head = Head(epoch, fresh.last, fresh.hash)
        self._move(session, number, tail.head, head)
        self._files.writer.execute(
            "INSERT INTO log (place, first, epoch, batch, hash, blob) VALUES (?, ?, ?, ?, ?, ?)",
            (place(number, fresh.last), fresh.first, epoch, batch, fresh.hash, blob),
        )
        rows = [(number, task, chain.seal_archived(self._key, session, task, entry), entry) for task, entry in archive]
        whole = len(rows) - len(rows) % _ROWS
        for start in range(0, whole, _ROWS):
            self._files.writer.execute(_ARCHIVE_ROWS, [value for row in rows[start : start + _ROWS] for value in row])
        if rows[whole:]:
            self._files.writer.executemany(_ARCHIVE, rows[whole:])
        self._tails[session] = number, chain.Tail.of(head, fresh)
        return head

    def _load_tail(self, session: str) -> tuple[int, chain.Tail]:
        number, head, last = self._check_end(self._files.writer, session)
        return number, chain.Tail.of(head, last)

    def _move(self, session: str, number: int, old: Head, head: Head) -> None:
        moved = self._files.writer.execute(
            "UPDATE session SET epoch = ?, seq = ?, hash = ?, seal = ? WHERE number = ? AND epoch = ? AND seq = ?",
            (head.epoch, head.seq, head.hash, chain.seal_head(self._key, session, head), number, old.epoch, old.seq),
        )
        if moved.rowcount != 1:
            raise Conflict(f"session {session} was changed behind its writer's back", fix="End the other program.")

    def _annotate(self, session: str, note: str) -> None:
        if self._files.writer.execute("UPDATE session SET note = ? WHERE name = ?", (note, session)).rowcount != 1:
            raise chain.missing(session)

    def _hide(self, session: str, head: Head | None) -> int:
        number, there, _ = _find(self._files.writer, session)
        chain.check_unchanged(session, there, head)
        self._files.writer.execute("UPDATE session SET name = ? WHERE number = ?", (f"{_DROPPED}{number}", number))
        self._tails.pop(session, None)
        return number

    def _erase_some(self, number: int) -> bool:
        """Erases a slice of a hidden session; whether there was any left."""
        database = self._files.writer
        span = (place(number, 0), place(number, LAST_EVENT))
        tasks = database.execute(
            "DELETE FROM archive WHERE session = ? AND task IN (SELECT task FROM archive WHERE session = ? LIMIT 4000)",
            (number, number),
        )
        appends = database.execute(
            "DELETE FROM log WHERE place IN (SELECT place FROM log WHERE place BETWEEN ? AND ? LIMIT 400)", span
        )
        if tasks.rowcount or appends.rowcount:
            return True
        database.execute("DELETE FROM session WHERE number = ?", (number,))
        return False

    # What follows runs in the reader's thread.

    @contextmanager
    def _reading(self, what: str) -> Iterator[sqlite3.Connection]:
        """One unchanging view of the database."""
        database = self._files.reader
        if self._writer.broken:
            raise Unavailable(self._writer.broken, fix="Check the disk, then start again.")
        with self._quiet:
            try:
                database.execute("BEGIN")
                yield database
            except sqlite3.Error as error:
                raise explain_read(error, what) from None
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")

    def _check_end(self, database: sqlite3.Connection, session: str) -> tuple[int, Head, Append | None]:
        """Number, head and last append of a session, the last of them checked."""
        number, head, sealed = _find(database, session)
        rows = database.execute(_APPENDS + "DESC LIMIT 2", (place(number, 0), place(number, LAST_EVENT))).fetchall()
        last, before = [*(Append(*row) for row in rows), None, None][:2]
        chain.check_page(self._key, session, before, [last] if last else [])
        chain.check_end(self._key, session, head, sealed, last)
        return number, head, last

    def _check_ends(self) -> dict[str, str]:
        damaged = {}
        for row in self._sessions():
            try:
                with self._reading(f"session {row.session}") as database:
                    self._check_end(database, row.session)
            except SkepError as error:
                damaged[row.session] = str(error)
        return damaged

    def _page(self, session: str, after: int, limit: int) -> tuple[list[Append], Head]:
        after = min(max(after, 0), LAST_EVENT)
        page: list[Append] = []
        with self._reading(f"session {session}") as database:
            number, head, sealed = _find(database, session)
            row = database.execute(_APPENDS + "DESC LIMIT 1", (place(number, 0), place(number, after))).fetchone()
            before = Append(*row) if row else None
            try:
                for row in database.execute(_APPENDS + "LIMIT ?", (place(number, after) + 1, place(number, LAST_EVENT), limit)):
                    page.append(Append(*row))
            except sqlite3.Error as error:
                last = page[-1] if page else before
                raise chain.damaged(session, (last.last if last else 0) + 1, str(error)) from None
        chain.check_page(self._key, session, before, page)
        if len(page) < limit:
            chain.check_end(self._key, session, head, sealed, page[-1] if page else before)
        return page, head

    def _sessions(self, session: str = "") -> list[SessionRow]:
        """All sessions, or the one of that name."""
        which = ("WHERE name = ?", (session,)) if session else ("", ())
        with self._reading("the store") as database:
            rows = database.execute(
                f"SELECT name, created, epoch, seq, hash, note FROM session {which[0]} ORDER BY created, number", which[1]
            ).fetchall()
        return [SessionRow(name, created, Head(epoch, seq, mark), note) for name, created, epoch, seq, mark, note in rows]

    def _hidden(self) -> list[int]:
        """The numbers of the sessions that were dropped but not erased."""
        with self._reading("the store") as database:
            return [number for (number,) in database.execute("SELECT number FROM session WHERE name < ' '")]

    def _archived(self, session: str, tasks: Sequence[str]) -> dict[str, bytes]:
        rows: list[tuple[str, bytes, bytes]] = []
        with self._reading(f"session {session}") as database:
            number, _, _ = _find(database, session)
            for start in range(0, len(tasks), _ASKED):
                asked = tasks[start : start + _ASKED]
                some = ", ".join("?" * len(asked))
                rows += database.execute(f"{_ARCHIVED} AND task IN ({some})", (number, *asked))
        return dict(self._checked(session, rows))

    def _archive_page(self, session: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        with self._reading(f"session {session}") as database:
            number, _, _ = _find(database, session)
            rows = database.execute(f"{_ARCHIVED} AND task > ? ORDER BY task LIMIT ?", (number, after, limit)).fetchall()
        return self._checked(session, rows)

    def _checked(self, session: str, rows: list[tuple[str, bytes, bytes]]) -> list[tuple[str, bytes]]:
        for task, sealed, blob in rows:
            chain.check_archived(self._key, session, task, blob, sealed)
        return [(task, blob) for task, _, blob in rows]

    def _keep_snapshot(self, session: str, seq: int, blob: bytes) -> None:
        number, there = self._hash_at(session, seq)
        if there is None:
            raise chain.no_boundary(session, seq)
        with _disk(session):
            self._snapshots.put(number, seq, chain.seal_snapshot(self._key, session, seq, there, blob), blob)
            self._snapshots.keep(number, [whole for whole, _ in islice(self._whole(session), 2)])

    def _drop_snapshots(self, number: int) -> None:
        with _disk(f"session number {number}"):
            self._snapshots.drop(number)

    def _latest(self, session: str) -> tuple[int, bytes] | None:
        with _disk(session):
            return next(self._whole(session), None)

    def _whole(self, session: str) -> Iterator[tuple[int, bytes]]:
        """The snapshots that are what was written, newest first."""
        with self._reading(f"session {session}") as database:
            number, _, _ = _find(database, session)
        for seq in self._snapshots.listed(number):
            _, there = self._hash_at(session, seq)
            sealed, blob = self._snapshots.get(number, seq)
            if there is not None and hmac.compare_digest(sealed, chain.seal_snapshot(self._key, session, seq, there, blob)):
                yield seq, blob

    def _hash_at(self, session: str, seq: int) -> tuple[int, bytes | None]:
        """The session's number, and the hash of its append that ends with event `seq`."""
        with self._reading(f"session {session}") as database:
            number, _, _ = _find(database, session)
            row = database.execute(_APPENDS, (place(number, seq), place(number, seq))).fetchone()
        return number, Append(*row).hash if row else None


def _find(database: sqlite3.Connection, session: str) -> tuple[int, Head, bytes]:
    row = database.execute(_SESSION, (session,)).fetchone()
    if row is None:
        raise chain.missing(session)
    number, epoch, seq, hash_there, sealed = row
    return number, Head(epoch, seq, hash_there), sealed


@contextmanager
def _disk(session: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"session {session}: its snapshots cannot be reached: {error.strerror}", fix="Free space, or check the disk."
        ) from None


def _closed() -> Unavailable:
    return Unavailable("the store is closed", fix="Open it again.")
