"""The worker as the runtime sees it: a process that is started once, serves many attempts, and may end at any time."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from skep.agents import LOST, Ending
from skep.agents.loop import Order, Word
from skep.agents.process import end
from skep.errors import Exhausted, Unavailable
from skep.terminals import Profile, Tail, Terminal, Terminals

#: Seconds that a worker may take to begin: it imports much, and machines are busy.
BEGIN = 120.0
#: Bytes that are written in one go, bytes of orders that may wait, seconds between looks whether the worker reads again.
CHUNK, MAX_WAITING, PAUSE = 1 << 18, 256 << 20, 0.01
#: Bytes of one word of the worker's.
MAX_WORD = 64 << 20
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Word).decode


class Link:
    """One worker.

    Args:
        terminals: where it is started.
        env: all of its environment: the providers' keys are in it.
        folder: it works there, which says nothing about its attempts.
        errors: takes what it prints to standard error.
        heard: takes what it says about attempts.
        lost: told once, with an ending for the attempts that it had, when it is gone.
    """

    def __init__(
        self,
        terminals: Terminals,
        env: Mapping[str, str],
        folder: str,
        errors: Path,
        heard: Callable[[Word], None],
        lost: Callable[[Ending], None],
    ) -> None:
        argv = (sys.executable, "-P", "-m", "skep.agents.loop.worker", str(errors))
        nonce = secrets.token_hex(16)
        self._profile = Profile(name="llm worker", argv=argv, cwd=folder, env=dict(env), nonce=nonce, stdin="pipe", tty=False)
        self._terminals, self._errors, self._heard_word, self._lost = terminals, errors, heard, lost
        self._terminal: Terminal | None = None
        self._buffer = bytearray()
        self._noise = Tail(20)
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watching: asyncio.Task[None] | None = None
        self._orders: deque[bytes] = deque()
        self._size = 0
        self._writing: asyncio.Task[None] | None = None
        self.gone = False

    async def begin(self) -> None:
        """Starts it, and waits until it listens. Raises SkepError."""
        self._terminal = await self._terminals.create(self._profile, self._heard)
        self._terminal.release()
        self._watching = asyncio.ensure_future(self._watch(self._terminal))
        try:
            async with asyncio.timeout(BEGIN):
                await self._ready
        except TimeoutError:
            await self.end()
            raise Unavailable(f"The worker for `llm` agents did not begin within {BEGIN:g} s.", "Try again later.") from None
        except BaseException:
            await self.end()
            raise

    def send(self, order: Order) -> None:
        """Gives an order. Raises Exhausted if the worker has not read for long."""
        data = _encode(order) + b"\n"
        if self._size + len(data) > MAX_WAITING:
            raise Exhausted("The worker for `llm` agents does not read.", "Start less at once.")
        for at in range(0, len(data), CHUNK):
            self._orders.append(data[at : at + CHUNK])
        self._size += len(data)
        if self._writing is None and not self._write():
            self._writing = asyncio.ensure_future(self._go_on_writing())

    async def end(self) -> None:
        """Ends it; returns when it is gone."""
        if self._writing is not None:
            self._writing.cancel()
        if self._terminal is not None:
            await end(self._terminal)
        if self._watching is not None:
            await asyncio.wait([self._watching])

    def _write(self) -> bool:
        """Writes what waits; false if the worker must read first."""
        assert self._terminal is not None
        while self._orders and not self.gone:
            try:
                self._terminal.write(self._orders[0])
            except Exhausted:
                return False
            self._size -= len(self._orders.popleft())
        return True

    async def _go_on_writing(self) -> None:
        while True:  # a terminal does not tell when it takes more
            await asyncio.sleep(PAUSE)
            if self._write():
                break
        self._writing = None

    async def _watch(self, terminal: Terminal) -> None:
        exit = await terminal.wait()
        self.gone = True
        how = f"exit code {exit.code}" if exit.code is not None else f"signal {exit.signal}"
        detail = f"the worker for `llm` agents ended: {how}{self._last_words()}"
        if not self._ready.done():
            self._ready.set_exception(Unavailable(f"T{detail[1:]}.", "See `skep doctor`."))
            self._ready.exception()  # whoever waits gets it; nobody may
        self._lost(LOST if exit.lost else Ending(ok=False, interrupted=True, cause="infrastructure", detail=detail))
        await end(terminal)

    def _last_words(self) -> str:
        lines = self._noise.lines()
        with contextlib.suppress(OSError):
            lines += self._errors.read_bytes()[-10_000:].decode(errors="replace").splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {last[-400:]}" if last else ""

    def _heard(self, data: bytes) -> None:
        *ends, rest = data.split(b"\n")
        for part in ends:
            self._buffer += part
            self._take(bytes(self._buffer))
            self._buffer.clear()
        self._buffer += rest[: MAX_WORD - len(self._buffer)]

    def _take(self, line: bytes) -> None:
        try:
            word = _decode(line)
        except msgspec.MsgspecError:  # what Python itself says before the worker runs
            self._noise.feed(line[:10_000] + b"\n")
            return
        if word.id:
            self._heard_word(word)
        elif not self._ready.done():
            self._ready.set_result(None)
