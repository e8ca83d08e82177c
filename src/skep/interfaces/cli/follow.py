"""Follows a session until nothing in it goes on by itself, and minds the signals meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from skep.core import events as ev
from skep.errors import SkepError
from skep.interfaces.cli import exits
from skep.interfaces.cli.faces import Face
from skep.interfaces.cli.words import count
from skep.runtime.views import SessionView

if TYPE_CHECKING:
    from skep.app import Session, Skep

#: Seconds between two looks at whether guests are still there.
LOOK = 0.3
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """How often the user asked to end: the first time politely, the second time at once, the third time the process is left.

    Leaving harms nothing: whatever runs is ended by its keeper, and the log knows it.
    """

    def __init__(self) -> None:
        self.count = 0
        self._changed = asyncio.Event()

    def more(self) -> None:
        """Once more."""
        self.count += 1
        if self.count > 2:
            os._exit(exits.INTERRUPTED)
        self._changed.set()

    async def wait(self, number: int) -> None:
        """Until it was asked `number` times."""
        while self.count < number:
            self._changed.clear()
            await self._changed.wait()


@asynccontextmanager
async def interrupts() -> AsyncIterator[Interrupts]:
    """Counts Ctrl-C, SIGTERM, and the closing of the terminal, instead of dying by them."""
    loop, found = asyncio.get_running_loop(), Interrupts()
    for number in SIGNALS:
        loop.add_signal_handler(number, found.more)
    try:
        yield found
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


class Following:
    """One session, followed by one command.

    Args:
        session: the session.
        face: shows it.
        asked: interrupts.
        stay: whether to wait while a person is needed; otherwise following ends there.
        ours: whether interrupting the command stops the session; otherwise it only ends the watching.
        refuses: whether what agents ask leave for is refused, as nobody is there to be asked; `refused` counts it.
    """

    def __init__(
        self, session: Session, face: Face, asked: Interrupts, stay: bool, ours: bool = True, refuses: bool = False
    ) -> None:
        self._session = session
        self._face = face
        self._asked = asked
        self._stay = stay
        self._ours = ours
        self._refuses = refuses
        self.refused = 0
        self._seen = 0
        self._moved = asyncio.Event()

    async def run(self, after: int) -> SessionView:
        """Shows everything after event `after`, until nothing goes on. Returns the session as it stands then."""
        self._seen = after
        interrupted = asyncio.ensure_future(self._asked.wait(1))
        events = asyncio.ensure_future(self._events(after))
        fresh = asyncio.ensure_future(self._face.live(self._session))
        for shown in (await self._session.status()).tasks if self._refuses else ():
            for ask in shown.asks:
                await self._refuse(ask.id)
        work = asyncio.ensure_future(self._settled())
        try:
            await asyncio.wait([interrupted, work, events], return_when=asyncio.FIRST_COMPLETED)
            if events.done():
                events.result()
                await asyncio.wait([interrupted, work], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                return await self._interrupt()
            view = work.result()
            await self._shown(view.seq, events)
            return view
        finally:
            for task in (interrupted, events, fresh, work):
                task.cancel()
            await asyncio.gather(interrupted, events, fresh, work, return_exceptions=True)
            self._face.close()

    async def _events(self, after: int) -> None:
        async for number, event in self._session.follow(after=after):
            self._face.event(number, event)
            if isinstance(event, ev.ApprovalAsked) and not event.verdict and self._refuses:
                await self._refuse(f"{event.task}/{event.number}")
            self._seen = number
            self._moved.set()

    async def _refuse(self, ask: str) -> None:
        with contextlib.suppress(SkepError):  # its attempt is over, or somebody was there after all
            await self._session.refuse(ask, "nobody is asked in this run (--ci)")
            self.refused += 1

    async def _settled(self) -> SessionView:
        while True:
            view = await self._session.settled()
            if not (self._stay and view.state == "active" and view.counts.get("needs-you")):
                return view
            while self._seen <= view.seq:
                self._moved.clear()
                await self._moved.wait()

    async def _shown(self, number: int, events: asyncio.Future[Any]) -> None:
        """Until every event up to a number was shown."""
        while self._seen < number and not events.done():
            self._moved.clear()
            waiting: asyncio.Future[Any] = asyncio.ensure_future(self._moved.wait())
            await asyncio.wait([waiting, events], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()

    async def _interrupt(self) -> SessionView:
        """Ends what runs and keeps its work; asked again, leaves without waiting for it."""
        if not self._ours:
            return await self._session.status()
        self._face.note("stopping...")
        stop = asyncio.ensure_future(self._session.stop("interrupted"))
        again = asyncio.ensure_future(self._asked.wait(2))
        await asyncio.wait([stop, again], return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        view = await self._paused(stop)
        if stop.done():
            number = stop.result()
            self._face.note(f"{count(number, 'attempt')} interrupted, work kept; no try counted. Resume: skep resume {view.name}")
        else:
            stop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await stop
            how = "what still runs is killed" if self._session.hive.owner else "its owner ends what still runs"
            self._face.note(f"leaving at once: {how}, work kept; no try counted. Resume: skep resume {view.name}")
        return view

    async def _paused(self, stop: asyncio.Future[int]) -> SessionView:
        """The session once the log holds that it was stopped: from then on resuming keeps the work and counts no try."""
        while True:
            self._moved.clear()
            view = await self._session.status()
            if stop.done() or view.state != "active":
                return view
            moved: asyncio.Future[Any] = asyncio.ensure_future(self._moved.wait())
            await asyncio.wait([stop, moved], return_when=asyncio.FIRST_COMPLETED)
            moved.cancel()


async def stay_for_guests(hive: Skep, face: Face, asked: Interrupts) -> None:
    """An owner whose own work is done stays while others work through it, and says so; Ctrl-C leaves."""
    if not hive.owner or asked.count or not (guests := (await hive.who()).guests):
        return
    face.note(f"done here; staying for {count(guests, 'guest')} at work through this process (Ctrl-C leaves)")
    over = asyncio.ensure_future(asked.wait(1))
    while not over.done() and (await hive.who()).guests:
        await asyncio.wait([over], timeout=LOOK)
    over.cancel()
