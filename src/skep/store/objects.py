"""Blobs in whatever fsspec reaches (S3, GCS, Azure, SFTP, ...), laid out and checked as those in a folder.

Credentials are those that the storage's own client finds (environment, profile, role of the machine): none is in the settings.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from skep.disk.durable import UNFINISHED
from skep.errors import Denied, Invalid, SkepError, Unavailable
from skep.store.blobs import CLAIM, LARGEST_BLOB, check_digest, lost, open_regular, spoiled, too_large

T = TypeVar("T")

#: Protocols whose puts are there whole or not at all; elsewhere a draft is written and then moved.
_WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss"})
#: Seconds after which a storage counts as silent.
PATIENCE = 600.0
_CHUNK = 2**20
#: Characters of a storage's own words that are shown.
_WORDS = 300


class ObjectBlobs:
    """The port `Blobs` over a place that fsspec reaches. What is put is as durable as that storage keeps what it acknowledged.

    A blob that nobody names and that is swept at the very moment when another process puts the same bytes can be lost to it: no
    storage of this kind removes by a condition. It is looked at right before, so that is the time of one request a day.

    Args:
        url: `protocol://place`, without credentials.
        scratch: a folder in which files are copied before they are sent, so that nobody changes them meanwhile.
        largest: bytes of one blob that is put from memory.

    Raises:
        Unavailable: fsspec is not installed.
        Invalid: no such URL.
    """

    def __init__(self, url: str, scratch: Path, largest: int = LARGEST_BLOB) -> None:
        _check_url(url)
        if find_spec("fsspec") is None:
            raise Unavailable(
                f"blobs are to lie in {url}, but the package for that is not installed", "Install it: pip install 'skep[blobs]'"
            )
        self._url = url
        self._scratch = scratch
        self._largest = largest
        self._whole = url.partition("://")[0] in _WHOLE
        self._found: tuple[Any, str] | None = None
        self._finding = threading.Lock()
        self._pins: Counter[str] = Counter()
        #: Held while a pin is set and while an unpinned blob is removed, so that nothing is removed after it was pinned.
        self._guard = asyncio.Lock()

    async def put(self, data: bytes) -> str:
        """See `Blobs.put`. Raises Exhausted for more than `largest` bytes."""
        if len(data) > self._largest:
            raise too_large(len(data), self._largest)
        digest = hashlib.sha256(data).hexdigest()
        await self._pinned(digest, lambda fs, path: fs.pipe_file(path, data))
        return digest

    async def put_file(self, path: str) -> tuple[str, int]:
        """See `Blobs.put_file`. Raises NotFound or Invalid if it is no regular file."""
        with tempfile.NamedTemporaryFile(dir=self._scratch, prefix=UNFINISHED) as copy:
            digest, size = await self._reach(_copy, path, copy)
            await self._pinned(digest, lambda fs, into: fs.put_file(copy.name, into))
        return digest, size

    async def get(self, digest: str) -> bytes:
        """See `Blobs.get`."""
        check_digest(digest)
        data = await self._reach(self._read, _place(digest))
        if data is None:
            raise lost(digest)
        if hashlib.sha256(data).hexdigest() != digest:
            raise spoiled(digest)
        return data

    async def unpin(self, digest: str) -> None:
        """See `Blobs.unpin`."""
        if self._pins[digest] <= 1:
            del self._pins[digest]
        else:
            self._pins[digest] -= 1

    async def sweep(self, marked: frozenset[str], older_than: int) -> int:
        """See `Blobs.sweep`. A storage that tells no times of its files keeps them all."""
        swept = 0
        folders, drafts = await self._reach(self._look)
        for place in drafts:
            await self._reach(self._remove, place, older_than)
        for folder in folders:
            for place in await self._reach(self._within, folder):
                digest = place.replace("/", "")
                async with self._guard:
                    if digest not in marked and digest not in self._pins:
                        swept += await self._reach(self._remove, place, older_than)
        return swept

    async def claimed(self) -> str:
        """See `Place.claimed`."""
        return (await self._reach(self._read, CLAIM) or b"").decode(errors="replace")

    async def claim(self, mark: str) -> None:
        """See `Place.claim`."""
        await self._reach(self._write, CLAIM, lambda fs, path: fs.pipe_file(path, mark.encode()))

    async def _pinned(self, digest: str, write: Callable[[Any, str], object]) -> None:
        """Pins a blob and writes it, also over one that is there: that may be damaged, and counts as put now."""
        async with self._guard:
            self._pins[digest] += 1
        try:
            await self._reach(self._write, _place(digest), write)
        except BaseException:
            await self.unpin(digest)
            raise

    async def _reach(self, work: Callable[..., T], *args: Any) -> T:
        """Does it in a thread. Raises what it raises, if that is Skep's; else says what the storage said."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.to_thread(work, *args)
        except SkepError:
            raise
        except TimeoutError:
            said = "it took too long to answer"
        except PermissionError as error:
            fix = "Give the storage's own client, on this machine, credentials that may read, write, list and remove there."
            raise Denied(f"the blobs at {self._url} are refused: {_words(error)}", fix) from None
        except ImportError as error:
            fix = "Install what it names; for s3://: pip install 'skep[s3]'"
            raise Unavailable(f"{self._url} needs a package that is not installed: {_words(error)}", fix) from None
        except Exception as error:  # each storage has a family of its own
            said = _words(error)
        raise Unavailable(
            f"the blobs at {self._url} cannot be reached: {said}", "See whether it answers this machine, and repeat."
        )

    # In threads

    def _fs(self) -> tuple[Any, str]:
        """The file system, and the path in it. What it remembers of listings is dropped: others write there too."""
        import fsspec

        with self._finding:
            if self._found is None:
                try:
                    self._found = fsspec.core.url_to_fs(self._url, skip_instance_cache=True)
                except ValueError as error:
                    raise Invalid(f"[store] blobs is {self._url}: {_words(error)}", "Name a place that fsspec knows.") from None
            fs, root = self._found
        fs.invalidate_cache()
        return fs, root.rstrip("/")

    def _read(self, place: str) -> bytes | None:
        fs, root = self._fs()
        try:
            return bytes(fs.cat_file(f"{root}/{place}"))
        except FileNotFoundError:
            return None

    def _write(self, place: str, write: Callable[[Any, str], object]) -> None:
        fs, root = self._fs()
        path = f"{root}/{place}"
        if self._whole:
            write(fs, path)
            return
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        draft = f"{root}/{UNFINISHED}{secrets.token_hex(8)}"
        try:
            write(fs, draft)
            fs.mv(draft, path)
        except BaseException:
            if fs.exists(draft):
                fs.rm_file(draft)
            raise

    def _look(self) -> tuple[list[str], list[str]]:
        """The folders of blobs that are there, and drafts."""
        fs, root = self._fs()
        try:
            names = [name.rstrip("/").rpartition("/")[2] for name in fs.ls(root, detail=False)]
        except FileNotFoundError:
            return [], []
        folders = [name for name in names if re.fullmatch(r"[0-9a-f]{2}", name)]
        return folders, [name for name in names if name.startswith(UNFINISHED)]

    def _within(self, folder: str) -> list[str]:
        fs, root = self._fs()
        names = (name.rpartition("/")[2] for name in fs.find(f"{root}/{folder}"))
        return [f"{folder}/{name}" for name in names if re.fullmatch(r"[0-9a-f]{62}", name)]

    def _remove(self, place: str, older_than: int) -> int:
        """Removes what was written before a time; how many that were."""
        fs, root = self._fs()
        try:
            at = fs.modified(f"{root}/{place}")
            if (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000 >= older_than:
                return 0
            fs.rm_file(f"{root}/{place}")
        except (FileNotFoundError, NotImplementedError):
            return 0
        return 1


def _check_url(url: str) -> None:
    """Raises Invalid for a URL that is none."""
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s?#]*", url) or "::" in url:
        raise Invalid(f"'{url.partition('?')[0][:80]}' is no place for blobs", "Write it as s3://bucket/prefix.")


def _copy(path: str, copy: Any) -> tuple[str, int]:
    """Copies a file; digest and size of what was copied."""
    hashed, size = hashlib.sha256(), 0
    with open_regular(path) as source:
        while chunk := source.read(_CHUNK):
            hashed.update(chunk)
            size += copy.write(chunk)
    copy.flush()
    return hashed.hexdigest(), size


def _place(digest: str) -> str:
    return f"{digest[:2]}/{digest[2:]}"


def _words(error: BaseException) -> str:
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {said}"[:_WORDS] if said else type(error).__name__
