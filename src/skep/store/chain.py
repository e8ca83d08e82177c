"""The chain: what ties each append of a log to the one before it, and the one rule of who may append what.

Every append carries an HMAC-SHA256 (RFC 2104) over the hash before it and all of itself, so that an edit, a cut, a swap or a
removal shows to whoever holds the key. The tail of a log is sealed beside it, so that cutting off its end shows too, unless the
whole store is put back to an older state of itself.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable

from msgspec import Struct

from skep.errors import Conflict, Exhausted, Invalid, NotFound
from skep.store import Append, Head

#: The hash before the first append.
GENESIS = bytes(32)
#: The number of the last event that a log can hold.
LAST_EVENT = 2**40 - 1
#: Bytes of one append.
LARGEST_APPEND = 64 * 2**20
#: Characters of a session's name, bytes of its note (UTF-8), bytes of a batch id.
LONGEST_NAME = 200
LONGEST_NOTE = 4096
BATCH = 16


class TooLarge(Exhausted):
    """An append has more bytes than one may have: it can never be made. (A store that is full may be emptied.)"""


_REPAIR = "Put the state folder back from a backup, or import an exported session; what comes before the damage is whole."


#: The head of a log that nobody has written yet.
EMPTY = Head(0, 0, GENESIS)


class Tail(Struct, frozen=True, gc=False):
    """The end of a log: its head, and the first event and the batch of its last append."""

    head: Head
    first: int = 0
    batch: bytes = b""

    @staticmethod
    def of(head: Head, last: Append | None) -> Tail:
        """The end of a log that has `head` and whose last append is `last`."""
        return Tail(head, last.first, last.batch) if last else Tail(head)


def pack(*parts: bytes | str | int) -> bytes:
    """Parts, each with its length in front, so that no two lists of parts look alike."""
    pieces = []
    for part in parts:
        if isinstance(part, int):
            part = b"%d" % part
        elif isinstance(part, str):
            part = part.encode("utf-8", "surrogatepass")
        pieces.append(len(part).to_bytes(8, "big"))
        pieces.append(part)
    return b"".join(pieces)


def seal(key: bytes, *parts: bytes | str | int) -> bytes:
    """HMAC-SHA256 over packed parts."""
    return hmac.digest(key, pack(*parts), "sha256")


def link(key: bytes, session: str, before: bytes, first: int, last: int, epoch: int, batch: bytes, blob: bytes) -> bytes:
    """The hash of an append of these fields that follows one whose hash is `before`."""
    return seal(key, before, session, epoch, first, last, batch, blob)


def seal_head(key: bytes, session: str, head: Head) -> bytes:
    """What proves that the log of `session` ends at `head`."""
    return seal(key, "head", session, head.epoch, head.seq, head.hash)


def seal_archived(key: bytes, session: str, task: str, blob: bytes) -> bytes:
    """What proves that `blob` is what was archived of a task."""
    return seal(key, "archived", session, task, blob)


def seal_snapshot(key: bytes, session: str, seq: int, there: bytes, blob: bytes) -> bytes:
    """What proves that `blob` is the state after event `seq` of the very log whose append up to it has the hash `there`."""
    return seal(key, "snapshot", session, seq, there, blob)


def seal_text(key: bytes, text: bytes) -> bytes:
    """What proves that somebody who has the key wrote a text that lies outside of the store."""
    return seal(key, "text", text)


def node_secret(key: bytes, node: str) -> bytes:
    """The secret of the node of a name: whoever has only that cannot tell another one's, nor the key."""
    return seal(key, "node", node)


def check_archived(key: bytes, session: str, task: str, blob: bytes, sealed: bytes) -> None:
    """Raises Invalid when what was archived of a task is not what was written."""
    if not hmac.compare_digest(sealed, seal_archived(key, session, task, blob)):
        raise Invalid(f"session {session}: what is kept of the finished task {task} is damaged", fix=_REPAIR)


def extend(key: bytes, session: str, tail: Tail, epoch: int, seq: int, batch: bytes, count: int, blob: bytes) -> Append | None:
    """The append that follows `tail`, or None if `tail` is that very append already (its answer was lost).

    The arguments are those of `Log.append`.

    Raises:
        Conflict: another epoch, or another end of the log than the caller knows.
        Invalid: no events, or a batch id that is none.
        TooLarge: more bytes than one append may have.
        Exhausted: the log can hold no more events.
    """
    head = tail.head
    if count < 1 or len(batch) != BATCH:
        raise Invalid(f"session {session}: an append needs at least one event and a batch id of {BATCH} bytes")
    if len(blob) > LARGEST_APPEND:
        raise TooLarge(
            f"session {session}: an append of {len(blob)} bytes; at most {LARGEST_APPEND} fit",
            fix="Submit fewer tasks at a time.",
        )
    if epoch != head.epoch or epoch == 0:  # 0: a log that nobody has acquired yet
        raise Conflict(
            f"session {session} has another owner: epoch {head.epoch} writes, this is epoch {epoch}",
            fix="Stop here; the other owner goes on with the session.",
        )
    if seq != head.seq:
        if batch == tail.batch and seq + 1 == tail.first and seq + count == head.seq:
            return None
        raise Conflict(
            f"session {session} ends at event {head.seq}, not at {seq}: somebody else wrote to it",
            fix="Read the session again and repeat the command.",
        )
    if seq + count > LAST_EVENT:
        raise Exhausted(f"session {session} holds {seq} events; it can hold no more", fix="Go on in a fork of it.")
    fields = (seq + 1, seq + count, epoch, batch, blob)
    return Append(*fields, link(key, session, head.hash, *fields))


def check_follows(session: str, epoch: int, after: int) -> None:
    """Raises Conflict if epoch `epoch` is not the one that is to be followed, `after`; -1 follows any."""
    if after not in (-1, epoch):
        raise Conflict(
            f"session {session} has another owner: epoch {epoch} came after epoch {after}",
            fix="Leave it to that owner.",
        )


def follows(key: bytes, session: str, head: Head, append: Append) -> bool:
    """Whether an append is the one that comes after `head`, with a good seal."""
    return in_place(head, append) and fits(key, session, head.hash, append)


def in_place(head: Head, append: Append) -> bool:
    """Whether an append says of itself that it comes after `head`."""
    return append.first == head.seq + 1 and append.last >= append.first and append.epoch >= head.epoch


def fits(key: bytes, session: str, before: bytes, append: Append) -> bool:
    """Whether the hash of an append is that of what it holds, behind one whose hash is `before`."""
    fields = (append.first, append.last, append.epoch, append.batch, append.blob)
    return hmac.compare_digest(append.hash, link(key, session, before, *fields))


def check_page(key: bytes, session: str, before: Append | None, page: Iterable[Append]) -> None:
    """Checks appends that follow `before` (None: that begin the log).

    Raises:
        Invalid: naming the first event that is not what was written.
    """
    check_each(session, before, page, lambda there, append: fits(key, session, there, append))


def check_each(session: str, before: Append | None, page: Iterable[Append], good: Callable[[bytes, Append], bool]) -> None:
    """Checks that each append follows the one before, and is `good` behind the hash of that one. Raises as `check_page`."""
    head = Head(before.epoch, before.last, before.hash) if before else Head(1, 0, GENESIS)
    for append in page:
        if not in_place(head, append):
            raise damaged(session, head.seq + 1, "it does not follow the one before")
        if not good(head.hash, append):
            raise damaged(session, head.seq + 1, "its hash does not fit")
        head = Head(append.epoch, append.last, append.hash)


def check_end(key: bytes, session: str, head: Head, sealed: bytes, last: Append | None) -> None:
    """Checks that a log whose last append is `last` ends where its sealed head says.

    Raises:
        Invalid: the end was cut off, or the head was changed.
    """
    seq, hash_there = (last.last, last.hash) if last else (0, GENESIS)
    if not hmac.compare_digest(sealed, seal_head(key, session, head)):
        raise damaged(session, seq + 1, "the seal of the log's end does not fit")
    if (head.seq, head.hash) != (seq, hash_there):
        raise damaged(session, min(seq, head.seq) + 1, f"the log should end at event {head.seq}")


def damaged(session: str, event: int, why: str) -> Invalid:
    """What is raised when a log is not what was written, from `event` on."""
    return Invalid(f"session {session}: the log is damaged at event {event}: {why}", fix=_REPAIR)


def check_name(session: str) -> None:
    """Raises Invalid for a name that no session may have."""
    if not session or len(session) > LONGEST_NAME or not session.isprintable():
        raise Invalid(f"{session[:40]!r} cannot name a session", fix=f"Use 1 to {LONGEST_NAME} printable characters.")


def check_note(session: str, note: str) -> None:
    """Raises Invalid for a note that is too long."""
    if len(note.encode("utf-8", "surrogatepass")) > LONGEST_NOTE:
        raise Invalid(f"session {session}: its note has more than {LONGEST_NOTE} bytes")


def check_unchanged(session: str, there: Head, head: Head | None, letters: int = 0) -> None:
    """Raises Conflict unless a log that is to be dropped still ends at `head` (None = anywhere) and no letter waits."""
    if head is not None and ((there.epoch, there.seq, there.hash) != (head.epoch, head.seq, head.hash) or letters):
        raise changed(session)


def changed(session: str) -> Conflict:
    """What is raised when a session that is to be dropped goes on."""
    return Conflict(f"session {session} goes on: somebody wrote to it meanwhile", fix="Look with `skep status`.")


def taken(session: str) -> Conflict:
    """What is raised when a session is created again."""
    return Conflict(f"session {session} exists", fix="Choose another name, or drop that session first.")


def missing(session: str) -> NotFound:
    """What is raised for a session that was never created."""
    return NotFound(f"there is no session {session}", fix="`skep session list` shows those that there are.")


def no_boundary(session: str, seq: int) -> Invalid:
    """What is raised for a snapshot of a state that no append ends with."""
    return Invalid(f"session {session}: no append ends with event {seq}, so no snapshot can be of the state after it")
