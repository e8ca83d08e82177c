"""The SQLite store when its process or its disk fails: what was acknowledged is there, whole, and nothing is made up."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import pytest

from skep.errors import Exhausted, Unavailable
from skep.store.blobs import FileBlobs
from skep.store.sqlite import SqliteLog
from tests import disks
from tests.contracts.log import Pen, new_session
from tests.store.scribe import EVENTS, acknowledged, survivors

SCRIBE = Path(__file__).with_name("scribe.py")


def command(folder: Path, *options: object) -> list[str]:
    return [sys.executable, str(SCRIBE), str(folder), *map(str, options)]


def said_after(process: subprocess.Popen[bytes], lines: int) -> bytes:
    """Waits until the process has written so many lines, or has ended."""
    assert process.stdout is not None
    return b"".join(islice(process.stdout, lines))


def check(folder: Path, output: bytes, before: Mapping[str, int] | None = None) -> dict[str, int]:
    """Everything acknowledged is there, and at most one append a session that nobody was told of.

    Args:
        output: of the last process that wrote.
        before: what was there when it began, session -> last event.

    Returns: what is there now.
    """
    said, found = {**(before or {}), **acknowledged(output)}, asyncio.run(survivors(folder))
    for session, last in said.items():
        assert found[session] in (last, last + EVENTS), (said, found)
    return found


def ended(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize("lines", [1, 40, 400])
def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path, lines: int) -> None:
    found: dict[str, int] = {}
    for _ in range(2):  # the second one goes on where the first was killed
        process = subprocess.Popen(command(tmp_path), stdout=subprocess.PIPE)
        said = said_after(process, lines)
        process.kill()
        rest, _ = process.communicate()
        assert process.returncode == -9
        assert (said + rest).count(b"\n") >= lines
        found = check(tmp_path, said + rest, found)


def strace() -> str:
    found = shutil.which("strace")
    if not found:
        pytest.skip("needs strace: killing and failing at the n-th fdatasync was not tested")
    return found


def under_strace(folder: Path, call: str, fault: str) -> list[str]:
    return [strace(), "-f", "-o", os.devnull, "-e", f"trace={call}", "-e", f"inject={call}:{fault}", *command(folder)]


@pytest.mark.parametrize(
    ("call", "nth"),
    [*(("fdatasync", n) for n in (1, 2, 3, 4, 6, 9, 15, 33, 80)), *(("fsync", n) for n in (1, 2, 4)), ("pwrite64", 40)],
)
def test_a_writer_killed_as_it_syncs_loses_nothing_that_it_acknowledged(tmp_path: Path, call: str, nth: int) -> None:
    done = ended(under_strace(tmp_path, call, f"signal=SIGKILL:when={nth}"))
    assert done.returncode == -9
    check(tmp_path, done.stdout)
    asyncio.run(go_on(tmp_path))


async def go_on(folder: Path) -> None:
    log = await SqliteLog.open(folder)
    await (await new_session(log, "after")).write()
    await log.close()


def test_a_sync_that_fails_leaves_the_outcome_unknown_and_stops_the_store(tmp_path: Path) -> None:
    """Which sync is the n-th differs from run to run: one of a commit, or one that folds the log, where nothing is unknown."""
    unknown = 0
    for nth in (10, 12, 15, 25):
        done = ended(under_strace(tmp_path / str(nth), "fdatasync", f"error=EIO:when={nth}"))
        complaints = done.stderr.decode()
        assert done.returncode == 0, complaints
        assert complaints.count("Unavailable: ") == 4
        unknown += "whether this was written is unknown" in complaints
        check(tmp_path / str(nth), done.stdout)
    assert unknown


def test_a_write_that_fails_stops_the_store_and_loses_nothing(tmp_path: Path) -> None:
    done = ended(command(tmp_path, 2, 3 * 2**20))
    complaints = done.stderr.decode()
    assert done.returncode == 0, complaints
    assert "Unavailable: " in complaints
    assert len(acknowledged(done.stdout)) == 4
    check(tmp_path, done.stdout)


async def fill(pen: Pen) -> None:
    while True:
        await pen.write(bytes(20_000), archive=[(f"t{pen.head.seq}", b"entry")])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    with disks.small(tmp_path / "disk", "16m", "a full disk") as disk:
        yield disk


@pytest.mark.root
async def test_a_full_disk_refuses_writes_and_when_there_is_room_again_the_store_goes_on(small_disk: Path) -> None:
    log = await SqliteLog.open(small_disk / "state")
    pen = await new_session(log)
    (small_disk / "ballast").write_bytes(bytes(10 * 2**20))
    with pytest.raises(Unavailable, match="the disk is full: nothing of this was written"):
        await fill(pen)
    assert await log.verify("s") == pen.head
    with pytest.raises(Unavailable, match="Free space"):
        await log.snapshot("s", pen.head.seq, bytes(2**22))
    (small_disk / "ballast").unlink()
    assert (await pen.write(b"room again")).seq == pen.head.seq
    await log.close()
    log = await SqliteLog.open(small_disk / "state")
    assert await log.verify("s") == pen.head
    assert (await Pen(log, "s").take()).head.seq == pen.head.seq
    await log.close()


@pytest.mark.root
async def test_a_full_disk_keeps_no_half_blob(small_disk: Path) -> None:
    blobs = FileBlobs(small_disk / "blobs")
    kept = await blobs.put(b"small")
    for size in (20 * 2**20, 16 * 2**20):
        with pytest.raises(Unavailable, match="No space left"):
            await blobs.put(bytes(size))
    (small_disk / "source").write_bytes(bytes(9 * 2**20))
    with pytest.raises(Unavailable, match="No space left"):
        await blobs.put_file(str(small_disk / "source"))
    assert await blobs.get(kept) == b"small"
    assert [path.name for path in (small_disk / "blobs").rglob("*") if path.is_file()] == [kept[2:]]
    with pytest.raises(Exhausted):
        await blobs.put(bytes(65 * 2**20))
