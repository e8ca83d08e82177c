"""The room that an attempt takes on the disk: its folders are looked through every few seconds, and once more at its end.

The kernel bounds single files; the sum of a folder's files it bounds for nobody but root, by quotas. So it can be overshot by
what is written between two looks.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from skep.errors import SkepError
from skep.security import Bounds

#: Seconds between two looks; more where looking takes long, so that it takes one part in `SHARE` of a processor at most.
PAUSE = 3.0
SHARE = 20
#: Files and folders that are looked at without a thread.
FEW = 32
#: Bytes that every file and folder counts for at least: one without content takes room too. It also bounds what a look can meet.
ENTRY = 4_096


class Full(SkepError):
    """An attempt has taken more room on the disk than it may."""


class Many(Exception):
    """More is there than was to be looked at."""


@asynccontextmanager
async def bounded(within: Bounds | None) -> AsyncIterator[None]:
    """What is done in here is cancelled once the attempt's own folders have grown by more than they may.

    Args:
        within: what holds for its programs. None, or no such limit: nobody looks.

    Raises:
        Full: it was so, or something in the folders stayed shut to those who look.
    """
    if within is None or not within.limits.disk_total:
        yield
        return
    room = Room(within.own, within.limits.disk_total)
    await _aside(room.begin)
    try:
        async with asyncio.timeout(None) as alarm:
            watch = asyncio.ensure_future(_watch(room, alarm))
            try:
                yield
            finally:
                watch.cancel()
                await asyncio.wait([watch])
        await _aside(room.look)
    except TimeoutError:
        if not room.why:
            raise
    if room.why:
        raise Full(room.why, "Raise `disk_total` of the sandbox if it needs as much.")


async def _aside(look: Callable[[int | None], None]) -> None:
    """Looks: in a thread, unless little is there."""
    try:
        look(FEW)
    except Many:
        await asyncio.to_thread(look, None)


async def _watch(room: Room, alarm: asyncio.Timeout) -> None:
    pause = PAUSE
    while not room.why:
        await asyncio.sleep(pause)
        began = time.monotonic()
        await _aside(room.look)
        pause = max(PAUSE, SHARE * (time.monotonic() - began))
    alarm.reschedule(asyncio.get_running_loop().time())


class Room:
    """What lies in some folders, compared with what lay there at the beginning. Its methods block.

    Args:
        folders: none of them within another. Those that are not there hold nothing.
        most: bytes, as the disk counts them, that they may hold more.
    """

    def __init__(self, folders: Sequence[str], most: int) -> None:
        self._folders, self._most = tuple(folders), most
        self._before = 0
        self._shut: frozenset[str] = frozenset()
        #: Why it is too much; empty = it is not.
        self.why = ""

    def begin(self, few: int | None = None) -> None:
        """Remembers what is there. Raises Many as `measure` does."""
        self._before, self._shut = measure(self._folders, None, few)

    def look(self, few: int | None = None) -> None:
        """Compares. A folder that cannot be read may be so for a moment, but not at two looks one after the other.

        Raises Many as `measure` does; then nothing was compared.
        """
        size, shut = measure(self._folders, self._before + self._most, few)
        if size - self._before > self._most:
            self.why = f"it took more room on the disk than the {self._most:,} bytes that it may (`disk_total`)"
        elif hidden := shut & self._shut:
            self.why = f"what it has on the disk cannot be counted (`disk_total`): {min(hidden)[-200:]} is shut"
        self._shut = shut


def measure(folders: Sequence[str], most: int | None = None, few: int | None = None) -> tuple[int, frozenset[str]]:
    """How many bytes of the disk the files in these folders take, and which folders cannot be read.

    Files with several names count once; links are not followed; what goes while this looks does not count.

    Args:
        most: where it stops counting; what it returns is more than that then. None = nowhere.
        few: files and folders after which it gives up; None = never.

    Raises:
        Many: there are more than `few`.
    """
    count = 0
    total, linked, shut = 0, set[tuple[int, int]](), set[str]()
    left = list(folders)
    while left:
        folder = left.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    count += 1
                    if few is not None and count > few:
                        raise Many
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    elif found.st_nlink > 1:
                        name = found.st_dev, found.st_ino
                        if name in linked:
                            continue
                        linked.add(name)
                    total += max(found.st_blocks * 512, ENTRY)
                    if most is not None and total > most:
                        return total, frozenset(shut)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:  # no leave, or a path that is too long
            shut.add(folder)
    return total, frozenset(shut)
