"""This machine, shared by the sessions that are carried out here: each has a credit, and places only against that."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec

from skep.core import placement, resources
from skep.core.inputs import GrantCredit, JoinNode
from skep.core.model import Credit, Entry, Node, Resources
from skep.core.shares import Claim, shares
from skep.core.state import State
from skep.runtime import node
from skep.runtime.session import Session

#: Ready tasks of a session that is written elsewhere that are looked at for one that finds no room.
LOOKED_AT = 64
#: Between two rounds of sharing, seconds for each session: a round looks at all of them, and takes a fraction of this.
PAUSE = 50e-6

#: Does something after so many seconds.
Later = Callable[[float, Callable[[], None]], object]


class Guest:
    """A session as the machine sees it: by what its log holds, and by what it was sent and has not taken in yet."""

    def __init__(self, loop: Session, boot: str, used: Credit, credit: Credit) -> None:
        self.loop = loop
        self.boot = boot
        self.used = used
        self.credit = self.sent = credit
        self.need: Credit | None = None
        self.rests = False
        self.joined = False
        #: The task that the need is of.
        self.waiting = ""

    @property
    def claim(self) -> Claim:
        """What it holds, at most, and what it wants."""
        fields = zip(self.credit.__struct_fields__, msgspec.structs.astuple(self.credit), strict=True)
        return Claim(self.used, Credit(**{name: max(value, getattr(self.sent, name)) for name, value in fields}), self.need)


class Credits:
    """Knows what the machine has, and grants it to the sessions: all of it to one alone, otherwise as `core.shares` says.

    It looks at sessions soon after they have taken turns, and grants when one of them has a task that finds no room.

    Args:
        folder: where the state lies; its disk is the storage.
        clock: stamps what is said to sessions.
        here: this machine.
        owner: this process among those that share a store, if some do. Its boots begin with it: others know which are over.
        later: what is done in a while, by the clock of whoever runs this.
    """

    def __init__(self, folder: Path, clock: node.SystemClock, here: node.Here, owner: str, later: Later) -> None:
        self._here = here
        self._owner = owner
        self._later = later
        self._folder = folder
        self._clock = clock
        self._whole = Credit()
        #: Those first whose task was placed longest ago: they are served first.
        self._guests: dict[str, Guest] = {}
        #: Those that took a turn since they were looked at; whether something is to be shared anew, and a round is to come.
        self._turned: dict[str, Guest] = {}
        self._stale = self._coming = False
        self._closed = False

    def join(self, loop: Session) -> JoinNode:
        """The input with which this machine becomes a session's node. When the loop ends, `leave`."""
        joined = self._here.join(self._folder, self._clock)
        if not self._guests:
            has = joined.capacity
            self._whole = Credit(has.cpu, has.memory, has.storage, joined.slots)
        whole, alone = self._whole, not self._guests
        joined = msgspec.structs.replace(
            joined,
            boot=f"{self._owner}-{joined.boot}" if self._owner else joined.boot,
            capacity=Resources(whole.cpu, whole.memory, whole.storage),
            credit=None if alone else Credit(),
        )
        guest = Guest(loop, joined.boot, used_by(loop.state, self._here.name), whole if alone else Credit())
        self._guests[loop.name] = guest
        loop.turned = self._watcher(guest)
        return joined

    def joined(self, session: str) -> None:
        """The session took the input of `join`."""
        if session in self._guests:
            self._guests[session].joined = True

    def away(self, session: str) -> bool:
        """Whether a session takes this node, which had joined it, for gone, or for another process of its name."""
        guest = self._guests.get(session)
        here = guest.loop.state.nodes.get(self._here.name) if guest is not None else None
        return here is not None and guest is not None and (here.lost or (guest.joined and here.boot != guest.boot))

    def go_on(self, loop: Session) -> None:
        """A session that this machine has joined is written here from now on."""
        guest = self._guests.get(loop.name)
        if guest is not None:
            guest.loop.turned = lambda: None
            guest.loop = loop
            loop.turned = self._watcher(guest)

    def leave(self, session: str) -> None:
        """The session is not carried out here any more."""
        if self._guests.pop(session, None) is None or self._closed:
            return
        for guest in self._guests.values():
            if len(self._guests) == 1:
                self._grant(guest, self._whole)
        if self._guests:
            self._share_soon()

    def rest(self, session: str) -> bool:
        """Nothing goes on in a session that is written elsewhere: nothing is placed here. Whether its log says so."""
        guest = self._guests.get(session)
        here = guest.loop.state.nodes.get(self._here.name) if guest is not None else None
        if guest is None or here is None or here.boot != guest.boot or at_rest(here):
            return True
        guest.rests = True
        self._grant(guest, Credit())
        return False

    def wake(self, session: str) -> None:
        """Something goes on again before it was let go."""
        guest = self._guests.get(session)
        if guest is not None and guest.rests:
            guest.rests = False
            if len(self._guests) == 1:
                self._grant(guest, self._whole)

    def drain(self) -> None:
        """Nobody gets anything more; what is in use stays so until it ends."""
        self._whole = Credit()
        for guest in self._guests.values():
            self._grant(guest, Credit())
        self._closed = True

    def close(self) -> None:
        """Grants nothing more: everything ends."""
        self._closed = True

    def _watcher(self, guest: Guest) -> Callable[[], None]:
        def turned() -> None:
            if self._closed or self._guests.get(guest.loop.name) is not guest:
                return
            if len(self._guests) == 1:
                self._look(guest)
            else:
                self._turned[guest.loop.name] = guest
                self._share_soon()

        return turned

    def _share_soon(self) -> None:
        self._stale = True
        if not self._coming:
            self._coming = True
            self._later(0.0, self._round)

    def _round(self) -> None:
        """Looks at who took turns, and shares, once for all that happened since the last round."""
        self._coming = self._stale and not self._closed
        if not self._coming:
            return
        turned, self._turned, self._stale = self._turned, {}, False
        for name, guest in turned.items():
            if self._guests.get(name) is guest:
                self._look(guest)
        if len(self._guests) > 1:
            self._share()
        self._later(len(self._guests) * PAUSE, self._round)

    def _look(self, guest: Guest) -> None:
        """What the session's log holds by now. One that has failed here assigns no more; what it uses may still be running."""
        state = guest.loop.state
        if guest.loop.failure is not None:
            guest.credit = guest.sent = guest.used
            guest.need = None
            return
        here = state.nodes.get(self._here.name)
        if here is None or here.boot != guest.boot:
            return
        guest.used, guest.credit = used_by(state, self._here.name), here.credit or self._whole
        if len(self._guests) == 1:
            return
        before = state.entries.get(guest.waiting)
        if guest.waiting and (before is None or before.state != "ready"):
            self._guests[guest.loop.name] = self._guests.pop(guest.loop.name)
            guest.waiting = ""
        guest.need = None
        if not (state.paused or state.closed) and (found := first_without_room(state, self._here.name)) is not None:
            entry, wants = found
            guest.waiting = entry.task.id
            guest.need = Credit(wants.cpu, wants.memory, wants.storage, 1) if wants is not None else Credit(slots=1)

    def _share(self) -> None:
        guests = list(self._guests.values())
        if all(guest.need is None for guest in guests):
            return
        for guest, credit in zip(guests, shares(self._whole, [guest.claim for guest in guests]), strict=True):
            # Who did not take in the last one yet is looked at again when it has.
            if guest.sent == guest.credit and guest.loop.failure is None:
                self._grant(guest, credit)

    def _grant(self, guest: Guest, credit: Credit) -> None:
        if credit != guest.sent:
            guest.sent = credit
            granted = None if credit == self._whole and credit.slots else credit
            guest.loop.report(GrantCredit(at=self._clock.now(), node=self._here.name, credit=granted))


def boots(owner: str, boot: str) -> bool:
    """Whether a process has, or may have, started as a node under this boot: see `Credits.join`."""
    return "-" not in boot or boot.startswith(f"{owner}-")


def at_rest(node: Node) -> bool:
    """Whether nothing is placed on a node of a session, nor under way there."""
    return node.lost or (not node.used_slots and node.credit is not None and not node.credit.slots)


def used_by(state: State, name: str) -> Credit:
    """What the attempts of a session have reserved here."""
    here = state.nodes.get(name)
    return Credit() if here is None else Credit(here.used_cpu, here.used_memory, here.used_storage, here.used_slots)


def first_without_room(state: State, node: str) -> tuple[Entry, Resources | None] | None:
    """The first task that waits for room on a node, and what it would reserve there. None if none.

    Of a session that is written elsewhere only the oldest ready tasks are looked at: what its queue knows is not in its log.
    """
    if state.live:
        return state.queue.first_without_room(node)
    if not state.open_tasks or state.running >= state.limit:
        return None
    here = state.nodes[node]
    ready = (entry for entry in state.entries.values() if entry.state == "ready")
    for entry in itertools.islice(ready, LOOKED_AT):
        need = placement.need_of(state, entry)
        able = next((spec for spec in state.specs.values() if placement.may_do(spec, need)), None)
        if able is None or not placement.on_node(here, need):
            continue
        asked = resources.reservation(entry.task.resources, able, here)
        if resources.could_fit(here, asked) and not resources.fits(here, asked):
            return entry, asked
    return None
