"""Blobs as files: the contract, and what only a file can do wrong."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from skep.disk.durable import UNFINISHED
from skep.store.blobs import FileBlobs
from tests.contracts.blobs import LATER, NEVER, BlobsContract
from tests.store.homes import FileBlobsHome


class TestFileBlobs(BlobsContract):
    home = FileBlobsHome


async def test_only_the_owner_can_read_a_blob(tmp_path: Path) -> None:
    digest = await FileBlobs(tmp_path / "blobs").put(b"secret")
    for path in (tmp_path / "blobs", tmp_path / "blobs" / digest[:2], tmp_path / "blobs" / digest[:2] / digest[2:]):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


async def test_what_a_crash_left_unfinished_is_swept(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    left = tmp_path / f"{UNFINISHED}abc"
    left.write_bytes(b"half")
    assert await blobs.sweep(frozenset(), NEVER) == 0
    assert left.exists()
    assert await blobs.sweep(frozenset(), LATER) == 0
    assert not left.exists()


async def test_putting_a_blob_again_makes_it_young(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    digest = await blobs.put(b"content")
    path = tmp_path / digest[:2] / digest[2:]
    os.utime(path, (1, 1))
    await blobs.put(b"content")
    for _ in range(2):
        await blobs.unpin(digest)
    assert await blobs.sweep(frozenset(), 2000) == 0
    os.utime(path, (1, 1))
    assert await blobs.sweep(frozenset(), 2000) == 1
