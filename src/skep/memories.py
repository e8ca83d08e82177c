"""What agents and people keep for later, as Python calls: `hive.memory`.

```python
async with skep.open("workspace") as hive:
    await hive.memory.store("build.command", "make -j2", tags=["build"])
    print((await hive.memory.get("build.command")).value)
    for hit in (await hive.memory.search("how is it built")).hits:
        print(hit.entry.key, hit.why)
```
"""

from __future__ import annotations

import builtins
from array import array
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from sys import byteorder
from typing import Any, Literal, Protocol, TypeVar

from skep.errors import Invalid
from skep.memory import Entry, Filter, Found, Kind, Search
from skep.memory.draft import Draft
from skep.runtime import memory_requests as mq
from skep.runtime.memory_views import ConsolidatedView, StatsView, TakenView, UndoneView, WrittenView
from skep.runtime.request import Request
from skep.runtime.typed import check_plain, wrong
from skep.runtime.typed import path as path_of

R = TypeVar("R")
#: Where entries are that name no namespace: what all sessions of the workspace may read.
PROJECT = "project"
#: Entries of one page.
PAGE = 200


class Call(Protocol):
    """Asks the owner of the workspace."""

    async def __call__(self, request: Request[R], /) -> R:
        """Answers a request, or raises."""


class Memory:
    """The memory of an open workspace. Every method may raise the errors of its request in `skep.runtime.memory_requests`.

    What a person stores has trust `person`: no agent replaces it. `namespace` is `project` unless it is said; `session/NAME` is
    that of a session.
    """

    def __init__(self, call: Call) -> None:
        self._call = call

    async def store(
        self,
        key: str,
        value: Any,
        *,
        namespace: str = PROJECT,
        kind: Kind = "semantic",
        tags: Sequence[str] = (),
        metadata: dict[str, Any] | None = None,
        ttl: float = 0.0,
        rule: str = "siblings",
        vector: Sequence[float] | None = None,
        expect: int | None = None,
        replicated: bool = False,
    ) -> Entry:
        """Keeps a value under a key, in place of what was there; durable when it returns.

        Args:
            value: whatever JSON knows, at most 64 MiB.
            ttl: seconds after which it is gone, 0 = never.
            rule: what happens to values written elsewhere at the same time: siblings, last, union or counter.
            vector: of what it means, for kind `vector`; otherwise one is made of a text.
            expect: the version that is to be replaced, 0 = none.
            replicated: it returns when the other machines that are there have it, too.

        Raises:
            Invalid: it cannot be kept.
            Conflict: another version is there.
            Unavailable: another machine does not get it; it is kept here.
        """
        check_plain(value, "value")
        packed = _packed(vector)
        if packed and kind != "vector":
            fix = "Make its kind 'vector', or leave the vector out."
            raise Invalid(f"'{str(key)[:80]}' has a vector, and is of kind '{str(kind)[:80]}'", fix)
        if metadata is not None and not isinstance(metadata, dict):
            raise wrong("metadata", "dict[str, Any]", metadata)
        draft = Draft(
            namespace=namespace, key=key, value=value, kind=kind, tags=_texts("tags", tags), metadata=metadata or {},
            ttl=ttl, rule=rule, vector=packed,
        )  # fmt: skip
        return await self._call(mq.StoreMemory(draft=draft, expect=expect, replicated=replicated))

    async def add(self, key: str, amount: int | float = 1, *, namespace: str = PROJECT) -> Entry:
        """Adds to a counter, which begins at 0; what is added elsewhere at the same time counts too."""
        return await self._call(mq.AddMemory(namespace=namespace, key=key, amount=amount))

    async def get(self, key: str, *, namespace: str = PROJECT) -> Entry:
        """What is kept under a key; of several values the one that is trusted most, then the newest. Raises NotFound."""
        return await self._call(mq.GetMemory(namespace=namespace, key=key))

    async def search(
        self,
        text: str = "",
        filter: Filter = Filter(),  # noqa: B008 - it is frozen
        *,
        mode: Literal["words", "meaning", "both"] = "both",
        limit: int = 10,
        wait: bool = False,
        vector: Sequence[float] | None = None,
    ) -> Found:
        """What fits a text best: an exact key first, then by words and by meaning; large values are left out.

        Args:
            filter: which entries may be found.
            wait: until what was stored before can be found.
            vector: looked for instead of what the text means.
        """
        numbers = tuple(_float32(vector))
        search = Search(text=text, filter=filter, mode=mode, limit=limit, wait=wait, vector=numbers)
        return await self._call(mq.SearchMemory(search=search))

    async def list(self, filter: Filter = Filter(), after: tuple[str, str] = ("", ""), limit: int = PAGE) -> list[Entry]:  # noqa: B008 - it is frozen
        """A page of entries, by namespace and key, behind (namespace, key) `after`; none = there are no more."""
        return await self._call(mq.ListMemory(filter=filter, after=after, limit=limit))

    async def entries(self, filter: Filter = Filter()) -> AsyncIterator[Entry]:  # noqa: B008 - it is frozen
        """All entries that a filter lets through, by namespace and key; large values are left out."""
        after = ("", "")
        while page := await self.list(filter, after):
            for entry in page:
                yield entry
            after = page[-1].namespace, page[-1].key

    async def delete(self, key: str, *, namespace: str = PROJECT, expect: int | None = None) -> Entry:
        """Deletes a key, on all machines; returns what was there. Raises NotFound; Conflict, as `store`."""
        return await self._call(mq.DeleteMemory(namespace=namespace, key=key, expect=expect))

    async def conflicts(self, *namespaces: str) -> builtins.list[Entry]:
        """The keys that have several values, written at the same time, each with the newest. In all namespaces unless some are
        named."""
        return await self._call(mq.MemoryConflicts(namespaces=namespaces))

    async def siblings(self, key: str, *, namespace: str = PROJECT) -> tuple[Entry, ...]:
        """All values of a key, whole. Raises NotFound."""
        return await self._call(mq.MemorySiblings(namespace=namespace, key=key))

    async def settle(self, chosen: Entry) -> Entry:
        """Decides between the values of a key: this one of its `siblings` stays. `store` decides for another value."""
        if not isinstance(chosen, Entry):
            raise wrong("chosen", "skep.memory.Entry", chosen)
        version = chosen.writer, chosen.stamp
        return await self._call(mq.SettleMemory(namespace=chosen.namespace, key=chosen.key, version=version))

    async def stats(self) -> StatsView:
        """How memory stands: how much of what there is, where it lies, how far the index is. All of it is read for that."""
        return await self._call(mq.StatsOfMemory())

    async def consolidate(self, *, namespace: str = PROJECT, dry: bool = False) -> ConsolidatedView:
        """What says the same becomes one, three episodes of one outcome become a fact, what expired goes.

        Args:
            dry: nothing is changed, only told.
        """
        return await self._call(mq.ConsolidateMemory(namespace=namespace, dry=dry))

    async def undo(self, *, namespace: str = PROJECT) -> UndoneView:
        """Takes back what the last `consolidate` merged and learned. Raises NotFound if there is nothing to take back."""
        return await self._call(mq.UndoConsolidation(namespace=namespace))

    async def sync(self) -> str:
        """Compares with the other machines now; returns how replication stands. Raises Unavailable where there is none."""
        return await self._call(mq.SyncMemory())

    async def export(self, path: str | Path, filter: Filter = Filter()) -> WrittenView:  # noqa: B008 - it is frozen
        """Writes entries, with all that is known of them, into a file of lines of JSON; it is there whole or not at all."""
        return await self._call(mq.ExportMemory(path=_place(path), filter=filter))

    async def load(self, path: str | Path, dry: bool = False) -> TakenView:
        """Takes in such a file, or one with lines of `key` and `value`. What was not exported here is untrusted.

        Nothing that is trusted more is replaced, and what was replaced or deleted since the export stays so.

        Args:
            dry: nothing is changed, only counted.

        Raises:
            NotFound, Invalid: there is no such file, or a line of it is wrong; nothing was changed.
        """
        return await self._call(mq.ImportMemory(path=_place(path), dry=dry))

    async def backup(self, path: str | Path) -> WrittenView:
        """Writes all of memory into one file; it is there whole or not at all."""
        return await self._call(mq.BackUpMemory(path=_place(path)))

    async def restore(self, path: str | Path, *, dry: bool = False, instead: bool = False, trust: bool = False) -> TakenView:
        """Takes in a backup: joined with what is here, so that nothing is dropped.

        Args:
            dry: nothing is changed, only counted.
            instead: memory is to hold what the backup holds, and nothing else.
            trust: a backup of another state folder keeps the trust that it claims; otherwise all of it is untrusted.

        Raises:
            NotFound, Invalid: there is no such file, or it is damaged; nothing was changed.
        """
        return await self._call(mq.RestoreMemory(path=_place(path), dry=dry, instead=instead, trust=trust))


def _place(path: Any) -> str:
    return str(path_of(path, "path").expanduser().resolve())


def _texts(name: str, given: Any) -> tuple[Any, ...]:
    """Several texts, as a tuple. One text would be taken for its letters."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise wrong(name, "list[str]", given)
    return tuple(given)


def _float32(vector: Any) -> array[float]:
    """Numbers as float32."""
    try:
        return array("f", vector or ())
    except (TypeError, ValueError, OverflowError):
        raise wrong("vector", "list[float]", vector) from None


def _packed(vector: Any) -> bytes:
    """Numbers as float32, little-endian."""
    numbers = _float32(vector)
    if byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
