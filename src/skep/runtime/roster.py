"""The sessions that are open in a process, by what they are here, and what became of them since somebody looked.

Most of many stand still: what is done in each look goes by those that moved, and by those in which something goes on.
"""

from __future__ import annotations

from collections.abc import Iterator

from skep.runtime.loop import Loop
from skep.runtime.replica import Replica
from skep.runtime.session import Session
from skep.runtime.views import goes_on


class Roster:
    """Told by `Live` of every session that it opens and closes, and by these whenever they have moved."""

    def __init__(self) -> None:
        #: Written and carried out here; only changed here; followed here.
        self.led: dict[str, Loop] = {}
        self.lent: dict[str, Loop] = {}
        self.followed: dict[str, Replica] = {}
        #: Those in which something goes on, as of the last look.
        self.going: set[str] = set()
        self._moved: dict[str, Session] = {}
        #: Those written here in which nothing goes on any more, and of which the store was not told so: since when.
        self._still: dict[str, float] = {}

    def put(self, session: Session) -> None:
        """It is open here from now on."""
        self.drop(session.name)
        if isinstance(session, Replica):
            self.followed[session.name] = session
        elif isinstance(session, Loop):
            (self.led if session.has_hands else self.lent)[session.name] = session
        session.stirs = self.hear
        self.hear(session)

    def drop(self, name: str) -> None:
        """It is closed here."""
        for those in (self.led, self.lent, self.followed, self._moved, self._still):
            those.pop(name, None)
        self.going.discard(name)

    def hear(self, session: Session) -> None:
        """Its log holds more, it is to be looked at again, or it failed here."""
        if self.get(session.name) is session:
            self._moved[session.name] = session

    def get(self, name: str) -> Session | None:
        """The session of that name, whatever it is here."""
        return self.led.get(name) or self.lent.get(name) or self.followed.get(name)

    def broken(self) -> list[Session]:
        """Those that failed here and were not closed yet."""
        return [session for session in self._moved.values() if session.failure is not None]

    def look(self, now: float) -> list[Session]:
        """Those that moved since the last look. `now`: seconds, by a clock that never goes back."""
        moved = [session for session in self._moved.values() if session.failure is None]
        self._moved = {session.name: session for session in self.broken()}
        self.going -= self._moved.keys()
        for session in moved:
            went_on = session.name in self.going or self._still.pop(session.name, None) is not None
            if busy(session):
                self.going.add(session.name)
                continue
            self.going.discard(session.name)
            if isinstance(session, Loop) and went_on:
                self._still[session.name] = now
            elif isinstance(session, Loop):
                session.rest()  # it is only made, or was read: others need not look at it
        return moved

    def carried_out(self) -> Iterator[Loop]:
        """Those written and carried out here in which something goes on."""
        for name in self.going:
            if name in self.led:
                yield self.led[name]

    def lay_down(self, before: float) -> None:
        """Those in which nothing went on since before that time rest, and the store is told so."""
        while self._still and (name := next(iter(self._still))) and self._still[name] < before:
            del self._still[name]
            loop = self.led.get(name) or self.lent.get(name)
            if loop is not None and loop.failure is None:
                loop.rest()


def busy(session: Session) -> bool:
    """Whether something goes on in a session, or ends in it."""
    return goes_on(session.state) or session.state.running > 0
