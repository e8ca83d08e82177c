"""The owner's Unix socket: requests in, answers and streams out, many at once over one connection.

A frame is four bytes of length, big-endian, then MessagePack. Client: [number, request], or [number, nil] to end a stream.
Server: [number, kind, payload], kind one of answer, error, item, end; an error numbered 0 is for the whole connection. Only
processes of the same user are served.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from skep.core.events import Event
from skep.errors import FAMILY, Bug, Denied, Exhausted, Invalid, SkepError, Unavailable, kind_of
from skep.runtime import requests as rq
from skep.runtime.deputies import LOOKS, Deputy, admit
from skep.runtime.peers import peer, standing
from skep.runtime.sessions import Sessions

R = TypeVar("R")
#: Longest frame, bytes.
MAX_FRAME = 64 * 1024 * 1024
#: Connections at once, and requests under way on one of them.
MAX_GUESTS = 256
MAX_REQUESTS = 1_024
#: Events in one frame of a stream.
MAX_ITEMS = 500
#: Frames of a stream that wait at a client to be looked at. What comes on top is let go and asked for again, once there is room.
MAX_BEHIND = 64
#: How long closing waits for requests that must not be cut short, seconds.
CLOSING = 15.0
_NIL = b"\xc0"

_encode = msgspec.msgpack.Encoder().encode
_numbered = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])
_request = msgspec.msgpack.Decoder(rq.AnyRequest)
_reply = msgspec.msgpack.Decoder(tuple[int, str, msgspec.Raw])
_fault = msgspec.msgpack.Decoder(tuple[str, str, str])
_items = msgspec.msgpack.Decoder(list[tuple[int, Event]])


@contextmanager
def address(path: Path) -> Iterator[str]:
    """The socket's path in a form that fits the 107 bytes an address may have, however deep the folder lies."""
    if len(os.fsencode(path)) <= 100 or not os.path.isdir("/proc/self/fd"):
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


async def _read(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">I", await reader.readexactly(4))
    if size > MAX_FRAME:
        raise ConnectionError(f"a frame of {size} bytes, more than {MAX_FRAME}")
    return await reader.readexactly(size)


def _frame(content: object) -> bytes:
    """A frame. Raises Exhausted if the content is too large for one, Invalid if it cannot be written at all."""
    try:
        data = _encode(content)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Invalid(f"it cannot be sent: {error}", "Values are made of what JSON knows, numbers have up to 64 bits.") from None
    if len(data) > MAX_FRAME:
        raise Exhausted(f"{len(data)} bytes at once, and at most {MAX_FRAME} can be sent", "Ask for less, in parts.")
    return struct.pack(">I", len(data)) + data


class Guest:
    """One connection of a client: its requests under way, its answers, one after the other.

    Args:
        inside: whether the client runs inside an attempt.
        deputy: the command of the person's own that the client is part of, and that may answer.
    """

    def __init__(
        self,
        sessions: Sessions,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        inside: bool = False,
        deputy: Deputy | None = None,
    ) -> None:
        self._sessions = sessions
        self._inside, self._deputy = inside, deputy
        self._reader = reader
        self._writer = writer
        self._sending = asyncio.Lock()
        self._waiting: dict[int, asyncio.Task[None]] = {}
        #: What is done to its end even if the client hangs up: a landing is not to be cut short.
        self.doing: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Answers requests until the client hangs up."""
        try:
            while True:
                self._take(await _read(self._reader))
                await self._writer.drain()  # who does not read its answers is not read either
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.MsgspecError):
            pass
        finally:
            for task in self._waiting.values():
                task.cancel()
            self._writer.close()  # before anything is waited for: the server may close meanwhile, which cancels this
            await asyncio.gather(*self._waiting.values(), return_exceptions=True)
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()

    def _take(self, data: bytes) -> None:
        number, raw = _numbered.decode(data)
        if bytes(raw) == _NIL:
            if number in self._waiting:
                self._waiting[number].cancel()
            return
        request: rq.AnyRequest | SkepError
        try:
            request = _request.decode(raw)
        except msgspec.MsgspecError as error:
            request = Invalid(f"the owner does not understand the request: {error}", "Use the same version of Skep everywhere.")
        if self._inside and not isinstance(request, (*LOOKS, SkepError)):
            request = Denied(
                "this process runs inside an attempt of this workspace; from there nothing is decided or changed",
                "A person does that, in a shell of their own.",
            )
        if len(self._waiting) + len(self.doing) >= MAX_REQUESTS:
            request = Exhausted(f"{MAX_REQUESTS} requests are under way on this connection", "Wait for some of them.")
        task = asyncio.get_running_loop().create_task(self._handle(number, request))
        if isinstance(request, rq.Await | rq.Settle | rq.Follow):
            self._waiting[number] = task
            task.add_done_callback(lambda _: self._waiting.pop(number, None))
        else:
            self.doing.add(task)
            task.add_done_callback(self.doing.discard)

    async def _send(self, number: int, kind: str, content: object) -> None:
        frame = _frame((number, kind, content))
        async with self._sending:
            self._writer.write(frame)
            await self._writer.drain()

    async def _handle(self, number: int, request: rq.AnyRequest | SkepError) -> None:
        try:
            try:
                if isinstance(request, SkepError):
                    raise request
                if self._deputy is not None:
                    request = await admit(self._deputy, request, self._sessions.names.resolve)
                if isinstance(request, rq.Follow):
                    await self._stream(number, request)
                    await self._send(number, "end", None)
                else:
                    answer: Any = await self._sessions.call(request)
                    await self._send(number, "answer", answer)
            except SkepError as error:
                await self._send(number, "error", _spell(error))
            except ConnectionError:
                raise
            except Exception as error:
                fault = Bug(f"{type(request).__name__}: {type(error).__name__}: {error}", "Please report it.")
                await self._send(number, "error", _spell(fault))
        except ConnectionError:
            return

    async def _stream(self, number: int, request: rq.Follow) -> None:
        part: list[tuple[int, Event]] = []
        async with contextlib.aclosing(self._sessions.stream(request)) as source:
            ahead = asyncio.ensure_future(_next(source))
            try:
                while True:
                    # What is there goes out in one frame; nothing waits for more to come.
                    done, _ = await asyncio.wait((ahead,), timeout=0 if part else None)
                    if done:
                        try:
                            part.append(ahead.result())
                        except StopAsyncIteration:
                            break
                        ahead = asyncio.ensure_future(_next(source))
                    if part and (not done or len(part) >= MAX_ITEMS):
                        await self._send(number, "item", part)
                        part = []
            finally:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)
        if part:
            await self._send(number, "item", part)


class Server:
    """Serves the sessions of this owner to other processes of the same user."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._server: asyncio.Server | None = None
        self._home = ""
        self._guests: dict[asyncio.Task[None], Guest] = {}

    @property
    def guests(self) -> int:
        """Connected clients."""
        return len(self._guests)

    async def start(self, path: Path) -> None:
        """Listens, with the socket readable and writable by its owner alone. A socket left by a dead owner is replaced."""
        self._home = str(path.parent)
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            with address(path) as where:
                listener.bind(where)
        except OSError:
            listener.close()
            raise
        finally:
            os.umask(mask)
        self._server = await asyncio.start_unix_server(self._accept, sock=listener, backlog=MAX_GUESTS)

    async def close(self) -> None:
        """Takes no more requests, finishes those that must not be cut short (for a while), hangs up on everybody."""
        if self._server is not None:
            self._server.close()
        doing = [task for guest in self._guests.values() for task in guest.doing]
        if doing:
            await asyncio.wait(doing, timeout=CLOSING)
        for task in [*doing, *self._guests]:
            task.cancel()
        await asyncio.gather(*doing, *self._guests, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pid, uid = peer(writer.get_extra_info("socket"))
        if uid != os.geteuid():
            writer.close()
            return
        if len(self._guests) >= MAX_GUESTS:
            full = Exhausted(f"{MAX_GUESTS} clients are connected to the owner", "Close some of them.")
            writer.write(_frame((0, "error", _spell(full))))
            writer.close()
            return
        stands = standing(pid, self._home, self._sessions.deputies)
        guest = Guest(self._sessions, reader, writer, stands.inside, stands.deputy)
        task = asyncio.get_running_loop().create_task(guest.serve())
        self._guests[task] = guest
        task.add_done_callback(lambda done: self._guests.pop(done, None))


async def _next(source: AsyncIterator[tuple[int, Event]]) -> tuple[int, Event]:
    return await source.__anext__()


def _spell(error: SkepError) -> tuple[str, str, str]:
    return (kind_of(error), error.message, error.fix)


class Lost(Unavailable):
    """The connection to the owner broke."""


class Unsent(Lost):
    """It had broken before this request was sent: nothing was done about it."""


class Client:
    """A connection to the owner."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._number = 0
        self._waiting: dict[int, asyncio.Queue[tuple[str, msgspec.Raw]]] = {}
        #: Streams that were ended because nobody looked at them as fast as they came.
        self._behind: set[int] = set()
        self._lost: SkepError | None = None
        self._task = asyncio.get_running_loop().create_task(self._listen(reader))

    @classmethod
    async def connect(cls, path: Path) -> Client:
        """Connects. Raises OSError if nobody listens."""
        with address(path) as where:
            reader, writer = await asyncio.open_unix_connection(where)
        return cls(reader, writer)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        lost: SkepError = Lost("the owner of the state folder is gone")
        try:
            while True:
                number, kind, payload = _reply.decode(await _read(reader))
                if number == 0:
                    lost = _error(kind, payload)
                self._hand(number, kind, payload)
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.MsgspecError):
            pass
        finally:
            self._lost = lost
            for number in list(self._waiting):
                self._hand(number, "lost", msgspec.Raw(_NIL))
            # Nothing comes any more, whoever still holds this client: the socket goes now, not with the last reference to it.
            self._writer.close()

    def _hand(self, number: int, kind: str, payload: msgspec.Raw) -> None:
        """Hands a reply to whoever waits for it. A stream that is too far behind is ended, so that this side always listens."""
        queue = self._waiting.get(number)
        if queue is None:
            return
        try:
            queue.put_nowait((kind, payload))
        except asyncio.QueueFull:
            self._behind.add(number)
            self._forget(number, over=False)

    def _ask(self, request: rq.Request[Any]) -> tuple[int, asyncio.Queue[tuple[str, msgspec.Raw]]]:
        if isinstance(self._lost, Lost):
            raise Unsent(self._lost.message)
        if self._lost is not None:
            raise self._lost
        frame = _frame((self._number + 1, request))
        self._number += 1
        queue: asyncio.Queue[tuple[str, msgspec.Raw]] = asyncio.Queue(MAX_BEHIND)
        self._waiting[self._number] = queue
        self._writer.write(frame)
        return self._number, queue

    async def _reply(self, queue: asyncio.Queue[tuple[str, msgspec.Raw]], wanted: str) -> msgspec.Raw | None:
        """The next reply to a request, None for the end of a stream; anything else is raised."""
        kind, payload = await queue.get()
        if kind == "lost" and self._lost is not None:
            raise self._lost
        if kind == "end":
            return None
        if kind != wanted:
            raise _error(kind, payload)
        return payload

    async def call(self, request: rq.Request[R]) -> R:
        """Asks, and waits for the answer. Raises the owner's error, or Lost."""
        number, queue = self._ask(request)
        over = False
        try:
            payload = await self._reply(queue, "answer")
            over = True
        except SkepError:
            over = True
            raise
        finally:
            self._forget(number, over)
        answer: R = msgspec.msgpack.decode(payload or _NIL, type=rq.ANSWERS[type(request)])
        return answer

    async def stream(self, request: rq.Follow) -> AsyncGenerator[tuple[int, Event], None]:
        """The events of a session, until the stream is closed by either side. Who is slow to look at them misses none."""
        after, again = request.after, True
        while again:
            number, queue = self._ask(msgspec.structs.replace(request, after=after))
            over = again = False
            try:
                while (payload := await self._reply(queue, "item")) is not None:
                    for item in _items.decode(payload):
                        after = item[0]
                        yield item
                    if again := number in self._behind and queue.empty():
                        break
                over = payload is None
            finally:
                self._behind.discard(number)
                self._forget(number, over)

    def _forget(self, number: int, over: bool) -> None:
        """The request is over, or nobody waits for it any more: then the owner hears so."""
        known = self._waiting.pop(number, None) is not None
        if known and not over and self._lost is None:
            self._writer.write(_frame((number, None)))

    async def close(self) -> None:
        """Hangs up."""
        self._writer.close()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await self._task
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


def _error(kind: str, payload: msgspec.Raw) -> SkepError:
    if kind != "error":
        return Bug(f"the owner answered with a '{kind}'", "Use the same version of Skep everywhere.")
    name, message, fix = _fault.decode(payload)
    return FAMILY.get(name, SkepError)(message, fix)
