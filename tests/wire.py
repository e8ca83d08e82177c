"""A way to a server on which things go wrong: it is cut, it is slow, replies are lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType

#: Bytes that go on at once.
PIECE = 2**20


class Wire:
    """Passes on what clients and a server say. Use it with `async with`.

    Args:
        port: of the server on this machine; 0 = it is not known yet (`to`).
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        #: Seconds that everything takes each way.
        self.delay = 0.0
        #: How many replies were lost, and connections refused.
        self.lost = self.refused = 0
        self._lose: Callable[[bytes], bool] | None = None
        self._cut = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusing = asyncio.Event()

    @property
    def port(self) -> int:
        """Where clients find it."""
        return int(self._listener.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Where a client of Redis finds it."""
        return f"redis://127.0.0.1:{self.port}"

    def to(self, port: int) -> int:
        """From now on it leads to the server there; returns its own port."""
        self._port = port
        return self.port

    def lose(self, request: bytes) -> None:
        """The next request that contains these bytes is passed on, but its connection ends instead of the reply."""

        def once(said: bytes) -> bool:
            if request not in said:
                return False
            self._lose = None
            return True

        self._lose = once

    def lose_some(self, which: Callable[[bytes], bool] | None) -> None:
        """The same for each request of which it is so; None = no more of them."""
        self._lose = which

    def cut(self) -> None:
        """All connections end, and no more are made."""
        self._cut = True
        self.break_off()

    def mend(self) -> None:
        """Connections can be made again."""
        self._cut = False

    def break_off(self) -> None:
        """All connections end; others may be made at once."""
        for task in self._tasks:
            task.cancel()

    async def until_refused(self, count: int) -> None:
        """Waits until so many connections have been refused, all in all."""
        while self.refused < count:
            self._refusing.clear()
            await self._refusing.wait()

    async def __aenter__(self) -> Wire:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listener.close()
        self.break_off()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            self.refused += 1
            self._refusing.set()
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._connect(reader, writer)
        writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._port)
        passing = asyncio.create_task(self._pass(back, writer))
        try:
            while request := await self._next(reader):
                if self._lose is not None and self._lose(request):
                    passing.cancel()
                    await asyncio.wait([passing])
                    forth.write(request)
                    await back.read(1)
                    self.lost += 1
                    return
                forth.write(request)
                await forth.drain()
        finally:
            passing.cancel()
            forth.transport.abort()

    async def _pass(self, back: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while reply := await self._next(back):
                writer.write(reply)
                await writer.drain()
        writer.close()

    async def _next(self, reader: asyncio.StreamReader) -> bytes:
        said = await reader.read(PIECE)
        if self.delay:
            await asyncio.sleep(self.delay)  # tidy: sleeps because a slow way is what is tested
        return said
