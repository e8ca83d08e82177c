"""A process that writes to a store until it is ended, and says what was acknowledged, for tests that end it badly.

    python scribe.py FOLDER [SYNCHRONOUS] [FILE_LIMIT]

Each line of its output, `session last`, is an append that was acknowledged before the line was written. Blobs and archived tasks
follow from session and event number, so that a reader can tell what must be there.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from pathlib import Path

from skep.disk.database import DURABILITY
from skep.errors import SkepError
from skep.store import Log
from skep.store.sqlite import SqliteLog

SESSIONS = ("a", "b", "c", "d")
EVENTS = 3


def blob(session: str, first: int) -> bytes:
    """What the append of `session` that begins with event `first` holds; every 16th is large."""
    return f"{session}:{first};".encode() * (4000 if first // EVENTS % 16 == 5 else 50)


def acknowledged(output: bytes) -> dict[str, int]:
    """Session -> last event that was acknowledged, from the whole lines of a scribe's output."""
    said: dict[str, int] = {}
    for line in output.split(b"\n")[:-1]:
        session, last = line.decode().split()
        said[session] = max(int(last), said.get(session, 0))
    return said


async def survivors(folder: Path) -> dict[str, int]:
    """Session -> last event, of a store that a scribe left. Fails when anything of it is not as it was written."""
    log = await SqliteLog.open(folder)
    try:
        found = {}
        assert log.damaged == {}
        for row in await log.sessions():
            head = await log.verify(row.session)
            appends = await log.read(row.session, limit=1_000_000)
            assert [append.blob for append in appends] == [blob(row.session, append.first) for append in appends]
            tasks = {f"t{append.last}": append.blob[:100] for append in appends}
            assert dict([entry async for entry in log.archive(row.session)]) == tasks
            found[row.session] = head.seq
        return found
    finally:
        await log.close()


async def scribble(log: Log, session: str) -> None:
    if session not in {row.session for row in await log.sessions()}:
        await log.create(session, 1)
    head = await log.acquire(session)
    while True:
        content = blob(session, head.seq + 1)
        archive = [(f"t{head.seq + EVENTS}", content[:100])]
        head = await log.append(session, head.epoch, head.seq, os.urandom(16), EVENTS, content, archive)
        os.write(1, f"{session} {head.seq}\n".encode())
        if head.seq // EVENTS % 64 == 0:
            await log.snapshot(session, head.seq, content)


async def main() -> None:
    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        DURABILITY["synchronous"] = int(sys.argv[2])
    if len(sys.argv) > 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
    log = await SqliteLog.open(folder)
    answers = await asyncio.gather(*(scribble(log, session) for session in SESSIONS), return_exceptions=True)
    for answer in answers:
        assert isinstance(answer, SkepError), repr(answer)
        os.write(2, f"{type(answer).__name__}: {answer}\n".encode())
    await log.close()


if __name__ == "__main__":
    asyncio.run(main())
