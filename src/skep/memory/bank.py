"""The memory bank: what faces, agents and Skep itself call to remember and to recall, whatever store lies below.

A change is durable when its call returns. That it can be found by words and by meaning comes after, and so does that other
machines have it: a search says how many changes it could not know yet, and can wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from skep.errors import Conflict, Invalid, NotFound, Unavailable
from skep.memory import RULES, Change, Entry, Filter, Finder, Found, Hit, MemoryStore, Record, Search
from skep.memory.burying import buried
from skep.memory.cache import Cache
from skep.memory.clocks import Hybrid
from skep.memory.draft import Draft
from skep.memory.indexing import Indexing
from skep.memory.large import Listed
from skep.memory.limits import COPY, INLINE, check_key, check_namespace, decode_value, measured
from skep.memory.lineage import copied, undone
from skep.memory.missing import missing
from skep.memory.pins import Pins
from skep.memory.records import RULES as MADE
from skep.memory.records import (
    Rule,
    check_copy,
    deleted,
    identity,
    join,
    resolved,
    rewritten,
    same,
    same_values,
    total,
    unexpired,
    written,
)
from skep.memory.trust import Author, check_may_replace
from skep.memory.turns import Turns
from skep.memory.wants import matches
from skep.store import Blobs

if TYPE_CHECKING:  # it is over the bank
    from skep.memory.replicate import Replication

#: Bytes of records in memory, unless said otherwise.
CACHE = 64 * 2**20
#: Copies of other machines that are taken in at once.
TAKEN = 500
#: How often a change is tried again whose key others change at the same time.
TRIES = 20
#: Seconds that a search waits for what was stored before it.
PATIENCE = 30.0
#: Keys that an alias may lead over.
HOPS = 32
PERSON = Author()
T = TypeVar("T")


class Bank:
    """The memory of one state folder.

    Args:
        store: where it lies.
        now: wall-clock ms.
        blobs: where values lie that are larger than `limits.INLINE`, if there can be such.
        finder: finds by words and meaning; without, only keys are found.
        cache: bytes of records in memory; a shared store has none, others may change it.
        rules: names of rules besides `RULES` -> what they make of values that were written at the same time.
    """

    def __init__(
        self,
        store: MemoryStore,
        now: Callable[[], int],
        blobs: Blobs | None = None,
        finder: Finder | None = None,
        cache: int = CACHE,
        rules: Mapping[str, Rule] | None = None,
    ) -> None:
        self.store_below, self.now, self.large = store, now, blobs
        self._made, self._rules = {**MADE, **(rules or {})}, (*RULES, *(rules or {}))
        self._cache = Cache(0 if "private" in store.lacks else cache)
        self._clock = Hybrid()
        self._writing = Turns()
        self._indexing = Indexing(store, finder, self.whole) if finder is not None else None
        #: What was at checkpoints, and who goes on from there.
        self.pins = Pins(store, now)
        self.finder = finder
        #: What keeps other machines up to date, if any do; it ends with the bank.
        self.replication: Replication | None = None
        #: Counts what was changed here.
        self._written = 0
        #: Called with each record that was changed here, or may have been, but not by `take_in`; must not wait.
        self.listeners: list[Callable[[Record], None]] = []

    # What is kept

    async def store(self, draft: Draft, by: Author = PERSON, expect: int | None = None) -> Entry:
        """Writes a key; durable when it returns. Whatever was there, and was not trusted more than its author, is replaced.

        Args:
            expect: the version that is to be replaced, 0 = none; Conflict if another one is there. None = whichever.

        Raises:
            Invalid: it cannot be kept; Denied: what is there is not the author's to replace; Exhausted: too many changes wait.
        """
        data = draft.check(self._rules)
        now, namespace, key = self.now(), draft.namespace, draft.key
        entry = draft.entry(by, now)
        if len(data) > INLINE:
            entry = replace(entry, value=None, blob=await self._put_aside(data), size=len(data))

        def write(record: Record | None) -> tuple[Record, Entry]:
            there = unexpired(record, now) if record else None
            versions = [one.version for one in there.entries] if there else []
            if expect is not None and expect != max(versions, default=0):
                raise Conflict(f"'{key}' in '{namespace}' has version {max(versions, default=0)}, not {expect}", "Read it again.")
            check_may_replace(there.entries if there else (), by)
            made = replace(
                entry,
                version=max(versions, default=0) + 1,
                created=min((one.created for one in there.entries), default=now) if there else now,
                writer=self.store_below.writer,
                stamp=self._stamp(record),
            )
            if draft.rule == "counter":
                made = replace(made, counts={made.writer: (made.stamp, draft.value)})
            return written(record, made), made

        try:
            return await self._changed(namespace, key, write)
        finally:
            if entry.blob and self.large is not None:
                await self.large.unpin(entry.blob)  # the record names it now, or nothing does

    async def add(self, key: str, amount: float, *, namespace: str, by: Author = PERSON) -> Entry:
        """Adds to a counter, which begins at 0; what is added elsewhere at the same time counts too. Raises as `store`."""
        check_namespace(namespace)
        check_key(key)
        measured(amount, "what is added")

        def write(record: Record | None) -> tuple[Record, Entry]:
            now = self.now()
            there = unexpired(record, now) if record else None
            old = resolved(there, self._made) if there else None
            if old is not None and old.rule != "counter":
                raise Conflict(f"'{key}' in '{namespace}' is no counter", "Store a number under the rule 'counter' first.")
            check_may_replace(there.entries if there else (), by)
            base = old or Entry(id=identity(namespace, key), namespace=namespace, key=key, created=now, version=0, rule="counter")
            writer, stamp = self.store_below.writer, self._stamp(record)
            counts = {**base.counts, writer: (stamp, base.counts.get(writer, (0, 0))[1] + amount)}
            measured(value := total(counts), f"what '{key}' comes to")
            made = replace(
                base, counts=counts, value=value, version=base.version + 1, updated=now,
                writer=writer, stamp=stamp, siblings=0, trust=by.trust, agent=by.agent, session=by.session, task=by.task,
            )  # fmt: skip
            return written(record, made), made

        return await self._changed(namespace, key, write)

    async def delete(self, key: str, *, namespace: str, by: Author = PERSON, expect: int | None = None) -> Entry:
        """Deletes a key and returns what was there. Raises NotFound, Denied, Conflict."""

        def write(record: Record | None) -> tuple[Record, Entry]:
            there = self._read(record)
            if record is None or there is None:
                raise missing(namespace, key)
            if expect is not None and expect != there.version:
                raise Conflict(f"'{key}' in '{namespace}' has version {there.version}, not {expect}", "Read it again.")
            check_may_replace(record.entries, by)
            return deleted(record, self.store_below.writer, self._stamp(record)), there

        return await self._changed(namespace, key, write)

    async def settle(self, key: str, version: tuple[str, int], *, namespace: str, by: Author = PERSON) -> Entry:
        """Decides between values that were written at the same time: the one of this (writer, stamp) stays."""

        def write(record: Record | None) -> tuple[Record, Entry]:
            found = [one for one in (record.entries if record else ()) if (one.writer, one.stamp) == tuple(version)]
            if record is None or not found:
                raise missing(namespace, key)
            check_may_replace(record.entries, by)
            kept = replace(
                found[0], writer=self.store_below.writer, stamp=self._stamp(record),
                version=max(one.version for one in record.entries) + 1, updated=self.now(),
            )  # fmt: skip
            return written(record, kept), kept

        return await self._changed(namespace, key, write)

    async def put_back(self, earlier: Record) -> bool:
        """Makes a key hold the values of an earlier state of it, as new ones; none = deleted. Returns whether that changed it."""

        def write(record: Record | None) -> tuple[Record, bool]:
            there = record or Record(namespace=earlier.namespace, key=earlier.key, clock={})
            if same_values(there, earlier):
                return there, False
            return rewritten(there, earlier.entries, self.store_below.writer, lambda: self._stamp(record)), True

        return await self._changed(earlier.namespace, earlier.key, write)

    async def take_in(self, copies: Sequence[Record]) -> int:
        """Joins other machines' copies of records into those that are here; returns how many that changed anything.

        Raises Invalid for a copy that cannot be right (`records.check_copy`): then none of them was taken in.
        """
        for copy in copies:
            check_copy(copy, self.now())
        changed = 0
        for start in range(0, len(copies), TAKEN):
            changed += sum(await asyncio.gather(*map(self._take_in, copies[start : start + TAKEN])))
        return changed

    async def _take_in(self, copy: Record) -> bool:
        def write(record: Record | None) -> tuple[Record, bool]:
            put = join(record, copy) if record else copy
            return put, not same(put, record)

        return await self._changed(copy.namespace, copy.key, write, here=False)

    async def change(
        self, namespace: str, keys: Sequence[str], write: Callable[[str, Record | None], Record], aside: str = ""
    ) -> None:
        """Changes several keys of a namespace at once, all or none.

        Args:
            write: makes a record of what is there under a key; may raise, then nothing is changed.
            aside: the namespace of copies where what is replaced is kept.

        Raises Conflict if others were faster, and what `write` raises.
        """
        async with AsyncExitStack() as stack:
            for key in sorted(set(keys)):
                await stack.enter_async_context(self._writing.turn(namespace, key))
            await self.pins.enter(namespace)
            stack.callback(self.pins.leave, namespace)
            pairs = list[tuple[Record | None, Record]]()
            for key in dict.fromkeys(keys):
                record = await self.pins.read(namespace, key)
                if not same(made := write(key, record), record):
                    pairs.append((record, made))
            if not pairs:
                return
            changes = await self.pins.change(*pairs)
            changes += [Change(copied(record, made.key, aside)) for record, made in pairs if aside]
            for _, made in pairs:
                self._cache.drop(namespace, made.key)
            try:
                await self.store_below.commit(changes)
            finally:
                for _, made in pairs:
                    self._tell(made, True)  # it may be there or not: whoever hears of it looks

    def dot(self, record: Record | None) -> tuple[str, int]:
        """The writer and the stamp of what is written next to a key, in place of a record."""
        return self.store_below.writer, self._stamp(record)

    # What is recalled

    async def get(self, key: str, *, namespace: str, at: str = "") -> Entry:
        """A key's value as it is now, of several the one that counts; as it was at a pin, if `at` names one.

        Raises NotFound; Unavailable for a value that is lost.
        """
        return await self.whole(await self.find(key, namespace=namespace, at=at))

    async def find(self, key: str, *, namespace: str, at: str = "") -> Entry:
        """As `get`, without the value if that is large. Raises NotFound."""
        place = await self.pins.place(namespace, at) if at else 0
        wanted = key
        for _ in range(HOPS):
            record = await (self.pins.read_at(namespace, place, key) if at else self.record(namespace, key))
            found = self._read(record)
            if found is None:
                break
            if not found.alias:
                return found
            key = found.alias
        raise missing(namespace, wanted)

    async def record(self, namespace: str, key: str) -> Record | None:
        """All that is kept of a key, with its clock; None if it never was there."""
        found = self._cache.get(namespace, key)
        if found is None:
            before = self._written
            found = await self.pins.read(namespace, key)
            # Else it may be older than what a change puts there.
            if found is not None and before == self._written and (namespace, key) not in self._writing:
                self._cache.put(found)
        return found

    async def siblings(self, key: str, *, namespace: str) -> tuple[Entry, ...]:
        """All values of a key: several where they were written at the same time and nobody decided."""
        record = await self.record(namespace, key)
        found = unexpired(record, self.now()).entries if record else ()
        return tuple([await self.whole(entry) for entry in found])

    async def beginning(self, namespace: str, prefix: str, limit: int = 100) -> list[Entry]:
        """Entries whose keys begin so and go on, by key, at most of so many keys; large values left out."""
        page = await self.pins.page(namespace, prefix, limit)
        found = (self._read(record) for record in page if record.key.startswith(prefix))
        return [entry for entry in found if entry is not None and not entry.alias]

    async def list(
        self,
        wanted: Filter = Filter(),  # noqa: B008 - it is frozen
        after: tuple[str, str] = ("", ""),
        limit: int = 100,
        at: str = "",
    ) -> list[Entry]:
        """Entries that a filter lets through, by namespace and key, behind (namespace, key) `after`; large values left out.

        `at`: a pin that all of these namespaces have: as it was there. Raises NotFound if one does not.
        """
        names = wanted.namespaces or tuple(name for name in await self.namespaces())
        found: list[Entry] = []
        for name in sorted(name for name in names if name >= after[0]):
            async for entry in self._entries(name, after[1] if name == after[0] else "", at):
                if matches(entry, wanted) and not entry.alias:
                    found.append(entry)
                    if len(found) >= limit:
                        return found
        return found

    async def namespaces(self) -> dict[str, int]:
        """Namespaces that were ever written to, by name, each with the place of its last change; those of copies left out."""
        heads = await self.store_below.heads()
        found = {name: place for name, place in heads.items() if COPY not in name}
        for name in [name[:-1] for name in heads if name.endswith(COPY) and name[:-1] not in found]:
            if await self.pins.base(name):  # it has nothing of its own yet
                found[name] = 0
        return found

    async def search(self, search: Search) -> Found:
        """What fits a text best: an exact key first, then by words and by meaning. Large values are left out."""
        hits: dict[tuple[str, str], Hit] = {}
        names = search.filter.namespaces or tuple(await self.namespaces())
        for name in names if search.text else ():
            if (entry := await self._wanted(name, search.text, search.filter)) is not None:
                hits[entry.namespace, entry.key] = Hit(entry=entry, score=1.0, why=("its key",))
        if self._indexing is None:
            return Found(hits=list(hits.values())[: search.limit], note="only keys were looked at: there is no index")
        behind = await self._indexing.caught_up(names, PATIENCE if search.wait else 0.0)
        # What a fork only reads through to is found where it lies; what the fork has of it is read there.
        bases = {name: base for name in search.filter.namespaces if (base := await self.pins.base(name))}
        within = replace(search.filter, namespaces=tuple(dict.fromkeys((*search.filter.namespaces, *bases.values()))))
        ranked, note = await self._indexing.finder.find(replace(search, filter=within, limit=search.limit + len(hits) + 5))
        readers = {one: dict.fromkeys((one, *(fork for fork, base in bases.items() if base == one))) for one in within.namespaces}
        for hit, name in ((one, name) for one in ranked for name in readers.get(one.namespace, (one.namespace,))):
            if (name, hit.key) in hits:
                old = hits[name, hit.key]
                hits[name, hit.key] = replace(old, why=(*old.why, *hit.why))
            elif (entry := await self._wanted(name, hit.key, search.filter)) is not None:
                hits.setdefault((entry.namespace, entry.key), Hit(entry=entry, score=hit.score, why=hit.why))
        if bases:
            told = ", ".join(sorted(set(bases.values()))[:3])
            note += f"{'; ' if note else ''}what was changed in {told} since it was forked is found by its key alone"
        return Found(hits=list(hits.values())[: search.limit], embedder=self._indexing.finder.embedder, note=note, behind=behind)

    async def whole(self, entry: Entry) -> Entry:
        """An entry with its value, also where that lies in a blob."""
        if not entry.blob:
            return entry
        if self.large is None:
            raise Unavailable(f"the value of '{entry.key}' lies in a blob, and there are none here")
        return replace(entry, value=decode_value(await self.large.get(entry.blob)))

    async def blobs(self) -> set[str]:
        """The digests of all blobs that hold values, other machines' too where blobs are shared: they must stay."""
        found = await self.large.listed() if isinstance(self.large, Listed) else set[str]()
        for name in await self.store_below.heads():
            async for record in self.records(name):
                found.update(entry.blob for entry in record.entries if entry.blob)
        return found

    async def records(self, namespace: str, after: str = "", at: str = "") -> AsyncIterator[Record]:
        """All records of a namespace by key, deleted ones too; as they were at a pin, if `at` names one."""
        place = await self.pins.place(namespace, at) if at else 0
        while page := await (self.pins.page_at(namespace, place, after) if at else self.pins.page(namespace, after)):
            for record in page:
                yield record
            after = page[-1].key

    async def behind(self) -> tuple[int, str]:
        """How many changes cannot be found by words and meaning yet, and what keeps them from it, if anything does."""
        if self._indexing is None:
            return 0, "there is no index"
        return await self._indexing.caught_up(tuple(await self.namespaces()), 0.0), self._indexing.trouble.removeprefix(": ")

    @property
    def cached(self) -> int:
        """Bytes of records in memory."""
        return self._cache.size

    # The bank itself

    async def start(self) -> None:
        """Begins to index what was stored, and goes on until it is closed."""
        if self._indexing is not None:
            await self._indexing.start()

    async def forget(self, namespace: str) -> None:
        """Drops a namespace, or deletes all in it where others may have it. What goes on from it keeps what it reads there."""

        async def drop() -> None:
            try:
                if self.listeners:
                    async for record in buried(self.store_below, namespace, self.dot):
                        self._tell(record, True)
                else:
                    await self.store_below.drop(namespace)
                await self.store_below.drop(undone(namespace))
            finally:
                self._written += 1
                self._cache.clear(namespace)
            if self._indexing is not None and not self.listeners:
                await self._indexing.forget(namespace)

        await self.pins.let_go(namespace, drop)

    async def close(self) -> None:
        """Ends replication and indexing, and closes the store."""
        if self.replication is not None:
            await self.replication.close()
        if self._indexing is not None:
            await self._indexing.close()
        if isinstance(self.large, Listed):
            await self.large.close()
        await self.store_below.close()

    async def _changed(
        self, namespace: str, key: str, write: Callable[[Record | None], tuple[Record, T]], here: bool = True
    ) -> T:
        """Reads a record, makes another of it and keeps that; again if somebody was faster. One at a time for each key.

        `here`: whether it is changed here, rather than by another machine.
        """
        async with self._writing.turn(namespace, key):
            await self.pins.enter(namespace)
            try:
                for _ in range(TRIES):
                    record = self._cache.get(namespace, key) or await self.pins.read(namespace, key)
                    made, answer = write(record)
                    if same(made, record):
                        return answer
                    try:
                        await self.store_below.commit(await self.pins.change((record, made)))
                    except Conflict:
                        self._cache.drop(namespace, key)
                        continue
                    except BaseException:
                        self._cache.drop(namespace, key)
                        self._tell(made, here)  # it may be there or not: whoever hears of it looks
                        raise
                    self._cache.put(made)
                    self._tell(made, here)
                    return answer
            finally:
                self.pins.leave(namespace)
        raise Conflict(f"'{key}' in '{namespace}' is changed all the time by others", "Try again.")

    def _tell(self, record: Record, here: bool) -> None:
        self._written += 1
        for hear in self.listeners if here else ():
            hear(record)
        if self._indexing is not None:
            self._indexing.wake(record.namespace)

    def _stamp(self, record: Record | None) -> int:
        for stamp in record.clock.values() if record else ():
            self._clock.hear(stamp)
        return self._clock.tick(self.now())

    def _read(self, record: Record | None) -> Entry | None:
        return resolved(unexpired(record, self.now()), self._made) if record else None

    async def _wanted(self, namespace: str, key: str, wanted: Filter) -> Entry | None:
        """The entry that a key leads to, if there is one and the filter lets it through."""
        try:
            check_key(key)
            found = await self.find(key, namespace=namespace)
        except (Invalid, NotFound):
            return None
        return found if matches(found, wanted) else None

    async def _entries(self, namespace: str, after: str, at: str) -> AsyncIterator[Entry]:
        async for record in self.records(namespace, after, at):
            if (entry := self._read(record)) is not None:
                yield entry

    async def _put_aside(self, data: bytes) -> str:
        if self.large is None:
            raise Invalid(f"a value of {len(data)} bytes, more than {INLINE}", "There is nowhere to put larger ones here.")
        return await self.large.put(data)
