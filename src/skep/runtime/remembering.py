"""Answers what is asked about memory, in the process that owns it: `runtime.memory_requests`, one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from skep.errors import Conflict, Invalid, Unavailable
from skep.memory import Entry, Filter, Found, Kind, Search
from skep.memory.consolidation import consolidate, undo
from skep.memory.limits import check_key, check_namespace, encode_value
from skep.memory.markdown import MarkdownStore
from skep.memory.missing import missing
from skep.memory.records import unexpired
from skep.runtime import memory_requests as mq
from skep.runtime.memory_backup import back_up, restore
from skep.runtime.memory_lines import export, take
from skep.runtime.memory_views import ConsolidatedView, ShelfView, StatsView, StepView, TakenView, UndoneView, WrittenView
from skep.runtime.parts import Parts

#: Entries of one answer, and hits of one search.
MOST, MOST_HITS = 1_000, 100
#: Keys of one step of a consolidation that are told, and files that cannot be read.
MOST_KEYS = 20
#: Bytes of values in one answer; a page is over with the entry that passes it.
ROOM = 16 << 20


class Remembering:
    """What people ask of the bank."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._bank = parts, parts.bank
        self.answers: dict[type, Callable[[Any], Awaitable[Any]]] = {
            mq.StoreMemory: self._store,
            mq.AddMemory: self._add,
            mq.GetMemory: self._get,
            mq.SearchMemory: self._search,
            mq.ListMemory: self._list,
            mq.DeleteMemory: self._delete,
            mq.MemorySiblings: self._siblings,
            mq.MemoryConflicts: self._conflicts,
            mq.SettleMemory: self._settle,
            mq.StatsOfMemory: self._stats,
            mq.ConsolidateMemory: self._consolidate,
            mq.UndoConsolidation: self._undo,
            mq.SyncMemory: self._sync,
            mq.ExportMemory: self._export,
            mq.ImportMemory: self._import,
            mq.BackUpMemory: self._back_up,
            mq.RestoreMemory: self._restore,
        }

    async def _store(self, asked: mq.StoreMemory) -> Entry:
        replication = self._bank.replication
        if asked.replicated and replication is None:
            raise _alone()
        entry = await self._bank.store(asked.draft, expect=asked.expect)
        if asked.replicated and replication is not None:
            await replication.replicated(entry)
        return entry

    async def _add(self, asked: mq.AddMemory) -> Entry:
        return await self._bank.add(asked.key, asked.amount, namespace=asked.namespace)

    async def _get(self, asked: mq.GetMemory) -> Entry:
        _named(asked)
        return await self._bank.get(asked.key, namespace=asked.namespace)

    async def _search(self, asked: mq.SearchMemory) -> Found:
        search: Search = asked.search
        if not 1 <= search.limit <= MOST_HITS:
            raise Invalid(f"{search.limit} hits are asked for", f"Ask for 1 to {MOST_HITS}.")
        if not (search.text.strip() or search.vector):
            raise Invalid("there is nothing to search for", "Say some words, or give a vector; `skep memory list` shows all.")
        return await self._bank.search(search)

    async def _list(self, asked: mq.ListMemory) -> list[Entry]:
        if not 1 <= asked.limit <= MOST:
            raise Invalid(f"{asked.limit} entries are asked for at once", f"Ask for 1 to {MOST}, and for the next ones after.")
        found: list[Entry] = []
        room, after = ROOM, asked.after
        while room > 0 and len(found) < asked.limit:
            page = await self._bank.list(asked.filter, after, min(50, asked.limit - len(found)))
            found += page
            if not page:
                break
            room -= sum(len(encode_value(entry)) for entry in page)
            after = page[-1].namespace, page[-1].key
        return found

    async def _delete(self, asked: mq.DeleteMemory) -> Entry:
        _named(asked)
        return await self._bank.delete(asked.key, namespace=asked.namespace, expect=asked.expect)

    async def _siblings(self, asked: mq.MemorySiblings) -> tuple[Entry, ...]:
        _named(asked)
        found = await self._bank.siblings(asked.key, namespace=asked.namespace)
        if not found:
            raise missing(asked.namespace, asked.key)
        return found

    async def _conflicts(self, asked: mq.MemoryConflicts) -> list[Entry]:
        found: list[Entry] = []
        wanted, after = Filter(namespaces=asked.namespaces), ("", "")
        while len(found) < MOST and (page := await self._bank.list(wanted, after, MOST)):
            found += [entry for entry in page if entry.siblings]
            after = page[-1].namespace, page[-1].key
        return found[:MOST]

    async def _settle(self, asked: mq.SettleMemory) -> Entry:
        there = await self._siblings(mq.MemorySiblings(namespace=asked.namespace, key=asked.key))
        if tuple(asked.version) not in [(entry.writer, entry.stamp) for entry in there]:
            raise Conflict(
                f"'{asked.key}' in '{asked.namespace}' has no such value (any more)", "`skep memory conflicts KEY` shows them."
            )
        return await self._bank.settle(asked.key, asked.version, namespace=asked.namespace)

    async def _stats(self, _: mq.StatsOfMemory) -> StatsView:
        bank, config, now = self._bank, self._parts.config.memory, self._parts.clock.now()
        shelves: dict[tuple[str, Kind], list[int]] = {}
        deleted = conflicts = 0
        for name in sorted(await bank.namespaces()):
            async for record in bank.records(name):
                entries = unexpired(record, now).entries
                deleted += not entries
                conflicts += len(entries) > 1
                for entry in entries:
                    shelf = shelves.setdefault((name, entry.kind), [0, 0])
                    shelf[0] += 1
                    shelf[1] += len(encode_value(entry)) + entry.size
        behind, trouble = await bank.behind()
        made = [
            ShelfView(namespace=name, kind=kind, entries=many, bytes=size)
            for (name, kind), (many, size) in sorted(shelves.items())
        ]
        files = bank.store_below.trouble if isinstance(bank.store_below, MarkdownStore) else {}
        return StatsView(
            store=config.store or ("sqlite+redis" if bank.replication else "sqlite"), embedder=config.embedder, shelves=made,
            deleted=deleted, conflicts=conflicts, cached=bank.cached, cache=config.cache, behind=behind, trouble=trouble,
            replication=bank.replication.report() if bank.replication else "none",
            unreadable=dict(sorted(files.items())[:MOST_KEYS]),
        )  # fmt: skip

    async def _consolidate(self, asked: mq.ConsolidateMemory) -> ConsolidatedView:
        done = await consolidate(self._bank, asked.namespace, asked.dry, proposals=asked.propose)
        count = Counter[str]()
        for step in done.steps:
            count[step.what] += len(step.keys) - (step.what == "merge")
        return ConsolidatedView(
            namespace=done.namespace, dry=done.dry, merged=count["merge"], learned=count["fact"], expired=count["expire"],
            steps=[StepView(what=step.what, keys=step.keys[:MOST_KEYS], why=step.why) for step in done.steps[:MOST]],
            left=tuple(key for step in done.left for key in step.keys)[:MOST], notes=tuple(done.notes),
        )  # fmt: skip

    async def _undo(self, asked: mq.UndoConsolidation) -> UndoneView:
        back, left = await undo(self._bank, asked.namespace)
        return UndoneView(namespace=asked.namespace, back=tuple(back[:MOST]), left=tuple(left[:MOST]))

    async def _sync(self, _: mq.SyncMemory) -> str:
        if self._bank.replication is None:
            raise _alone()
        await self._bank.replication.sync()
        return self._bank.replication.report()

    async def _export(self, asked: mq.ExportMemory) -> WrittenView:
        return await export(self._parts, Path(asked.path), asked.filter)

    async def _import(self, asked: mq.ImportMemory) -> TakenView:
        return await take(self._parts, Path(asked.path), asked.dry)

    async def _back_up(self, asked: mq.BackUpMemory) -> WrittenView:
        return await back_up(self._parts, Path(asked.path))

    async def _restore(self, asked: mq.RestoreMemory) -> TakenView:
        return await restore(self._parts, Path(asked.path), asked.dry, asked.instead, asked.trust)


def _named(asked: mq.GetMemory | mq.DeleteMemory | mq.MemorySiblings) -> None:
    """Raises Invalid for what is no namespace, or no key."""
    check_namespace(asked.namespace)
    check_key(asked.key)


def _alone() -> Unavailable:
    return Unavailable("memory is not replicated here", "Name a Redis in [store] of skep.toml: `skep memory stats` tells.")
