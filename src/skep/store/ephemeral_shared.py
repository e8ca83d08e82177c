"""Inboxes, leases, listings of commits and recordings in memory, over the disk of logs in memory.

Many "processes" of a test share it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from skep.store import Answer, Heard, Lease, Letter, Packed, Recorded, Taken, chain, letters
from skep.store.ephemeral import EphemeralDisk, EphemeralSession


class EphemeralInbox:
    """The port `Inbox` over an `EphemeralDisk`.

    Args:
        most: letters in the inbox of one session.
        unread: answers that a sender may leave unread there.
    """

    def __init__(self, disk: EphemeralDisk, most: int = letters.MAX_LETTERS, unread: int = letters.MAX_ANSWERS) -> None:
        self._disk = disk
        self._most = most
        self._unread = unread

    async def put(self, session: str, sender: str, number: int, body: bytes) -> None:
        """See `Inbox.put`."""
        letters.check_letter(session, sender, number, body)
        mail = self._session(session).mail
        if not letters.check_next(session, sender, number, mail.counts.get(sender, 0)):
            return
        if len(mail.inbox) >= self._most:
            raise letters.full(session, self._most)
        if len(mail.answers.get(sender, ())) >= self._unread:
            raise letters.unread(session, sender, self._unread)
        self._disk.ears.letter(session, mail.put(sender, number, body))

    async def letters(self, session: str, after: str = "", limit: int = 1000) -> list[Letter]:
        """See `Inbox.letters`."""
        inbox = self._session(session).mail.inbox
        return [letter for place, letter in inbox.items() if place > after][:limit]

    async def waiting(self, sessions: Sequence[str]) -> set[str]:
        """See `Inbox.waiting`."""
        kept = self._disk.sessions
        return {session for session in sessions if session in kept and kept[session].mail.inbox}

    async def settle(self, session: str, epoch: int, taken: Sequence[Taken]) -> None:
        """See `Inbox.settle`."""
        letters.check_taken(session, taken)
        kept = self._session(session)
        if epoch != kept.head.epoch or epoch == 0:
            raise letters.over(session, epoch, kept.head.epoch)
        for sender, answer in kept.mail.take(taken):
            self._disk.ears.answer(session, sender, answer)

    async def answers(self, session: str, sender: str, after: int = 0, limit: int = 1000) -> list[Answer]:
        """See `Inbox.answers`."""
        left = self._session(session).mail.answers.get(sender, {})
        for number in [number for number in left if number <= after]:
            del left[number]
        return [Answer(number, left[number]) for number in sorted(left)[:limit]]

    async def forget(self, session: str, sender: str) -> None:
        """See `Inbox.forget`."""
        if kept := self._disk.sessions.get(session):
            kept.mail.answers.pop(sender, None)
            kept.mail.counts.pop(sender, None)

    async def listen(self, session: str, hear: Callable[[Heard], None], sender: str = "") -> Callable[[], Awaitable[None]]:
        """See `Inbox.listen`."""
        ear = self._disk.ears.add(session, hear, sender)

        async def stop() -> None:
            self._disk.ears.remove(session, ear)

        return stop

    def _session(self, session: str) -> EphemeralSession:
        kept = self._disk.sessions.get(session)
        if kept is None:
            raise chain.missing(session)
        return kept


class EphemeralLeases:
    """The port `Leases` over an `EphemeralDisk`.

    Args:
        now: the clock of the store, ms.
    """

    def __init__(self, disk: EphemeralDisk, now: Callable[[], int]) -> None:
        self._leases = disk.leases
        self._now = now

    async def hold(self, name: str, holder: str, ttl: int, note: str = "") -> bool:
        """See `Leases.hold`."""
        kind, rest = letters.check_lease(name, holder, ttl, note)
        there = self._leases.setdefault(kind, {})
        ends, who, _ = there.get(rest, (0, "", ""))
        if ends > self._now() and who != holder:
            return False
        if rest not in there and len(there) >= letters.MAX_LEASES and len(self._held(kind)) >= letters.MAX_LEASES:
            raise letters.too_many_leases(kind)
        self._leases[kind][rest] = self._now() + ttl, holder, note
        return True

    async def release(self, name: str, holder: str) -> None:
        """See `Leases.release`."""
        kind, rest = letters.split_lease(name)
        held = self._held(kind)
        if rest in held and held[rest].holder == holder:
            del self._leases[kind][rest]

    async def held(self, kind: str) -> dict[str, Lease]:
        """See `Leases.held`."""
        return self._held(kind)

    def _held(self, kind: str) -> dict[str, Lease]:
        """The leases of a kind that are not over; the others are thrown away."""
        now = self._now()
        left = {rest: lease for rest, lease in self._leases.get(kind, {}).items() if lease[0] > now}
        self._leases[kind] = left
        return {rest: Lease(left[rest][1], left[rest][0] - now, left[rest][2]) for rest in sorted(left)}


class EphemeralListing:
    """The port `Listing` over an `EphemeralDisk`."""

    def __init__(self, disk: EphemeralDisk) -> None:
        self._commits = disk.commits

    async def put(self, session: str, commit: str, packed: Packed) -> Packed:
        """See `Listing.put`."""
        return self._commits.setdefault(session, {}).setdefault(commit, packed)

    async def get(self, session: str, commit: str) -> Packed | None:
        """See `Listing.get`."""
        return self._commits.get(session, {}).get(commit)

    async def all(self, session: str) -> dict[str, Packed]:
        """See `Listing.all`."""
        return dict(self._commits.get(session, {}))

    async def blobs(self, session: str) -> tuple[set[str], list[str]]:
        """See `Listing.blobs`."""
        return {packed.digest for packed in self._commits.get(session, {}).values()}, []

    async def drop(self, session: str) -> None:
        """See `Listing.drop`."""
        self._commits.pop(session, None)


class EphemeralRecordings:
    """The port `Recordings` over an `EphemeralDisk`.

    Args:
        now: the clock of the store, ms.
    """

    def __init__(self, disk: EphemeralDisk, now: Callable[[], int]) -> None:
        self._disk = disk
        self._now = now

    async def put(self, session: str, task: str, n: int, part: str, recorded: Recorded) -> None:
        """See `Recordings.put`."""
        if session not in self._disk.sessions:
            raise chain.missing(session)
        self._disk.sessions[session].recordings[task, n, part] = recorded

    async def get(self, session: str, task: str, of: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Recorded]:
        """See `Recordings.get`."""
        known = self._known(session)
        return {(n, part): known[task, n, part] for n, part in of if (task, n, part) in known}

    async def show(self, session: str, task: str, n: int, data: bytes, ttl: int) -> None:
        """See `Recordings.show`."""
        self._disk.shown[session, task, n] = self._now() + ttl, data

    async def shown(self, session: str, task: str, n: int, node: str = "") -> bytes:
        """See `Recordings.shown`."""
        until, data = self._disk.shown.get((session, task, n), (0, b""))
        return data if self._now() < until else b""

    async def blobs(self, session: str) -> set[str]:
        """See `Recordings.blobs`."""
        return {recorded.digest for recorded in self._known(session).values() if recorded.digest}

    def _known(self, session: str) -> dict[tuple[str, int, str], Recorded]:
        kept = self._disk.sessions.get(session)
        return {} if kept is None else kept.recordings


class EphemeralHandoffs:
    """The port `Handoffs` over an `EphemeralDisk`.

    Args:
        now: the clock of the store, ms.
    """

    def __init__(self, disk: EphemeralDisk, now: Callable[[], int]) -> None:
        self._laid, self._ears = disk.handoffs, disk.bells
        self._now = now

    async def put(self, name: str, data: bytes, ttl: int) -> None:
        """See `Handoffs.put`."""
        self._laid[name] = self._now() + ttl, data
        await self.ring(name)

    async def take(self, name: str) -> bytes | None:
        """See `Handoffs.take`."""
        until, data = self._laid.pop(name, (0, b""))
        return data if self._now() < until else None

    async def ring(self, name: str) -> None:
        """See `Handoffs.ring`."""
        for hear in self._ears.get(name, ()):
            asyncio.get_running_loop().call_soon(hear)

    async def listen(self, name: str, hear: Callable[[], None]) -> Callable[[], Awaitable[None]]:
        """See `Handoffs.listen`."""
        there = self._ears.setdefault(name, [])
        there.append(hear)

        async def stop() -> None:
            there.remove(hear)

        return stop
