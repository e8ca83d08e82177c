"""Where the tests of blobs over fsspec keep them: memory, files by way of fsspec, and an S3 that others imitate (moto)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from skep.store import Blobs
from skep.store.objects import ObjectBlobs
from tests import servers

#: What a storage's client finds by itself.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "the-secret", "AWS_DEFAULT_REGION": "us-east-1"}


@cache
def s3() -> str:
    """Where the S3 is, for all tests of this process; its bucket is `skep`."""
    port = servers.free_port()
    ThreadedMotoServer("127.0.0.1", port, verbose=False).start()
    return f"http://127.0.0.1:{port}"


@contextmanager
def s3_client() -> Iterator[None]:
    """The environment in which S3's client finds it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": s3()}.items():
            patch.setenv(name, value)
        yield


class ObjectHome:
    """A place in memory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.url = self.begin()

    def begin(self) -> str:
        """Its URL; nothing lies there."""
        return f"memory://{secrets.token_hex(8)}"

    def open(self, largest: int = 2**20) -> Blobs:
        return ObjectBlobs(self.url, self.folder, largest)

    def spoil(self, digest: str) -> None:
        fs, root = self.file_system()
        path = f"{root}/{digest[:2]}/{digest[2:]}"
        data = bytearray(fs.cat_file(path))
        data[-1] ^= 1
        fs.pipe_file(path, bytes(data))

    def names(self) -> list[str]:
        """All files there."""
        fs, root = self.file_system()
        return [name.removeprefix(root).lstrip("/") for name in fs.find(root)]

    def file_system(self) -> tuple[Any, str]:
        """What another program has to reach it."""
        fs, root = fsspec.core.url_to_fs(self.url, skip_instance_cache=True)
        return fs, root.rstrip("/")


class LocalHome(ObjectHome):
    """A folder, by way of fsspec."""

    def begin(self) -> str:
        return f"local://{self.folder}/blobs"


class S3Home(ObjectHome):
    """A prefix in the bucket of an S3."""

    def begin(self) -> str:
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        if not fs.exists("skep"):
            fs.mkdir("skep")
        return f"s3://skep/{secrets.token_hex(8)}"
