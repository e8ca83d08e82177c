"""What becomes of a record: written, deleted, joined with another machine's copy, read. Pure.

`join` is commutative, associative and idempotent, so that machines that exchange their records in any order end up with the same.
It drops nothing but what somebody replaced or deleted who had seen it. Rules (`Entry.rule`) are applied when a record is read:
what is kept stays as it was written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from skep.errors import Invalid
from skep.memory import Entry, Record
from skep.memory.clocks import AHEAD, merge, seen, when
from skep.memory.limits import check_key, check_namespace, check_shape
from skep.memory.trust import lowest, rank

#: Makes one value of those that were written at the same time; they come by writer and stamp. It depends on nothing else.
Rule = Callable[[Sequence[Entry]], Any]

#: Below it a float tells every whole number from the next.
EXACT = 1 << 53

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.Decoder(Record).decode


def identity(namespace: str, key: str) -> str:
    """The id of a key: the same on every machine, and fit for a file's name (32 hex digits)."""
    return hashlib.sha256(f"{namespace}\0{key}".encode()).hexdigest()[:32]


def digest(record: Record | None) -> str:
    """What tells one state of a key from another, the same on every machine; empty for none (32 hex digits)."""
    if record is None:
        return ""
    return hashlib.blake2b(_encode([sorted(record.clock.items()), dots(record)]), digest_size=16).hexdigest()


def same(a: Record, b: Record | None) -> bool:
    """Whether both are one state of a key: they have the same digest."""
    return b is not None and a.clock == b.clock and dots(a) == dots(b)


def dots(record: Record) -> list[tuple[str, int]]:
    """The writer and the stamp of each value: they name it."""
    return [(entry.writer, entry.stamp) for entry in record.entries]


def encode(record: Record) -> bytes:
    """A record as stores keep it. Raises Invalid for what cannot be written."""
    try:
        return _encode(record)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        why = "Values are made of what JSON knows, texts are Unicode, numbers have up to 64 bits."
        raise Invalid(f"the value of '{record.key[:80]}' cannot be kept: {error}", why) from None


def decode(data: bytes) -> Record:
    """The record of `encode`. Raises Invalid for anything else."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"a memory record is damaged: {error}", "Put the memory back from a backup.") from None


def written(record: Record | None, entry: Entry) -> Record:
    """The record after its key was written by whoever had seen all of it: the entry is its only value."""
    clock = merge(record.clock, {entry.writer: entry.stamp}) if record else {entry.writer: entry.stamp}
    return Record(namespace=entry.namespace, key=entry.key, clock=clock, entries=(entry,))


def deleted(record: Record, writer: str, stamp: int) -> Record:
    """The record after its key was deleted by whoever had seen all of it."""
    return replace(record, clock=merge(record.clock, {writer: stamp}), entries=())


def rewritten(record: Record, entries: Sequence[Entry], writer: str, stamps: Callable[[], int]) -> Record:
    """The record after values of an earlier state took the place of all that is there; none = it was deleted."""
    made, stamp = list[Entry](), stamps()
    for entry in entries:
        counts = {name: (stamp, amount) for name, (_, amount) in entry.counts.items()}
        made.append(replace(entry, writer=writer, stamp=stamp, counts=counts))
        stamp = stamps()
    return replace(deleted(record, writer, stamp), entries=tuple(made))


def same_values(a: Record | None, b: Record | None) -> bool:
    """Whether both hold the same values, whoever wrote them and when."""

    def values(record: Record | None) -> list[Entry]:
        return [replace(entry, writer="", stamp=0, counts={}) for entry in record.entries] if record else []

    return values(a) == values(b)


def unexpired(record: Record, now: int) -> Record:
    """The record without the values whose time is over. All machines come to the same. `now`: wall-clock ms."""
    if all(not entry.expires or entry.expires > now for entry in record.entries):
        return record
    return replace(record, entries=tuple(entry for entry in record.entries if not entry.expires or entry.expires > now))


def check_copy(record: Record, now: int) -> None:
    """Raises Invalid for what no machine that works as it should has sent of a record. `now`: wall-clock ms.

    Joining a copy whose clock lies would drop what others wrote, and one from the far future would be the last for ever.
    """
    check_key(record.key)
    check_namespace(record.namespace)
    name = f"'{record.key[:80]}' in '{record.namespace[:80]}'"
    ahead = max((when(stamp) for stamp in record.clock.values()), default=0) - now
    if ahead > AHEAD:
        why = f"a copy of {name} was written {ahead // 3_600_000} hours in the future"
        raise Invalid(why, "Set the clock of the machine that wrote it, then write it again there.")
    named = dots(record)
    own = all((entry.namespace, entry.key) == (record.namespace, record.key) for entry in record.entries)
    if not own or named != sorted(set(named)) or not all(seen(record.clock, *dot) for dot in named):
        raise Invalid(f"a copy of {name} contradicts itself", "See which machines work with this memory.")
    for entry in record.entries:
        # What cannot be written here would be tried for ever, and a time that is none breaks whoever shows it.
        check_shape([entry.value, entry.metadata], f"a copy of {name}", depth=-1)
        if not 0 <= entry.updated <= now + AHEAD or not 0 <= entry.expires < 2**53:
            raise Invalid(f"a copy of {name} has times that are none", "See which machines work with this memory.")


def join(a: Record, b: Record) -> Record:
    """Two copies of one key's record, as one: a value stays unless the other copy has seen it and has it no more."""
    found: dict[tuple[str, int], Entry] = {}
    for mine, other in ((a, b), (b, a)):
        there = set(dots(other))
        for entry in mine.entries:
            dot = (entry.writer, entry.stamp)
            if dot in there or not seen(other.clock, *dot):
                # Never different, unless somebody forged one: then all machines choose the same.
                found[dot] = max(found.get(dot, entry), entry, key=_encode)
    return Record(
        namespace=a.namespace, key=a.key, clock=merge(a.clock, b.clock), entries=tuple(found[dot] for dot in sorted(found))
    )


def resolved(record: Record, rules: Mapping[str, Rule]) -> Entry | None:
    """What is read: the value, or what the rule makes of several; without one, the one that counts, and how many others.

    The one that counts is the one that is trusted most, and of those the newest: who is trusted less replaces nothing by writing
    elsewhere at the same time. None if the key was deleted. Trust is the lowest of those that a rule put together.
    """
    if len(record.entries) < 2:
        return record.entries[0] if record.entries else None
    counts = max(record.entries, key=lambda entry: (rank(entry.trust), entry.stamp, entry.writer))
    names = {entry.rule for entry in record.entries}
    if names == {"last"}:
        return counts
    rule = rules.get(counts.rule) if len(names) == 1 else None
    if rule is None or any(entry.blob or entry.alias for entry in record.entries):
        return replace(counts, siblings=len(record.entries) - 1)
    put = replace(counts, value=rule(record.entries), trust=lowest(entry.trust for entry in record.entries))
    return replace(put, counts=added(record.entries)) if counts.rule == "counter" else put


def added(entries: Sequence[Entry]) -> dict[str, tuple[int, float]]:
    """What each writer added to a counter: of each the last word."""
    found: dict[str, tuple[int, float]] = {}
    for entry in entries:
        for writer, count in entry.counts.items():
            found[writer] = max(found.get(writer, count), count)
    return dict(sorted(found.items()))


def _united(entries: Sequence[Entry]) -> list[Any]:
    """The elements of all lists, each once, in an order that no machine's history shows."""
    lists = [entry.value if isinstance(entry.value, list) else [entry.value] for entry in entries]
    items = {_encode(item): item for one in lists for item in one}
    return [items[name] for name in sorted(items)]


def total(counts: dict[str, tuple[int, float]]) -> int | float:
    """What a counter stands at: a whole number where it is one and is known exactly, for people to read 5 and not 5.0."""
    found = sum(amount for _, amount in counts.values())
    return int(found) if abs(found) < EXACT and float(found).is_integer() else found


def _summed(entries: Sequence[Entry]) -> int | float:
    return total(added(entries))


#: The rules that need no registering.
RULES: dict[str, Rule] = {"union": _united, "counter": _summed}
