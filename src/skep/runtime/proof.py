"""Compares an archive of a session with all that the store has of it, before anything there is removed."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

from skep.disk.durable import UNFINISHED
from skep.errors import Conflict, Invalid
from skep.runtime import copies
from skep.runtime.parcel import ARCHIVE, BLOBS, LOG, Parcel
from skep.runtime.parts import Parts
from skep.store import Append, Head


async def prove(parts: Parts, session: str, path: Path, head: Head) -> None:
    """Returns if a session can be made again of a file as the store has it: its log to the last byte, all outputs, all commits.

    Args:
        head: where the session's log ends. Its hash seals every byte before, and the whole chain is checked: a file that holds
            the same bytes leads to the same head.

    Raises:
        Invalid: the file is damaged, sealed by somebody else, or lacks something; or the log itself is damaged.
        Conflict: the log goes on.
        Unavailable: the store, the disk or git fails.
    """
    async with copies.opened(Parcel, path, parts.log.seal) as file:
        carried = await copies.aside(copies.read, file)
        if not file.ours:
            raise _lacking(path, "the seal of this store")
        await _log(parts, session, file, head)
        if await _tasks(parts, session) != file.manifest.members[ARCHIVE]:
            raise _lacking(path, "the finished tasks of the store")
        if carried.state.base:
            with tempfile.NamedTemporaryFile(dir=parts.state, prefix=UNFINISHED) as bundle:
                await copies.aside(copies.unpacked, file, bundle)
                await parts.workspace.prove(session, Path(bundle.name), carried.state.tip)


async def _log(parts: Parts, session: str, file: Parcel, head: Head) -> None:
    """Compares the log, and looks for the outputs that it names. All members have the sums that the manifest says."""
    there = await parts.log.verify(session)
    if (there.seq, there.hash) != (head.seq, head.hash):
        raise Conflict(f"session {session} goes on: somebody wrote to it meanwhile", "Look with `skep status`.")
    found, named, seq = hashlib.sha256(), copies.Named(), 0

    def note(page: list[Append]) -> None:
        _add(found, (append.blob for append in page))
        named.note(page)

    while page := await parts.log.read(session, after=seq, limit=copies.PAGE):
        await copies.aside(note, page)
        seq = page[-1].last
    members = file.manifest.members
    if found.hexdigest() != members[LOG]:
        raise _lacking(file.path, "the log of the store")
    lost = [digest for digest in sorted(named.outputs) if members.get(BLOBS + digest) != digest]
    if lost:
        raise _lacking(file.path, f"{len(lost)} outputs, such as {lost[0]}, which the store had lost")


async def _tasks(parts: Parts, session: str) -> str:
    """The sum of the finished tasks that left the live state, as a file has them."""
    found = hashlib.sha256()
    async for _, blob in parts.log.archive(session):
        _add(found, [blob])
    return found.hexdigest()


def _add(found: hashlib._Hash, blobs: Iterable[bytes]) -> None:
    for blob in blobs:
        found.update(len(blob).to_bytes(8, "big"))
        found.update(blob)


def _lacking(path: Path, what: str) -> Invalid:
    return Invalid(f"{path} lacks {what}", "`skep backup list` says which files are good.")
