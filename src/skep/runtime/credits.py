"""This machine, shared by the sessions that are carried out here: each has a credit, and places only against that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from skep.core.inputs import GrantCredit, JoinNode
from skep.core.model import Credit, Resources
from skep.core.shares import Claim, shares
from skep.core.state import State
from skep.runtime import node
from skep.runtime.loop import Loop


class Guest:
    """A session as the machine sees it: by what its log holds, and by what it was sent and has not taken in yet."""

    def __init__(self, loop: Loop, boot: str, used: Credit, credit: Credit) -> None:
        self.loop = loop
        self.boot = boot
        self.used = used
        self.credit = self.sent = credit
        self.need: Credit | None = None
        #: The task that the need is of.
        self.waiting = ""

    @property
    def claim(self) -> Claim:
        """What it holds, at most, and what it wants."""
        fields = zip(self.credit.__struct_fields__, msgspec.structs.astuple(self.credit), strict=True)
        return Claim(self.used, Credit(**{name: max(value, getattr(self.sent, name)) for name, value in fields}), self.need)


class Credits:
    """Knows what the machine has, and grants it to the sessions: all of it to one alone, otherwise as `core.shares` says.

    It looks at a session when that has taken a turn, and grants when one of them has a task that finds no room.

    Args:
        folder: where the state lies; its disk is the storage.
        clock: stamps what is said to sessions.
    """

    def __init__(self, folder: Path, clock: node.SystemClock) -> None:
        self._folder = folder
        self._clock = clock
        self._whole = Credit()
        #: Those first whose task was placed longest ago: they are served first.
        self._guests: dict[str, Guest] = {}
        self._closed = False

    def join(self, loop: Loop) -> JoinNode:
        """The input with which this machine becomes a session's node. When the loop ends, `leave`."""
        joined = node.join(self._folder, self._clock)
        if not self._guests:
            has = joined.capacity
            self._whole = Credit(has.cpu, has.memory, has.storage, joined.slots)
        whole, alone = self._whole, not self._guests
        joined = msgspec.structs.replace(
            joined, capacity=Resources(whole.cpu, whole.memory, whole.storage), credit=None if alone else Credit()
        )
        guest = Guest(loop, joined.boot, used_by(loop.state), whole if alone else Credit())
        self._guests[loop.name] = guest
        loop.turned = self._watcher(guest)
        return joined

    def leave(self, session: str) -> None:
        """The session is not carried out here any more."""
        if self._guests.pop(session, None) is None or self._closed:
            return
        for guest in self._guests.values():
            if len(self._guests) == 1:
                self._grant(guest, self._whole)
        self._share()

    def close(self) -> None:
        """Grants nothing more: everything ends."""
        self._closed = True

    def _watcher(self, guest: Guest) -> Callable[[], None]:
        def turned() -> None:
            if self._guests.get(guest.loop.name) is guest and not self._closed:
                self._look(guest)
                if len(self._guests) > 1:
                    self._share()

        return turned

    def _look(self, guest: Guest) -> None:
        """What the session's log holds by now. One that has failed here assigns no more; what it uses may still be running."""
        state = guest.loop.state
        if guest.loop.failure is not None:
            guest.credit = guest.sent = guest.used
            guest.need = None
            return
        here = state.nodes.get(node.NAME)
        if here is None or here.boot != guest.boot:
            return
        guest.used, guest.credit = used_by(state), here.credit or self._whole
        if len(self._guests) == 1:
            return
        before = state.entries.get(guest.waiting)
        if guest.waiting and (before is None or before.state != "ready"):
            self._guests[guest.loop.name] = self._guests.pop(guest.loop.name)
            guest.waiting = ""
        guest.need = None
        if not (state.paused or state.closed) and (found := state.queue.first_without_room(node.NAME)) is not None:
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
            granted = None if credit == self._whole else credit
            guest.loop.report(GrantCredit(at=self._clock.now(), node=node.NAME, credit=granted))


def used_by(state: State) -> Credit:
    """What the attempts of a session have reserved here."""
    here = state.nodes.get(node.NAME)
    return Credit() if here is None else Credit(here.used_cpu, here.used_memory, here.used_storage, here.used_slots)
