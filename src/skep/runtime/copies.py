"""Forks, exports and imports: a session's log copied into another session, event by event, and nothing rewound."""

from __future__ import annotations

import asyncio
import hashlib
import io
import secrets
import zipfile
import zlib
from pathlib import Path

import msgspec
from msgspec import Struct

from skep.core import events as ev
from skep.core.apply import replay
from skep.core.model import Entry
from skep.core.state import State, pack, unpack
from skep.errors import Bug, Invalid, NotFound
from skep.store import Blobs, Log, codec
from skep.workspace import Workspace

#: Format of exported files.
FORMAT = 1
#: Events in one append of a copy.
PART = 5_000
#: An exported file may unpack to at most this many bytes a member.
MAX_MEMBER = 4 * 1024**3


class Manifest(Struct, frozen=True):
    """The first member of an exported file: what it is, and the SHA-256 of every other member."""

    format: int
    session: str
    events: int
    tip: str
    base: str
    members: dict[str, str]


async def _events(log: Log, session: str) -> list[ev.Event]:
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
    events = await _events(log, session)
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


async def export(log: Log, blobs: Blobs, workspace: Workspace, session: str, path: Path) -> int:
    """Writes a session into one file: its events, its archived tasks, its outputs, its commits. Whole or not at all.

    Returns:
        the file's size in bytes.
    """
    events = await _events(log, session)
    state = State()
    replay(state, events)
    entries = [unpack(blob) async for _, blob in log.archive(session)]
    members = {"events": codec.encode(events), "archive": msgspec.msgpack.encode([pack(entry) for entry in entries])}
    for entry in (*entries, *state.entries.values()):
        for output in (entry.outputs or {}).values():
            members[f"blobs/{output.digest}"] = await blobs.get(output.digest)
    if state.base:
        members["commits"] = await workspace.bundle(session)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    manifest = Manifest(FORMAT, session, len(events), state.tip, state.base, digests)
    return await asyncio.to_thread(_write, path, manifest, members)


def _write(path: Path, manifest: Manifest, members: dict[str, bytes]) -> int:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("manifest.json", msgspec.json.encode(manifest))
            for name, data in members.items():
                archive.writestr(name, data)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise Invalid(f"cannot write {path}: {error.strerror}", "Choose a folder that can be written to.") from None
    return path.stat().st_size


def _read(path: Path) -> tuple[Manifest, dict[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            manifest = msgspec.json.decode(archive.read("manifest.json"), type=Manifest)
            if manifest.format > FORMAT:
                raise Invalid(f"{path} was written by a newer Skep (format {manifest.format})", "Update Skep.")
            members = {}
            for name, digest in manifest.members.items():
                if archive.getinfo(name).file_size > MAX_MEMBER:
                    raise Invalid(f"{path}: {name} is larger than {MAX_MEMBER} bytes")
                data = archive.read(name)
                if hashlib.sha256(data).hexdigest() != digest:
                    raise Invalid(f"{path}: {name} is damaged", "Export the session again.")
                members[name] = data
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}", "Name a file that you may read.") from None
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, msgspec.MsgspecError):
        raise Invalid(f"{path} is no exported session, or is damaged", "`skep session export` makes such files.") from None
    return manifest, members


class Exported(Struct, frozen=True):
    """An exported file, checked."""

    session: str
    base: str
    events: list[ev.Event]
    archive: list[Entry]
    blobs: list[bytes]
    commits: bytes


async def read(path: Path) -> Exported:
    """Reads an exported file and checks all of it.

    Raises:
        NotFound, Invalid: no such file, or it is damaged or written by a newer Skep.
    """
    manifest, members = await asyncio.to_thread(_read, path)
    try:
        events = codec.decode(members.get("events", b""))
        packed = msgspec.msgpack.decode(members.get("archive", b"\x90"), type=list[bytes])
        archive = [unpack(blob) for blob in packed]
        replay(State(), events)
    except (msgspec.MsgspecError, KeyError, Bug):
        raise Invalid(f"{path}: the log in it is damaged", "Export the session again.") from None
    blobs = [data for name, data in members.items() if name.startswith("blobs/")]
    return Exported(manifest.session, manifest.base, events, archive, blobs, members.get("commits", b""))


async def load(log: Log, blobs: Blobs, workspace: Workspace, exported: Exported, name: str, now: int, by: str) -> State:
    """Fills an empty log from an exported session. Raises Invalid if its commits are none."""
    pinned = list[str]()
    try:
        for data in exported.blobs:
            pinned.append(await blobs.put(data))
        if exported.base:
            await workspace.unbundle(name, exported.commits, exported.session)
        return await _fill(log, name, exported.events, exported.session, exported.archive, now, by)
    finally:
        for digest in pinned:  # the log names them now, or nothing does
            await blobs.unpin(digest)
