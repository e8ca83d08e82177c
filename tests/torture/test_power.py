"""Power cuts: a file system that stops in the middle of the load, with everything that was not synced gone."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest

from tests.memory import scribe as memories
from tests.store.scribe import acknowledged, survivors
from tests.torture.amounts import amount

SCRIBE = Path(__file__).parents[1] / "store" / "scribe.py"
MEMORIES = Path(__file__).parents[1] / "memory" / "scribe.py"
#: _IOR('X', 125, __u32) of linux/ext4.h, and: stop at once, without writing the journal.
EXT4_IOC_SHUTDOWN, NOLOGFLUSH = 0x8004587D, 2
NORMAL = 1


class Disk:
    """An ext4 file system on a loop device, whose power can be cut."""

    def __init__(self, folder: Path) -> None:
        self.image, self.path = folder / "image", folder / "disk"
        self.path.mkdir()
        with self.image.open("wb") as file:
            file.truncate(512 * 2**20)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(self.image))

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        run("mount", "-o", "loop", str(self.image), str(self.path))
        try:
            yield self.path
        finally:
            run("umount", "--lazy", str(self.path))  # a failed test still has files open there

    def cut(self) -> None:
        number = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(number, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(number)


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise OSError(f"{command[0]} failed: {done.stderr.decode()}")


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    if os.geteuid() != 0:
        pytest.skip("needs root for a loop device: power cuts were not tested")
    if not shutil.which("mkfs.ext4"):
        pytest.skip("needs mkfs.ext4: power cuts were not tested")
    disk = Disk(tmp_path)
    try:
        with disk.mounted():
            pass
    except OSError as error:
        pytest.skip(f"no loop device can be mounted here, power cuts were not tested: {error}")
    return disk


def said_before_the_power_went(disk: Disk, lines: int, *options: int, scribe: tuple[str, ...] = (str(SCRIBE),)) -> bytes:
    """What a scribe had said, of at least so many answers, when the power went.

    What it says later does not count: at a real cut nobody hears it, and here a sync that is under way while the file system
    stops can still return as if it had been done.
    """
    with disk.mounted() as path:
        command = [sys.executable, *scribe, str(path / "state"), *map(str, options)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        said = b"".join(islice(process.stdout, lines))
        os.set_blocking(process.stdout.fileno(), False)
        said += process.stdout.read() or b""
        disk.cut()
        process.kill()
        process.stdout.close()
        process.wait()
    return said


async def lost_in(disk: Disk, lines: int, *options: int) -> tuple[int, int]:
    """Events that were acknowledged, and how many of them are gone after a power cut."""
    said = acknowledged(said_before_the_power_went(disk, lines, *options))
    with disk.mounted() as path:
        found = await survivors(path / "state")
    lost = {session: max(0, last - found.get(session, 0)) for session, last in said.items()}
    return sum(said.values()), sum(lost.values())


@pytest.mark.root
async def test_a_power_cut_loses_nothing_that_was_acknowledged(disk: Disk) -> None:
    for cut in range(amount("power-cuts")):
        written, lost = await lost_in(disk, 50 + 333 * (cut % 5))
        assert written > 0
        assert lost == 0


@pytest.mark.root
async def test_the_same_cut_does_lose_when_commits_are_not_synced(disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    rounds = [await lost_in(disk, 1000 + 333 * (cut % 5), NORMAL) for cut in range(amount("power-cuts"))]
    written, lost = (sum(column) for column in zip(*rounds, strict=True))
    with capsys.disabled():
        print(f" [control, synchronous=NORMAL: {lost} of {written} events lost]", end="")
    assert lost > 0


async def forgotten_in(disk: Disk, kind: str, lines: int, *options: int) -> tuple[int, int]:
    """Changes of a memory that were acknowledged, and how many of them are gone after a power cut. All there is is whole."""
    scribe = str(MEMORIES), kind
    said = memories.acknowledged(said_before_the_power_went(disk, lines, *options, scribe=scribe))
    with disk.mounted() as path:
        found = await memories.survivors(kind, path / "state")
    return sum(said.values()), sum(max(0, count - found.get(name, 0)) for name, count in said.items())


@pytest.mark.root
@pytest.mark.parametrize("kind", list(memories.STORES))
async def test_a_power_cut_takes_nothing_from_a_memory_and_leaves_no_half_change(disk: Disk, kind: str) -> None:
    for cut in range(amount("power-cuts")):
        written, lost = await forgotten_in(disk, kind, 30 + 77 * (cut % 5))
        assert written > 0
        assert lost == 0


@pytest.mark.root
async def test_the_same_cut_does_take_from_a_memory_that_is_not_synced(disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    rounds = [await forgotten_in(disk, "sqlite", 500 + 333 * (cut % 5), NORMAL) for cut in range(amount("power-cuts"))]
    written, lost = (sum(column) for column in zip(*rounds, strict=True))
    with capsys.disabled():
        print(f" [control, synchronous=NORMAL: {lost} of {written} changes lost]", end="")
    assert lost > 0
