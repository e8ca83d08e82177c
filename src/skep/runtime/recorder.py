"""Sends what attempts printed here to the store that this node shares with others, beside the attempts, once they are over.

A recording becomes a blob, and the store is told which one. Whoever looks at the attempt from another machine finds it there,
also when this node is gone. What could not be sent stays in this node's folder, and nobody is told of a blob: so the
others say that it is not available, and where it is. No attempt waits for any of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections import deque
from pathlib import Path

from msgspec import Struct

from skep.errors import Invalid, SkepError, Unavailable
from skep.runtime.onlookers import Onlookers
from skep.store import Blobs, Recorded, Stores
from skep.terminals.excerpt import excerpt
from skep.terminals.transcript import Recording, place

#: Recordings that wait to be sent. Beyond, the oldest ones are not sent.
MOST = 1_000
#: Recordings that are sent at once.
AT_ONCE = 2
#: How often one is tried when the store does not answer, and the wait before that, seconds: doubled each time.
TRIES, WAIT = 6, 1.0
#: Bytes of a recording that is fetched: what a node sent that was only invited may unpack to anything.
LARGEST = 64 << 20
#: How long closing waits for what is still to be sent, seconds.
CLOSING = 5.0


class _Made(Struct, frozen=True):
    session: str
    task: str
    n: int
    part: str


class Recorder:
    """Sends recordings, in the order in which they were made.

    Args:
        folder: of the recordings.
        node: this one's name.
        stores: where they go. None is sent to stores that are shared with nobody.
        most: bytes of one; of a longer one beginning and end are sent. 0 = none is sent.
    """

    def __init__(self, folder: Path, node: str, stores: Stores, most: int) -> None:
        self._folder, self._node = folder, node
        self._blobs, self._recordings = stores.blobs, stores.recordings
        self._most = most
        self._onlookers: Onlookers | None = None
        if most and stores.recordings is not None and stores.leases is not None:
            self._onlookers = Onlookers(folder, stores.leases, stores.recordings)
        self._waiting: deque[_Made] = deque()
        self._sending: set[asyncio.Task[None]] = set()

    def begin(self, session: str, task: str, n: int) -> None:
        """An attempt begins here: who wants to can look on until it is kept."""
        if self._onlookers is not None:
            self._onlookers.begin(session, task, n)

    def keep(self, session: str, task: str, n: int, part: str = "") -> None:
        """A recording is finished: it is sent when those before it are. Nothing here waits for that.

        Args:
            n: the attempt.
            part: of it; see `transcript.place`.
        """
        if self._recordings is None or not self._most:
            return
        if self._onlookers is not None and not part:
            self._onlookers.end(session, task, n)
        if len(self._waiting) >= MOST:
            self._waiting.popleft()
        self._waiting.append(_Made(session, task, n, part))
        if len(self._sending) < AT_ONCE:
            sending = asyncio.get_running_loop().create_task(self._send(), name="sends recordings")
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)

    async def close(self) -> None:
        """Waits a moment for what is still to be sent; the rest is not."""
        if self._onlookers is not None:
            await self._onlookers.close()
        if self._sending:
            await asyncio.wait(self._sending, timeout=CLOSING)
        self._waiting.clear()
        for sending in list(self._sending):
            sending.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def _send(self) -> None:
        while self._waiting:
            made, wait = self._waiting.popleft(), WAIT
            for _ in range(TRIES):
                try:
                    await self._send_one(made)
                    break
                except Unavailable:
                    await asyncio.sleep(wait)
                    wait *= 2
                except (SkepError, OSError):  # its session is gone, the store is full, or the disk is broken
                    break

    async def _send_one(self, made: _Made) -> None:
        assert self._recordings is not None
        digest, size = "", 0
        recording = Recording(place(self._folder, made.session, made.task, made.n, made.part))
        try:
            if data := await asyncio.to_thread(excerpt, recording, self._most):
                size = len(data)
                digest = await self._blobs.put(await asyncio.to_thread(zlib.compress, data))
            recorded = Recorded(digest, size, self._node)
            await self._recordings.put(made.session, made.task, made.n, made.part, recorded)
        finally:
            if digest:
                with contextlib.suppress(SkepError):
                    await self._blobs.unpin(digest)


async def fetched(blobs: Blobs, recorded: Recorded) -> bytes:
    """The recording that was sent.

    Raises:
        NotFound, Invalid: its blob is gone, or is not what was sent.
        Unavailable: the store does not answer.
    """
    if not 0 < recorded.size <= LARGEST:
        raise Invalid(f"a recording of {recorded.size} bytes is none that Skep sent", "Find out what its node does.")
    packed = await blobs.get(recorded.digest)
    try:
        data = zlib.decompressobj().decompress(packed, recorded.size + 1)
    except zlib.error:
        data = b""
    if len(data) != recorded.size:
        raise Invalid(f"the blob {recorded.digest} is no recording of {recorded.size} bytes", "Take it from a backup.")
    return data
