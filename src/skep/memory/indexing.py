"""Brings what was stored into the index, afterwards: changes are read in the store's own order, so none is missed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from msgspec.structs import replace

from skep.errors import SkepError, Unavailable
from skep.memory import Entry, Finder, MemoryStore, Record
from skep.memory.limits import COPY
from skep.memory.search.texts import text_of

#: Changes that are brought in at once.
BATCH = 500
#: Seconds without a change until it begins, and at most; and how much longer than a batch it rests while changes come in.
QUIET, LONGEST, REST = 0.01, 1.0, 4
#: Seconds until a store is asked again that failed.
AGAIN = 1.0


class Indexing:
    """One task that brings changes in, until it is closed.

    Args:
        whole: gives an entry with its value, also where that lies in a blob.
    """

    def __init__(self, store: MemoryStore, finder: Finder, whole: Callable[[Entry], Awaitable[Entry]]) -> None:
        self.finder = finder
        self._store = store
        self._whole = whole
        self._dirty: dict[str, None] = {}
        self._woken = asyncio.Event()
        #: When something was changed last, by the loop's clock; and set while somebody waits until it is brought in.
        self._changed, self._hurry = 0.0, asyncio.Event()
        self._moved = asyncio.Condition()
        #: Held from reading the store until that is in the index: else what was dropped might come in after it was forgotten.
        self._feeding = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        #: Why it brings nothing in just now.
        self.trouble = ""

    async def start(self) -> None:
        """Begins with all that the index does not have yet."""
        there, known = await self._store.heads(), self.finder.places()
        for namespace in known:
            if namespace not in there:
                await self.finder.forget(namespace)
        for namespace, place in there.items():
            if COPY not in namespace and place != known.get(namespace, 0):
                self._look_at(namespace)
        self._task = self._loop.create_task(self._run())

    def wake(self, namespace: str) -> None:
        """Something was changed in a namespace."""
        self._changed = self._loop.time()
        self._look_at(namespace)

    def _look_at(self, namespace: str) -> None:
        self._dirty[namespace] = None
        self._woken.set()

    async def caught_up(self, namespaces: Sequence[str], patience: float) -> int:
        """Waits so many seconds until what is stored now can be found; returns the places that are missing."""
        heads = await self._store.heads()
        wanted = {name: heads[name] for name in namespaces if name in heads}
        places = self.finder.places()
        for name, place in wanted.items():
            if place > places.get(name, 0):  # also what others changed: other processes, or hands in a file
                self._look_at(name)

        def missing() -> int:
            places = self.finder.places()
            return sum(max(0, place - places.get(name, 0)) for name, place in wanted.items())

        if patience and missing():
            self._hurry.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience), self._moved:
                    await self._moved.wait_for(lambda: not missing())
            if missing():
                raise Unavailable(f"the index is {missing()} changes behind{self.trouble}", "Search without waiting, or later.")
        return missing()

    async def forget(self, namespace: str) -> None:
        """The namespace is gone."""
        self._dirty.pop(namespace, None)
        async with self._feeding:
            await self.finder.forget(namespace)

    async def close(self) -> None:
        """Ends; what was not brought in is brought in next time."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.finder.close()

    async def _run(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self._calm(LONGEST)
            while self._dirty:
                namespace = next(iter(self._dirty))
                del self._dirty[namespace]
                try:
                    await self._bring(namespace)
                    self.trouble = ""
                except SkepError as error:
                    self.trouble = f": {error.message}"
                    self._dirty[namespace] = None
                    await asyncio.sleep(AGAIN)
            self._hurry.clear()

    async def _bring(self, namespace: str) -> None:
        place = self.finder.places().get(namespace, 0)
        while True:
            began = self._loop.time()
            async with self._feeding:
                page = await self._store.changes(namespace, place, BATCH)
                await self.finder.feed(namespace, [(at, await self._readable(record)) for at, record in page])
            if not page:
                return
            place = page[-1][0]
            async with self._moved:
                self._moved.notify_all()
            if len(page) < BATCH:
                return
            if self._changed > began:
                await self._calm(REST * (self._loop.time() - began))

    async def _calm(self, most: float) -> None:
        """Lets those go first who store: until nobody did for a moment, or at most so many seconds; unless somebody waits."""
        until = self._loop.time() + most
        while not self._hurry.is_set() and (left := min(until, self._changed + QUIET) - self._loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._hurry.wait()

    async def _readable(self, record: Record) -> Record:
        """The record, with the beginning of values that are too large to stand in it. What is lost is found by its key."""
        if not any(entry.blob for entry in record.entries):
            return record
        found = []
        for entry in record.entries:
            with contextlib.suppress(SkepError):
                entry = replace(entry, value=text_of((await self._whole(entry)).value)) if entry.blob else entry
            found.append(entry)
        return replace(record, entries=tuple(found))
