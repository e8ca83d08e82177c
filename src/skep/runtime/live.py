"""The sessions that are open in this process, one loop each: with hands if it is carried out here, without if only changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.model import Task
from skep.core.state import State
from skep.errors import SkepError
from skep.runtime.collect import collect_daily
from skep.runtime.credits import Credits
from skep.runtime.loop import Loop
from skep.runtime.names import Names
from skep.runtime.notify import Teller
from skep.runtime.parts import Parts

R = TypeVar("R")

#: Why a session is paused when the process that carried it out closed in good order.
CLOSED = "its owner was closed"
#: How long closing waits for what runs, seconds. What cannot be interrupted (a function of this process) ends with the process.
CLOSING = 15.0


class Live:
    """Opens sessions, at most one loop each, and closes them.

    Args:
        parts: what they work with.
        names: who is who.
    """

    def __init__(self, parts: Parts, names: Names) -> None:
        self._parts = parts
        self._names = names
        self._loops: dict[str, Loop] = {}
        self._watches: dict[str, tuple[Teller, asyncio.Task[None]]] = {}
        self._credits = Credits(parts.state, parts.clock)
        self._opening = asyncio.Lock()
        self._swept = False
        #: Removes blobs that nobody needs, meanwhile.
        self.collecting: asyncio.Future[None] | None = None

    async def begin(self) -> None:
        """Removes sessions that an owner died over while it made them: nobody was told of them."""
        for session in await self._names.unfinished():
            await self.discard(session)

    def at_work(self) -> list[str]:
        """The sessions that are carried out here."""
        return [name for name in self._loops if self.is_at_work(name)]

    def is_at_work(self, session: str) -> bool:
        """Whether a session is carried out here."""
        loop = self._loops.get(session)
        return loop is not None and loop.has_hands and loop.failure is None

    def get(self, session: str) -> Loop | None:
        """The session's loop, if it is carried out here."""
        return self._loops[session] if self.is_at_work(session) else None

    async def loop(self, session: str, hands: bool, fresh: bool = False) -> Loop:
        """The session's loop, opened if need be; with hands, its node has joined.

        Args:
            fresh: it was just made: nobody was told of anything in it yet.
        """
        async with self._opening:
            loop = self._loops.get(session)
            if loop is not None and loop.failure is None and (loop.has_hands or not hands):
                return loop
            if loop is not None:
                await self._shut(session)
            if hands:
                await self._sweep()
            loop = Loop(session, self._parts.log, self._parts.clock, self._parts.performer if hands else None)
            await loop.start()
            self._loops[session] = loop
            after = 0 if fresh else loop.head.seq
            if hands:
                try:
                    await loop.tell(self._credits.join(loop))
                except BaseException:
                    await self._shut(session)
                    raise
                self.watch(loop, after)
            return loop

    def watch(self, loop: Loop, after: int) -> None:
        """From event number `after` on, tells whom the session's plan wants to be told, if it does and nobody tells them yet."""
        if loop.state.plan.notify and loop.has_hands and loop.name not in self._watches:
            teller = self._parts.performer.teller(loop)
            self._watches[loop.name] = teller, asyncio.ensure_future(teller.follow(after))

    def untold(self, session: str) -> str:
        """What went wrong with notifications of the session, here."""
        return self._watches[session][0].trouble if session in self._watches else ""

    async def _shut(self, session: str) -> None:
        _, watch = self._watches.pop(session, (None, None))
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        await self._parts.performer.services.end(session)
        await self._loops.pop(session).stop()
        self._credits.leave(session)

    async def look(self, session: str, query: Callable[[State], R]) -> R:
        """Asks a session something: its loop if it has one, otherwise its log."""
        loop = self._loops.get(session)
        if loop is not None and loop.failure is None:
            answer: R = await loop.ask(query)
            return answer
        return query((await self._reader(session)).state)

    async def _reader(self, session: str) -> Loop:
        """A loop that only reads: it never becomes the writer. For sessions that nobody carries out."""
        loop = Loop(session, self._parts.log, self._parts.clock, None)
        await loop.read_only()
        return loop

    async def stream(self, session: str, after: int) -> AsyncGenerator[tuple[int, ev.Event], None]:
        """The events of a session after a number; of one that is not open here, those that are there."""
        loop: Loop | None = None
        while True:
            last, loop = loop, self._loops.get(session)
            if loop is None or loop is last:
                if last is not None:
                    return
                loop = await self._reader(session)
            async with contextlib.aclosing(loop.follow(after)) as source:
                async for number, event in source:
                    after = number
                    yield number, event

    async def interrupt(self, loop: Loop, why: str, by: str) -> int:
        """Ends what runs of a session, keeps its work, pauses it; returns the number of attempts interrupted."""

        def working(state: State) -> int:
            return sum(1 for e in state.entries.values() if e.attempt is not None and e.attempt.stage in ("starting", "working"))

        def ending(state: State) -> tuple[int, bool]:
            return state.seq, any(e.attempt is not None and e.attempt.stage == "ending" for e in state.entries.values())

        count: int = await loop.ask(working)
        await loop.tell(inp.Pause(at=self._parts.clock.now(), stop=True, why=why, by=by))
        while loop.has_hands:
            seq, busy = await loop.ask(ending)
            if not busy:
                break
            await loop.moved(seq)
        return count

    async def discard(self, session: str) -> None:
        """Removes a session that was not made to its end."""
        if session in self._loops:
            await self._shut(session)
        await self._parts.workspace.forget(session)
        await self._names.forget(session)

    async def close(self) -> None:
        """Interrupts what runs, keeps its work, closes everything, whatever goes wrong with one of them."""
        self._credits.close()
        if self.collecting is not None:
            self.collecting.cancel()
            await asyncio.gather(self.collecting, return_exceptions=True)
        stops = [
            self.interrupt(loop, CLOSED, "")
            for loop in self._loops.values()
            if loop.has_hands and loop.failure is None and loop.state.running
        ]
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSING):
                    await asyncio.gather(*stops, return_exceptions=True)
        finally:
            await self._parts.performer.close()
            for session in list(self._loops):
                await self._shut(session)

    # After an owner that died

    async def _sweep(self) -> None:
        """Before anything is carried out here: ends what a dead owner left running, and tidies up after it."""
        if self._swept:
            return
        await self._parts.performer.sweep()
        workspace = self._parts.workspace
        needed = [path for path, (session, name) in (await workspace.trees()).items() if await self._needed(path, session, name)]
        await workspace.tidy(needed)
        self._swept = True
        self.collecting = asyncio.ensure_future(collect_daily(self._parts))

    async def _needed(self, path: str, session: str, name: str) -> bool:
        """Whether a working tree must stay: a person looks at it, or its attempt is still to be ended.

        What an attempt left that nobody could keep (the disk was full) is kept now.
        """
        kind, _, task = name.partition("/")
        if kind in ("open", "shared"):
            return True
        if kind != "task" or not await self._names.find(session):
            return False
        n, under_way = await self.look(session, lambda state: _attempt(state, task))
        if under_way or not n:
            return under_way
        try:
            refs = await self._parts.workspace.refs(session)
            if f"task/{task}/{n}" not in refs and f"wip/{task}/{n}" not in refs:
                await self._parts.performer.keep(path, session, Task(id=task), n)
        except SkepError:
            return True
        return False


def _attempt(state: State, task: str) -> tuple[int, bool]:
    """The number of a task's last attempt, 0 if there never was one, and whether it is under way."""
    entry = state.entries.get(task)
    return (entry.attempts, entry.attempt is not None) if entry is not None else (0, False)
