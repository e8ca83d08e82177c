"""Records as Markdown files that people read, edit and keep in git: one file for each key, one folder for each namespace.

What Skep wrote lies in `memory.db` of the state folder as well (see `sqlite`). So a commit of several files is one commit, and
what differs from it in a file was edited by hand: that is taken in as a new value that is not trusted, whatever its text says. A
file that cannot be read any more is told, and neither used nor overwritten until somebody repairs or removes it.

New texts are written beside the files first, then the commit is made, then each takes its file's name. After a crash those that
were committed take it then, unless somebody edited the file since; the others go. What Skep keeps of earlier states
(`limits.COPY`) is nobody's to edit and has no files.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from skep.disk.outcome import outcome
from skep.errors import Conflict, Invalid, Unavailable
from skep.memory import Change, Record
from skep.memory.byhand import edited, removed
from skep.memory.clocks import Hybrid
from skep.memory.limits import COPY, check_key, check_namespace
from skep.memory.pages import ABSENT, UNSEEN, Pages, Seen, at
from skep.memory.readable import parse, render
from skep.memory.records import digest, encode
from skep.memory.sqlite import SqliteStore

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds after which the files are looked through again, when all of a namespace is asked for.
AGAIN = 2.0


class MarkdownStore:
    """The port `MemoryStore` over a folder of Markdown files. Made by `open`; its methods belong to the loop that opened it."""

    #: People change the files, so nothing of it is cached above.
    lacks = frozenset({"private"})

    def __init__(self, known: SqliteStore, pages: Pages) -> None:
        self._known = known
        self._pages = pages
        self.writer = known.writer
        #: In whose name hands write.
        self._hand = f"{known.writer}.hand"
        self._clock = Hybrid()
        self._turn = asyncio.Lock()
        #: Files, each with whose it is, and with how it was when it had the text that Skep knows.
        self._names: dict[Path, tuple[str, str]] = {}
        self._seen: dict[Path, Seen] = {}
        #: Files for which something may have been prepared that has not taken their names.
        self._unfinished: set[Path] = set()
        self._looked = 0.0
        #: Files that cannot be used, each with why.
        self.trouble: dict[str, str] = {}
        self._closed = False

    @classmethod
    async def open(cls, folder: Path, files: Path | None = None) -> MarkdownStore:
        """Opens the memory of a state folder, or makes it. If there are no files yet, all that Skep knows is written to them.

        Args:
            folder: the state folder.
            files: where the files lie; its own folder `notes` unless said otherwise. It is nobody's worktree.

        Raises:
            Conflict: another process works with it.
            Invalid: `memory.db` is damaged, of a later Skep, or not of Skep.
            Unavailable: the disk refuses, or cannot give the durability that is promised.
        """
        known = await SqliteStore.open(folder)
        try:
            store = cls(known, Pages(files or folder / "notes"))
            await store._begin()
        except BaseException:
            await known.close()
            raise
        return store

    async def get(self, namespace: str, key: str) -> Record | None:
        """See `MemoryStore.get`. Raises Invalid if its file was edited so that it cannot be read."""
        self._check_open()
        try:
            path = self._pages.path(namespace, key)
        except UnicodeEncodeError:  # no such name was ever written
            return None
        if COPY not in namespace and not self._is_seen(path):
            await self._alone(self._notice, namespace, key)
        return await self._known.get(namespace, key)

    async def commit(self, changes: Sequence[Change]) -> None:
        """See `MemoryStore.commit`. A caller that is cancelled goes when it is over; it may well be made."""
        await self._alone(self._commit, changes, _texts(changes))

    async def page(self, namespace: str, after: str = "", limit: int = 1000) -> list[Record]:
        """See `MemoryStore.page`. Of a file that cannot be read any more: what it was."""
        await self._look_again()
        return await self._known.page(namespace, after, limit)

    async def changes(self, namespace: str, after: int = 0, limit: int = 1000) -> list[tuple[int, Record]]:
        """See `MemoryStore.changes`."""
        await self._look_again()
        return await self._known.changes(namespace, after, limit)

    async def heads(self) -> dict[str, int]:
        """See `MemoryStore.heads`."""
        await self._look_again()
        return await self._known.heads()

    async def drop(self, namespace: str) -> None:
        """See `MemoryStore.drop`."""
        await self._alone(self._drop, namespace)

    async def close(self) -> None:
        """See `MemoryStore.close`."""
        self._closed = True
        async with self._turn:
            await self._known.close()

    # What follows is done one at a time: whoever calls it has the turn.

    async def _begin(self) -> None:
        """Ends what a crash has left, and compares all files with what Skep knows."""
        fresh = await self._disk(self._pages.begin)
        hidden = await self._disk(self._pages.hidden)
        for namespace in await self._known.heads():
            if self._pages.folder(namespace) in hidden:
                await self._known.drop(namespace)
        for folder in hidden:
            await self._disk(self._pages.erase, folder)
        self._unfinished = await self._disk(self._pages.unfinished)
        for namespace in [name for name in await self._known.heads() if COPY not in name]:
            after = ""
            while page := await self._known.page(namespace, after):
                await self._disk(self._compare, page, fresh)
                after = page[-1].key
        await self._disk(self._pages.sweep)
        self._unfinished.clear()
        await self._look()
        if fresh:
            await self._disk(self._pages.introduce)

    def _compare(self, records: Sequence[Record], fresh: bool) -> None:
        for record in records:
            path, text = self._pages.path(record.namespace, record.key), _text(record)
            self._names[path] = record.namespace, record.key
            if fresh and at(path) == ABSENT.mark:
                self._pages.prepare(path, text, ABSENT)
            seen = self._pages.finish(path, text) if fresh or path in self._unfinished else self._pages.same(path, text)
            self._seen[path] = seen or UNSEEN

    async def _commit(self, changes: Sequence[Change], texts: Mapping[tuple[str, str], bytes]) -> None:
        for name in texts:
            await self._notice(*name)
        await self._write(changes, texts)

    async def _write(self, changes: Sequence[Change], texts: Mapping[tuple[str, str], bytes]) -> None:
        """Commits changes, with the texts of their keys' files, which are as they were seen."""
        paths = {name: self._pages.path(*name) for name in texts}
        self._unfinished.update(paths.values())
        for name, path in paths.items():
            await self._disk(self._pages.prepare, path, texts[name], self._seen.get(path, ABSENT))
        try:
            await self._known.commit(changes)
        except (Conflict, Invalid):
            for name in texts:
                await self._notice(*name)  # what was prepared goes
            raise
        for name, path in paths.items():
            self._names[path] = name
            await self._finish(path, texts[name])

    async def _finish(self, path: Path, text: bytes) -> None:
        seen = await self._disk(self._pages.finish, path, text)
        self._unfinished.discard(path)
        if seen is not None:
            self._seen[path] = seen
            self.trouble.pop(str(path), None)

    async def _notice(self, namespace: str, key: str) -> None:
        """Takes in what was done by hand to a key's file. Raises Invalid if that cannot be read."""
        path = self._pages.path(namespace, key)
        if self._is_seen(path):
            return
        record = await self._known.get(namespace, key)
        if path in self._unfinished:
            await self._finish(path, _text(record) if record else b"")
        data, seen = await self._disk(self._pages.read, path)
        if data is None:
            made = removed(record, self._hand, self._clock, _now()) if record and record.entries else record
        elif record is not None and data == _text(record):
            made = record
        else:
            made = self._edited(path, data, record, (namespace, key))
        self._seen[path] = seen
        if made is not None and digest(made) != digest(record):
            changes = [Change(made, digest(record))]
            await self._write(changes, _texts(changes))
        self.trouble.pop(str(path), None)

    def _edited(self, path: Path, data: bytes, record: Record | None, name: tuple[str, str]) -> Record:
        try:
            claimed = parse(data.decode())
            if (claimed.namespace, claimed.key) != name:
                raise Invalid("it says that it is of another key")
            return edited(record, claimed, self._hand, self._clock, _now())
        except (Invalid, UnicodeDecodeError) as error:
            why = error.message if isinstance(error, Invalid) else "it is not Unicode"
            self.trouble[str(path)] = why
            raise Invalid(f"{path} was edited and cannot be read: {why}", "Repair the file, or remove it.") from None

    async def _look_again(self) -> None:
        self._check_open()
        if time.monotonic() - self._looked >= AGAIN:
            await self._alone(self._look)

    async def _look(self) -> None:
        """Looks through all files for what was done by hand. What cannot be read is noted in `trouble`."""
        self._looked = time.monotonic()
        found = await self._disk(self._pages.present)
        for path in sorted(found.keys() | self._names.keys()):
            if self._seen.get(path, ABSENT).mark == found.get(path, ABSENT.mark):
                continue
            try:
                if path not in self._names:
                    self._names[path] = await self._claimed(path)
                await self._notice(*self._names[path])
            except Invalid as error:
                self.trouble[str(path)] = error.message

    async def _claimed(self, path: Path) -> tuple[str, str]:
        """Whose a file is that Skep does not know."""
        data, _ = await self._disk(self._pages.read, path)
        try:
            claimed = parse((data or b"").decode())
        except UnicodeDecodeError:
            raise Invalid("it is not Unicode") from None
        if self._pages.path(claimed.namespace, claimed.key) != path:
            raise Invalid("it is not named after its key")
        check_namespace(claimed.namespace)
        check_key(claimed.key)
        return claimed.namespace, claimed.key

    async def _drop(self, namespace: str) -> None:
        folder = self._pages.folder(namespace)
        await self._disk(self._pages.hide, folder)
        await self._known.drop(namespace)
        for path in [path for path in self._names if path.parent == folder]:
            del self._names[path]
            self._seen.pop(path, None)
        await self._disk(self._pages.erase, folder)

    # The rest

    def _is_seen(self, path: Path) -> bool:
        """Whether a file is as it was when it had the text that Skep knows."""
        return path not in self._unfinished and at(path) == self._seen.get(path, ABSENT).mark

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the memory is closed", fix="Open it again.")

    async def _alone(self, work: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Does it when nobody else does, and to its end, whoever goes away."""
        self._check_open()

        async def do() -> T:
            async with self._turn:
                return await work(*args, **kwargs)

        return await outcome(asyncio.ensure_future(do()))

    @staticmethod
    async def _disk(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.to_thread(work, *args, **kwargs)
        except OSError as error:
            fix = "Free space, or check the disk and the rights of the folder; then repeat."
            raise Unavailable(f"the files of the memory cannot be used: {error.strerror or error}", fix) from None


def _now() -> int:
    return time.time_ns() // 1_000_000


def _texts(changes: Sequence[Change]) -> dict[tuple[str, str], bytes]:
    """The files' texts; what Skep keeps for itself has none."""
    records = [change.record for change in changes if COPY not in change.record.namespace]
    return {(record.namespace, record.key): _text(record) for record in records}


def _text(record: Record) -> bytes:
    """What is to be in a record's file. Raises Invalid for what cannot be kept."""
    encode(record)
    try:
        return render(record).encode()
    except (ValueError, RecursionError) as error:
        raise Invalid(f"the value of '{record.key[:80]}' cannot be kept: {error}", "It is made of what JSON knows.") from None
