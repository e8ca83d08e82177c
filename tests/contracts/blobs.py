"""What every `Blobs` does. A backend passes when `class TestX(BlobsContract): home = XHome` does."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Protocol

import pytest

from skep.errors import Exhausted, Invalid, NotFound
from skep.store import Blobs

#: A time in ms that lies before everything, and one that lies after it.
NEVER, LATER = 0, 2**42


class BlobsHome(Protocol):
    """Where a backend keeps its blobs; `largest` of `open` bounds one blob."""

    def __init__(self, folder: Path) -> None: ...

    def open(self, largest: int = 2**20) -> Blobs: ...

    def spoil(self, digest: str) -> None: ...


class BlobsContract:
    """Subclass it with `home`."""

    home: type[BlobsHome]

    @pytest.fixture
    def place(self, tmp_path: Path) -> BlobsHome:
        return self.home(tmp_path / "home")

    @pytest.fixture
    def blobs(self, place: BlobsHome) -> Blobs:
        return place.open()

    @pytest.mark.parametrize("data", [b"", b"text", b"\0" * 100_000])
    async def test_what_is_put_is_found_by_its_digest(self, blobs: Blobs, place: BlobsHome, data: bytes) -> None:
        digest = await blobs.put(data)
        assert digest == hashlib.sha256(data).hexdigest()
        assert await blobs.get(digest) == data
        assert await place.open().get(digest) == data

    async def test_a_file_is_kept_like_its_bytes(self, blobs: Blobs, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x" * 300_000)
        digest, size = await blobs.put_file(str(tmp_path / "file"))
        assert size == 300_000
        assert digest == await blobs.put(b"x" * 300_000)
        assert await blobs.get(digest) == b"x" * 300_000

    async def test_only_a_regular_file_is_kept(self, blobs: Blobs, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("secret")
        (tmp_path / "link").symlink_to(tmp_path / "file")
        os.mkfifo(tmp_path / "pipe")
        for name in ("link", "pipe", "."):
            with pytest.raises(Invalid, match="file"):
                await blobs.put_file(str(tmp_path / name))
        with pytest.raises(NotFound, match="no file"):
            await blobs.put_file(str(tmp_path / "nothing"))

    async def test_a_blob_has_a_limit(self, place: BlobsHome) -> None:
        blobs = place.open(largest=10)
        await blobs.put(b"x" * 10)
        with pytest.raises(Exhausted, match="at most 10"):
            await blobs.put(b"x" * 11)
        with pytest.raises(NotFound):
            await blobs.get(hashlib.sha256(b"x" * 11).hexdigest())

    async def test_a_blob_that_was_never_put_is_not_found(self, blobs: Blobs) -> None:
        with pytest.raises(NotFound, match="no blob"):
            await blobs.get("0" * 64)

    @pytest.mark.parametrize("digest", ["", "0" * 63, "A" * 64, "../" + "0" * 61, "0" * 64 + "\n"])
    async def test_what_is_no_digest_is_refused(self, blobs: Blobs, digest: str) -> None:
        with pytest.raises(Invalid, match="no digest"):
            await blobs.get(digest)

    async def test_damage_is_never_returned_and_putting_it_again_repairs_it(self, blobs: Blobs, place: BlobsHome) -> None:
        digest = await blobs.put(b"content")
        place.spoil(digest)
        with pytest.raises(Invalid, match="damaged"):
            await blobs.get(digest)
        assert await blobs.put(b"content") == digest
        assert await blobs.get(digest) == b"content"

    async def test_a_pinned_blob_is_not_swept(self, blobs: Blobs) -> None:
        digest = await blobs.put(b"content")
        assert await blobs.sweep(frozenset(), LATER) == 0
        await blobs.unpin(digest)
        assert await blobs.sweep(frozenset(), LATER) == 1
        with pytest.raises(NotFound):
            await blobs.get(digest)

    async def test_who_put_it_twice_unpins_it_twice(self, blobs: Blobs) -> None:
        digest = await blobs.put(b"content")
        await blobs.put(b"content")
        await blobs.unpin(digest)
        assert await blobs.sweep(frozenset(), LATER) == 0
        await blobs.unpin(digest)
        await blobs.unpin(digest)
        assert await blobs.sweep(frozenset(), LATER) == 1

    async def test_marked_and_young_blobs_are_not_swept(self, blobs: Blobs) -> None:
        marked, young = await blobs.put(b"marked"), await blobs.put(b"young")
        for digest in (marked, young):
            await blobs.unpin(digest)
        assert await blobs.sweep(frozenset({marked}), NEVER) == 0
        assert await blobs.sweep(frozenset({marked}), LATER) == 1
        assert await blobs.get(marked) == b"marked"
        with pytest.raises(NotFound):
            await blobs.get(young)

    async def test_pins_do_not_outlive_their_process_but_blobs_do(self, blobs: Blobs, place: BlobsHome) -> None:
        digest = await blobs.put(b"content")
        again = place.open()
        assert await again.get(digest) == b"content"
        await again.unpin(digest)
        assert await again.sweep(frozenset(), LATER) == 1

    async def test_many_at_once_all_arrive(self, blobs: Blobs) -> None:
        data = [b"%d" % (n % 10) for n in range(50)]
        digests = await asyncio.gather(*(blobs.put(piece) for piece in data))
        assert [await blobs.get(digest) for digest in digests] == data

    async def test_sweeping_while_putting_loses_nothing_that_was_put(self, blobs: Blobs) -> None:
        old = [await blobs.put(b"%d" % n) for n in range(20)]
        for digest in old:
            await blobs.unpin(digest)
        puts = [asyncio.ensure_future(blobs.put(b"%d" % n)) for n in range(20)]
        await blobs.sweep(frozenset(), LATER)
        for n, digest in enumerate(await asyncio.gather(*puts)):
            assert await blobs.get(digest) == b"%d" % n
