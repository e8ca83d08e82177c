"""Forks, exports and imports: a session's log copied into another session, event by event, and nothing rewound."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, Protocol, TypeVar, cast

import msgspec

from skep.core import events as ev
from skep.core.apply import replay
from skep.core.model import Entry
from skep.core.state import State, pack, unpack
from skep.disk.durable import UNFINISHED
from skep.errors import Bug, Invalid, NotFound
from skep.runtime import pinned
from skep.runtime.parcel import ARCHIVE, BLOBS, COMMITS, FORMAT, LOG, MEMORY, Manifest, Packing, Parcel, key_of
from skep.runtime.parts import Parts
from skep.store import Append, Log, codec

#: Events in one append of a copy.
PART = 5_000
#: Appends of a log that are read at a time.
PAGE = 50
T = TypeVar("T")


class Closing(Protocol):
    """What is open until it is closed."""

    def close(self) -> None:
        """For threads other than the loop's."""


File = TypeVar("File", bound=Closing)


async def every_event(log: Log, session: str) -> list[ev.Event]:
    """A session's events, all of them."""
    seq, events = 0, list[ev.Event]()
    while appends := await log.read(session, after=seq, limit=500):
        for append in appends:
            events += codec.decode(append.blob)
            seq = append.last
    return events


async def events_until(log: Log, session: str, at: str) -> list[ev.Event]:
    """A session's events up to a checkpoint, an event number, or (empty) its end. What was decided at once is never cut in two.

    Raises:
        NotFound: no such checkpoint or event.
    """
    events = await every_event(log, session)
    if not at:
        return events
    marks = {event.name: n for n, event in enumerate(events, 1) if isinstance(event, ev.SessionMarked)}
    if at in marks:
        return events[: marks[at]]
    if not at.isdecimal():
        raise NotFound(f"session {session} has no checkpoint '{at}'", f"There are: {', '.join(marks) or 'none'}.")
    if not 1 <= int(at) <= len(events):
        raise NotFound(f"session {session} has no event {at}", f"It has {len(events)}.")
    (append,) = await log.read(session, after=int(at) - 1, limit=1)
    return events[: append.last]


async def _fill(log: Log, name: str, copied: list[ev.Event], origin: str, archive: list[Entry], at: int, by: str) -> State:
    """Writes a copy into an empty log, as a session of its own that is paused, with the archived tasks it builds on."""
    why = f"a copy of {origin}; nothing runs until it is resumed"
    at = max(at, copied[-1].at)  # the clock may have been put back since
    events = [*copied, ev.SessionForked(at, name, origin, len(copied), by), ev.SessionPaused(at, False, why, by)]
    state = State()
    replay(state, events)
    left = [
        (entry.task.id, pack(entry)) for entry in archive if entry.seq <= state.counter and entry.task.id not in state.entries
    ]
    head = await log.acquire(name)
    for start in range(0, len(events), PART):
        part = events[start : start + PART]
        rest = left if start + PART >= len(events) else []
        head = await log.append(name, head.epoch, head.seq, secrets.token_bytes(16), len(part), codec.encode(part), rest)
    return state


async def fork(log: Log, origin: str, name: str, events: list[ev.Event], now: int, by: str) -> State:
    """Fills an empty log with the first events of another session. Returns the state there."""
    archive = [unpack(blob) async for _, blob in log.archive(origin)]
    return await _fill(log, name, events, origin, archive, now, by)


async def save(parts: Parts, session: str, name: str, path: Path, seq: int) -> Written:
    """Writes a session into one file, as it is at one event of its log: durable and whole, or not at all.

    Whatever else goes on waits no longer than for a page of the log: the rest is done in a thread.

    Args:
        name: the session goes by it.
        seq: the event; an append ends with it.

    Raises:
        Invalid, Unavailable: its log is damaged, or the store does not answer.
        Exhausted, Invalid: the disk is full, or the file cannot be written.
    """
    async with opened(Packing, path) as packing:
        names = await _save_log(parts.log, session, seq, packing)
        # What is read from here on may be newer than the log in the file: a copy takes of it what that log knows of.
        await _save_archive(parts.log, session, packing)
        held = set[str]()
        await aside(packing.begin, MEMORY)
        async for frame in pinned.packed(parts.bank, session, held):
            await aside(packing.frames, [frame])
        lost = []
        for digest in sorted(names.outputs | held):
            try:
                data = await parts.blobs.get(digest)
            except (NotFound, Invalid):
                lost.append(digest)
                continue
            await aside(_put, packing, BLOBS + digest, data)
        if names.based:
            await aside(packing.begin, COMMITS, True)
            await parts.workspace.bundle(session, cast(BinaryIO, packing))
        seal = parts.log.seal
        now, key = parts.clock.now(), key_of(seal)
        manifest = Manifest(format=FORMAT, session=session, name=name, at=now, events=seq, key=key, lost=tuple(lost))
        return Written(manifest, await aside(packing.keep, manifest, seal))


class Written(NamedTuple):
    """A file that was written: what it holds, and its bytes."""

    manifest: Manifest
    size: int


class Named:
    """What the events of a log name that lies elsewhere: outputs, by digest, and whether there are commits."""

    def __init__(self) -> None:
        self.outputs: set[str] = set()
        self.based = False

    def note(self, page: list[Append]) -> None:
        for append in page:
            for event in codec.decode(append.blob):
                if outputs := getattr(event, "outputs", None):
                    self.outputs |= {output.digest for output in outputs.values()}
                self.based = self.based or bool(getattr(event, "base", ""))


async def _save_log(log: Log, session: str, end: int, packing: Packing) -> Named:
    def keep(page: list[Append]) -> None:
        packing.frames(append.blob for append in page)
        named.note(page)

    named, seq = Named(), 0
    await aside(packing.begin, LOG)
    while seq < end and (page := await log.read(session, after=seq, limit=PAGE)):
        await aside(keep, [append for append in page if append.last <= end])
        seq = page[-1].last
    return named


async def _save_archive(log: Log, session: str, packing: Packing) -> None:
    await aside(packing.begin, ARCHIVE)
    part, size = list[bytes](), 0
    async for _, blob in log.archive(session):
        part.append(blob)
        size += len(blob)
        if size > 1 << 20:
            await aside(packing.frames, part)
            part, size = [], 0
    await aside(packing.frames, part)


def _put(packing: Packing, name: str, data: bytes) -> None:
    packing.begin(name)
    packing.write(data)


async def aside(work: Callable[..., T], *args: Any) -> T:
    """Does it in a thread; who is cancelled meanwhile waits for its end, so that nothing is closed under it."""
    done = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait([done])
        raise


@asynccontextmanager
async def opened(kind: Callable[..., File], *args: Any) -> AsyncIterator[File]:
    """Opens a file in a thread, and closes it in one, also when whoever opens it is cancelled meanwhile."""
    opening = asyncio.ensure_future(asyncio.to_thread(kind, *args))
    try:
        yield await asyncio.shield(opening)
    finally:
        await asyncio.wait([opening])
        if opening.exception() is None:
            await aside(opening.result().close)


class Carried(NamedTuple):
    """The session of a file, read: its events, and the state after them."""

    events: list[ev.Event]
    state: State


def read(parcel: Parcel, until: int = 0) -> Carried:
    """Checks a file and reads the log in it. For threads.

    Args:
        until: events later than this (wall-clock ms) stay out, with all that was decided at once with one of them; 0 = none do.

    Raises:
        Invalid: it is damaged.
        NotFound: the session began later.
    """
    parcel.check()
    events = list[ev.Event]()
    try:
        for blob in parcel.frames(LOG):
            part = codec.decode(blob)
            if until and any(event.at > until for event in part):
                break
            events += part
        state = State()
        replay(state, events)
    except (msgspec.MsgspecError, KeyError, Bug):
        raise Invalid(f"{parcel.path}: the log in it is damaged", "Take another one.") from None
    if not events:
        raise NotFound(f"session {parcel.manifest.name} in {parcel.path} began later", "Name a later time.")
    return Carried(events, state)


async def load(parts: Parts, parcel: Parcel, carried: Carried, name: str, by: str) -> State:
    """Fills an empty log from a file. Raises Invalid if its commits are none."""
    held = list[str]()
    try:
        for digest in parcel.blobs():
            held.append(await parts.blobs.put(await aside(parcel.blob, digest)))
        origin = parcel.manifest.session
        if carried.state.base:
            with tempfile.NamedTemporaryFile(dir=parts.state, prefix=UNFINISHED) as file:
                await aside(unpacked, parcel, file)
                await parts.workspace.unbundle(name, Path(file.name), origin, carried.state.tip)
        if MEMORY in parcel.manifest.members:
            frames: list[bytes] = await aside(list, parcel.frames(MEMORY))
            await pinned.unpacked(parts.bank, frames, origin, name, parcel.ours)
        packed: list[bytes] = await aside(list, parcel.frames(ARCHIVE))
        archive = [unpack(blob) for blob in packed]
        return await _fill(parts.log, name, carried.events, origin, archive, parts.clock.now(), by)
    finally:
        for digest in held:  # the log or the memory names them now, or nothing does
            await parts.blobs.unpin(digest)


def unpacked(parcel: Parcel, file: IO[bytes]) -> None:
    """Writes the bundle of commits in a parcel to a file. For threads."""
    for chunk in parcel.chunks(COMMITS):
        file.write(chunk)
    file.flush()
