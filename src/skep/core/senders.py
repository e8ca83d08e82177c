"""Whose letters a session has decided: its log knows the last number of each sender, so that none counts twice.

A letter tells when its sender last looked: which session that was (by when it was opened) and its last event. A sender that is
not known any more, because many others came after it, is refused unless it looked after its count was forgotten: what it said
before may have been decided.

Of the processes of one invited node few are kept: it can make up as many as it likes, and pushes out none but its own.
"""

from __future__ import annotations

from msgspec import Struct

#: Senders whose counts are kept; those of which nothing was heard for longest are forgotten.
MAX_SENDERS = 10_000
#: The same for those of one invited node; nodes that forgot some of theirs.
MAX_OF_NODE, MAX_NODES = 100, 1_000


def sender_of(node: str, mark: str) -> str:
    """How a process with an invitation is known as a sender: by its node, and a mark that is random for each process."""
    return f"{node}/{mark}"


def node_of(sender: str) -> str:
    """The node that a sender was invited as; "" for one with the store's key. The seal of a letter is that of this node."""
    return sender.rpartition("/")[0]


class LettersTaken(Struct, frozen=True, array_like=True, gc=False, tag="letters.taken"):
    """What came in letters of other processes is decided up to here: the last number of each sender. None counts twice."""

    at: int
    letters: tuple[tuple[str, int], ...]


class Since(Struct, frozen=True, array_like=True, gc=False):
    """What a sender knew of the session when it wrote: when that was opened (ms, 0 = it was not), and its last event."""

    opened: int
    seq: int


class Senders(Struct):
    """The counts of one session's senders.

    `heard`: the last number of each that was decided, and the event that tells so; who was heard of last is at the end.
    `floor`: the last such event that was forgotten; `floors`: the last one of an invited node's own that was, by node.
    """

    heard: dict[str, tuple[int, int]] = {}
    floor: int = 0
    floors: dict[str, int] = {}

    def last(self, sender: str) -> int:
        """The number of this sender's last letter that was decided; 0 if none is known."""
        return self.heard.get(sender, (0, 0))[0]

    def too_old(self, sender: str, seq: int) -> bool:
        """Whether nobody can tell any more if a letter was decided whose sender looked at event `seq` last."""
        return sender not in self.heard and seq < max(self.floor, self.floors.get(node_of(sender), 0))

    def take(self, letters: tuple[tuple[str, int], ...], seq: int) -> None:
        """Event `seq` tells that these were decided."""
        for sender, number in letters:
            known = self.heard.pop(sender, None)
            self.heard[sender] = (number, seq)
            if known is None and (node := node_of(sender)):
                self._keep_few(node)
        while len(self.heard) > MAX_SENDERS:
            self.floor = max(self.floor, self.heard.pop(next(iter(self.heard)))[1])

    def _keep_few(self, node: str) -> None:
        """Forgets the oldest of an invited node's senders."""
        for sender in [one for one in self.heard if node_of(one) == node][:-MAX_OF_NODE]:
            self.floors[node] = self.heard.pop(sender)[1]
        while len(self.floors) > MAX_NODES:
            self.floor = max(self.floor, self.floors.pop(next(iter(self.floors))))
