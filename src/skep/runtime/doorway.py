"""The outer side of an attempt's door (`skep.agents.door`): takes requests out of its folder, and puts answers into it.

Everything in that folder is the attempt's, and hostile: names may be links, pipes, or change between two looks. So every file is
opened below a descriptor of the folder, without following links, looked at, read once, and taken away. Sizes, requests under way
and requests a second are bounded: whoever asks more than that waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import stat
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from skep.agents.door import ANSWER, ASK, KNOCK, MAX_NAME, MAX_REQUEST, MAX_RESULT, Fault, Reply, Request
from skep.errors import FAMILY, Bug, Exhausted, Invalid, SkepError
from skep.runtime.environment import empty

#: Requests of one attempt under way; answers that lie there unread.
MAX_OPEN, MAX_LEFT = 64, 256
#: Requests a second that are taken in the long run, and at once; so many bytes without a request count as one.
RATE, BURST, WASTE = 200.0, 400.0, 64
#: Bytes that are taken from the pipe at a time; seconds until it is looked at again where too much was asked.
CHUNK, PAUSE = 4_096, 0.05
_NAME = re.compile(rb"[A-Za-z0-9_-]{1,%d}" % MAX_NAME)
_request: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


class Doorway:
    """One attempt's door, from `open` to `close`.

    Args:
        folder: of the attempt alone, and of this door.
        serve: answers a request, or raises SkepError.
    """

    def __init__(self, folder: str, serve: Callable[[Request], Awaitable[Any]]) -> None:
        self.folder = folder
        self._serve = serve
        self._folder = self._pipe = -1
        self._rest = b""
        self._waiting: deque[str] = deque()
        self._open: dict[str, asyncio.Task[None]] = {}
        self._left: deque[str] = deque()
        self._allowance, self._at = BURST, 0.0
        self._again: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Makes the folder and listens. Raises OSError."""
        empty(self.folder)
        os.chmod(self.folder, 0o700)
        os.mkfifo(f"{self.folder}/{KNOCK}", 0o600)
        self._folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        # For both, so that it never comes to its end while nobody inside has it open.
        self._pipe = os.open(KNOCK, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
        loop = asyncio.get_running_loop()
        self._at = loop.time()
        loop.add_reader(self._pipe, self._knocked)

    async def close(self) -> None:
        """Hears nothing more; what is under way is given up. The folder is emptied."""
        if self._pipe < 0:
            return
        if self._again is not None:
            self._again.cancel()
        asyncio.get_running_loop().remove_reader(self._pipe)
        os.close(self._pipe)
        self._pipe = -1
        tasks = list(self._open.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        os.close(self._folder)
        with contextlib.suppress(SkepError):  # the next attempt in this place tries again, and says so if it cannot
            await asyncio.to_thread(empty, self.folder)

    def _knocked(self) -> None:
        """Somebody wrote into the pipe."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._allowance, self._at = min(BURST, self._allowance + (now - self._at) * RATE), now
        if self._allowance < 1 or self._waiting:
            self._pause()
            return
        try:
            data = os.read(self._pipe, CHUNK)
        except BlockingIOError:
            return
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[: MAX_NAME + 1]  # one byte more than a name has is no name any more
        self._allowance -= max(len(lines), len(data) / WASTE)
        self._waiting.extend(line.decode() for line in lines if _NAME.fullmatch(line))
        self._begin()

    def _pause(self) -> None:
        """The pipe fills; who writes into it waits."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pipe)

        def go_on() -> None:
            self._again = None
            loop.add_reader(self._pipe, self._knocked)

        self._again = loop.call_later(max(PAUSE, (1 - self._allowance) / RATE), go_on)

    def _begin(self) -> None:
        """As many of those that wait as may be under way."""
        while self._waiting and len(self._open) < MAX_OPEN and self._pipe >= 0:
            name = self._waiting.popleft()
            if name not in self._open:
                self._open[name] = asyncio.get_running_loop().create_task(self._answer(name), name=f"door {name}")
                self._open[name].add_done_callback(partial(self._over, name))

    def _over(self, name: str, _: asyncio.Task[None]) -> None:
        del self._open[name]
        self._begin()

    async def _answer(self, name: str) -> None:
        try:
            request = self._request(f"{name}{ASK}")
            data = msgspec.json.encode(Reply(await self._serve(request)))
            if len(data) > MAX_RESULT:
                raise Exhausted(f"the answer is {len(data)} bytes long, more than {MAX_RESULT}", "Ask for less.")
        except SkepError as error:
            data = _spelled(error)
        except Exception as error:  # whatever one request does, the attempt and the others go on
            data = _spelled(Bug(f"a request at the door: {type(error).__name__}", "Please report it."))
        with contextlib.suppress(OSError):  # the attempt has put something in the way, or its disk is full: it hears nothing
            self._put(f"{name}{ANSWER}", data)

    def _request(self, file: str) -> Request:
        """Reads a request and takes it away. Raises Invalid for whatever is none."""
        try:
            handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder)
        except OSError as error:
            raise Invalid(f"there is no request that can be read: {error.strerror}", "Put a file there, then knock.") from None
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise Invalid("a request is a file of its own", "Write one, and rename it to its name.")
            if found.st_size > MAX_REQUEST:
                raise Invalid(f"a request of {found.st_size} bytes, more than {MAX_REQUEST}", "Ask for less at once.")
            data = os.read(handle, MAX_REQUEST)
        finally:
            os.close(handle)
            with contextlib.suppress(OSError):
                os.unlink(file, dir_fd=self._folder)
        try:
            return _request.decode(data)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise Invalid(f"the request is not right: {error}", "The manual's page on the door has the requests.") from None

    def _put(self, file: str, data: bytes) -> None:
        """The answer, whole when it is there. Those that nobody fetches make room for new ones."""
        draft = f".{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(draft, flags, 0o600, dir_fd=self._folder), "wb") as out:
            out.write(data)
        os.rename(draft, file, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._left.append(file)
        if len(self._left) > MAX_LEFT:
            with contextlib.suppress(OSError):
                os.unlink(self._left.popleft(), dir_fd=self._folder)


def _spelled(error: SkepError) -> bytes:
    kind = type(error).__name__
    return msgspec.json.encode(Reply(error=Fault(kind if kind in FAMILY else "SkepError", error.message, error.fix)))
