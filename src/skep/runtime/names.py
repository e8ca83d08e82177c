"""By which name each session goes. The store keeps it beside the log, because a restored session takes over another's name."""

from __future__ import annotations

import re
import unicodedata

import msgspec
from msgspec import Struct

from skep.errors import Invalid, NotFound
from skep.store import Log

#: Names in an error message.
SHOWN = 5
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
    """The sessions of a store. Only the store's owner writes them, so they are read once.

    A session without a note was never made to its end, because its owner died over it: nobody was told of it.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._known: dict[str, Known] | None = None
        self._by_name: dict[str, str] = {}

    async def all(self) -> list[Known]:
        """The sessions, oldest first."""
        return list((await self._read()).values())

    async def unfinished(self) -> list[str]:
        """Sessions that were never made to their end."""
        return [row.session for row in await self._log.sessions() if not row.note]

    async def _read(self) -> dict[str, Known]:
        if self._known is None:
            known = {}
            for row in await self._log.sessions():
                if row.note:
                    note = msgspec.json.decode(row.note, type=Note)
                    known[row.session] = Known(row.session, note.name, note.source, row.created)
            self._by_name = {name: name for name in known} | {one.name: one.session for one in known.values()}
            self._known = known
        return self._known

    async def find(self, name: str) -> str:
        """The session that goes by a name, or has it; "" if there is none."""
        await self._read()
        return self._by_name.get(name, "")

    async def resolve(self, name: str) -> str:
        """The session that goes by a name; the newest for an empty one. Raises NotFound."""
        known = await self._read()
        if not known:
            raise NotFound("there is no session here", "`skep run FILE` starts one.")
        found = self._by_name.get(name) if name else next(reversed(known))
        if found is None:
            near = ", ".join(one.name for one in list(known.values())[-SHOWN:])
            raise NotFound(f"no session '{name[:100]}' here", f"There are: {near}.")
        return found

    async def shown(self, session: str) -> str:
        """The name that a session goes by."""
        known = (await self._read()).get(session)
        return known.name if known is not None else session

    async def next(self, stem: str, taken: set[str]) -> str:
        """A name that is free: the stem and the lowest number that fits.

        Args:
            taken: further names that are not free.
        """
        await self._read()
        taken = taken | {row.session for row in await self._log.sessions()} | self._by_name.keys()
        number = 1
        while f"{stem}-{number}" in taken:
            number += 1
        return f"{stem}-{number}"

    async def forget(self, session: str) -> None:
        """The session is taken out of the store, log and all: only for one that nobody was told of."""
        await self._log.drop(session)
        self._known = None

    async def give(self, session: str, name: str, source: str) -> None:
        """From now on the session goes by this name: it is made."""
        await self._log.annotate(session, msgspec.json.encode(Note(name, source)).decode())
        self._known = None
