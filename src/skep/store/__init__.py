"""Ports of the store: an append-only Log per session, and Blobs by digest.

A backend is one file beside this one and passes `tests/contracts/log.py` and `tests/contracts/blobs.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec import Struct


class Head(Struct, frozen=True, gc=False):
    """Where a session's log ends: who may write it (epoch), the number of its last event, the hash of its last append."""

    epoch: int
    seq: int
    hash: bytes


class Append(Struct, frozen=True, gc=False):
    """One append as it lies in the log: events `first`..`last` in `blob` (see `store.codec`), chained to the one before.

    `hash` = HMAC-SHA256(key, previous hash + session + epoch + first + last + batch + blob), fields length-prefixed.
    """

    first: int
    last: int
    epoch: int
    batch: bytes
    blob: bytes
    hash: bytes


class SessionRow(Struct, frozen=True, gc=False):
    """What the store knows of a session without reading its log. `note` is a small JSON text that the runtime keeps there."""

    session: str
    created: int
    head: Head
    note: str = ""


class Log(Protocol):
    """Append-only logs, one per session, each with one writer at a time.

    Every method raises `skep.errors.Unavailable` when the store does not answer (after `append`: outcome unknown),
    `NotFound` for a session that was never created, `Bug` or `Invalid` for a log that fails its integrity check.
    """

    #: What this backend does not give: "durable", "shared", ...; printed by doctor, checked by the contract suite.
    lacks: frozenset[str]

    async def create(self, session: str, at: int) -> None:
        """Makes an empty log. Raises Conflict if the session exists."""

    async def acquire(self, session: str) -> Head:
        """Becomes the session's only writer: raises the epoch durably and returns the head. Earlier epochs can write no more."""

    async def append(
        self,
        session: str,
        epoch: int,
        seq: int,
        batch: bytes,
        count: int,
        blob: bytes,
        archive: Sequence[tuple[str, bytes]] = (),
    ) -> Head:
        """Writes `count` events after event `seq`, durably, or nothing.

        Args:
            epoch: the caller's, from `acquire`; another one is refused with Conflict.
            seq: the last event the caller knows; another one is refused with Conflict, unless the log's last append carries
                this very `batch` (16 random bytes): then it was ours and the head is returned.
            archive: finished tasks that leave the live state in this append, (task id, blob); written in the same commit.
        """

    async def read(self, session: str, after: int = 0, limit: int = 1000) -> list[Append]:
        """Appends whose `last` is greater than `after`, oldest first, at most `limit` of them; checks the chain between them.

        Raises Invalid, naming the first bad event, when a hash does not fit.
        """

    async def verify(self, session: str) -> Head:
        """Checks the whole chain of a session and returns the head. Raises Invalid, naming the first bad event."""

    async def snapshot(self, session: str, seq: int, blob: bytes) -> None:
        """Keeps the state after event `seq` (a cache: older ones are dropped, the log stays)."""

    async def latest(self, session: str) -> tuple[int, bytes] | None:
        """The newest snapshot that is whole (checksum), or None."""

    async def archived(self, session: str, tasks: Sequence[str]) -> dict[str, bytes]:
        """Archived tasks by id; those that are not there are left out."""

    def archive(self, session: str, after: str = "", limit: int = 1000) -> AsyncIterator[tuple[str, bytes]]:
        """All archived tasks of a session after task `after`, ordered by id, fetched `limit` at a time."""

    async def sessions(self) -> list[SessionRow]:
        """All sessions, oldest first."""

    async def annotate(self, session: str, note: str) -> None:
        """Replaces the session's note (at most 4 KiB)."""

    async def drop(self, session: str) -> None:
        """Removes a session whole: log, snapshots, archive."""

    async def close(self) -> None:
        """Flushes and closes. After it the log can be opened elsewhere."""


class Blobs(Protocol):
    """Bytes by SHA-256 digest (hex). What is put is durable when `put` returns."""

    async def put(self, data: bytes) -> str:
        """Keeps data and pins it; returns its digest. Keeping the same bytes again is the same blob."""

    async def put_file(self, path: str) -> tuple[str, int]:
        """Like `put` for a file, without reading it whole into memory: returns digest and size."""

    async def get(self, digest: str) -> bytes:
        """The bytes, checked against the digest. Raises NotFound, or Invalid when the bytes do not fit."""

    async def unpin(self, digest: str) -> None:
        """The append that names the digest is committed: from now on `sweep` decides by its marks."""

    async def sweep(self, marked: frozenset[str], older_than: int) -> int:
        """Removes unpinned blobs that are not marked and were put before `older_than` (ms); returns how many."""
