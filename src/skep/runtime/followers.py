"""Those who follow a session in this process: they hear of every state that the log holds, and of no other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from skep.core import events as ev
from skep.core.state import State
from skep.errors import SkepError

#: Events kept in memory for followers; who is further behind reads the log.
RING = 20_000

#: Looks for something in a state; None says that it is not there yet. It only looks, and it is quick.
Look = Callable[[State], Any]


class Followers:
    """The newest events of one session, and whoever waits for more, or for something that more will bring."""

    def __init__(self) -> None:
        self._ring: deque[tuple[int, list[ev.Event]]] = deque()
        #: How many events are in memory.
        self.size = 0
        self._changed: list[asyncio.Future[None]] = []
        self._watches: list[tuple[Look, asyncio.Future[Any]]] = []

    def publish(self, seq: int, events: list[ev.Event], state: State) -> None:
        """The log holds these events, the last of them with number `seq`, and so this state."""
        self._ring.append((seq, events))
        self.size += len(events)
        while self.size > RING and len(self._ring) > 1:
            self.size -= len(self._ring.popleft()[1])
        self.look(state)
        self.wake()

    def forget(self) -> None:
        """What is in memory is void: the session was read again."""
        self._ring.clear()
        self.size = 0

    @property
    def watched(self) -> bool:
        """Whether somebody waits for what a later state may bring."""
        return any(not future.done() for _, future in self._watches)

    def since(self, seq: int) -> list[tuple[int, list[ev.Event]]]:
        """The committed turns with events after number `seq`, oldest first, as far as memory holds them."""
        found = []
        for turn in reversed(self._ring):
            if turn[0] <= seq:
                break
            found.append(turn)
        return found[::-1]

    async def change(self) -> None:
        """Returns when there are new events, or when the session ends here."""
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.append(changed)
        await changed

    def wake(self) -> None:
        """Those who wait for a change look for themselves."""
        waiting, self._changed = self._changed, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def watch(self, look: Look, future: asyncio.Future[Any], state: State) -> None:
        """Gives the future what `look` finds in this state, which the log holds, or in the first later one."""
        if future.done():  # given up
            return
        try:
            found = look(state)
        except Exception as error:
            future.set_exception(error)
            return
        if found is None:
            self._watches.append((look, future))
        else:
            future.set_result(found)

    def look(self, state: State) -> None:
        """Whoever waits for something finds it here, or goes on waiting."""
        watches, self._watches = self._watches, []
        for look, future in watches:
            self.watch(look, future, state)

    def fail(self, error: SkepError) -> None:
        """The session ends here: nobody finds anything any more."""
        self.wake()
        watches, self._watches = self._watches, []
        for _, future in watches:
            if not future.done():
                future.set_exception(error)
