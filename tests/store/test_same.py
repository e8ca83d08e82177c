"""The store in memory and the one on disk answer the same, hash for hash, whatever is asked of them: the simulator is honest."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skep.errors import SkepError
from skep.store import Log
from skep.store.ephemeral import EphemeralDisk, EphemeralLog
from skep.store.sqlite import SqliteLog

_SESSIONS = st.sampled_from(["a", "b"])
_TASKS = st.sampled_from(["t1", "t2", "t10"])
_SMALL = st.integers(-1, 4)
_BYTES = st.binary(max_size=4)
_BATCH = st.integers(0, 5).map(lambda n: n.to_bytes(16, "big"))
_ENTRIES = st.lists(st.tuples(_TASKS, _BYTES), max_size=2)

#: Calls by name; an append's epoch and end are given as how far they are off the truth.
_CALLS = st.one_of(
    st.tuples(st.just("create"), _SESSIONS, st.integers(0, 3)),
    st.tuples(st.just("acquire"), _SESSIONS),
    st.tuples(st.just("write"), _SESSIONS, _BATCH, st.integers(1, 3), _BYTES, _ENTRIES),
    st.tuples(st.just("append"), _SESSIONS, _SMALL, _SMALL, _BATCH, st.integers(0, 3), _BYTES, _ENTRIES),
    st.tuples(st.just("read"), _SESSIONS, _SMALL, st.integers(1, 3)),
    st.tuples(st.just("verify"), _SESSIONS),
    st.tuples(st.just("snapshot"), _SESSIONS, _SMALL, _BYTES),
    st.tuples(st.just("latest"), _SESSIONS),
    st.tuples(st.just("archived"), _SESSIONS, st.lists(_TASKS)),
    st.tuples(st.just("archive"), _SESSIONS, st.sampled_from(["", "t1", "t2"]), st.integers(1, 2)),
    st.tuples(st.just("annotate"), _SESSIONS, st.text(max_size=3)),
    st.tuples(st.just("drop"), _SESSIONS),
    st.tuples(st.just("sessions")),
    st.tuples(st.just("reopen")),
)


async def answer(log: Log, name: str, *args: Any) -> Any:
    """What a call returns, or how it is refused."""
    try:
        if name == "write":
            session, *rest = args
            heads = {row.session: row.head for row in await log.sessions() if row.session == session}
            head = heads[session] if session in heads else await log.acquire(session)
            return await log.append(session, head.epoch, head.seq, *rest)
        if name == "archive":
            return [entry async for entry in log.archive(*args)]
        return await getattr(log, name)(*args)
    except SkepError as error:
        return type(error).__name__, error.message


async def same(folder: Path, calls: list[tuple[Any, ...]]) -> None:
    disk_log = await SqliteLog.open(folder)
    try:
        memory = EphemeralDisk((folder / "key").read_bytes())
        memory_log = EphemeralLog(memory)
        for call in (("create", "a", 1), ("acquire", "a"), *calls, ("sessions",), ("read", "a"), ("latest", "a")):
            if call == ("reopen",):
                await disk_log.close()
                disk_log, memory_log = await SqliteLog.open(folder), EphemeralLog(memory)
                continue
            assert await answer(disk_log, *call) == await answer(memory_log, *call), call
    finally:
        await disk_log.close()


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_CALLS, min_size=1, max_size=25))
def test_both_stores_answer_the_same(calls: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(same(Path(folder) / "state", calls))
