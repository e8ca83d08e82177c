"""What a process does about sessions that others write or wrote: it goes on with those whose writer is gone, and serves others.

Of all that may lead, one is the first to go on with a session, so that not all of them read its log: whom it falls to is told by
its name. If that one does not, each of the others does.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Container, Iterable, Mapping, Sequence

from skep.errors import Conflict, Invalid, NotFound, SkepError, Unavailable
from skep.runtime.live import Live
from skep.runtime.nodes import Note
from skep.runtime.shared import Shared
from skep.runtime.views import goes_on
from skep.store import Log, SessionRow

#: How long a session that falls to another process is left to it, seconds.
SPARED = 2.0
#: Seconds after which those that rest are looked at as well: in a failover a Cluster may lose an entry of the list, not the log.
WHOLE = 300.0
#: Sessions of which a process says, on its own terminal, that it cannot read them.
MAX_COMPLAINTS = 1_000


class Leaders:
    """Those that may lead, and which of them is the first to go on with a session.

    Args:
        here: one of them.
        owners: who is there, and what they are.
    """

    def __init__(self, here: str, owners: Mapping[str, Note]) -> None:
        self._here, self._owners = here, owners
        self._names: list[str] = []

    def first(self, session: str) -> str:
        """Whom a session falls to."""
        names = self._names = self._names or sorted({name for name, note in self._owners.items() if note.leads} | {self._here})
        return names[zlib.crc32(session.encode("utf-8", "surrogatepass")) % len(names)]


class Takeover:
    """Looks at sessions by what the store lists of them, and opens those that this process has to do with.

    Args:
        log: where they are.
        shared: what this process is to the others.
        live: what it has open.
    """

    def __init__(self, log: Log, shared: Shared, live: Live) -> None:
        self._log = log
        self._shared = shared
        self._live = live
        #: Sessions that need nobody: (epoch, seq) as it was then.
        self._idle: dict[str, tuple[int, int]] = {}
        #: Sessions without a writer that fall to others, or could not be gone on with: since when.
        self._left: dict[str, float] = {}
        #: Sessions of which was said that they cannot be read here.
        self._complained: set[str] = set()
        self._whole = float("-inf")

    async def concern(self, owners: Container[str]) -> Sequence[SessionRow]:
        """The sessions that this process may have to do with: those that do not rest, and its own.

        Now and then those that rest, too, if it may lead and their writer is gone: what has one goes on whatever is listed.

        Args:
            owners: who is there.
        """
        rows, now = list[SessionRow](), asyncio.get_running_loop().time()
        if self._shared.leads or self._shared.serves:
            rows += await self._log.awake()
        if self._shared.leads and now - self._whole > WHOLE:
            awake = {row.session for row in rows}
            rows += [row for row in await self._log.sessions() if row.session not in awake and row.owner not in owners]
            self._whole = now
        listed = {row.session for row in rows}
        for session in sorted(self._live.own):
            if session not in listed and not self._live.knows(session):
                try:
                    rows.append(await self._log.row(session))
                except NotFound:
                    self._live.own.pop(session, None)
        return rows

    async def rows(self, names: Iterable[str]) -> list[SessionRow]:
        """Some sessions, as far as this process may have to do with them."""
        rows = []
        anyones = self._shared.leads or self._shared.serves
        for session in (name for name in names if anyones or name in self._live.own):
            try:
                rows.append(await self._log.row(session))
            except NotFound:
                self._left.pop(session, None)
        return rows

    def left(self) -> list[str]:
        """Sessions without a writer that were left to others for long enough."""
        now = asyncio.get_running_loop().time()
        return [session for session, since in self._left.items() if now - since > SPARED]

    async def patrol(self, rows: Iterable[SessionRow], owners: Mapping[str, Note]) -> None:
        """Goes on with sessions that nobody writes, and serves those that others do, as far as this process is to.

        Args:
            owners: who is there, and what they are to the others.
        """
        leaders = Leaders(self._shared.owner, owners)
        for row in rows:
            # What this process is known to write and does not, it goes on with, whatever is in it: nobody else does.
            mine = row.owner == self._shared.owner and not self._live.writes(row.session)
            orphan = mine or row.owner not in owners
            if not orphan or not row.note:
                self._left.pop(row.session, None)
            if not row.note or (self._idle.get(row.session) == (row.head.epoch, row.head.seq) and not mine):
                continue
            given = mine or row.session in self._live.own
            if orphan and not given and not (self._shared.leads and self._falls_here(row.session, leaders)):
                continue
            try:
                await self._take_up(row, orphan, mine)
            except Invalid as error:
                self._complain(row.session, error)
            except SkepError:
                continue

    def _complain(self, session: str, error: SkepError) -> None:
        """Says once why a session is not served here, so that nobody waits for it in vain."""
        if session not in self._complained and len(self._complained) < MAX_COMPLAINTS and self._shared.say is not None:
            self._complained.add(session)
            self._shared.say(str(error))

    def _falls_here(self, session: str, leaders: Leaders) -> bool:
        """Whether this process is to go on with a session before others, or they had their time."""
        now = asyncio.get_running_loop().time()
        since = self._left.get(session)
        if since is not None and now - since > SPARED:
            self._left.pop(session)
            return True
        if leaders.first(session) == self._shared.owner:
            return True
        self._left.setdefault(session, now)
        return False

    async def _take_up(self, row: SessionRow, orphan: bool, mine: bool) -> None:
        if not orphan and (self._live.knows(row.session) or not self._live.carries(row.session)):
            return
        needed, seq = await self._live.look(row.session, lambda state: (goes_on(state), state.seq))
        if mine or needed:
            with contextlib.suppress(Conflict, Unavailable):
                await (self._live.lead(row) if orphan else self._live.serve(row.session))
        else:
            if row.session in self._live.own and not self._live.knows(row.session):
                # It ended while this process was away, and somebody here may wait for that.
                await self._live.loop(row.session, hands=False)
            # As of what is known here, which may be less than the row tells.
            self._idle[row.session] = row.head.epoch, seq
