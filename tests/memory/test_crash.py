"""A memory when its process or its disk fails: what was acknowledged is there, whole, and nothing is made up."""

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

from skep.errors import Unavailable
from skep.memory import Record
from skep.memory.records import digest
from tests import disks
from tests.contracts.memory import after, fresh
from tests.memory.scribe import STORES, acknowledged, survivors

SCRIBE = Path(__file__).with_name("scribe.py")


@pytest.fixture(params=list(STORES))
def kind(request: pytest.FixtureRequest) -> str:
    """Which store."""
    return str(request.param)


def command(kind: str, folder: Path, *options: object) -> list[str]:
    return [sys.executable, str(SCRIBE), kind, str(folder), *map(str, options)]


def check(kind: str, folder: Path, output: bytes, before: Mapping[str, int] | None = None) -> dict[str, int]:
    """Everything acknowledged is there, and at most one commit of each that nobody was told of.

    Args:
        output: of the last process that wrote.
        before: what was there when it began, name -> commits.

    Returns: what is there now.
    """
    said, found = {**(before or {}), **acknowledged(output)}, asyncio.run(survivors(kind, folder))
    for name, count in said.items():
        assert found[name] in (count, count + 1), (said, found)
    return found


@pytest.mark.parametrize("lines", [1, 40, 200])
def test_a_killed_writer_loses_nothing_that_it_acknowledged(kind: str, tmp_path: Path, lines: int) -> None:
    found: dict[str, int] = {}
    for _ in range(2):  # the second one goes on where the first was killed
        process = subprocess.Popen(command(kind, tmp_path), stdout=subprocess.PIPE)
        assert process.stdout is not None
        said = b"".join(islice(process.stdout, lines))
        process.kill()
        rest, _ = process.communicate()
        assert process.returncode == -9
        assert (said + rest).count(b"\n") >= lines
        found = check(kind, tmp_path, said + rest, found)


def under_strace(kind: str, folder: Path, call: str, fault: str) -> subprocess.CompletedProcess[bytes]:
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("needs strace: a memory killed and failing at the n-th sync was not tested")
    inject = [strace, "-f", "-o", os.devnull, "-e", f"trace={call}", "-e", f"inject={call}:{fault}"]
    return subprocess.run([*inject, *command(kind, folder)], capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("call", "nth"),
    [*(("fdatasync", n) for n in (1, 2, 3, 4, 6, 9, 15, 33)), ("fsync", 1), ("pwrite64", 40)],
)
def test_a_writer_killed_as_it_syncs_loses_nothing_that_it_acknowledged(kind: str, tmp_path: Path, call: str, nth: int) -> None:
    done = under_strace(kind, tmp_path, call, f"signal=SIGKILL:when={nth}")
    assert done.returncode == -9
    check(kind, tmp_path, done.stdout)
    asyncio.run(go_on(kind, tmp_path))


@pytest.mark.parametrize(("call", "nth"), [*(("fsync", n) for n in range(2, 42, 3)), *(("rename", n) for n in range(1, 14))])
def test_of_a_commit_of_several_files_all_or_none_is_there_wherever_it_was_killed(tmp_path: Path, call: str, nth: int) -> None:
    done = under_strace("markdown", tmp_path, call, f"signal=SIGKILL:when={nth}")
    assert done.returncode == -9
    check("markdown", tmp_path, done.stdout)
    assert [found.name for found in (tmp_path / "notes").rglob(".*")] == []


async def go_on(kind: str, folder: Path) -> None:
    store = await STORES[kind].open(folder)
    await store.commit([fresh("after")])
    await store.close()


def test_a_sync_that_fails_leaves_the_outcome_unknown_and_stops_the_store(kind: str, tmp_path: Path) -> None:
    for nth in (14, 16, 20, 25):  # those before are of opening it
        done = under_strace(kind, tmp_path / str(nth), "fdatasync", f"error=EIO:when={nth}")
        complaints = done.stderr.decode()
        assert done.returncode == 0, complaints
        assert complaints.count("Unavailable: ") == 4
        check(kind, tmp_path / str(nth), done.stdout)


def test_a_write_that_fails_stops_the_store_and_loses_nothing(kind: str, tmp_path: Path) -> None:
    done = subprocess.run(command(kind, tmp_path, 2, 2**18), capture_output=True, check=False, timeout=60)
    complaints = done.stderr.decode()
    assert done.returncode == 0, complaints
    assert "Unavailable: " in complaints
    check(kind, tmp_path, done.stdout)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    with disks.small(tmp_path / "disk", "16m", "a memory on a full disk") as disk:
        yield disk


@pytest.mark.root
async def test_a_full_disk_refuses_changes_and_when_there_is_room_again_the_store_goes_on(kind: str, small_disk: Path) -> None:
    store = await STORES[kind].open(small_disk / "state")
    there: list[Record] = []

    async def fill() -> None:
        while True:
            change = fresh(f"k{len(there):06}", "x" * 20_000)
            await store.commit([change])
            there.append(change.record)

    (small_disk / "ballast").write_bytes(bytes(10 * 2**20))
    with pytest.raises(Unavailable, match=r"disk is full|No space left"):
        await fill()
    assert there
    assert await store.page("n") == there
    with pytest.raises(Unavailable):
        await store.commit([after(there[0], "y" * 7_000_000)])
    assert await store.get("n", there[0].key) == there[0]
    (small_disk / "ballast").unlink()
    again = after(there[0], "room again")
    await store.commit([again])
    await store.close()
    store = await STORES[kind].open(small_disk / "state")
    assert digest(await store.get("n", there[0].key)) == digest(again.record)
    assert (await store.page("n"))[1:] == there[1:]
    await store.close()
