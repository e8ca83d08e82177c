"""Bugs to plant in what several processes are promised: letters, takeovers, pushes, nodes that are given up."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from skep.core import attempts, due
from skep.core import events as ev
from skep.core.commands import Merge
from skep.core.model import Attempt, Entry
from skep.core.turn import Turn
from skep.errors import Conflict, SkepError, Unavailable
from skep.runtime import live
from skep.runtime.credits import Credits
from skep.runtime.letters import Enclosed
from skep.runtime.live import Live
from skep.runtime.loop import Item, Loop
from skep.runtime.membership import Membership
from skep.runtime.postbox import Postbox
from skep.runtime.replica import Replica
from skep.runtime.takeover import Takeover
from skep.store import Append, Head, Heard, SessionRow, Taken, chain
from skep.store.ephemeral import EphemeralLog, EphemeralSession
from tests.simulation.planted import Bug, swap, swapped
from tests.simulation.shared_store import HeldEars, SharedStore

_extend, _taken, _hear = chain.extend, Postbox.taken, Replica._hear


class RemovesFirst(Loop):
    """Letters leave the inbox, and are answered, before the log holds what was decided."""

    async def _append(self, events: list[ev.Event], leaving: list[Entry], taken: list[Taken]) -> None:
        if taken and self._post is not None:
            await self._post.settle(self.head.epoch, taken)
        await super()._append(events, leaving, [])


class RemovesLater(Loop):
    """Letters leave the inbox after the append: who takes over in between decides them again."""

    async def _append(self, events: list[ev.Event], leaving: list[Entry], taken: list[Taken]) -> None:
        await super()._append(events, leaving, [])
        if taken and self._post is not None:
            await self._post.settle(self.head.epoch, taken)
            self._post.gone(taken)


class TakesBack(Loop):
    """After an append that failed it becomes the writer again, whoever was it meanwhile."""

    async def _recover(self, again: list[Item]) -> None:
        self._inbox.extendleft(item for item in reversed(again) if not isinstance(item[1], Enclosed))
        while True:
            try:
                await asyncio.sleep(0.1)
                await self._load(await self._log.acquire(self.name, self._owner))
                break
            except Unavailable:
                pass
        self._held = True
        if self._post is not None:
            self._post.again()


def _writes_on(
    key: bytes, session: str, tail: chain.Tail, epoch: int, seq: int, batch: bytes, count: int, blob: bytes
) -> Append | None:
    """Whoever was the writer once may write."""
    return _extend(key, session, tail, tail.head.epoch or epoch, tail.head.seq, batch, count, blob)


class Deaf(Replica):
    """What was missed between two pushes is passed over."""

    def _hear(self, heard: Heard) -> None:
        if isinstance(heard, Append) and heard.first > self.head.seq + 1 and not self._reading:
            self._take(heard)
        else:
            super()._hear(heard)


class Everybodys(Replica):
    """It carries out what other nodes owe."""

    def _perform(self, events: list[ev.Event]) -> None:
        for event in events:
            entry = self.state.entries.get(getattr(event, "task", ""))
            key = due.attempt_key(entry) if entry is not None else None
            command = due.command(self.state, key) if key is not None else None
            if command is not None and not isinstance(command, Merge) and self._hands is not None:
                self._hands.perform(self, command, self.state.entries[command.task.id])


class Eager(Replica):
    """It carries out what its node owes before it has joined."""

    def _do(self, key: due.Key | None) -> None:
        command = due.command(self.state, key) if key is not None else None
        if command is not None and not isinstance(command, Merge) and command.node == self._node and self._hands is not None:
            self._hands.perform(self, command, self.state.entries[command.task.id])


def _only_if_lost(self: Credits, session: str) -> bool:
    """A node does not notice that what its former process told was decided after it had joined."""
    guest = self._guests.get(session)
    here = guest.loop.state.nodes.get(self._here.name) if guest is not None else None
    return here is not None and here.lost


async def _follows_on(self: Live) -> None:
    """Who followed a session goes on to follow it, for ever."""


def _unchecked(self: EphemeralLog, session: str, head: Head, append: Append) -> bool:
    """What is pushed is believed."""
    return True


def _unfenced(self: Turn, task: str, n: int, nonce: str) -> tuple[Entry, Attempt]:
    """A report of any attempt counts for the current one."""
    entry = self.state.entries.get(task)
    if entry is None or entry.attempt is None:
        raise Conflict("there is none")
    return entry, entry.attempt


def _unanswered(self: Postbox, batch: Sequence[tuple[object, object]], answers: Sequence[Any], seq: int) -> list[Taken]:
    """Letters are taken, and answers are not left."""
    return [replace(one, answer=None) for one in _taken(self, batch, answers, seq)]


@contextmanager
def _told_at_once() -> Iterator[None]:
    """What is written is pushed before as many have it as must."""
    with swapped(HeldEars, "_tell", lambda self, tell: tell()):
        yield


def _less(self: SharedStore, committed: dict[str, EphemeralSession]) -> dict[str, EphemeralSession]:
    """A failover takes back what was committed."""
    for kept in committed.values():
        if len(kept.log) > 2:
            kept.log.pop()
            last = kept.log[-1]
            kept.head = replace(kept.head, seq=last.last, hash=last.hash)
            kept.sealed = chain.seal_head(self.disk.key, "s", kept.head)
    return committed


async def _never_fenced(self: Membership) -> None:
    """A node works on, whether or not it has its lease."""


def _stays_away(self: Membership) -> None:
    """A node that was given up while it was there does not come back."""


async def _only_others(self: Takeover, owners: Container[str]) -> list[SessionRow]:
    """A process forgets what it was asked to carry out."""
    return await self._log.awake() if self._shared.leads or self._shared.serves else []


def _keeps_quiet(self: Replica, error: SkepError) -> None:
    """Whoever waits for an answer is not told that there will be none."""
    self.failure = self.failure or error


NODES: dict[str, Bug] = {
    "a letter is removed before the append": swap(live, "Loop", RemovesFirst),
    "a letter is decided again after a takeover": swap(live, "Loop", RemovesLater),
    "a session is taken over without comparing": swap(chain, "check_follows", lambda session, epoch, after: None),
    "a writer takes the session back from its successor": swap(live, "Loop", TakesBack),
    "a leader writes after its pause": swap(chain, "extend", _writes_on),
    "a push is applied unchecked": swap(EphemeralLog, "follows", _unchecked),
    "a push comes before the commit": _told_at_once,
    "a replica ignores a gap": swap(live, "Replica", Deaf),
    "a node carries out what others owe": swap(live, "Replica", Everybodys),
    "a node carries out what its former boot owes": swap(live, "Replica", Eager),
    "who followed what is written here now is never done": swap(Live, "end_former", _follows_on),
    "a stale node's report is accepted": swap(Turn, "fenced", _unfenced),
    "a lost node's attempts stay open": swap(attempts, "lost", lambda turn, entry: None),
    "a letter that somebody repeats is decided again": swap(Postbox, "_last", lambda self, sender: 0),
    "answers are lost": swap(Postbox, "taken", _unanswered),
    "a failover loses what was committed": swap(SharedStore, "taken_back", _less),
    "a node works on without its lease": swap(Membership, "_fence", _never_fenced),
    "a node does not notice that its former process joined last": swap(Credits, "away", _only_if_lost),
    "a node that was given up stays away": swap(Membership, "_come_back", _stays_away),
    "who began a session does not go on with it": swap(Takeover, "concern", _only_others),
    "callers of a replica that ends are not told": swap(Replica, "_fail", _keeps_quiet),
}
