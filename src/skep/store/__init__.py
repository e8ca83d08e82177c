"""Ports of the store: an append-only Log per session, and Blobs by digest; where it is shared, Inboxes and Leases as well.

A backend is one file beside this one and passes `tests/contracts/log.py` and `tests/contracts/blobs.py`, a shared one also
`tests/contracts/inbox.py`, `tests/contracts/leases.py`, `tests/contracts/listing.py`, `tests/contracts/recordings.py` and
`tests/contracts/handoffs.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
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
    `sign`: the hive's signature of all that (`store.ring`), where the store is shared; empty in what was written before.
    """

    first: int
    last: int
    epoch: int
    batch: bytes
    blob: bytes
    hash: bytes
    sign: bytes = b""


class SessionRow(Struct, frozen=True, gc=False):
    """What the store knows of a session without reading its log. `note` is a small JSON text that the runtime keeps there."""

    session: str
    created: int
    head: Head
    note: str = ""
    #: Who acquired it last, where the store is shared.
    owner: str = ""


class Letter(Struct, frozen=True, gc=False):
    """What somebody put into a session's inbox: where it lies there, from whom, the how many-th of theirs it is (from 1).

    A place means something to its store only; a later one is never given again, so it says which letter is meant.
    """

    place: str
    sender: str
    number: int
    body: bytes


class Taken(Struct, frozen=True, gc=False):
    """A letter that was decided, and the answer that its sender is to find; None = nobody waits for one."""

    place: str
    sender: str
    number: int
    answer: bytes | None = None


class Answer(Struct, frozen=True, gc=False):
    """The answer to a sender's letter of that number."""

    number: int
    body: bytes


class Lease(Struct, frozen=True, gc=False):
    """Who holds something, for how much longer at most (ms), and a small text of theirs."""

    holder: str
    left: int
    note: str = ""


class Packed(Struct, frozen=True, gc=False):
    """Where a commit of a session can be had: the digest of its bundle, and what that builds on.

    `digest`: of the blob; empty if `needs` already lead to it. `needs`: commits listed before it. `depth`: how many bundles one
    after the other it takes to have it, from a commit that needs none (0).
    """

    digest: str
    needs: tuple[str, ...] = ()
    depth: int = 0


class Recorded(Struct, frozen=True, gc=False):
    """What was kept of a recording: its blob (empty: nothing was printed), its bytes in there unpacked, the node that made it.

    `invited`: that node itself says so, which was only invited: whether it ran that attempt the log must say. `doubt`: why
    nothing else of this is to be believed; empty if it is.
    """

    digest: str
    size: int
    node: str
    invited: bool = False
    doubt: str = ""


class Log(Protocol):
    """Append-only logs, one per session, each with one writer at a time.

    Every method raises `skep.errors.Unavailable` when the store does not answer (after `append`: outcome unknown),
    `NotFound` for a session that was never created, `Bug` or `Invalid` for a log that fails its integrity check.
    """

    #: What this backend does not give: "durable", "shared", ...; printed by doctor, checked by the contract suite.
    lacks: frozenset[str]

    async def create(self, session: str, at: int) -> None:
        """Makes an empty log. Raises Conflict if the session exists."""

    async def acquire(self, session: str, owner: str = "", after: int = -1) -> Head:
        """Becomes the session's only writer: raises the epoch durably and returns the head. Earlier epochs can write no more.

        Args:
            owner: who that is; kept beside the head where the store is shared.
            after: the epoch that is to be followed: Conflict if there was another one meanwhile. -1 = whichever.
        """

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
        """Writes `count` events after event `seq`, durably, or nothing.

        Args:
            epoch: the caller's, from `acquire`; another one is refused with Conflict.
            seq: the last event the caller knows; another one is refused with Conflict, unless the log's last append carries
                this very `batch` (16 random bytes): then it was ours and the head is returned.
            archive: finished tasks that leave the live state in this append, (task id, blob); written in the same commit.
            taken: letters that these events decide; they leave the inbox, and their answers are left, in the same commit.
                Conflict, and nothing is written, if one is not in the inbox: it was decided before. Exhausted for an answer
                that is too large, Bug where the store is not shared.
        """

    async def read(self, session: str, after: int = 0, limit: int = 1000) -> list[Append]:
        """Appends whose `last` is greater than `after`, oldest first, at most `limit` of them; checks the chain between them.

        Raises Invalid, naming the first bad event, when a hash does not fit.
        """

    def follows(self, session: str, head: Head, append: Append) -> bool:
        """Whether an append that was pushed is the very one that comes after `head`, with a good seal."""

    def seal(self, text: bytes) -> bytes:
        """What proves, to whoever holds the store's key, that somebody who holds it wrote this text (32 bytes)."""

    def seal_to(self, node: str, text: bytes) -> bytes:
        """As `seal`, for one node: to that one it is proof also where it has an invitation only, and not the store's key."""

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

    async def sessions(self, after: str = "") -> list[SessionRow]:
        """All sessions, oldest first; or those of them that were made after session `after`, if that is there."""

    async def awake(self) -> list[SessionRow]:
        """All sessions but those that rest, oldest first. Where the store is not shared none does."""

    async def rest(self, session: str) -> None:
        """Says that nothing goes on in a session: it rests until its next append, or until somebody acquires it.

        For its writer, while no append of its own is under way: nothing changes if somebody else acquired it meanwhile.
        """

    async def row(self, session: str) -> SessionRow:
        """One session."""

    async def annotate(self, session: str, note: str) -> None:
        """Replaces the session's note (at most 4 KiB)."""

    async def drop(self, session: str, head: Head | None = None) -> None:
        """Removes a session whole: log, snapshots, archive.

        Args:
            head: where its log has to end, under that epoch, and nobody's letter may wait: Conflict, and nothing is removed, if
                something was written since. None = wherever it ends.
        """

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


#: What a listener is told: something new, or None when it may have missed something and should look by itself.
Heard = Append | Letter | Answer | None


class Inbox(Protocol):
    """The inboxes of sessions in a shared store: what others want of a session's writer, and its answers. Durable, each once.

    Every method raises `skep.errors.Unavailable` when the store does not answer, and, but for `forget` and `listen`, `NotFound`
    for a session that was never created. `Log.drop` takes a session's inbox along.
    """

    async def put(self, session: str, sender: str, number: int, body: bytes) -> None:
        """Lays a letter into the inbox, unless it is there or was taken already: repeating it changes nothing.

        A sender's letters lie in the order of their numbers. Many may be under way at once; what is called first goes first.

        Args:
            sender: who puts it there; random for each process.
            number: counts up from 1 for each sender, without a gap: else a letter that was lost on its way could not be told
                from one that was put. The number of a letter that was refused with Exhausted is free again.

        Raises:
            Exhausted: the inbox is full, the body is too large, or the sender has too many answers to read: nothing was put.
            Unavailable: outcome unknown, or a letter with a lower number is not there yet: put that one, then this one again.
        """

    async def letters(self, session: str, after: str = "", limit: int = 1000) -> list[Letter]:
        """At most `limit` letters behind the place `after`, oldest first. Who put each is known for certain (`senders.node_of`).

        Raises `skep.store.letters.Unsealed` when one of them was put there without the key of the hive: it has the others.
        """

    async def waiting(self, sessions: Sequence[str]) -> set[str]:
        """Those of the sessions in whose inboxes letters lie, in one go; one that was never created has none."""

    async def settle(self, session: str, epoch: int, taken: Sequence[Taken]) -> None:
        """Removes letters that led to no event, and leaves their answers; those that are not there any more are left alone.

        Raises:
            Conflict: the epoch is over; nothing was changed.
            Exhausted: an answer is too large; nothing was changed.
        """

    async def answers(self, session: str, sender: str, after: int = 0, limit: int = 1000) -> list[Answer]:
        """At most `limit` answers to this sender's letters with a number above `after`, lowest number first.

        Those up to `after` are not kept: whoever asks has read them, and waits for no letter up to that number.
        """

    async def forget(self, session: str, sender: str) -> None:
        """The sender is gone for good: its answers and its count are not kept, and no answer is left for it any more."""

    async def listen(self, session: str, hear: Callable[[Heard], None], sender: str = "") -> Callable[[], Awaitable[None]]:
        """Hears of what is new at once; returns how to stop. `hear` is called on the event loop and must not wait.

        Without a `sender` it hears the session's letters, with one its committed appends and the answers to that sender. It
        listens when this returns, so who reads after that misses nothing. Nothing else is promised: what is lost on the way is
        not told again, except by a None after a connection was made anew, or where something is too large to be told.
        """


class Leases(Protocol):
    """Who is there, in a shared store: names (`kind/...`) that somebody holds for a while, by the clock of the store.

    For liveness only: between the answer and what is done about it the lease may be over. Every method raises
    `skep.errors.Unavailable` when the store does not answer, `Invalid` for a name, holder or duration that none can have.
    """

    async def hold(self, name: str, holder: str, ttl: int, note: str = "") -> bool:
        """Takes or renews a lease for `ttl` ms from now; False, and nothing changes, if somebody else holds it.

        Raises Exhausted when there are too many leases of the kind, Invalid for a note of more than 4 KiB.
        """

    async def release(self, name: str, holder: str) -> None:
        """Gives a lease up; nothing if somebody else holds it, or nobody."""

    async def held(self, kind: str) -> dict[str, Lease]:
        """All leases whose name begins with `kind/` and that are not over, by the rest of their name, in its order."""


class Listing(Protocol):
    """The commits of sessions that can be had from the blobs of a shared store. Durable.

    It is no more than a help to find them: a bundle is believed only as far as its commit's id says what is in it.
    """

    async def put(self, session: str, commit: str, packed: Packed) -> Packed:
        """Lists a commit, unless it is listed: the first stays. Returns what is listed now."""

    async def get(self, session: str, commit: str) -> Packed | None:
        """Where a commit can be had; None if it is not listed."""

    async def all(self, session: str) -> dict[str, Packed]:
        """Every commit of a session that is listed: their blobs must stay."""

    async def blobs(self, session: str) -> tuple[set[str], list[str]]:
        """The digests of a session's bundles, whose blobs must stay; and commits of which nobody can tell where they are."""

    async def drop(self, session: str) -> None:
        """Forgets a session's commits; nothing listed is fine."""


class Recordings(Protocol):
    """Which blobs hold what attempts of a session printed, in a shared store. Durable; `Log.drop` takes it along.

    Every method raises `skep.errors.Unavailable` when the store does not answer.
    """

    async def put(self, session: str, task: str, n: int, part: str, recorded: Recorded) -> None:
        """Says where the recording of an attempt is; the last word counts. Raises NotFound if there is no such session.

        Args:
            n: the attempt.
            part: of it: empty is what its agent printed; `verify` and `merge` are checks of what it made.
        """

    async def get(self, session: str, task: str, of: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Recorded]:
        """What is known of some attempts and parts of a task; of the others nothing is.

        What was not put by somebody with the key of the hive is in doubt (`Recorded.doubt`); the rest is as good as without it.
        """

    async def show(self, session: str, task: str, n: int, data: bytes, ttl: int) -> None:
        """Lets others see what an attempt has printed so far, for `ttl` ms, in place of what was shown of it before."""

    async def shown(self, session: str, task: str, n: int, node: str = "") -> bytes:
        """What is shown of an attempt now; empty if nothing is.

        Raises Invalid for what was not put by somebody with the key of the hive, nor by `node`, which may be only invited.
        """

    async def blobs(self, session: str) -> set[str]:
        """The digests of all recordings of a session: these blobs must stay."""


class Handoffs(Protocol):
    """What one process lays down for another to take, in a shared store: once, and for a moment only. Not durable.

    Who can reach the store can lay down and take: what is laid down is sealed by whoever does. Every method raises
    `skep.errors.Unavailable` when the store does not answer; what was to be taken may then be lost.
    """

    async def put(self, name: str, data: bytes, ttl: int) -> None:
        """Lays something down for `ttl` ms, in place of what lies there under that name, and rings."""

    async def take(self, name: str) -> bytes | None:
        """Takes what lies there under a name, so that it lies there no more; None if nothing does."""

    async def ring(self, name: str) -> None:
        """Whoever listens to a name hears it."""

    async def listen(self, name: str, hear: Callable[[], None]) -> Callable[[], Awaitable[None]]:
        """Hears of every ring at once; returns how to stop. `hear` is called on the event loop and must not wait.

        It listens when this returns, so who looks after that misses nothing. Nothing else is promised: a ring may be lost, and it
        may hear one that was none.
        """


class Stores(Struct, frozen=True, kw_only=True):
    """Where a workspace keeps everything; what others put there is there if they share it. `close` ends all of it."""

    log: Log
    blobs: Blobs
    inbox: Inbox | None = None
    leases: Leases | None = None
    listing: Listing | None = None
    recordings: Recordings | None = None
    handoffs: Handoffs | None = None
    #: What tells a shared store from others, for places that both may use (hex); the same on all machines.
    name: str = ""
    #: The node that this process was invited as; empty = it has the store's key, and may do everything.
    invited: str = ""
    #: Makes an invitation for a node of a name, if the store is shared. Raises Denied for who was only invited.
    invite: Callable[[str], Awaitable[bytes]] | None = None
    #: Reaches all that is otherwise only reached when it is needed. Raises what keeps it from being of use here.
    ready: Callable[[], Awaitable[None]] | None = None
    close: Callable[[], Awaitable[None]]
