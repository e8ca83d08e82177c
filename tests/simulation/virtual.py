"""An asyncio event loop whose time jumps to the next timer, and processes within it that may crash or stop at any step.

A `Life` is one process of the simulated world. It rides in the context of every callback, so the loop knows whose step is next:
a dead life's steps are never run, a paused one's are held back. The code inside needs to know nothing of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar

T = TypeVar("T")
_LIFE: ContextVar[Life | None] = ContextVar("life", default=None)

#: Steps without any time passing that are taken for a loop without end.
MAX_STEPS_AT_ONCE = 200_000


class Life:
    """A process: whatever is started with `run`, and all that comes of it.

    Args:
        name: for messages.
        loop: where it lives.
        fuse: it crashes before its step of this number; 0 = never.
    """

    def __init__(self, name: str, loop: VirtualLoop, fuse: int = 0) -> None:
        self.name = name
        self.dead = False
        self.paused = False
        self.fuse = fuse
        self.blown = False
        self.steps = 0
        self.died: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._held: list[asyncio.Handle] = []
        self._context = copy_context()
        self._context.run(_LIFE.set, self)

    def context(self) -> Context:
        """For callbacks that are steps of this process."""
        return self._context.copy()

    def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts a task of this process."""
        return self._loop.create_task(work, context=self.context())

    def kill(self) -> None:
        """No further step of it is ever taken."""
        if not self.dead:
            self.dead = True
            self._held.clear()
            self.died.set_result(None)

    def pause(self) -> None:
        """Holds it back, as SIGSTOP does."""
        self.paused = True

    def resume(self) -> None:
        """Lets it go on from where it was."""
        self.paused = False
        held, self._held = self._held, []
        if not self.dead:
            self._loop.ready.extend(held)

    def admits(self, handle: asyncio.Handle) -> bool:
        """Whether its next step may be taken now."""
        if self.dead:
            return False
        if self.paused:
            self._held.append(handle)
            return False
        self.steps += 1
        if self.steps == self.fuse:
            self.blown = True
            self.kill()
            return False
        return True


class Stuck(Exception):
    """Nothing is left that could ever happen, or no time passes any more."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs one step at a time, in the order in which they were asked for; all else is done when nothing is ready.

    Args:
        limit: seconds of its own time after which it is `Stuck`.
        most: steps after which it is, too: something goes round and round, though a little time passes each time; 0 = no bound.
    """

    _ready: deque[asyncio.Handle]
    _stopping: bool

    def __init__(self, limit: float = 1e9, most: int = 0) -> None:
        super().__init__()
        self.errors: list[BaseException] = []
        self._now = 0.0
        #: When, the how many-th, what: of several at one time the first is that asked for first.
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._set = 0
        self._limit = limit
        self._steps = self._taken = 0
        self._most = most
        # Dead processes stay referenced: the collector must not close their coroutines at a moment of its own choosing.
        self._tasks: dict[asyncio.Task[Any], None] = {}

    @property
    def ready(self) -> deque[asyncio.Handle]:
        """What is to run at this very time."""
        return self._ready

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._now

    def call_later(  # type: ignore[override]  # asyncio's ties the arguments to the callback
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # the same
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._set += 1
        heappush(self._timers, (when, self._set, timer))
        return timer

    def create_task(self, coro: Any, *, name: Any = None, context: Context | None = None) -> asyncio.Task[Any]:
        """As asyncio's; an error that ends a task is kept in `errors`, whether or not anybody asks for it.

        Raises RuntimeError: the loop is closed.
        """
        if self.is_closed():
            coro.close()  # else Python complains, whenever it is collected, that nobody awaited it
            raise RuntimeError("the world is over")
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        task.add_done_callback(self._ended, context=Context())
        self._tasks[task] = None
        return task

    def close(self) -> None:
        """Ends what is still under way, in the order in which it was begun."""
        super().close()
        # What tidies up finds this loop, which is closed; not whichever a program that runs several worlds used last.
        asyncio._set_running_loop(self)
        try:
            for task in list(self._tasks):
                if not task.done():
                    with suppress(RuntimeError):  # it would tidy up, and there is no loop any more
                        task.get_coro().close()
        finally:
            asyncio._set_running_loop(None)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.errors.append(error)
            self.stop()

    def call_exception_handler(self, context: Any) -> None:
        """Keeps errors of callbacks; that somebody did not ask for an answer, or was killed, is no error here."""
        message = context.get("message", "")
        if "never retrieved" not in message and "destroyed" not in message:
            self.errors.append(context.get("exception") or RuntimeError(message))
            self.stop()

    def complete(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs until the work is done; raises the first error that ended any task."""
        task: asyncio.Task[T] = self.create_task(work, context=Context())
        task.add_done_callback(lambda _: self.stop())
        self.run_forever()
        if self.errors:
            raise self.errors[0]
        return task.result()

    def _run_once(self) -> None:
        ready = self._ready
        if not ready:
            self._advance()
        # Whatever is ready now, until somebody ends it all: then the rest stays where it is.
        while ready and not self._stopping:
            self._steps += 1
            self._taken += 1
            if self._most and self._taken > self._most:
                raise Stuck(f"{self._most} steps by {self._now:.3f} s, and no end")
            if self._steps > MAX_STEPS_AT_ONCE:
                raise Stuck(f"{MAX_STEPS_AT_ONCE} steps at {self._now:.3f} s, and no end")
            handle = ready.popleft()
            if handle._cancelled:
                continue
            life = handle._context.get(_LIFE)  # type: ignore[attr-defined]  # public only from Python 3.12 on
            if life is None or life.admits(handle):
                handle._run()

    def _advance(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heappop(timers)
        if not timers or timers[0][0] > self._limit:
            raise Stuck(f"nothing happens any more after {self._now:.3f} s")
        self._steps = 0
        self._now = now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= now:
            self._ready.append(heappop(timers)[2])

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are passed over when their time comes."""
