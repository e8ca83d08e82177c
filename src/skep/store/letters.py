"""What every inbox and every lease keeps to: its bounds, and what is said when one is reached or a rule is broken."""

from __future__ import annotations

from collections.abc import Sequence

from skep.errors import Bug, Conflict, Exhausted, Invalid, Unavailable
from skep.store import Letter, Taken
from skep.store.chain import LONGEST_NAME, LONGEST_NOTE, TooLarge

#: Bytes of a letter, and of an answer.
LARGEST_LETTER = 16 * 2**20
#: Letters in the inbox of one session; answers that one sender may leave unread there before it can put no more.
MAX_LETTERS = 10_000
MAX_ANSWERS = 10_000
#: The number of the last letter that a sender can put.
LAST_LETTER = 2**53
#: Leases of one kind, and the longest, ms.
MAX_LEASES = 10_000
LONGEST_LEASE = 24 * 3600 * 1000


class Unsealed(Invalid):
    """Among the letters that were asked for there is one that nobody with the key of the hive put there.

    Args:
        sealed: the others.
        last: the place at which what was looked at ends.
    """

    def __init__(self, message: str, fix: str, sealed: Sequence[Letter], last: str) -> None:
        super().__init__(message, fix)
        self.sealed = sealed
        self.last = last


def check_letter(session: str, sender: str, number: int, body: bytes) -> None:
    """Raises Invalid for a sender or a number that no letter can have, Exhausted for a body that is too large."""
    check_holder(sender, "sender")
    if not 1 <= number <= LAST_LETTER:
        raise Invalid(f"session {session}: a letter of {sender} has the number {number}; they are counted from 1")
    if len(body) > LARGEST_LETTER:
        raise Exhausted(
            f"session {session}: a letter of {len(body)} bytes; at most {LARGEST_LETTER} fit",
            fix="Put what is large into a blob and name its digest.",
        )


def check_taken(session: str, taken: Sequence[Taken]) -> None:
    """Raises TooLarge for an answer that is, Bug for a letter that is taken twice at once."""
    for one in taken:
        if one.answer is not None and len(one.answer) > LARGEST_LETTER:
            raise TooLarge(
                f"session {session}: an answer of {len(one.answer)} bytes to {one.sender}; at most {LARGEST_LETTER} fit",
                fix="Put what is large into a blob and name its digest.",
            )
    if len({one.place for one in taken}) < len(taken):
        raise Bug(f"session {session}: a letter is taken twice in one append")


def check_next(session: str, sender: str, number: int, last: int) -> bool:
    """Whether letter `number` of a sender whose last one is `last` is new; Unavailable if one before it is missing."""
    if number > last + 1:
        raise missing(session, sender, number, last)
    return number > last


def missing(session: str, sender: str, number: int, last: int) -> Unavailable:
    """What is raised for a letter that comes before the one before it."""
    return Unavailable(
        f"session {session}: letter {number} of {sender} came before its letter {last + 1}",
        fix="Put that one first, then this one.",
    )


def gone(session: str, place: str) -> Conflict:
    """What is raised when an append takes a letter that is not in the inbox."""
    return Conflict(
        f"session {session}: the letter at {place} is not in the inbox: it was decided before",
        fix="Read the session and its inbox again.",
    )


def over(session: str, epoch: int, now: int) -> Conflict:
    """What is raised when letters are settled in an epoch that is over; `now` = the one that writes."""
    return Conflict(
        f"session {session} has another owner: epoch {now} writes, this is epoch {epoch}",
        fix="Stop here; the other owner goes on with the session.",
    )


def full(session: str, most: int) -> Exhausted:
    """What is raised for a letter into an inbox that is full."""
    return Exhausted(f"the inbox of session {session} holds {most} letters", fix="Try again in a moment.")


def unread(session: str, sender: str, most: int) -> Exhausted:
    """What is raised for a letter of somebody who does not read the answers."""
    return Exhausted(
        f"session {session} keeps {most} answers that {sender} has not read", fix="Read them before the next letter."
    )


def not_shared() -> Bug:
    """What is raised by a store without inboxes for an append that takes letters."""
    return Bug("letters were taken from an inbox, but this store is not shared and has none")


def check_holder(holder: str, role: str = "holder") -> None:
    """Raises Invalid for what cannot name a process."""
    if not holder or len(holder) > LONGEST_NAME or not holder.isprintable():
        raise Invalid(f"{holder[:40]!r} cannot name a {role}", fix=f"Use 1 to {LONGEST_NAME} printable characters.")


def check_lease(name: str, holder: str, ttl: int, note: str) -> tuple[str, str]:
    """The kind and the rest of a lease's name. Raises Invalid for what no lease can have."""
    check_holder(holder)
    if not 1 <= ttl <= LONGEST_LEASE:
        raise Invalid(f"lease {name}: {ttl} ms; it lasts 1 to {LONGEST_LEASE}")
    if len(note.encode("utf-8", "surrogatepass")) > LONGEST_NOTE:
        raise Invalid(f"lease {name}: its note has more than {LONGEST_NOTE} bytes")
    return split_lease(name)


def split_lease(name: str) -> tuple[str, str]:
    """The kind and the rest of a lease's name. Raises Invalid for one without either."""
    kind, _, rest = name.partition("/")
    if not kind or not rest or len(name) > LONGEST_NAME or not name.isprintable():
        raise Invalid(
            f"{name[:40]!r} cannot name a lease",
            fix=f"Use a kind, a slash and a name: at most {LONGEST_NAME} printable characters.",
        )
    return kind, rest


def too_many_leases(kind: str) -> Exhausted:
    """What is raised for one more lease of a kind that has as many as there may be."""
    return Exhausted(f"there are {MAX_LEASES} leases of the kind {kind}", fix="Release some, or wait until they are over.")
