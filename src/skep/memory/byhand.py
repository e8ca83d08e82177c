"""What becomes of a record whose text was edited by hand. Pure.

Nobody knows who edited it, so what is new in it is trusted least, whatever it says of itself, and it points at nothing that was
not pointed at before. What stands there as Skep wrote it stays what it was.
"""

from __future__ import annotations

from skep.errors import Invalid
from skep.memory import RULES, Entry, Record
from skep.memory.clocks import Hybrid, merge
from skep.memory.draft import Draft
from skep.memory.limits import RUN, check_metadata, check_tags, measured
from skep.memory.records import identity


def edited(record: Record | None, claimed: Record, writer: str, clock: Hybrid, now: int) -> Record:
    """The record after somebody wrote its text by hand.

    Args:
        record: what Skep wrote there; None = nothing.
        claimed: what the text says now.
        writer: in whose name hands write, in vector clocks.
        clock: gives the new values their stamps.
        now: wall-clock ms.

    Raises:
        Invalid: a value cannot be kept.
    """
    known = record.clock if record else {}
    there = record.entries if record else ()
    for stamp in known.values():
        clock.hear(stamp)
    entries = tuple(one if one in there else _taken(there, one, writer, clock.tick(now), now) for one in claimed.entries)
    if entries == there and record is not None:
        return record
    stamp = max((one.stamp for one in entries if one.writer == writer), default=clock.tick(now))
    ordered = tuple(sorted(entries, key=lambda one: (one.writer, one.stamp)))
    return Record(namespace=claimed.namespace, key=claimed.key, clock=merge(known, {writer: stamp}), entries=ordered)


def removed(record: Record, writer: str, clock: Hybrid, now: int) -> Record:
    """The record after somebody removed its file."""
    nothing = Record(namespace=record.namespace, key=record.key, clock={})
    return edited(record, nothing, writer, clock, now)


def _taken(there: tuple[Entry, ...], one: Entry, writer: str, stamp: int, now: int) -> Entry:
    """A value as it was written by hand, as far as it is believed."""
    check_tags(one.tags)
    check_metadata(one.metadata)
    measured(one.value, f"the value of '{one.key[:80]}'")
    if one.expires < 0 or one.expires >= 2**63:
        raise Invalid(f"'{one.key[:80]}' cannot expire at {one.expires}", "Write a time, or leave it out.")
    Draft(namespace="-", key="-", value=one.value, kind=one.kind, vector=one.vector).check()
    old = next((each for each in there if each.blob and each.blob == one.blob), None)
    rules = {each.rule for each in there} & {"last", "union"} & set(RULES)
    return Entry(
        id=identity(one.namespace, one.key),
        namespace=one.namespace,
        key=one.key,
        value=one.value,
        kind=one.kind,
        tags=one.tags,
        metadata={name: value for name, value in one.metadata.items() if name != RUN},
        version=max((each.version for each in there), default=0) + 1,
        created=min((each.created for each in there), default=now),
        updated=now,
        expires=one.expires,
        rule=one.rule if one.rule in rules else "siblings",
        writer=writer,
        stamp=stamp,
        alias=one.alias if one.alias in {each.alias for each in there} else "",
        vector=one.vector,
        blob=old.blob if old else "",
        size=old.size if old else 0,
    )
