"""Logs and blobs in memory: for tests, for the simulator, for sessions that need not outlive their process.

What they hold lies on an `EphemeralDisk`, so that a writer that is started again finds what the dead one wrote. No threads, no
clock, no randomness, and nothing is ever awaited: every call is done when it returns.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from msgspec import Struct, field

from skep.errors import Unavailable
from skep.store import Append, Head, Packed, Recorded, SessionRow, Taken, chain, letters
from skep.store.blobs import LARGEST_BLOB, check_digest, lost, open_regular, spoiled, too_large
from skep.store.ephemeral_mail import Ears, EphemeralMail


class EphemeralSession(Struct):
    """All that is kept of one session; `archive` and `snapshots` hold (seal, blob)."""

    created: int
    head: Head
    sealed: bytes
    note: str = ""
    owner: str = ""
    #: Since which epoch it is the business of whoever carries sessions out; 0 = it rests.
    awake: int = 0
    mail: EphemeralMail = field(default_factory=EphemeralMail)
    log: list[Append] = field(default_factory=list)
    snapshots: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    archive: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    #: (task, attempt, part) -> where its recording is.
    recordings: dict[tuple[str, int, str], Recorded] = field(default_factory=dict)

    def before(self, index: int) -> Append | None:
        """The append before the one at `index` of the log."""
        return self.log[index - 1] if index > 0 else None

    def hash_at(self, seq: int) -> bytes | None:
        """The hash of the append that ends with event `seq`."""
        index = bisect_left(self.log, seq, key=lambda append: append.last)
        found = self.log[index] if index < len(self.log) else None
        return found.hash if found and found.last == seq else None


class EphemeralDisk:
    """What lies under any number of `EphemeralLog`s, `EphemeralBlobs` and inboxes, and stays when they go.

    Args:
        key: of the hash chain; nobody needs to keep this one.
    """

    def __init__(self, key: bytes = bytes(32)) -> None:
        self.key = key
        self.sessions: dict[str, EphemeralSession] = {}
        self.blobs: dict[str, tuple[bytes, int]] = {}
        #: Kind -> rest of the name -> until when, holder, note.
        self.leases: dict[str, dict[str, tuple[int, str, str]]] = {}
        self.ears = Ears()
        #: Session, task and attempt -> until when what it prints is shown, and that.
        self.shown: dict[tuple[str, str, int], tuple[int, bytes]] = {}
        #: Name -> until when it lies there to be taken, and that.
        self.handoffs: dict[str, tuple[int, bytes]] = {}
        #: Name -> who hears when something is laid down there.
        self.bells: dict[str, list[Callable[[], None]]] = {}
        #: Session -> commit -> where it can be had.
        self.commits: dict[str, dict[str, Packed]] = {}


class EphemeralLog:
    """The port `Log` over an `EphemeralDisk`."""

    lacks = frozenset({"durable"})

    def __init__(self, disk: EphemeralDisk | None = None) -> None:
        self._disk = disk or EphemeralDisk()
        self._key = self._disk.key
        self._closed = False
        #: The epochs in which sessions were acquired here.
        self._epochs: dict[str, int] = {}

    async def create(self, session: str, at: int) -> None:
        """See `Log.create`."""
        chain.check_name(session)
        if session in self._sessions():
            raise chain.taken(session)
        self._sessions()[session] = EphemeralSession(at, chain.EMPTY, chain.seal_head(self._key, session, chain.EMPTY))

    async def acquire(self, session: str, owner: str = "", after: int = -1) -> Head:
        """See `Log.acquire`."""
        kept = self._session(session)
        last, before = kept.before(len(kept.log)), kept.before(len(kept.log) - 1)
        chain.check_page(self._key, session, before, kept.log[-1:])
        chain.check_end(self._key, session, kept.head, kept.sealed, last)
        chain.check_follows(session, kept.head.epoch, after)
        kept.owner = owner
        kept.awake = self._epochs[session] = kept.head.epoch + 1
        return self._end(session, kept, Head(kept.head.epoch + 1, kept.head.seq, kept.head.hash))

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
        """See `Log.append`."""
        letters.check_taken(session, taken)
        kept = self._session(session)
        tail = chain.Tail.of(kept.head, kept.before(len(kept.log)))
        fresh = chain.extend(self._key, session, tail, epoch, seq, batch, count, blob)
        if fresh is None:
            return kept.head
        kept.mail.check(session, taken)
        kept.awake = epoch
        kept.log.append(fresh)
        for task, entry in archive:
            kept.archive[task] = (chain.seal_archived(self._key, session, task, entry), entry)
        self._disk.ears.append(session, fresh)
        for sender, answer in kept.mail.take(taken):
            self._disk.ears.answer(session, sender, answer)
        return self._end(session, kept, Head(epoch, fresh.last, fresh.hash))

    async def read(self, session: str, after: int = 0, limit: int = 1000) -> list[Append]:
        """See `Log.read`."""
        kept = self._session(session)
        start = bisect_right(kept.log, after, key=lambda append: append.last)
        page = kept.log[start : start + limit]
        chain.check_page(self._key, session, kept.before(start), page)
        if start + limit > len(kept.log):
            chain.check_end(self._key, session, kept.head, kept.sealed, kept.before(len(kept.log)))
        return page

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
        kept = self._session(session)
        await self.read(session, limit=len(kept.log) + 1)
        return kept.head

    async def snapshot(self, session: str, seq: int, blob: bytes) -> None:
        """See `Log.snapshot`."""
        kept = self._session(session)
        there = kept.hash_at(seq)
        if there is None:
            raise chain.no_boundary(session, seq)
        kept.snapshots[seq] = (chain.seal_snapshot(self._key, session, seq, there, blob), blob)
        kept.snapshots = {at: kept.snapshots[at] for at in self._whole(session, kept)[:2]}

    async def latest(self, session: str) -> tuple[int, bytes] | None:
        """See `Log.latest`."""
        kept = self._session(session)
        for seq in self._whole(session, kept):
            return seq, kept.snapshots[seq][1]
        return None

    async def archived(self, session: str, tasks: Sequence[str]) -> dict[str, bytes]:
        """See `Log.archived`."""
        kept = self._session(session)
        return {task: self._archived(session, kept, task) for task in tasks if task in kept.archive}

    async def archive(self, session: str, after: str = "", limit: int = 1000) -> AsyncIterator[tuple[str, bytes]]:
        """See `Log.archive`."""
        kept = self._session(session)
        for task in sorted(task for task in kept.archive if task > after):
            yield task, self._archived(session, kept, task)

    async def sessions(self, after: str = "") -> list[SessionRow]:
        """See `Log.sessions`."""
        names = list(self._sessions())
        return self._rows(names[names.index(after) + 1 :] if after in self._sessions() else names)

    async def awake(self) -> list[SessionRow]:
        """See `Log.awake`."""
        return self._rows([name for name, kept in self._sessions().items() if kept.awake])

    async def rest(self, session: str) -> None:
        """See `Log.rest`."""
        kept = self._session(session)
        if kept.awake == self._epochs.get(session):
            kept.awake = 0

    async def row(self, session: str) -> SessionRow:
        """See `Log.row`."""
        self._session(session)
        return self._rows([session])[0]

    def _rows(self, names: Iterable[str]) -> list[SessionRow]:
        there = [(name, self._disk.sessions[name]) for name in names]
        rows = [SessionRow(name, kept.created, kept.head, kept.note, kept.owner) for name, kept in there]
        return sorted(rows, key=lambda row: row.created)

    async def annotate(self, session: str, note: str) -> None:
        """See `Log.annotate`."""
        chain.check_note(session, note)
        self._session(session).note = note

    async def drop(self, session: str, head: Head | None = None) -> None:
        """See `Log.drop`."""
        kept = self._session(session)
        chain.check_unchanged(session, kept.head, head, len(kept.mail.inbox))
        del self._sessions()[session]

    async def close(self) -> None:
        """See `Log.close`."""
        self._closed = True

    def _sessions(self) -> dict[str, EphemeralSession]:
        if self._closed:
            raise Unavailable("the store is closed", fix="Open it again.")
        return self._disk.sessions

    def _session(self, session: str) -> EphemeralSession:
        kept = self._sessions().get(session)
        if kept is None:
            raise chain.missing(session)
        return kept

    def _end(self, session: str, kept: EphemeralSession, head: Head) -> Head:
        kept.head, kept.sealed = head, chain.seal_head(self._key, session, head)
        return head

    def _whole(self, session: str, kept: EphemeralSession) -> list[int]:
        """Where the snapshots stand that are what was written, newest first."""
        whole = []
        for seq, (sealed, blob) in kept.snapshots.items():
            there = kept.hash_at(seq)
            if there is not None and sealed == chain.seal_snapshot(self._key, session, seq, there, blob):
                whole.append(seq)
        return sorted(whole, reverse=True)

    def _archived(self, session: str, kept: EphemeralSession, task: str) -> bytes:
        sealed, blob = kept.archive[task]
        chain.check_archived(self._key, session, task, blob, sealed)
        return blob


class EphemeralBlobs:
    """The port `Blobs` over an `EphemeralDisk`.

    Args:
        now: the time in ms, stamped on what is put.
        largest: bytes of one blob.
    """

    def __init__(self, disk: EphemeralDisk, now: Callable[[], int], largest: int = LARGEST_BLOB) -> None:
        self._disk = disk
        self._now = now
        self._largest = largest
        self._pins: Counter[str] = Counter()

    async def put(self, data: bytes) -> str:
        """See `Blobs.put`. Raises Exhausted for more than `largest` bytes."""
        if len(data) > self._largest:
            raise too_large(len(data), self._largest)
        digest = hashlib.sha256(data).hexdigest()
        self._pins[digest] += 1
        self._disk.blobs[digest] = (data, self._now())
        return digest

    async def put_file(self, path: str) -> tuple[str, int]:
        """See `Blobs.put_file`."""
        with open_regular(path) as file:
            data = file.read(self._largest + 1)
        return await self.put(data), len(data)

    async def get(self, digest: str) -> bytes:
        """See `Blobs.get`."""
        check_digest(digest)
        if digest not in self._disk.blobs:
            raise lost(digest)
        data = self._disk.blobs[digest][0]
        if hashlib.sha256(data).hexdigest() != digest:
            raise spoiled(digest)
        return data

    async def unpin(self, digest: str) -> None:
        """See `Blobs.unpin`."""
        if self._pins[digest] <= 1:
            del self._pins[digest]
        else:
            self._pins[digest] -= 1

    async def sweep(self, marked: frozenset[str], older_than: int) -> int:
        """See `Blobs.sweep`."""
        swept = [
            digest
            for digest, (_, at) in self._disk.blobs.items()
            if digest not in marked and digest not in self._pins and at < older_than
        ]
        for digest in swept:
            del self._disk.blobs[digest]
        return len(swept)
