"""Whose letters a session has decided: its log knows the last number of each sender, so that none counts twice.

A letter tells when its sender last looked: which session that was (by when it was opened) and its last event. A sender that is
not known any more, because many others came after it, is refused unless it looked after its count was forgotten: what it said
before may have been decided.

Of the processes of one invited node few are kept: it can make up as many as it likes, and pushes out none but its own.
"""

from __future__ import annotations

from functools import cached_property

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


class Senders(Struct, dict=True):
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

    @cached_property
    def _of_node(self) -> dict[str, dict[str, None]]:
        """The senders of each invited node, in the order of `heard`."""
        found: dict[str, dict[str, None]] = {}
        for sender in self.heard:
            if node := node_of(sender):
                found.setdefault(node, {})[sender] = None
        return found

    def take(self, letters: tuple[tuple[str, int], ...], seq: int) -> None:
        """Event `seq` tells that these were decided."""
        of_node = self._of_node
        for sender, number in letters:
            self.heard.pop(sender, None)
            self.heard[sender] = (number, seq)
            if node := node_of(sender):
                own = of_node.setdefault(node, {})
                own.pop(sender, None)
                own[sender] = None
                while len(own) > MAX_OF_NODE:
                    self._raise(node, self._forget(next(iter(own))))
        while len(self.heard) > MAX_SENDERS:
            self.floor = max(self.floor, self._forget(next(iter(self.heard))))

    def _forget(self, sender: str) -> int:
        """Returns the event that told of it last."""
        if node := node_of(sender):
            own = self._of_node[node]
            del own[sender]
            if not own:
                del self._of_node[node]
        return self.heard.pop(sender)[1]

    def _raise(self, node: str, floor: int) -> None:
        self.floors.pop(node, None)
        self.floors[node] = floor
        while len(self.floors) > MAX_NODES:
            self.floor = max(self.floor, self.floors.pop(next(iter(self.floors))))
