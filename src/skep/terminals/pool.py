"""A pool of terminals: at most so many at once, the others wait in turn, and more than may wait are refused."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from skep.errors import Exhausted, Unavailable
from skep.terminals import Exit, Profile, Terminal, Terminals

#: Callers that may wait for a place.
MAX_WAITING = 10_000
#: Latencies that quantiles are taken of: the last so many.
KEPT = 1_000


class Latency(Struct, frozen=True, gc=False):
    """Seconds that something took: how often it was measured, and the quantiles of the last thousand times."""

    count: int = 0
    p50: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0


class Stats(Struct, frozen=True):
    """What a pool did so far.

    Args:
        size, open, opened: places; terminals now and in all.
        waiting, waited, refused: callers that wait now, that had to wait, that were refused.
        spawn: from having a place to a program at its gate.
        answer: from release to the first output.
        command: from release to the exit.
    """

    size: int
    open: int
    opened: int
    waiting: int
    waited: int
    refused: int
    spawn: Latency
    answer: Latency
    command: Latency


class Series:
    """Measurements, of which quantiles can be had."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=KEPT)
        self._count = 0

    def add(self, seconds: float) -> None:
        """One more."""
        self._last.append(seconds)
        self._count += 1

    def latency(self) -> Latency:
        """Nearest-rank quantiles."""
        known = sorted(self._last)
        if not known:
            return Latency()
        return Latency(self._count, *(known[int(share * (len(known) - 1) + 0.5)] for share in (0.5, 0.9, 0.95, 0.99)))


class Pooled:
    """A terminal that gives its place back when its processes are gone, and is measured."""

    def __init__(self, pool: Pool, output: Callable[[bytes], None]) -> None:
        self._pool = pool
        self._output = output
        self._inner: Terminal | None = None
        self._released = 0.0  # 0 = not measured any more, or not yet
        self._silent = True
        self._here = True
        self.pid = self.born = 0

    def heard(self, data: bytes) -> None:
        """Takes output."""
        if self._silent:
            self._silent = False
            if self._released:
                self._pool.answer.add(time.monotonic() - self._released)
        self._output(data)

    def wrap(self, inner: Terminal) -> Pooled:
        """Becomes the terminal that was created."""
        self._inner, self.pid, self.born = inner, inner.pid, inner.born
        return self

    @property
    def _there(self) -> Terminal:
        assert self._inner is not None
        return self._inner

    def release(self) -> None:
        """See the port."""
        self._released = time.monotonic()
        self._there.release()

    def write(self, data: bytes) -> None:
        """See the port."""
        self._there.write(data)

    def finish(self) -> None:
        """See the port."""
        self._there.finish()

    def resize(self, columns: int, rows: int) -> None:
        """See the port."""
        self._there.resize(columns, rows)

    async def wait(self) -> Exit:
        """See the port."""
        ended = await self._there.wait()
        if self._released:
            self._pool.command.add(time.monotonic() - self._released)
            self._released = 0.0
        return ended

    async def end(self, grace: float = 2.0) -> None:
        """See the port. The place is free when no process is left, not before."""
        await self._there.end(grace)
        if self._here:
            self._here = False
            self._pool.leave()


class Pool:
    """A source of terminals with a bound.

    Args:
        inner: where they come from.
        size: open at once.
        waiting: callers that may wait for a place.
    """

    def __init__(self, inner: Terminals, size: int, waiting: int = MAX_WAITING) -> None:
        self._inner = inner
        self._size, self._most = size, waiting
        self._open = self._opened = self._waited = self._refused = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self.spawn, self.answer, self.command = Series(), Series(), Series()

    async def create(self, profile: Profile, output: Callable[[bytes], None]) -> Terminal:
        """See the port. Waits for a place, first come first served; raises Exhausted when too many wait already."""
        if self._closed:
            raise Unavailable(f"{profile.name} cannot be started: terminals are closed.")
        if self._open < self._size:
            self._open += 1
        else:
            await self._turn()
        began = time.monotonic()
        terminal = Pooled(self, output)
        try:
            terminal.wrap(await self._inner.create(profile, terminal.heard))
        except BaseException:
            self.leave()
            raise
        self.spawn.add(time.monotonic() - began)
        self._opened += 1
        return terminal

    async def _turn(self) -> None:
        """Waits until a place is handed over."""
        if len(self._waiting) >= self._most:
            self._refused += 1
            raise Exhausted(
                f"{self._open} terminals are open and {self._most} callers wait for one.",
                "Raise terminals.pool, or start less at once.",
            )
        self._waited += 1
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave()
            raise

    def leave(self) -> None:
        """A place is free: it goes to whoever has waited longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._open -= 1

    def stats(self) -> Stats:
        """What it did so far."""
        waiting = sum(not turn.done() for turn in self._waiting)
        return Stats(
            self._size, self._open, self._opened, waiting, self._waited, self._refused,
            self.spawn.latency(), self.answer.latency(), self.command.latency(),
        )  # fmt: skip

    async def close(self) -> None:
        """See the port. Whoever still waits for a place is refused."""
        self._closed = True
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(Unavailable("Nothing more is started: terminals are closed."))
        await self._inner.close()
