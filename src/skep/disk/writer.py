"""The one thread that writes: takes whatever jobs wait, does them in one transaction, and answers them all with one wake-up."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from msgspec import Struct

from skep.disk.database import explain_read
from skep.errors import Bug, Exhausted, SkepError, Unavailable

T = TypeVar("T")

#: What may wait for the writer at once, and what one transaction takes of it.
MOST_WAITING = 10_000
MOST_BYTES = 256 * 2**20
MOST_IN_GROUP = 1_000
MOST_BYTES_IN_GROUP = 32 * 2**20
#: Bytes written to the write-ahead log before it is folded into the database.
FOLD_AFTER = 2**18
#: Bytes of database pages that a job touches besides its own.
_PAGES = 8192

_REOPEN = "Check the disk, then start again: the store is checked when it is opened."


class Job(Struct, gc=False):
    """Something to write, and who waits for it. `work` may raise a SkepError only before it wrote anything."""

    work: Callable[[], Any]
    size: int
    answer: asyncio.Future[Any]
    value: Any = None
    error: SkepError | None = None


class Writer:
    """Group commit over one connection.

    A job that is refused (its `work` raises a SkepError) spoils nothing for the others of its group. When SQLite itself refuses,
    the group is rolled back and its jobs are tried one by one. After an I/O error nothing more is written: what lies on the disk
    is then known only after the store was opened again.

    Args:
        database: used by the writer's thread alone from now on.
        forget: called in that thread after a rollback: what jobs remembered of the group is void.
        quiet: held while the write-ahead log is folded; who reads holds it too, since a reader can keep the log from shrinking.
    """

    def __init__(self, database: sqlite3.Connection, forget: Callable[[], None], quiet: threading.Lock) -> None:
        self._database = database
        self._forget = forget
        self._quiet = quiet
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        #: What came in this turn of the loop: handed over at its end, so that the two threads need not wait for each other.
        self._fresh: list[Job] = []
        self._waiting = 0
        self._bytes = 0
        self._unfolded = 0
        self._closed: asyncio.Future[None] | None = None
        #: Why nothing can be written any more.
        self.broken = ""
        self._thread = threading.Thread(target=self._run, name="skep-store-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T], size: int = 0) -> asyncio.Future[T]:
        """Queues `work` for the next transaction; the future has what it returned once that is durable.

        Args:
            size: about how many bytes it writes.

        Raises:
            Exhausted: too much waits already.
            Unavailable: the writer is closed.
        """
        if self._closed is not None:
            raise Unavailable("the store is closed", fix="Open it again.")
        if self._waiting >= MOST_WAITING or self._bytes + size > MOST_BYTES:
            raise Exhausted(
                f"{self._waiting} writes of {self._bytes} bytes wait for the disk; that is as much as may wait",
                fix="Wait for earlier answers before sending more.",
            )
        return self._queue(work, size)

    async def close(self, last: Callable[[], None]) -> None:
        """Does what waits, then `last`, then folds the log into the database and closes the connection."""
        if self._closed is None:
            self._closed = self._loop.create_future()
            done = self._queue(last, 0)
            self._hand_over()
            self._jobs.put(None)
            await asyncio.gather(done, return_exceptions=True)  # a broken store does without
        await asyncio.shield(self._closed)

    def _queue(self, work: Callable[[], T], size: int) -> asyncio.Future[T]:
        self._waiting += 1
        self._bytes += size
        answer: asyncio.Future[T] = self._loop.create_future()
        if not self._fresh:
            self._loop.call_soon(self._hand_over)
        self._fresh.append(Job(work, size, answer))
        return answer

    def _hand_over(self) -> None:
        if self._fresh:
            self._jobs.put(self._fresh)
            self._fresh = []

    def _run(self) -> None:
        more = True
        while more:
            jobs, more = self._gather()
            for group in _groups(jobs):
                self._perform(group)
                self._tell(self._settle, group)
                if self._unfolded > FOLD_AFTER:
                    self._fold("PASSIVE")
        self._fold("TRUNCATE")
        self._database.close()
        self._tell(self._settle_close)

    def _gather(self) -> tuple[list[Job], bool]:
        """Waits for jobs and takes all that wait; and whether there will be more."""
        found: list[Job] = []
        fresh = self._jobs.get()
        while fresh is not None:
            found += fresh
            try:
                fresh = self._jobs.get_nowait()
            except queue.Empty:
                return found, True
        return found, False

    def _perform(self, group: list[Job]) -> None:
        """Does the jobs of a group in one transaction and leaves in each what became of it."""
        committing = False
        try:
            if self.broken:
                raise Unavailable(self.broken, fix=_REOPEN)
            self._database.execute("BEGIN IMMEDIATE")
            for job in group:
                try:
                    job.value = job.work()
                except SkepError as refusal:
                    job.error = refusal
            committing = True
            self._database.execute("COMMIT")
            self._unfolded += sum(job.size + _PAGES for job in group)
        except Exception as error:
            self._roll_back()
            if isinstance(error, sqlite3.Error) and not harmless(error):
                self._give_up(error)
            if self.broken or len(group) == 1:
                for job in group:
                    job.error = explain(error, committing)
            else:
                for job in group:
                    job.value = job.error = None
                    self._perform([job])

    def _give_up(self, error: sqlite3.Error) -> None:
        self.broken = self.broken or f"the disk or the database failed ({error}), so nothing more is read or written"

    def _roll_back(self) -> None:
        self._forget()
        try:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._give_up(error)

    def _fold(self, mode: str) -> None:
        """Copies the write-ahead log into the database. If the disk is full it stays as it is, and is folded later."""
        self._unfolded = 0
        if self.broken:
            return
        try:
            with self._quiet:
                self._database.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except sqlite3.Error as error:
            if not harmless(error):
                self._give_up(error)

    def _tell(self, what: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *args)
        except RuntimeError:  # the loop is closed: nobody waits for an answer any more
            self._jobs.put(None)

    def _settle(self, group: list[Job]) -> None:
        for job in group:
            self._waiting -= 1
            self._bytes -= job.size
            if job.answer.done():  # who asked has gone; what was asked is done all the same
                continue
            if job.error is not None:
                job.answer.set_exception(job.error)
            else:
                job.answer.set_result(job.value)

    def _settle_close(self) -> None:
        if self._closed is not None:
            self._closed.set_result(None)


def _groups(jobs: list[Job]) -> Iterator[list[Job]]:
    """Jobs in their order, as many together as one transaction takes."""
    group: list[Job] = []
    size = 0
    for job in jobs:
        group.append(job)
        size += job.size
        if len(group) >= MOST_IN_GROUP or size >= MOST_BYTES_IN_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def harmless(error: sqlite3.Error) -> bool:
    """Whether SQLite is as good as before this error, and certainly wrote nothing: disk full, busy, too big, constraint."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return code in (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
    )


def explain(error: Exception, committing: bool) -> SkepError:
    """What to tell the caller of a job that failed with `error`, while it was committed or before."""
    if isinstance(error, SkepError):
        return error
    if not isinstance(error, sqlite3.Error):
        return Bug(f"a write failed and was taken back: {error!r}", fix="Please report this message.")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return explain_read(error, "the database")
    if code == sqlite3.SQLITE_FULL:
        return Unavailable("the disk is full: nothing of this was written", fix="Free some space and repeat the command.")
    if code == sqlite3.SQLITE_BUSY:
        return Unavailable(
            "another program holds the database: nothing was written", fix="Close it (a database shell?) and repeat."
        )
    if harmless(error) or not committing:
        return Unavailable(f"the database refused ({error}): nothing of this was written", fix=_REOPEN)
    return Unavailable(f"the disk failed in a commit ({error}): whether this was written is unknown", fix=_REOPEN)
