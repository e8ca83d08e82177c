"""The index: one file, a thread that feeds it and one that finds, so that the event loop never waits for either."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from skep.errors import Exhausted, SkepError, Unavailable
from skep.memory import Embedder, Ranked, Record, Search
from skep.memory.search import schema
from skep.memory.search.answer import answer
from skep.memory.search.feeding import Feeder, Vector
from skep.memory.search.meaning import Vectors, unit
from skep.memory.search.texts import MOST_MEANT
from skep.memory.search.words import Counts

T = TypeVar("T")

#: Searches that may be under way at once.
MOST_SEARCHES = 256
#: Texts that an embedder gets at once, seconds until one that failed is asked again, and at most.
BATCH, AGAIN, SELDOM = 32, 1.0, 60.0
#: Seconds that a search waits for vectors, if it is to wait.
PATIENCE = 30.0
_ANEW = "It is made anew when Skep starts next; nothing that was stored is lost."


class Index:
    """The port `Finder`. Made by `Index.open`; all its methods belong to the loop that opened it."""

    def __init__(self, path: Path | None, embedder: Embedder, writer: sqlite3.Connection, remade: str) -> None:
        self.embedder = embedder.name
        self.knows = embedder if embedder.real else None
        #: Why what was there before could not be used; empty if it could, or there was nothing.
        self.remade = remade
        self._path, self._made_by, self._writer = path, embedder, writer
        self._feeding = ThreadPoolExecutor(1, thread_name_prefix="skep-memory-feed")
        # In memory there is one connection, so one thread does both.
        self._finding = ThreadPoolExecutor(1, thread_name_prefix="skep-memory-find") if path else self._feeding
        # One for what is stored, one for what is asked.
        self._embedding = ThreadPoolExecutor(2, thread_name_prefix="skep-memory-embed")
        self._reader = schema.open_reader(path) if path else writer
        self._feeder = Feeder(writer)
        self._vectors, self._counts = Vectors(), Counts()
        self._places: dict[str, int] = dict(writer.execute("SELECT namespace, place FROM place"))
        self._searches = 0
        self._unembedded = asyncio.Event()
        self._all_embedded = asyncio.Event()
        #: Why no vectors are made just now.
        self._trouble = ""
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path | None, embedder: Embedder) -> Index:
        """Opens the index of that file, or makes it; anew if it is damaged, of another version or of another embedder.

        Args:
            path: None = in memory, gone when it is closed: for memory that is encrypted.

        Raises:
            Unavailable: the disk refuses.
        """
        writer, remade = await asyncio.to_thread(schema.open_index, path, embedder.name)
        index = cls(path, embedder, writer, remade)
        index._unembedded.set()
        index._task = asyncio.get_running_loop().create_task(index._embed())
        return index

    def places(self) -> dict[str, int]:
        """See `Finder.places`."""
        return dict(self._places)

    async def feed(self, namespace: str, changes: Sequence[tuple[int, Record]]) -> None:
        """See `Finder.feed`. Found by words when it returns; by meaning once the embedder is done, which `find` can wait for."""
        if not changes:
            return
        await self._change(lambda: self._feeder.feed(namespace, changes))
        self._places[namespace] = changes[-1][0]
        self._all_embedded.clear()
        self._unembedded.set()

    async def find(self, search: Search) -> tuple[list[Ranked], str]:
        """See `Finder.find`. Raises Exhausted if too many search at once, Unavailable if the index is damaged."""
        if self._searches >= MOST_SEARCHES:
            raise Exhausted(f"{self._searches} searches are under way, as many as may be", "Search again later.")
        self._searches += 1
        try:
            if search.wait:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE):
                        await self._all_embedded.wait()
            vector, trouble = await self._meant(search)
            found = await self._in(self._finding, partial(answer, self._reader, self._counts, self._vectors, search, vector))
        finally:
            self._searches -= 1
        notes = [trouble, found.note, "" if self._all_embedded.is_set() else self._behind()]
        if self.remade and not self._places:
            notes.append(f"the index is being made anew: {self.remade}")
        return found.ranked, "; ".join(note for note in notes if note)

    async def forget(self, namespace: str) -> None:
        """See `Finder.forget`."""
        await self._change(lambda: self._feeder.forget(namespace))
        self._places.pop(namespace, None)

    async def close(self) -> None:
        """See `Finder.close`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            loop = asyncio.get_running_loop()
            if self._path:
                await loop.run_in_executor(self._finding, self._reader.close)
            await loop.run_in_executor(self._feeding, self._writer.close)
            for pool in (self._feeding, self._finding, self._embedding):
                pool.shutdown(wait=False)

    async def _meant(self, search: Search) -> tuple[bytes, str]:
        """The vector that is looked for, empty for none; and why there is none, if there should be."""
        if search.mode == "words" or not (search.text or search.vector):
            return b"", ""
        if search.vector:
            vector = unit(array("f", search.vector).tobytes())
            return vector, "" if vector else "the vector points nowhere, so only words were looked at"
        try:
            (made,) = await self._in(self._embedding, lambda: self._made_by.embed([search.text[:MOST_MEANT]]))
        except SkepError as error:
            return b"", f"only words were looked at: {error.message}"
        if self._made_by.real:
            return unit(made), ""
        return unit(made), "no real embedder: 'hashed' compares letters, not meaning"

    def _behind(self) -> str:
        return f"some entries cannot be found by meaning yet{self._trouble}"

    async def _embed(self) -> None:
        """Makes the vectors of what waits for one, until it is cancelled."""
        pause = AGAIN
        while True:
            await self._unembedded.wait()
            self._unembedded.clear()
            try:
                while waiting := await self._in(self._feeding, lambda: self._feeder.waiting(BATCH)):
                    vectors = await self._in(self._embedding, partial(self._made_by.embed, [text for _, text in waiting]))
                    made = [(id, vector) for (id, _), vector in zip(waiting, vectors, strict=True)]
                    await self._change(partial(self._feeder.embedded, made))
                if not self._unembedded.is_set():
                    self._all_embedded.set()
                pause, self._trouble = AGAIN, ""
            except SkepError as error:
                self._trouble = f": {error.message}"
                await asyncio.sleep(pause)
                pause = min(2 * pause, SELDOM)
                self._unembedded.set()

    async def _change(self, work: Callable[[], list[Vector]]) -> None:
        self._vectors.changed(await self._in(self._feeding, work))

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """Does something in one of the threads. Raises Unavailable for what SQLite refuses."""
        if self._task is None:
            raise Unavailable("the index is closed", "Open it again.")
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) and self._path:
                schema.remove(self._path)
                raise Unavailable(f"the index is damaged: {error}", _ANEW) from None
            raise Unavailable(f"the index cannot be used: {error}", "Check the disk; the index may be deleted.") from None
