"""What attempts print while they run, shown to whoever looks on from another machine, for as long as somebody does.

Who looks on holds a lease that is called after the attempt. A node on which something runs asks once a second which of its
attempts are looked at, and lays what they printed so far into the store, where it stays for a moment only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import zlib
from pathlib import Path

from skep.errors import Invalid, SkepError
from skep.store import Leases, Recordings
from skep.terminals.excerpt import excerpt
from skep.terminals.transcript import Recording, place

#: The kind of lease that onlookers hold, and how long after their last look, ms.
KIND, LOOKS_ON = "onlooker", 5_000
#: Seconds between looks at who looks on.
LOOK = 1.0
#: Bytes that are shown of what an attempt has printed so far, and how long they can be seen, ms.
SHOWN, STAYS = 256 << 10, 10_000
#: Attempts that are shown at once by a node.
MOST = 32

#: Session, task, attempt.
Running = tuple[str, str, int]


def lease_of(session: str, task: str, n: int) -> str:
    """What onlookers of an attempt hold. A lease's name is short."""
    text = "\0".join((session, task, str(n))).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:32]


async def look_on(leases: Leases, recordings: Recordings, owner: str, running: Running, node: str) -> bytes:
    """Looks on for a moment; what the attempt has printed so far, as a recording's file, or nothing if its node shows nothing.

    Args:
        owner: this process.
        node: that runs it, as the log says.

    Raises:
        Exhausted: too many look on.
        Invalid: what is shown was not written by this hive.
        Unavailable: the store does not answer.
    """
    # Of several onlookers one has the lease: it does for all.
    await leases.hold(f"{KIND}/{lease_of(*running)}", owner, LOOKS_ON)
    packed = await recordings.shown(*running, node)
    if not packed:
        return b""
    try:
        return zlib.decompressobj().decompress(packed, SHOWN)
    except zlib.error:
        raise Invalid(f"what attempt {running[2]} of '{running[1]}' shows is damaged", "Look again.") from None


class Onlookers:
    """Shows what runs here to those who look on.

    Args:
        folder: of the recordings.
        leases: of the onlookers.
        recordings: where it is shown.
    """

    def __init__(self, folder: Path, leases: Leases, recordings: Recordings) -> None:
        self._folder = folder
        self._leases, self._recordings = leases, recordings
        #: Attempts that run here, by what their onlookers hold.
        self._running: dict[str, Running] = {}
        #: What is shown of them, and how large their recordings were then: one that has not grown is not read again.
        self._shown: dict[str, tuple[int, bytes]] = {}
        self._looking: asyncio.Task[None] | None = None

    def begin(self, session: str, task: str, n: int) -> None:
        """An attempt begins here."""
        self._running[lease_of(session, task, n)] = session, task, n
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="looks who looks on")

    def end(self, session: str, task: str, n: int) -> None:
        """It is over: its recording says more."""
        name = lease_of(session, task, n)
        self._running.pop(name, None)
        self._shown.pop(name, None)

    async def close(self) -> None:
        """Shows nothing any more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            if not self._running:
                return
            with contextlib.suppress(SkepError, OSError):  # the next look tries again
                wanted = [name for name in await self._leases.held(KIND) if name in self._running]
                for name in wanted[:MOST]:
                    if name in self._running:  # it may have ended meanwhile
                        await self._show(name, *self._running[name])

    async def _show(self, name: str, session: str, task: str, n: int) -> None:
        recording = Recording(place(self._folder, session, task, n))
        size = recording.size()
        if self._shown.get(name, (0, b""))[0] != size:
            packed = await asyncio.to_thread(lambda: zlib.compress(excerpt(recording, SHOWN)))
            if name not in self._running:
                return
            self._shown[name] = size, packed
        if size:
            await self._recordings.show(session, task, n, self._shown[name][1], STAYS)
