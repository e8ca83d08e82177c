"""What hangs on earlier states of a namespace: its pins, by name, and the pin of another one that it goes on from.

It is one record in the namespace `name@`. What a key was at a pin lies in the namespace `name@PLACE`, if it was changed since;
several names may have one place. Places go up: what was not changed between two pins lies at the later one, for both.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from skep.memory import Entry, Record
from skep.memory.limits import COPY
from skep.memory.records import deleted, identity, written

#: The key of its record.
KEY = "pins"


class Lineage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`pins`: names -> place. `going`: places without a name whose copies are being moved to the pin before. `base`: namespace
    and place that this one goes on from; what it did not change itself is as it was there."""

    pins: dict[str, int] = {}
    going: tuple[int, ...] = ()
    base: tuple[str, int] | None = None

    @property
    def places(self) -> list[int]:
        """Where copies may lie, oldest first."""
        return sorted({*self.pins.values(), *self.going})

    @property
    def last(self) -> int:
        """The place where what is changed now is copied to; 0 = nowhere."""
        return max(self.pins.values(), default=0)

    def without(self, name: str) -> Lineage:
        """After a name was taken away; its place is going if no other name has it."""
        pins = {other: place for other, place in self.pins.items() if other != name}
        going = {*self.going, self.pins[name]} - set(pins.values())
        return replace(self, pins=pins, going=tuple(sorted(going)))

    def moved_from(self, place: int) -> Lineage:
        """After the copies of a place that was going were moved."""
        return replace(self, going=tuple(one for one in self.going if one != place))


def home(namespace: str) -> str:
    """The namespace where the lineage of one lies."""
    return namespace + COPY


def copies(namespace: str, place: int) -> str:
    """The namespace where the copies of a place lie."""
    return f"{namespace}{COPY}{place}"


def undone(namespace: str) -> str:
    """The namespace where what the last consolidation of one replaced lies."""
    return f"{namespace}{COPY}undo"


def copied(record: Record | None, key: str, where: str) -> Record:
    """A record as it lies among copies. One that was not there is a record that nobody ever wrote."""
    return Record(namespace=where, key=key, clock={}) if record is None else replace(record, namespace=where)


def lineage_of(record: Record | None) -> Lineage:
    """What a lineage's record says; a namespace without one has neither pins nor a base."""
    if record is None or not record.entries:
        return Lineage()
    return msgspec.convert(record.entries[-1].value, Lineage)


def noted(record: Record | None, namespace: str, lineage: Lineage, writer: str, stamp: int) -> Record:
    """The lineage's record after it was written; deleted where it says nothing."""
    if record is not None and lineage == Lineage():
        return deleted(record, writer, stamp)
    name = home(namespace)
    value = msgspec.to_builtins(lineage)
    entry = Entry(id=identity(name, KEY), namespace=name, key=KEY, value=value, trust="observed", writer=writer, stamp=stamp)
    return written(record, entry)


def moved(record: Record, namespace: str) -> Record:
    """A record as one of another namespace."""
    if record.namespace == namespace:
        return record
    name = identity(namespace, record.key)
    entries = tuple(replace(entry, namespace=namespace, id=name) for entry in record.entries)
    return replace(record, namespace=namespace, entries=entries)


def merged(pages: list[list[Record]], namespace: str, limit: int) -> list[Record]:
    """Pages that begin behind one key, as one of a namespace: of a key the last page's record counts.

    A page with `limit` records may have been cut off: what lies behind its end is left for the next page. So what is returned has
    fewer only if nothing follows.
    """
    until = min((page[-1].key.encode() for page in pages if len(page) >= limit), default=None)
    found = {record.key: record for page in pages for record in page}
    keys = sorted(found, key=str.encode)
    return [moved(found[key], namespace) for key in keys if until is None or key.encode() <= until]
