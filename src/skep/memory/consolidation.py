"""Consolidates a namespace: looks at all of it, plans, and carries the plan out step by step; the last time can be undone.

What a step replaces is kept in `name@undo`, in the same commit, until the namespace is consolidated again. A step that was
planned on what somebody changed meanwhile is left out, and told.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from hashlib import blake2b

from msgspec import Struct
from msgspec.structs import replace

from skep.errors import Conflict, NotFound, Unavailable
from skep.memory import Embedder, Entry, Filter, Record, Search
from skep.memory.bank import PERSON, Bank
from skep.memory.consolidate import (
    CLOSE,
    ENOUGH,
    MOST_MERGED,
    Step,
    What,
    block,
    expired,
    fact_key,
    kindred,
    learned,
    mergeable,
    merged,
    same_facts,
)  # fmt: skip
from skep.memory.limits import RUN, check_namespace
from skep.memory.lineage import undone
from skep.memory.records import deleted, digest, unexpired, written
from skep.memory.trust import Author, rank

#: Records that are looked at, texts whose neighbours are looked for, and neighbours of each.
MOST, MOST_ASKED, NEIGHBOURS = 1_000_000, 2_000, 8
#: Who consolidates without having been asked to by a person.
SKEP = Author(trust="observed")


class Report(Struct, frozen=True, kw_only=True):
    """What a consolidation did, or would do. `left`: steps that were not done, as what they were planned on was changed.

    `notes`: what was not looked at, and how.
    """

    namespace: str
    dry: bool
    steps: list[Step]
    left: list[Step]
    notes: list[str]


async def consolidate(bank: Bank, namespace: str, dry: bool = False, by: Author = PERSON, proposals: bool = False) -> Report:
    """Consolidates a namespace; doing it twice is doing it once.

    Args:
        dry: nothing is changed, only told.
        by: a person; for anybody else only what is equally trusted becomes one.
        proposals: an agent proposes more.

    Raises:
        Invalid: it is no namespace; Unavailable: the store does not answer, or there are no proposals.
    """
    if proposals:
        raise Unavailable("proposals by an agent are not available", "Consolidate without them.")
    check_namespace(namespace)
    _, run = bank.dot(None)
    steps, notes = await _planned(bank, namespace, run, rank(by.trust) == rank("person"))
    if dry or not steps:
        return Report(namespace=namespace, dry=dry, steps=steps, left=[], notes=notes)
    await bank.store_below.drop(undone(namespace))
    done, left = list[Step](), list[Step]()
    for step in steps:
        (done if await _carried_out(bank, namespace, step) else left).append(step)
    return Report(namespace=namespace, dry=False, steps=done, left=left, notes=notes)


async def undo(bank: Bank, namespace: str) -> tuple[list[str], list[str]]:
    """Takes back what the last consolidation of a namespace merged and learned; what expired stays gone.

    Returns:
        the keys that are as they were, and those that are not, because they were changed since.

    Raises:
        NotFound: there is nothing to undo.
    """
    check_namespace(namespace)
    back, left, after = list[str](), list[str](), ""
    while page := await bank.store_below.page(undone(namespace), after):
        for old in page:
            (back if await _taken_back(bank, namespace, old) else left).append(old.key)
        after = page[-1].key
    if not back and not left:
        raise NotFound(f"nothing of '{namespace}' was consolidated that could be undone", "It can be undone once.")
    await bank.store_below.drop(undone(namespace))
    return back, left


async def _planned(bank: Bank, namespace: str, run: int, across: bool) -> tuple[list[Step], list[str]]:
    groups: dict[tuple[What, str], list[str]] = {}
    steps, notes, seen, now = list[Step](), list[str](), 0, bank.now()
    async for record in bank.records(namespace):
        seen += 1
        if seen > MOST:
            notes.append(f"only the first {MOST} keys were looked at")
            break
        found = block(record, now, across)
        if found is not None and found[0] == "expire":
            steps.append(expired(record, now))
        elif found is not None:
            groups.setdefault(_short(found), []).append(record.key)
    taken = set[str]()
    for (what, _), keys in groups.items():
        if what == "merge" and len(keys) > 1:
            if len(keys) > MOST_MERGED:
                notes.append(f"{len(keys) - MOST_MERGED} more keys say the same as '{keys[0]}': consolidate again")
            records = await _still(bank, namespace, keys[:MOST_MERGED])
            if (step := merged(records, run, "the same text")) is not None:
                steps.append(step)
                taken |= set(step.keys)
        elif what == "fact" and len(keys) >= ENOUGH:
            records = await _still(bank, namespace, keys)
            there = await bank.record(namespace, fact_key(records[0])) if records else None
            if records and (step := learned(records, there, run)) is not None:
                steps.append(step)
    if bank.finder is None or bank.finder.knows is None:
        notes.append("texts that mean much the same were not looked for: that takes a real embedder")
        return steps, notes
    texts = [keys[0] for (what, _), keys in groups.items() if what == "merge" and keys[0] not in taken]
    if len(texts) > MOST_ASKED:
        notes.append(f"{len(texts) - MOST_ASKED} texts were not compared by meaning")
    meant = _Meant(bank, bank.finder.knows, namespace, across)
    return steps + await meant.steps(texts[:MOST_ASKED], run, taken), notes


def _short(group: tuple[What, str]) -> tuple[What, str]:
    """A group by what fits into memory a million times."""
    return group[0], blake2b(group[1].encode(errors="surrogatepass"), digest_size=16).hexdigest()


async def _still(bank: Bank, namespace: str, keys: Sequence[str]) -> list[Record]:
    """These records as they are now, those with one value."""
    found = [await bank.record(namespace, key) for key in keys]
    return [record for record in found if record is not None and len(record.entries) == 1]


class _Meant:
    """Texts that mean much the same. The index says which may lie close; how close they lie is reckoned here."""

    def __init__(self, bank: Bank, embedder: Embedder, namespace: str, across: bool) -> None:
        self._bank, self._embedder, self._namespace, self._across = bank, embedder, namespace, across
        self._vectors: dict[str, array[float]] = {}

    async def steps(self, keys: Sequence[str], run: int, taken: set[str]) -> list[Step]:
        """What is to become one; each key once at most. `taken`: keys that are not looked at any more."""
        steps = list[Step]()
        for key in keys:
            mine = await _still(self._bank, self._namespace, [key])
            if key in taken or not mine or not mergeable(mine[0].entries[0]):
                continue
            others = [other for other in await self._near(mine[0].entries[0]) if other.key not in taken]
            if (step := merged([*mine, *others], run, f"they mean the same (cosine {CLOSE} and up)")) is not None:
                steps.append(step)
                taken |= set(step.keys)
        return steps

    async def _near(self, entry: Entry) -> list[Record]:
        wanted = Filter(namespaces=(self._namespace,), kinds=(entry.kind,))
        search = Search(text=entry.value, mode="meaning", filter=wanted, limit=NEIGHBOURS)
        found = await self._bank.search(search)
        keys = [hit.entry.key for hit in found.hits if hit.entry.key != entry.key]
        near = []
        for record in await _still(self._bank, self._namespace, keys):
            other = record.entries[0]
            alike = mergeable(other) and kindred(other, self._across) == kindred(entry, self._across)
            if alike and same_facts(other.value, entry.value) and await self._cosine(entry.value, other.value) >= CLOSE:
                near.append(record)
        return near

    async def _cosine(self, one: str, other: str) -> float:
        new = [text for text in (one, other) if text not in self._vectors]
        for text, vector in zip(new, await asyncio.to_thread(self._embedder.embed, new) if new else (), strict=True):
            self._vectors[text] = array("f", vector)
        return sum(a * b for a, b in zip(self._vectors[one], self._vectors[other], strict=True))


async def _carried_out(bank: Bank, namespace: str, step: Step) -> bool:
    """Does a step, unless what it was planned on was changed."""
    now, expect = bank.now(), {write.key: write for write in step.writes}

    def write(key: str, record: Record | None) -> Record:
        planned = expect[key]
        if digest(record) != planned.expect:
            raise Conflict(f"'{key}' was changed meanwhile")
        if planned.entry is None:
            assert record is not None
            return unexpired(record, now)
        return _written(bank, record, planned.entry, planned.entry.version + 1)

    try:
        await bank.change(namespace, list(expect), write, undone(namespace) if step.what != "expire" else "")
    except Conflict:
        return False
    return True


async def _taken_back(bank: Bank, namespace: str, old: Record) -> bool:
    """Puts a key back, unless it is not what the consolidation made of it any more."""

    def write(key: str, record: Record | None) -> Record:
        if record is None or len(record.entries) != 1 or RUN not in record.entries[0].metadata:
            raise Conflict(f"'{key}' was changed meanwhile")
        now = record.entries[0]
        if not old.entries:
            return deleted(record, *bank.dot(record))
        return _written(bank, record, old.entries[0], now.version + 1)

    try:
        await bank.change(namespace, [old.key], write)
    except Conflict:
        return False
    return True


def _written(bank: Bank, record: Record | None, entry: Entry, version: int) -> Record:
    writer, stamp = bank.dot(record)
    return written(record, replace(entry, writer=writer, stamp=stamp, version=version))
