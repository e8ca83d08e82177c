"""The whole bank in one file, whole or absent, checked before it is believed: a parcel whose members are records and blobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path

from msgspec.structs import replace

from skep.errors import Invalid, NotFound
from skep.memory import Entry, Record
from skep.memory.limits import decode_value
from skep.memory.records import decode, encode, identity
from skep.runtime.copies import aside, opened
from skep.runtime.memory_intake import Intake, checked, claimed
from skep.runtime.memory_views import TakenView, WrittenView
from skep.runtime.parcel import BLOBS, FORMAT, Manifest, Packing, Parcel, key_of
from skep.runtime.parts import Parts

#: The member with all records, each with its length in front.
RECORDS = "records"
#: What such a file says that it is of.
NAME = "memory"
#: Bytes that are written at a time; records that are read at a time.
PART, PAGE = 1 << 20, 200
#: Keys that are named where something is wrong with many.
NAMED = 20


async def back_up(parts: Parts, path: Path) -> WrittenView:
    """Writes all that memory keeps into a file: each key as it is at one moment.

    Raises:
        Exhausted, Invalid: the disk is full, or the file cannot be written; there is none then.
    """
    keys, large = 0, dict[str, str]()
    names = sorted(await parts.bank.namespaces())
    async with opened(Packing, path) as packing:
        await aside(packing.begin, RECORDS)
        for name in names:
            part, size = list[bytes](), 0
            async for record in parts.bank.records(name):
                part.append(encode(record))
                size += len(part[-1])
                keys += 1
                large |= {entry.blob: record.key for entry in record.entries if entry.blob}
                if size > PART:
                    await aside(packing.frames, part)
                    part, size = [], 0
            await aside(packing.frames, part)
        lost = [key for digest, key in sorted(large.items()) if not await _packed(parts, packing, digest)]
        now, key = parts.clock.now(), key_of(parts.log.seal)
        manifest = Manifest(format=FORMAT, session="", name=NAME, at=now, events=keys, key=key, lost=tuple(lost))
        size = await aside(packing.keep, manifest, parts.log.seal)
    return WrittenView(path=str(path), bytes=size, keys=keys, namespaces=len(names), lost=tuple(lost))


async def _packed(parts: Parts, packing: Packing, digest: str) -> bool:
    """Writes a large value; False if it is lost."""
    try:
        data = await parts.blobs.get(digest)
    except (NotFound, Invalid):
        return False
    await aside(packing.begin, BLOBS + digest)
    await aside(packing.write, data)
    return True


async def restore(parts: Parts, path: Path, dry: bool, instead: bool, trust: bool) -> TakenView:
    """Takes in what a backup holds; all of it is read and checked before anything is changed.

    Args:
        dry: nothing is changed, only counted.
        instead: memory is to hold what the backup holds and nothing else; otherwise both are joined.
        trust: what was sealed elsewhere keeps the trust that it claims.

    Raises:
        NotFound, Invalid: there is no such file, it is damaged, or holds no memory.
    """
    async with opened(Parcel, path, parts.log.seal) as parcel:
        if RECORDS not in parcel.manifest.members:
            raise Invalid(f"{path} holds no memory", "`skep memory backup` makes such files; `skep restore` is for sessions.")
        await aside(parcel.check)
        believed, now = parcel.ours or trust, parts.clock.now()
        if instead and not believed:
            raise Invalid(
                f"{path} was sealed elsewhere, and is to replace what is here", "Say --trust if you know where it is from."
            )
        there = set[str]()
        async for record in _records(parcel):
            checked(record if believed else await _claims(parcel, record), now, believed)
            there.add(identity(record.namespace, record.key))
        intake = Intake(parts.bank, str(path), dry, believed)
        async for record in _records(parcel):
            await _take(parts, parcel, intake, record, instead)
        if instead:
            await _leave_out(parts, intake, there)
    for key in parcel.manifest.lost[:NAMED]:
        intake.note(f"the value of '{key[:80]}' had been lost before the backup")
    return intake.view


async def _take(parts: Parts, parcel: Parcel, intake: Intake, record: Record, instead: bool) -> None:
    digests = [entry.blob for entry in record.entries if entry.blob and BLOBS + entry.blob in parcel.manifest.members]
    if intake.view.ours:
        pinned = (
            []
            if intake.view.dry
            else [await (parts.bank.large or parts.blobs).put(await aside(parcel.blob, digest)) for digest in digests]
        )
        try:
            await (intake.put_back(record) if instead else intake.join(record))
        finally:
            for digest in pinned:
                await parts.blobs.unpin(digest)
        return
    if (draft := claimed(await _claims(parcel, record), parts.clock.now())) is not None:
        await intake.strange(draft)


async def _claims(parcel: Parcel, record: Record) -> Record:
    """A record with its large values, as far as they are in the file. Raises Invalid for what is no value."""
    whole = [await _whole(parcel, entry) if BLOBS + entry.blob in parcel.manifest.members else entry for entry in record.entries]
    return replace(record, entries=tuple(whole))


async def _whole(parcel: Parcel, entry: Entry) -> Entry:
    return replace(entry, value=decode_value(await aside(parcel.blob, entry.blob)))


async def _leave_out(parts: Parts, intake: Intake, there: set[str]) -> None:
    """Deletes the keys that a backup does not have."""
    for name in sorted(await parts.bank.namespaces()):
        async for record in parts.bank.records(name):
            if record.entries and identity(name, record.key) not in there:
                await intake.put_back(Record(namespace=name, key=record.key, clock={}))


async def _records(parcel: Parcel) -> AsyncIterator[Record]:
    frames = parcel.frames(RECORDS)
    while page := await aside(lambda: [decode(frame) for frame in islice(frames, PAGE)]):
        for record in page:
            yield record
