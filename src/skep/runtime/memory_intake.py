"""Takes into the bank what comes from a file, key by key, and counts what becomes of it. Nothing trusted more is replaced."""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from skep.errors import Denied, Invalid
from skep.memory import RULES, Record
from skep.memory.bank import Bank
from skep.memory.draft import MAX_TTL, Draft
from skep.memory.records import check_copy, identity, join, same_values, unexpired
from skep.memory.trust import Author, rank
from skep.runtime.memory_views import TakenView

#: Who is said to have written what came from elsewhere.
STRANGER = Author(trust="untrusted", agent="import")
Fate = Literal["new", "changed", "same", "kept"]


class Intake:
    """What comes in from one file.

    Args:
        dry: nothing is changed, only counted.
    """

    def __init__(self, bank: Bank, path: str, dry: bool, ours: bool) -> None:
        self._bank, self._dry = bank, dry
        self.view = TakenView(path=path, dry=dry, ours=ours)

    def note(self, text: str) -> None:
        """Something else that is to be known."""
        self.view = replace(self.view, notes=(*self.view.notes, text))

    def _count(self, fate: Fate) -> None:
        self.view = replace(self.view, keys=self.view.keys + 1, **{fate: getattr(self.view, fate) + 1})

    async def join(self, record: Record) -> None:
        """A copy that is believed: joined with what is here, so that whatever was written or deleted since stays so."""
        fated = fate(await self._bank.record(record.namespace, record.key), record)
        if not self._dry:
            await self._bank.take_in([record])
        self._count(fated)

    async def put_back(self, record: Record) -> None:
        """A copy that is believed, and takes the place of whatever is here."""
        there = await self._bank.record(record.namespace, record.key)
        if there is None and not record.entries:
            self._count("same")
            return
        changed = not same_values(there, record) if self._dry else await self._bank.put_back(record)
        self._count("same" if not changed else "changed" if there is not None and there.entries else "new")

    async def strange(self, draft: Draft) -> None:
        """What somebody claims: it comes in as untrusted, where nothing is that is trusted more."""
        found = await self._bank.record(draft.namespace, draft.key)
        there = unexpired(found, self._bank.now()).entries if found else ()
        said = draft.kind, draft.value, draft.tags
        for entry in there:
            if (entry.kind, (await self._bank.whole(entry)).value, entry.tags) == said:
                self._count("same")
                return
        if any(rank(entry.trust) > rank(STRANGER.trust) for entry in there):
            self._count("kept")
            return
        if self._dry:
            draft.check()
        else:
            try:
                await self._bank.store(draft, STRANGER)
            except Denied:  # somebody stored it meanwhile
                self._count("kept")
                return
        self._count("changed" if there else "new")


def fate(there: Record | None, record: Record) -> Fate:
    """What becomes of a copy of a record that is joined with what is there."""
    old, came = _dots(there), _dots(record)
    new = _dots(join(there, record)) if there else came
    if new == old:
        return "same" if came <= old else "kept"
    return "changed" if old else "new"


def _dots(record: Record | None) -> set[tuple[str, int]]:
    return {(entry.writer, entry.stamp) for entry in record.entries} if record else set()


def claimed(record: Record, now: int) -> Draft | None:
    """What a record from elsewhere claims, as something to be stored: the newest of its values. None if there is none."""
    entries = [
        entry for entry in unexpired(record, now).entries if not entry.alias and (entry.value is not None or not entry.blob)
    ]
    if not entries:
        return None
    entry = max(entries, key=lambda one: (one.stamp, one.writer))
    ttl = min((entry.expires - now) / 1000, MAX_TTL) if entry.expires else 0.0
    return Draft(
        namespace=record.namespace, key=record.key, value=entry.value, kind=entry.kind, tags=entry.tags, metadata=entry.metadata,
        ttl=ttl, rule=entry.rule if entry.rule in RULES else "siblings",
        vector=entry.vector,
    )  # fmt: skip


def checked(record: Record, now: int, believed: bool) -> Record:
    """A record that was read from a file. Raises Invalid for what no bank would have written.

    Args:
        now: wall-clock ms.
        believed: what its values hold was checked by whoever sealed it.
    """
    check_copy(record, now)
    for entry in record.entries:
        if entry.id != identity(record.namespace, record.key):
            raise Invalid(f"a value of '{record.key}' belongs to another key", "The file was not written by Skep.")
        if not believed and (draft := claimed(replace(record, entries=(entry,)), now)) is not None:
            draft.check()
    return record
