"""Blobs that no log names are removed, and no others."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest

import skep
from skep import config
from skep.runtime import copies
from skep.runtime.collect import DAY, MARK, collect
from skep.runtime.parts import Parts
from skep.wiring import assemble
from tests.workspace.repository import Repository

TASK = skep.Task(run="echo $$ > $SKEP_OUT/o", outputs={"o": "o"}, mode="none")


@asynccontextmanager
async def opened(repo: Repository) -> AsyncIterator[Parts]:
    """The parts of an owner whose last collection is two days ago, beside blobs that are as old."""
    parts = await assemble(repo.top, config.load(repo.top))
    try:
        (parts.state / MARK).touch()
        for path in (parts.state / MARK, *(parts.state / "blobs").glob("??/*")):
            age(path)
        yield parts
    finally:
        await parts.close()


def age(path: Path) -> None:
    """As if it had been made two days ago."""
    past = path.stat().st_mtime - 2 * DAY / 1000
    os.utime(path, (past, past))


def path_of(parts: Parts, digest: str) -> Path:
    return parts.state / "blobs" / digest[:2] / digest[2:]


async def made(repo: Repository) -> list[str]:
    """The outputs of a session, and of its fork."""
    async with skep.open(repo.top) as hive:
        session = await hive.session("origin")
        first = await (await session.submit(TASK)).result()
        fork = await session.fork()
        await fork.resume()
        second = await (await fork.submit(TASK)).result()
        return [first.outputs["o"].digest, second.outputs["o"].digest]


async def test_what_a_log_names_stays_and_an_old_orphan_goes(repo: Repository) -> None:
    named = await made(repo)
    assert len(set(named)) == 2
    async with opened(repo) as parts:
        old, young, pinned = [await parts.blobs.put(data) for data in (b"old", b"young", b"pinned")]
        for digest in (old, young):
            await parts.blobs.unpin(digest)
        for digest in (old, pinned):
            age(path_of(parts, digest))
        assert await collect(parts) == 1
        assert not path_of(parts, old).exists()
        assert all(path_of(parts, digest).exists() for digest in (*named, young, pinned))
        await parts.blobs.unpin(pinned)
        assert await collect(parts) == 0, "at most once a day"
        age(parts.state / MARK)
        assert await collect(parts) == 1
        assert not path_of(parts, pinned).exists()


async def test_outputs_of_an_import_that_failed_go_like_any_other(repo: Repository, tmp_path: Path) -> None:
    named, file = await made(repo), tmp_path / "origin.skep"
    async with skep.open(repo.top) as hive:
        await (await hive.find("origin")).export(file)
    exported = msgspec.structs.replace(await copies.read(file), base="0" * 40, commits=b"no bundle")
    async with opened(Repository(tmp_path / "other")) as parts:
        with pytest.raises(skep.SkepError):
            await copies.load(parts.log, parts.blobs, parts.workspace, exported, "s", 0, "")
        assert path_of(parts, named[0]).exists()
        age(path_of(parts, named[0]))
        assert await collect(parts) == 1
        assert not path_of(parts, named[0]).exists()


async def test_nothing_is_removed_while_a_log_cannot_be_read(repo: Repository) -> None:
    named = await made(repo)
    with closing(sqlite3.connect(repo.top / ".skep" / "skep.db", isolation_level=None)) as database:
        database.execute("UPDATE log SET blob = x'00' WHERE place = (SELECT max(place) FROM log)")
    async with opened(repo) as parts:
        orphan = await parts.blobs.put(b"old")
        await parts.blobs.unpin(orphan)
        age(path_of(parts, orphan))
        with pytest.raises(skep.SkepError):
            await collect(parts)
        assert all(path_of(parts, digest).exists() for digest in (*named, orphan))


async def test_an_owner_collects_when_it_begins_to_carry_sessions_out(repo: Repository) -> None:
    await made(repo)
    async with opened(repo) as parts:
        orphan = await parts.blobs.put(b"old")
        age(path_of(parts, orphan))
    before = (parts.state / MARK).stat().st_mtime
    async with skep.open(repo.top) as hive:
        session = await hive.session("origin")
        # The logs are read while sessions go on; each task gives the loop another turn.
        for _ in range(50):
            assert (await (await session.submit(TASK)).result()).ok
            if not path_of(parts, orphan).exists():
                break
    assert not path_of(parts, orphan).exists()
    assert (parts.state / MARK).stat().st_mtime > before
