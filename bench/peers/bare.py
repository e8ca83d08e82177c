"""The floor: what a plain asyncio loop reaches without any orchestrator.

Variant `free` starts a process and waits for it, no more. Variant `gated` also holds each child at a pipe until a row with its
pid is committed (SQLite, WAL, synchronous=FULL, one commit for all that wait): what recording before acting costs at the least.
`fdatasync` is the disk alone.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from bench.shape import COMMAND, PROCESSES, PROCESSES_AT_ONCE, SINGLES, Clock, median, serve

#: The gated child: its standard input is the gate; after one line it becomes the command.
PIPE_GATE = ("/bin/sh", "-c", 'read -r _; exec "$@" </dev/null', "sh")
PTY_GATE = ("/bin/sh", "-c", 'read -r _; exec "$@" <&1', "sh")


class Record:
    """Commits (pid, nonce) rows in batches on a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[tuple[int, bytes, asyncio.Future[None]]] = []
        self._busy = False
        self._db = self._thread.submit(self._open, path).result()

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE started(pid INTEGER, nonce BLOB)")
        return db

    async def started(self, pid: int) -> None:
        """Returns when the process is recorded durably."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._waiting.append((pid, secrets.token_bytes(16), done))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._flush)
        await done

    def _flush(self) -> None:
        batch, self._waiting = self._waiting, []
        self._busy = bool(batch)
        if not batch:
            return

        def committed(result: Future[None]) -> None:
            result.result()
            for *_, done in batch:
                done.set_result(None)
            self._flush()

        loop = asyncio.get_running_loop()
        write = self._thread.submit(self._commit, [(pid, nonce) for pid, nonce, _ in batch])
        write.add_done_callback(lambda result: loop.call_soon_threadsafe(committed, result))

    def _commit(self, rows: list[tuple[int, bytes]]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO started VALUES(?, ?)", rows)
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Closes the database; everything recorded stays."""
        self._thread.submit(self._db.close).result()
        self._thread.shutdown()


Run = Callable[[Record | None], Awaitable[int]]


async def by_pipe(record: Record | None) -> int:
    """Runs the command with its output on a pipe; returns its exit code."""
    gate, release = (subprocess.DEVNULL, -1) if record is None else os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(COMMAND if record is None else PIPE_GATE + COMMAND),
        stdin=gate,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    if record is not None:
        os.close(gate)
        await record.started(process.pid)
        os.write(release, b"\n")
        os.close(release)
    await process.communicate()
    return await process.wait()


async def by_terminal(record: Record | None) -> int:
    """Runs the command in a pseudo-terminal; returns its exit code."""
    loop = asyncio.get_running_loop()
    master, slave = os.openpty()
    os.set_blocking(master, False)
    gate, release = (slave, -1) if record is None else os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(COMMAND if record is None else PTY_GATE + COMMAND), stdin=gate, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    ended = loop.create_future()

    def readable() -> None:
        try:
            data = os.read(master, 65536)
        except BlockingIOError:
            return
        except OSError:  # EIO: nobody has the other end any more
            data = b""
        if not data:
            loop.remove_reader(master)
            ended.set_result(None)

    loop.add_reader(master, readable)
    if record is not None:
        os.close(gate)
        await record.started(process.pid)
        os.write(release, b"\n")
        os.close(release)
    await ended
    os.close(master)
    return await process.wait()


async def many(run: Run, record: Record | None) -> float:
    """Runs all processes, so many at once, and returns processes a second."""
    slots = asyncio.Semaphore(PROCESSES_AT_ONCE)

    async def one() -> int:
        async with slots:
            return await run(record)

    await run(record)
    clock = Clock()
    codes = await asyncio.gather(*(one() for _ in range(PROCESSES)))
    rate = clock.rate(PROCESSES)
    if any(codes):
        raise RuntimeError(f"a process failed: exit codes {sorted({*codes})}")
    return rate


def spawning(run: Run) -> Callable[[str, Path], float]:
    """The workload of processes, with pipes or terminals."""

    def measure(variant: str, folder: Path) -> float:
        if sys.version_info < (3, 12):  # what later versions do by themselves: no thread per child
            asyncio.get_event_loop_policy().set_child_watcher(asyncio.PidfdChildWatcher())
        record = Record(folder / "gate.db") if variant == "gated" else None
        try:
            return asyncio.run(many(run, record))
        finally:
            if record is not None:
                record.close()

    return measure


def fdatasync(_variant: str, folder: Path) -> float:
    """Milliseconds that appending 4 KiB to a file and fdatasync take, p50."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SINGLES):
            start = time.perf_counter()
            os.write(file.fileno(), bytes(4096))
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - start) * 1000)
    return median(times)


if __name__ == "__main__":
    serve({"spawn": spawning(by_pipe), "spawn-pty": spawning(by_terminal), "fdatasync": fdatasync})
