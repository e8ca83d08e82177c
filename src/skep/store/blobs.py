"""Blobs as files: `<folder>/ab/cdef...`, named by their digest, whole or absent, checked when they are read."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import stat
import threading
from collections import Counter
from pathlib import Path
from typing import BinaryIO

from skep.disk.durable import UNFINISHED, Draft, make_folder, sync_folder
from skep.errors import Exhausted, Invalid, NotFound, Unavailable

#: Bytes of one blob that is put from memory.
LARGEST_BLOB = 64 * 2**20
#: What a place is claimed with, beside its blobs.
CLAIM = "store"
_CHUNK = 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")


class FileBlobs:
    """The port `Blobs` over a folder that nobody else writes to.

    Args:
        folder: made if it is not there.
        largest: bytes of one blob that is put from memory.

    Raises:
        Unavailable: it cannot be made.
    """

    def __init__(self, folder: Path, largest: int = LARGEST_BLOB) -> None:
        self._folder = folder
        self._largest = largest
        self._pins: Counter[str] = Counter()
        #: Held while a pin is set and while an unpinned blob is removed, so that nothing is removed after it was pinned.
        self._guard = threading.Lock()
        try:
            make_folder(folder)
        except OSError as error:
            raise refused(folder, error) from None

    async def put(self, data: bytes) -> str:
        """See `Blobs.put`.

        Raises:
            Exhausted: more than `largest` bytes.
            Unavailable: the disk refuses; nothing was kept.
        """
        if len(data) > self._largest:
            raise too_large(len(data), self._largest)
        return await asyncio.to_thread(self._put, data)

    async def put_file(self, path: str) -> tuple[str, int]:
        """See `Blobs.put_file`.

        Raises:
            NotFound: there is no such file.
            Invalid: it is a link, a folder, a pipe or a device.
            Unavailable: the disk refuses; nothing was kept.
        """
        return await asyncio.to_thread(self._put_file, path)

    async def get(self, digest: str) -> bytes:
        """See `Blobs.get`."""
        return await asyncio.to_thread(self._get, digest)

    async def unpin(self, digest: str) -> None:
        """See `Blobs.unpin`."""
        self._unpin(digest)

    async def sweep(self, marked: frozenset[str], older_than: int) -> int:
        """See `Blobs.sweep`."""
        return await asyncio.to_thread(self._sweep, marked, older_than)

    async def claimed(self) -> str:
        """See `Place.claimed`."""
        return await asyncio.to_thread(self._claimed)

    async def claim(self, mark: str) -> None:
        """See `Place.claim`."""
        await asyncio.to_thread(self._claim, mark)

    def _claimed(self) -> str:
        try:
            return (self._folder / CLAIM).read_text(errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise refused(self._folder, error) from None

    def _claim(self, mark: str) -> None:
        try:
            with Draft(self._folder) as draft:
                draft.file.write(mark.encode())
                draft.keep(self._folder / CLAIM)
        except OSError as error:
            raise refused(self._folder, error) from None

    def _put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        with self._guard:
            self._pins[digest] += 1
        try:
            if not self._refresh(digest, data):
                with Draft(self._folder) as draft:
                    draft.file.write(data)
                    self._keep(draft, digest)
        except OSError as error:
            self._unpin(digest)
            raise refused(self._folder, error) from None
        return digest

    def _put_file(self, path: str) -> tuple[str, int]:
        digest, hashed, size = "", hashlib.sha256(), 0
        try:
            with open_regular(path) as source, Draft(self._folder) as draft:
                while chunk := source.read(_CHUNK):
                    hashed.update(chunk)
                    size += draft.file.write(chunk)
                digest = hashed.hexdigest()
                with self._guard:
                    self._pins[digest] += 1
                self._keep(draft, digest)
        except OSError as error:
            if digest:
                self._unpin(digest)
            raise refused(self._folder, error) from None
        return digest, size

    def _refresh(self, digest: str, data: bytes) -> bool:
        """Whether these very bytes lie there already; then they count as put now."""
        path = self._path(digest)
        try:
            if path.read_bytes() != data:
                return False
            os.utime(path)
        except FileNotFoundError:
            return False
        sync_folder(path.parent)  # whoever put them first may have died before this
        return True

    def _keep(self, draft: Draft, digest: str) -> None:
        path = self._path(digest)
        make_folder(path.parent)
        draft.keep(path)

    def _get(self, digest: str) -> bytes:
        check_digest(digest)
        try:
            data = self._path(digest).read_bytes()
        except FileNotFoundError:
            raise lost(digest) from None
        except OSError as error:
            raise refused(self._folder, error) from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise spoiled(digest)
        return data

    def _unpin(self, digest: str) -> None:
        with self._guard:
            if self._pins[digest] <= 1:
                del self._pins[digest]
            else:
                self._pins[digest] -= 1

    def _sweep(self, marked: frozenset[str], older_than: int) -> int:
        swept = 0
        for path in [*self._folder.glob("[0-9a-f][0-9a-f]/*"), *self._folder.glob(f"{UNFINISHED}*")]:
            digest = path.parent.name + path.name
            with self._guard:
                if digest in marked or digest in self._pins or path.stat().st_mtime_ns >= older_than * 1_000_000:
                    continue
                path.unlink()
            swept += not path.name.startswith(UNFINISHED)
        return swept

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest[2:]


def open_regular(path: str) -> BinaryIO:
    """Opens a file for reading, if it is one: agents can leave links, pipes and devices where a file should be.

    Raises:
        NotFound, Invalid: there is none, or it is something else.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except OSError as error:
        raise Invalid(f"{path} cannot be read as a file: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise Invalid(f"{path} is no file", fix="Leave a regular file there.")
    return os.fdopen(number, "rb")


def check_digest(digest: str) -> None:
    """Raises Invalid for what is no digest: it would become part of a path."""
    if not _DIGEST.fullmatch(digest):
        raise Invalid(f"{digest[:80]!r} is no digest of a blob: it has 64 hex digits")


def too_large(size: int, largest: int) -> Exhausted:
    """What is raised for a blob over the limit."""
    return Exhausted(f"a blob of {size} bytes; at most {largest} fit", fix="Leave large results in a file.")


def lost(digest: str) -> NotFound:
    """What is raised for a blob that is not there."""
    return NotFound(f"there is no blob {digest}", fix="It was swept, or the state folder is not whole: take it from a backup.")


def spoiled(digest: str) -> Invalid:
    """What is raised for a blob whose bytes are not those that were put."""
    return Invalid(f"the blob {digest} is damaged: its bytes do not fit its name", fix="Take it from a backup.")


def refused(folder: Path, error: OSError) -> Unavailable:
    """What is raised when the disk refuses."""
    return Unavailable(f"the blobs in {folder} cannot be reached: {error.strerror}", fix="Free space or repair the disk.")
