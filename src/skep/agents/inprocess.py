"""Callables in this process, for the Python API: trusted code, handed over by whoever runs the process.

Coroutine functions run on the event loop. Plain functions run on threads: one thread takes what is there, and more threads come
only when calls have to wait, so ten thousand short calls cost one thread. A thread tells the event loop once about many results:
when nothing is left to do, or after a short while; the event loop itself looks as long as calls wait for a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from typing import Any

from skep.agents import Ability, Ending, Host, Job
from skep.agents.callables import failure, kept, resolve
from skep.agents.endings import late
from skep.core.model import Task

#: Threads for plain functions.
MAX_THREADS = 64
#: Seconds between looks at calls that wait. A thread that does `QUICK` calls in that time needs no help.
PATIENCE = 0.005
QUICK = 100
#: Seconds that a thread keeps results to itself while there is more to do.
DELAY = 0.001

Done = Callable[[Ending], None]


class Call:
    """One call of a plain function: what to call, whom to tell."""

    __slots__ = ("args", "done", "ending", "function", "key", "over", "timeout")

    def __init__(self, function: Callable[..., Any], args: dict[str, Any], timeout: float, key: Hashable, done: Done) -> None:
        self.function = function
        self.args = args
        self.timeout = timeout
        self.key = key
        self.done = done
        self.ending: Ending | None = None
        self.over: asyncio.Future[None] | None = None

    def run(self) -> Ending:
        """Calls it, in whatever thread this is. A plain function cannot be interrupted, so its time is judged afterwards."""
        began = time.monotonic() if self.timeout else 0.0
        try:
            result = self.function(**self.args)
        except BaseException as error:
            return failure(error)
        if self.timeout and time.monotonic() - began > self.timeout:
            return late(self.timeout)
        return kept(result)


class InProcess:
    """Runs callables here. All methods belong to one event loop."""

    name = "inprocess"
    can: frozenset[Ability] = frozenset()
    wants: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._functions: dict[str, tuple[Callable[..., Any], bool]] = {}
        self._coroutines: dict[Hashable, asyncio.Task[None]] = {}
        self._calls: dict[Hashable, Call] = {}
        self._waiting: dict[Call, bool] = {}  # not taken by a thread yet; whoever pops a call has it
        self._collected = 0  # since the last look
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._finished: deque[Call] = deque()
        self._threads: list[threading.Thread] = []
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def check(self) -> str:
        """Nothing is needed."""
        return ""

    async def run(self, job: Job, host: Host) -> Ending:
        """See the port. There is no process to record, and what is printed goes where this process prints."""
        over: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self.start(job.task, job.nonce, over.set_result)
        try:
            return await asyncio.shield(over)
        except asyncio.CancelledError:
            await self.cancel(job.nonce)
            raise

    def start(self, task: Task, key: Hashable, done: Done) -> None:
        """Begins a call and returns; `done` is told on the event loop, once, but not about a call that was cancelled.

        Args:
            key: names the call for `cancel`.
        """
        found = self._functions.get(task.call or "")
        if found is None:
            try:
                function = resolve(task.call or "")
            except Exception as error:  # whatever importing somebody's module raises
                done(failure(error))
                return
            found = self._functions[task.call or ""] = (function, inspect.iscoroutinefunction(function))
        function, is_coroutine = found
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if is_coroutine:
            self._coroutines[key] = self._loop.create_task(self._await(function, task, key, done))
            return
        self._calls[key] = call = Call(function, task.args, task.timeout, key, done)
        self._waiting[call] = True
        if not self._threads:
            self._hire()
        if self._timer is None:
            self._timer = self._loop.call_later(PATIENCE, self._look)
        self._queue.put(call)

    async def cancel(self, key: Hashable) -> bool:
        """Ends a call; returns whether there was one. A plain function cannot be interrupted: this waits for its end."""
        task = self._coroutines.pop(key, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            return True
        call = self._calls.pop(key, None)
        if call is None:
            return False
        call.done = _nobody
        if not self._waiting.pop(call, False):
            call.over = asyncio.get_running_loop().create_future()
            await call.over
        return True

    async def close(self) -> None:
        """Cancels coroutines; lets threads go. A plain function that still runs ends with the process."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._coroutines.values())
        self._coroutines.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._waiting.clear()
        for _ in self._threads:
            self._queue.put(None)

    def _hire(self) -> None:
        thread = threading.Thread(target=self._serve, name=f"skep-call-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _look(self) -> None:
        """Takes results that no thread has told of, and hires if calls wait for slow ones; comes again while any wait."""
        self._timer = None
        waiting = len(self._waiting)
        self._collect()
        if not waiting or self._loop is None or self._closed:
            return
        if self._collected < QUICK * len(self._threads):
            for _ in range(min(waiting, MAX_THREADS - len(self._threads))):
                self._hire()
        self._collected = 0
        if self._timer is None:
            self._timer = self._loop.call_later(PATIENCE, self._look)

    def _serve(self) -> None:
        """A thread: takes calls until it is let go."""
        told = time.monotonic()
        while (call := self._queue.get()) is not None:
            if self._waiting.pop(call, False):
                call.ending = call.run()
                self._finished.append(call)
            if self._finished and (self._queue.empty() or time.monotonic() - told > DELAY):
                told = time.monotonic()
                self._tell()

    def _tell(self) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        while self._finished:
            call = self._finished.popleft()
            self._collected += 1
            self._calls.pop(call.key, None)
            assert call.ending is not None
            call.done(call.ending)
            if call.over is not None:
                call.over.set_result(None)

    async def _await(self, function: Callable[..., Any], task: Task, key: Hashable, done: Done) -> None:
        limit = asyncio.timeout(task.timeout) if task.timeout else None
        try:
            if limit is None:
                ending = kept(await function(**task.args))
            else:
                async with limit:
                    ending = kept(await function(**task.args))
        except asyncio.CancelledError:
            if self._coroutines.pop(key, None) is None:
                raise
            ending = Ending(ok=False, cause="interrupted", detail="it was cancelled, not by Skep", interrupted=True)
        except (Exception, SystemExit) as error:
            ending = late(task.timeout) if limit is not None and limit.expired() else failure(error)
        self._coroutines.pop(key, None)
        done(ending)


def _nobody(_ending: Ending) -> None:
    """Is told about a call that was cancelled."""
