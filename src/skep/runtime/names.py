"""By which name each session goes. The store keeps it beside the log, because a restored session takes over another's name."""

from __future__ import annotations

import asyncio
import contextlib
import re
import unicodedata
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from skep.core.fleet import SYSTEM
from skep.errors import Invalid, NotFound
from skep.store import Head, Log, SessionRow

#: Names in an error message.
SHOWN = 5
#: After so many seconds all sessions of a shared store are read again when a name is not known.
STALE = 60.0
#: Longest name of a session: characters, and bytes as UTF-8, so that a file can be called after it.
MAX_NAME, MAX_BYTES = 100, 200
_NUMBER = re.compile(r"-\d+\Z")


def stem_of(session: str) -> str:
    """A session's name without its number: `feature` of `feature-7`."""
    return _NUMBER.sub("", session)


def check_name(name: str) -> None:
    """Raises Invalid for what a session cannot be called: a name can be typed, and is part of refs and paths."""
    usable = all(sign in "._-" or unicodedata.category(sign)[0] in "LNM" for sign in name) and name[:1].isalnum()
    if not usable or len(name) > MAX_NAME or len(name.encode()) > MAX_BYTES or not unicodedata.is_normalized("NFC", name):
        raise Invalid(
            f"'{name[:MAX_NAME]}' is no name for a session",
            f"Use up to {MAX_NAME} letters (in any script), digits, dots, dashes and underscores; a letter or digit first.",
        )


class Note(Struct, frozen=True):
    """What the store keeps beside a session's log: the name it goes by (another than its own after a restore), its file."""

    name: str
    source: str = ""


class Known(Struct, frozen=True):
    """A session that was made: its own name, the one it goes by, its file, when it was made (ms)."""

    session: str
    name: str
    source: str
    created: int

    @property
    def replaced(self) -> bool:
        """Whether a restored session took over its name."""
        return self.name.startswith(f"{self.session}@")


class Names:
    """The sessions of a store. They are read once; if others share it, those made since are asked for when a name is not known.

    A session without a note was never made to its end, because its owner died over it: nobody was told of it.
    """

    def __init__(self, log: Log, shared: bool = False) -> None:
        self._log = log
        self._shared = shared
        self._known: dict[str, Known] = {}
        self._by_name: dict[str, str] = {}
        #: The last session that was listed, if any were; those without a note.
        self._last = ""
        self._unmade: dict[str, None] = {}
        #: Whether all of them were read, and when, on the event loop's clock.
        self._whole, self._at = False, 0.0

    async def all(self) -> list[Known]:
        """The sessions, oldest first."""
        self._whole = self._whole and not self._shared
        await self._read()
        return list(self._known.values())

    async def unfinished(self) -> list[str]:
        """Sessions that were never made to their end."""
        return [row.session for row in await self._log.sessions() if not row.note and row.session != SYSTEM]

    async def _read(self) -> None:
        """Reads all of them, unless that was done."""
        if not self._whole:
            rows = await self._log.sessions()
            self._known, self._by_name, self._unmade, self._last = {}, {}, {}, ""
            self._list(rows)
            self._whole, self._at = True, asyncio.get_running_loop().time()

    async def _others(self, name: str = "") -> None:
        """Other processes may have made sessions meanwhile, one of this name among them."""
        if self._shared and self._whole:
            # What was listed while it was only being made may be missed, but for its own name.
            self._whole = asyncio.get_running_loop().time() - self._at < STALE
            for session in [*self._unmade, *([name] if name else ())] if self._whole else ():
                try:
                    self._take([await self._log.row(session)])
                except NotFound:
                    self._unmade.pop(session, None)
            self._list(await self._log.sessions(self._last) if self._whole else ())
        await self._read()

    def _list(self, rows: Sequence[SessionRow]) -> None:
        self._take(rows)
        self._last = rows[-1].session if rows else self._last

    def _take(self, rows: Sequence[SessionRow]) -> None:
        for row in rows:
            if row.note:
                note = msgspec.json.decode(row.note, type=Note)
                self._known[row.session] = Known(row.session, note.name, note.source, row.created)
                self._by_name.setdefault(row.session, row.session)
                self._by_name[note.name] = row.session
                self._unmade.pop(row.session, None)
            else:
                self._unmade[row.session] = None

    async def find(self, name: str) -> str:
        """The session that goes by a name, or has it; "" if there is none."""
        await self._read()
        if name not in self._by_name:
            await self._others(name)
        return self._by_name.get(name, "")

    async def resolve(self, name: str) -> str:
        """The session that goes by a name; the newest for an empty one. Raises NotFound."""
        await self._read()
        if not name or name not in self._by_name:
            await self._others(name)
        if not self._known:
            raise NotFound("there is no session here", "`skep run FILE` starts one.")
        newest = max(reversed(self._known.values()), key=lambda known: known.created)
        found = self._by_name.get(name) if name else newest.session
        if found is None:
            near = ", ".join(one.name for one in list(self._known.values())[-SHOWN:])
            raise NotFound(f"no session '{name[:100]}' here", f"There are: {near}.")
        return found

    async def shown(self, session: str) -> str:
        """The name that a session goes by."""
        await self._read()
        known = self._known.get(session)
        return known.name if known is not None else session

    async def next(self, stem: str, taken: set[str]) -> str:
        """A name that is free: the stem and the lowest number that fits. Another process may take it first.

        Args:
            taken: further names that are not free.
        """
        await self._others()
        number = 1
        while (name := f"{stem}-{number}") in taken or name in self._by_name or name in self._unmade:
            number += 1
        return name

    async def forget(self, session: str, head: Head | None = None) -> None:
        """The session is taken out of the store, log and all: one that nobody was told of, or that ended at `head`."""
        with contextlib.suppress(NotFound):  # a failover may have taken it away: nothing of it counted yet
            await self._log.drop(session, head)
        self._whole = False

    async def give(self, session: str, name: str, source: str) -> None:
        """From now on the session goes by this name: it is made."""
        await self._log.annotate(session, msgspec.json.encode(Note(name, source)).decode())
        if name != session:
            self._whole = False  # somebody else went by it
        elif self._whole:
            self._take([await self._log.row(session)])
