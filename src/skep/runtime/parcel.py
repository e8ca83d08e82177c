"""A session in one file: its log, archived tasks, outputs, commits and memory. Whole or absent; checked before it is believed.

A zip file. `log` and `archive` are lists of byte strings, each with its length (8 bytes, big-endian) in front: the events of each
append, the tasks of the archive; so is `memory`: the records of its namespace and its copies, then which checkpoints there are.
`blobs/<digest>` are outputs and large values, `commits` is a bundle of git, `manifest.json` has the SHA-256 of all of them, and
`seal` proves to whoever has the key of the store that it wrote this manifest.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from skep.disk.durable import Draft
from skep.errors import Exhausted, Invalid, NotFound, SkepError
from skep.store.chain import LARGEST_APPEND

#: Format of the files that are written, and the only one that is read.
FORMAT = 2
#: Bytes that one member may hold: a file from elsewhere may unpack to any size.
MAX_MEMBER = 16 << 30
#: Bytes of a manifest.
MAX_MANIFEST = 256 << 20
MANIFEST, SEAL, LOG, ARCHIVE, COMMITS, BLOBS = "manifest.json", "seal", "log", "archive", "commits", "blobs/"
MEMORY = "memory"
_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DAMAGE = (
    KeyError,
    ValueError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    msgspec.MsgspecError,
)

#: `Log.seal` of the store at hand.
Seal = Callable[[bytes], bytes]


class Manifest(Struct, frozen=True, kw_only=True):
    """What a file holds. `name`: the session went by it, `at`: when it was written (ms), `key`: of the store that sealed it.

    `lost`: outputs that the store itself had lost by then. `members`: their SHA-256.
    """

    format: int
    session: str
    name: str
    at: int
    events: int
    key: str
    lost: tuple[str, ...] = ()
    members: dict[str, str] = {}


def key_of(seal: Seal) -> str:
    """A name for the key of a store, by which it can be told from others."""
    return seal(b"")[:8].hex()


class Packing:
    """A file that is being written. Leaving the block without `keep` leaves nothing. For threads other than the loop's.

    Raises Exhausted when the disk is full, Invalid when the file cannot be written at all.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._member: IO[bytes] | None = None
        self._name, self._hash, self._size = "", hashlib.sha256(), 0
        self.digests: dict[str, str] = {}
        with self._writing():
            self._draft = Draft(path.parent)
            self._zip = zipfile.ZipFile(self._draft.file, "w", zipfile.ZIP_DEFLATED, compresslevel=1)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise Exhausted(f"cannot write {self._path}: {error.strerror}", "Make room there, and repeat.") from None
            fix = "Choose a folder that is there and can be written to."
            raise Invalid(f"cannot write {self._path}: {error.strerror}", fix) from None

    def begin(self, name: str, packed: bool = False) -> None:
        """Begins a member; the one before is over. `packed`: to compress it is of no use."""
        with self._writing():
            self._end()
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            self._member = self._zip.open(info, "w", force_zip64=True)
            self._name, self._hash, self._size = name, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        """Writes to the member. Raises Exhausted beyond MAX_MEMBER."""
        assert self._member is not None
        self._size += len(data)
        if self._size > MAX_MEMBER:
            raise Exhausted(f"cannot write {self._path}: {self._name} has more than {MAX_MEMBER >> 30} GiB")
        self._hash.update(data)
        with self._writing():
            return self._member.write(data)

    def frames(self, parts: Iterable[bytes]) -> None:
        """Writes byte strings, each with its length in front."""
        for part in parts:
            self.write(len(part).to_bytes(8, "big"))
            self.write(part)

    def _end(self) -> None:
        if self._member is not None:
            self._member.close()
            self.digests[self._name] = self._hash.hexdigest()
            self._member = None

    def keep(self, manifest: Manifest, seal: Seal) -> int:
        """Makes it durable, in place of what was there under its name; returns its size."""
        with self._writing():
            self._end()
            told = msgspec.json.encode(msgspec.structs.replace(manifest, members=self.digests))
            self._zip.writestr(MANIFEST, told)
            self._zip.writestr(SEAL, seal(told).hex())
            self._zip.close()
            size = self._draft.file.tell()
            self._draft.keep(self._path)
            return size

    def close(self) -> None:
        """Ends it; what was not kept is gone."""
        if self._member is not None:
            with suppress(OSError, ValueError):
                self._member.close()
        self._zip.fp = None  # else it would write its directory, on a disk that may be full
        try:
            self._draft.__exit__(None, None, None)
        except OSError:
            return  # the file is gone already, or its folder; nobody takes a draft for more


class Parcel:
    """An open file. For threads other than the loop's; every method raises Invalid for what is damaged.

    Args:
        path: the file.
        seal: of the store at hand.

    Raises:
        NotFound: no such file.
        Invalid: it cannot be read, is damaged, or is in another format.
    """

    def __init__(self, path: Path, seal: Seal) -> None:
        self.path = path
        with self._reading():
            self._zip = zipfile.ZipFile(path)
        try:
            with self._reading():
                if self._zip.getinfo(MANIFEST).file_size > MAX_MANIFEST:
                    raise self._damaged(f"its manifest has more than {MAX_MANIFEST >> 20} MiB")
                told = self._zip.read(MANIFEST)
                written = msgspec.json.decode(told, type=_Format).format
                if written != FORMAT:
                    raise Invalid(
                        f"{path} is in format {written}; this Skep reads format {FORMAT}", "Use the Skep that wrote it."
                    )
                self.manifest = msgspec.json.decode(told, type=Manifest)
                self.ours = self.manifest.key == key_of(seal)
                if self.ours and not hmac.compare_digest(self._zip.read(SEAL), seal(told).hex().encode()):
                    raise self._damaged("its seal does not fit")
        except BaseException:
            self.close()
            raise

    def _damaged(self, why: str) -> Invalid:
        return Invalid(f"{self.path} is damaged: {why}", "Take another backup, or export the session again.")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        fix = "`skep session export`, `skep backup` and `skep memory backup` make such files."
        try:
            yield
        except FileNotFoundError:
            raise NotFound(
                f"there is no file {self.path}", "Name one that is; `skep backup list` shows the backups of sessions."
            ) from None
        except OSError as error:
            raise Invalid(f"{self.path} cannot be read: {error.strerror}", "Name a file that you may read.") from None
        except _DAMAGE:
            raise Invalid(f"{self.path} is neither an export nor a backup, or is damaged", fix) from None

    def close(self) -> None:
        """Closes it."""
        self._zip.close()

    def check(self) -> None:
        """Reads all of it and compares it with the manifest."""
        for name, digest in self.manifest.members.items():
            found = hashlib.sha256()
            for chunk in self.chunks(name):
                found.update(chunk)
            if found.hexdigest() != digest:
                raise self._damaged(f"{name} is not what was written")

    def chunks(self, name: str) -> Iterator[bytes]:
        """A member, piece by piece."""
        with self._reading():
            if self._zip.getinfo(name).file_size > MAX_MEMBER:
                raise self._damaged(f"{name} has more than {MAX_MEMBER >> 30} GiB")
            with self._zip.open(name) as member:
                while chunk := member.read(_CHUNK):
                    yield chunk

    def frames(self, name: str) -> Iterator[bytes]:
        """The byte strings of a member that holds such."""
        with self._reading(), self._zip.open(name) as member:
            while head := member.read(8):
                size = int.from_bytes(head, "big")
                if size > LARGEST_APPEND:
                    raise self._damaged(f"{name} claims {size} bytes in one piece")
                part = member.read(size)
                if len(part) != size:
                    raise self._damaged(f"{name} ends too early")
                yield part

    def blobs(self) -> list[str]:
        """The outputs in it, by digest."""
        return [name.removeprefix(BLOBS) for name in self.manifest.members if name.startswith(BLOBS)]

    def blob(self, digest: str) -> bytes:
        """An output."""
        data = bytearray()
        for chunk in self.chunks(BLOBS + digest):
            data += chunk
            if len(data) > LARGEST_APPEND:
                raise self._damaged(f"an output in it has more than {LARGEST_APPEND >> 20} MiB")
        return bytes(data)


class _Format(Struct, frozen=True):
    format: int


def check(path: Path, seal: Seal) -> tuple[Manifest | None, bool, str]:
    """What a file holds (None if nobody can tell), whether this store sealed it, and what is wrong with it ("": nothing)."""
    try:
        opened = Parcel(path, seal)
    except SkepError as error:
        return None, False, error.message
    try:
        opened.check()
    except SkepError as error:
        return opened.manifest, opened.ours, error.message
    finally:
        opened.close()
    return opened.manifest, opened.ours, ""
