"""Letters and answers, sealed with the key of the hive, or with the secret of the node that an invited sender names.

Who can only write to the Redis can neither ask nor answer anything, and an invited node speaks as itself only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skep.store import Taken, chain
from skep.store.redis.keys import encoded, of_session
from skep.store.ring import Ring


def take(ring: Ring, session: str, taken: Sequence[Taken]) -> list[Any]:
    """What scripts are told of letters that are taken: place, sender, number and sealed answer (empty: none) of each."""
    told: list[Any] = []
    for one in taken:
        answer = b"" if one.answer is None else seal_answer(ring, session, one.sender, one.number, one.answer) + one.answer
        told += (one.place, encoded(one.sender), one.number, answer)
    return told


def answered(taken: Sequence[Taken]) -> list[str]:
    """The senders of letters that get an answer, each once."""
    return list(dict.fromkeys(one.sender for one in taken if one.answer is not None))


def answer_keys(session: str, taken: Sequence[Taken], wait: bool) -> list[str]:
    """Where the answers of letters that are taken go: to their senders, or, if they `wait` for replicas, to a key for all.

    No more than that: a Cluster that moves the slot away refuses whoever names a key that is not there (yet).
    """
    senders = answered(taken)
    if not senders:
        return []
    if wait:
        return [of_session(session, "pending")]
    return [of_session(session, "senders"), *(of_session(session, "answers", sender) for sender in senders)]


def seal_letter(ring: Ring, session: str, sender: str, number: int, body: bytes) -> bytes:
    """What proves that its sender put the letter. Raises Denied for who cannot know."""
    return chain.seal(ring.of(sender), "letter", session, sender, number, body)


def seal_answer(ring: Ring, session: str, sender: str, number: int, body: bytes) -> bytes:
    """What proves to its sender that somebody with the key of the hive left the answer. Raises as `seal_letter`."""
    return chain.seal(ring.of(sender), "answer", session, sender, number, body)
