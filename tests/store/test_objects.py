"""Blobs over fsspec: the contract on memory, files and an S3, and what only a storage of others can do wrong."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skep.disk.durable import UNFINISHED
from skep.errors import Denied, Invalid, NotFound, SkepError, Unavailable
from skep.store import objects
from skep.store.objects import ObjectBlobs
from tests.contracts.blobs import LATER, NEVER, BlobsContract
from tests.store.object_homes import LocalHome, ObjectHome, S3Home, s3_client


class OnFsspec(BlobsContract):
    """The contract, and that nothing but blobs lies there afterwards."""

    async def test_nothing_but_blobs_lies_there_and_another_program_can_read_them(
        self, place: ObjectHome, tmp_path: Path
    ) -> None:
        blobs = place.open()
        (tmp_path / "file").write_bytes(b"x" * 6_000_000)  # which an S3 takes in parts
        digests = [await blobs.put(b"text"), (await blobs.put_file(str(tmp_path / "file")))[0]]
        assert sorted(place.names()) == sorted(f"{digest[:2]}/{digest[2:]}" for digest in digests)
        fs, root = place.file_system()
        assert fs.cat_file(f"{root}/{digests[0][:2]}/{digests[0][2:]}") == b"text"
        assert len(await place.open().get(digests[1])) == 6_000_000
        assert not list(place.folder.glob(f"{UNFINISHED}*"))

    async def test_what_others_put_is_seen_though_it_was_looked_for_before(self, place: ObjectHome) -> None:
        mine, theirs = place.open(), place.open()
        await mine.put(b"a")
        with pytest.raises(NotFound):
            await mine.get(named(b"b"))
        assert await mine.sweep(frozenset(), NEVER) == 0
        digest = await theirs.put(b"b")
        assert await mine.get(digest) == b"b"
        await theirs.unpin(digest)
        assert await mine.sweep(frozenset(), LATER) == 1

    async def test_a_place_is_claimed(self, place: ObjectHome) -> None:
        blobs = place.open()
        assert isinstance(blobs, ObjectBlobs)
        assert await blobs.claimed() == ""
        await blobs.claim("mine")
        assert await ObjectBlobs(place.url, place.folder).claimed() == "mine"
        assert await blobs.sweep(frozenset(), LATER) == 0
        assert await blobs.claimed() == "mine"


def named(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class TestInMemory(OnFsspec):
    home = ObjectHome


class TestOnFiles(OnFsspec):
    home = LocalHome


class TestOnS3(OnFsspec):
    home = S3Home

    @pytest.fixture(autouse=True)
    def client(self) -> Iterator[None]:
        with s3_client():
            yield


async def test_a_put_that_breaks_off_leaves_what_was_there_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = LocalHome(tmp_path / "home")
    blobs = home.open()
    digest = await blobs.put(b"content")
    fs, _ = home.file_system()

    def torn(self: Any, path: str, value: bytes, **rest: Any) -> None:
        Path(path).write_bytes(value[:3])
        raise OSError("the line is cut")

    with monkeypatch.context() as patch:
        patch.setattr(type(fs), "pipe_file", torn)
        with pytest.raises(Unavailable, match="the line is cut"):
            await blobs.put(b"content")
        patch.setattr(type(fs), "rm_file", lambda *_: (_ for _ in ()).throw(OSError("still cut")))
        with pytest.raises(Unavailable):
            await blobs.put(b"content")
    assert await blobs.get(digest) == b"content"
    assert sum(name.startswith(UNFINISHED) for name in home.names()) == 1
    assert await blobs.sweep(frozenset(), LATER) == 0  # it is still pinned
    assert home.names() == [f"{digest[:2]}/{digest[2:]}"]


async def test_a_refusal_and_a_silence_are_told_apart_and_show_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = LocalHome(tmp_path / "home")
    fs, _ = home.file_system()
    monkeypatch.setattr(type(fs), "cat_file", lambda *_: (_ for _ in ()).throw(PermissionError("not yours")))
    with pytest.raises(Denied, match="not yours"):
        await home.open().get("0" * 64)
    monkeypatch.setattr(type(fs), "cat_file", lambda *_: (_ for _ in ()).throw(RuntimeError("weather\nmore")))
    with pytest.raises(Unavailable, match="weather") as caught:
        await home.open().get("0" * 64)
    assert "more" not in caught.value.message


async def test_a_storage_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, answer = LocalHome(tmp_path / "home"), threading.Event()
    fs, _ = home.file_system()
    monkeypatch.setattr(type(fs), "cat_file", lambda *_: answer.wait() and b"")
    monkeypatch.setattr(objects, "PATIENCE", 0.05)
    try:
        with pytest.raises(Unavailable, match="too long"):
            await home.open().get("0" * 64)
    finally:
        answer.set()


async def test_wrong_credentials_of_an_s3_are_told_without_showing_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_client():
        home = S3Home(tmp_path / "home")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        blobs = ObjectBlobs("s3://none/here", tmp_path)
        with pytest.raises(SkepError) as caught:
            await blobs.put(b"content")
        assert "the-secret" not in str(caught.value)
        assert "s3://none/here" in caught.value.message
        assert home.url.startswith("s3://")


@pytest.mark.parametrize("url", ["s3:/x", "://x", "s3://a b", "simplecache::s3://x", "s3://x?versionId=1"])
def test_what_is_no_url_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no place for blobs"):
        ObjectBlobs(url, tmp_path)


async def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid, match="nobodys"):
        await ObjectBlobs("nobodys://x", tmp_path).get("0" * 64)
    with pytest.raises(Unavailable, match="not installed"):
        await ObjectBlobs("gs://x", tmp_path).get("0" * 64)
    monkeypatch.setattr(objects, "find_spec", lambda name: None)
    with pytest.raises(Unavailable) as caught:
        ObjectBlobs("s3://x", tmp_path)
    assert "skep[blobs]" in caught.value.fix


async def test_a_file_that_grows_while_it_is_sent_is_kept_as_it_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = LocalHome(tmp_path / "home")
    fs, _ = home.file_system()
    (tmp_path / "file").write_bytes(b"before")
    sent = type(fs).put_file

    def late(self: Any, source: str, into: str, **rest: Any) -> None:
        (tmp_path / "file").write_bytes(b"after it")
        sent(self, source, into, **rest)

    monkeypatch.setattr(type(fs), "put_file", late)
    digest, size = await home.open().put_file(str(tmp_path / "file"))
    assert (size, await home.open().get(digest)) == (6, b"before")


async def test_a_blob_that_is_put_while_it_is_swept_stays(tmp_path: Path) -> None:
    home = ObjectHome(tmp_path / "home")
    blobs = home.open()
    for n in range(50):
        await blobs.unpin(await blobs.put(b"%d" % n))
    await asyncio.gather(blobs.sweep(frozenset(), LATER), *(blobs.put(b"%d" % n) for n in range(50)))
    assert [await blobs.get(named(b"%d" % n)) for n in range(50)] == [b"%d" % n for n in range(50)]
