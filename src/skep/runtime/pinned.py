"""A session's memory goes with it: pinned at its checkpoints, carried on by its forks, in its exports, gone when it is pruned.

A pin is called after the event of its checkpoint: a fork has the same events, up to where it was forked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

import msgspec
from msgspec.structs import replace

from skep.core import events as ev
from skep.errors import Conflict, Exhausted, Invalid, NotFound
from skep.memory import Change, Entry, Record
from skep.memory.bank import Bank
from skep.memory.draft import Draft
from skep.memory.limits import COPY, RUN, check_key
from skep.memory.lineage import Lineage, copies
from skep.memory.pins import USER
from skep.memory.records import decode, encode, identity, rewritten
from skep.memory.scope import namespace_of

#: Records that are written at once.
PART = 200


async def pin(bank: Bank, session: str, event: int) -> None:
    """Keeps what a session's memory holds at a checkpoint. Where there are too many pins, the oldest one goes."""
    namespace = namespace_of(session)
    try:
        await bank.pins.pin(namespace, str(event))
    except Exhausted:
        own = [name for name in await bank.pins.names(namespace) if not name.startswith(USER)]
        if not own:
            raise
        await bank.pins.unpin(namespace, own[0])
        await bank.pins.pin(namespace, str(event))


async def fork(bank: Bank, origin: str, events: Sequence[ev.Event], seq: int, name: str) -> None:
    """Lets the memory of a new session go on from that of another one: as it was at the checkpoint, else as it is now.

    Args:
        events: of the origin, all of them.
        seq: the event that the new session goes on from.
    """
    owner = origin
    for event in reversed(events):
        if isinstance(event, ev.SessionForked):
            if seq > event.seq:
                break
            owner = event.origin  # the checkpoint was made there
    try:
        await bank.pins.fork(namespace_of(owner), str(seq), namespace_of(name))
    except NotFound:
        await bank.pins.fork(namespace_of(origin), "", namespace_of(name))


async def packed(bank: Bank, session: str, blobs: set[str]) -> AsyncIterator[bytes]:
    """A session's memory, also as it was at its checkpoints, as byte strings; the last one says which checkpoints there are.

    Args:
        blobs: here the digests of those go that hold its large values.
    """
    namespace, some = namespace_of(session), False
    async for record in bank.records(namespace):
        blobs.update(entry.blob for entry in record.entries if entry.blob)
        some = True
        yield encode(record)
    # After what is there now, the newer copies first: as a change keeps its copy with it, none slips through in between.
    lineage = await bank.pins.lineage(namespace)
    for place in reversed(lineage.places):
        async for record in bank.records(copies(namespace, place)):
            blobs.update(entry.blob for entry in record.entries if entry.blob)
            some = True
            yield encode(record)
    if some:
        pins = {name: place for name, place in lineage.pins.items() if not name.startswith(USER)}
        # What was copied for a fork stands for the pins before it, too.
        going = tuple(place for place in lineage.places if place not in pins.values())
        yield msgspec.json.encode(Lineage(pins=pins, going=going))


async def unpacked(bank: Bank, frames: Iterable[bytes], origin: str, session: str, ours: bool) -> None:
    """Writes the memory that a file holds, as that of a new session.

    Args:
        origin: the session that was packed.
        ours: the file was written here; else nothing in it is trusted.

    Raises:
        Invalid: it is damaged, or holds what cannot be kept.
    """
    source, to, part, last = namespace_of(origin), namespace_of(session), list[Record](), b""
    used = set[str]()
    for frame in frames:
        if last:
            record = decode(last)
            part.append(_moved(bank, record, source, to, ours))
            used.add(record.namespace)
        if len(part) >= PART:
            await _keep(bank, to, part)
            part = []
        last = frame
    if not last:
        return
    try:
        lineage = msgspec.json.decode(last, type=Lineage)
    except msgspec.MsgspecError:
        raise _damaged("its checkpoints cannot be read") from None
    if lineage.base is not None or not used <= {source, *(copies(source, place) for place in lineage.places)}:
        raise _damaged("it holds what is not its own")
    await _keep(bank, to, part)
    await bank.pins.adopt(to, lineage)


async def _keep(bank: Bank, to: str, records: Sequence[Record]) -> None:
    own = {record.key: record for record in records if record.namespace == to}

    def write(key: str, there: Record | None) -> Record:
        if there is None:
            return own[key]
        if there.entries:
            raise Conflict(f"'{key}' in '{to}' is there already", "Choose another name for the session.")
        # What is left of a session of that name that was pruned, which others know, too.
        return rewritten(there, own[key].entries, bank.dot(there)[0], lambda: bank.dot(there)[1])

    await bank.change(to, list(own), write)
    await bank.store_below.commit([Change(record) for record in records if record.namespace != to])


def _moved(bank: Bank, record: Record, source: str, to: str, ours: bool) -> Record:
    """A record of a file as one of this bank: written here and now, and trusted if the file is."""
    name, at, place = record.namespace.partition(COPY)
    if name != source or (at and not (place.isascii() and place.isdecimal())):
        raise _damaged("it holds what is not its own")
    check_key(record.key)
    entries = list[Entry]()
    for entry in record.entries:
        writer, stamp = bank.dot(None)
        metadata = entry.metadata
        if not ours:
            metadata = {name: value for name, value in metadata.items() if name != RUN}
            Draft(
                namespace=to, key=record.key, value=entry.value, tags=entry.tags, metadata=metadata, vector=entry.vector
            ).check()
        entries.append(
            replace(
                entry,
                id=identity(to, record.key),
                namespace=to,
                key=record.key,
                writer=writer,
                stamp=stamp,
                metadata=metadata,
                trust=entry.trust if ours else "untrusted",
                siblings=0,
            )
        )
    clock = dict([bank.dot(None)]) if record.clock else {}
    return Record(namespace=to + at + place, key=record.key, clock=clock, entries=tuple(entries))


def _damaged(why: str) -> Invalid:
    return Invalid(f"the memory in the file is damaged: {why}", "Take another one.")
