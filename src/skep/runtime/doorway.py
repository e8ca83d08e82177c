"""The outer side of an attempt's door (`skep.agents.door`): takes requests out of its folder, and puts answers into it.

Everything in that folder is the attempt's, and hostile: names may be links, pipes, or change between two looks. So every file is
opened below a descriptor of the folder, without following links, looked at, read once, and taken away. A pipe gets an answer only
if it has no other name and takes it at once. Sizes, requests under way and requests a second are bounded: whoever asks more than
that waits.
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
from typing import Any, NamedTuple

import msgspec

from skep.agents.door import ANSWER, ASK, BELL, KNOCK, MAX_LINE, MAX_NAME, MAX_REQUEST, MAX_RESULT, Fault, Reply, Request
from skep.errors import Bug, Exhausted, Invalid, SkepError, kind_of
from skep.runtime.environment import cleared, empty

#: Requests of one attempt under way; answers that lie there unread.
MAX_OPEN, MAX_LEFT = 64, 256
#: Requests a second that are taken in the long run, and at once; what is read from the pipe without a request counts as one.
RATE, BURST = 400.0, 400.0
#: Bytes that are taken from the pipe at a time; seconds until it is looked at again where too much was asked.
CHUNK, PAUSE = 4_096, 0.05
#: A name, the pipe that hears the answer, the request.
_LINE = re.compile(rb"(NAME)(?:@(NAME))?(?: (.+))?".replace(b"NAME", rb"[A-Za-z0-9_-]{1,%d}" % MAX_NAME))
_request: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


class Knock(NamedTuple):
    """A line in the pipe. Without a bell the answer is looked for; without a request it lies in its file."""

    name: str
    bell: str
    request: bytes


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
        self._waiting: deque[Knock] = deque()
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
            await cleared(self.folder)

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
        self._rest = rest[:MAX_LINE]  # so long, and its end is not there: it is no line that was written whole
        self._allowance -= max(len(lines), 1)
        for line in lines:
            if len(line) < MAX_LINE and (found := _LINE.fullmatch(line)):
                name, bell, request = found.groups(b"")
                self._waiting.append(Knock(name.decode(), bell.decode(), request))
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
            knock = self._waiting.popleft()
            if (name := knock.name) not in self._open:
                self._open[name] = asyncio.get_running_loop().create_task(self._answer(knock), name=f"door {name}")
                self._open[name].add_done_callback(partial(self._over, name))

    def _over(self, name: str, _: asyncio.Task[None]) -> None:
        del self._open[name]
        self._begin()

    async def _answer(self, knock: Knock) -> None:
        try:
            request = _decoded(knock.request or self._taken(f"{knock.name}{ASK}"))
            data = msgspec.json.encode(Reply(await self._serve(request)))
            if len(data) > MAX_RESULT:
                raise Exhausted(f"the answer is {len(data)} bytes long, more than {MAX_RESULT}", "Ask for less.")
        except SkepError as error:
            data = _spelled(error)
        except RecursionError:
            data = _spelled(Invalid("the request is nested too deeply", "Flatten it, or send it as text."))
        except Exception as error:  # whatever one request does, the attempt and the others go on
            data = _spelled(Bug(f"a request at the door: {type(error).__name__}", "Please report it."))
        with contextlib.suppress(OSError):  # the attempt has put something in the way, or its disk is full: it hears nothing
            self._give(knock, data)

    def _taken(self, file: str) -> bytes:
        """Reads a request and takes it away. Raises Invalid for whatever can be none."""
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
            return os.read(handle, MAX_REQUEST)
        finally:
            os.close(handle)
            with contextlib.suppress(OSError):
                os.unlink(file, dir_fd=self._folder)

    def _give(self, knock: Knock, data: bytes) -> None:
        """An answer, through the pipe of whoever asked if it is short and goes in at once, else in its file. Raises OSError."""
        line = b"%s %s\n" % (knock.name.encode(), data)
        if not knock.bell or len(line) > MAX_LINE or not self._ring(knock.bell, line):
            self._put(f"{knock.name}{ANSWER}", data)
            if knock.bell:
                self._ring(knock.bell, f"{knock.name}\n".encode())

    def _ring(self, bell: str, line: bytes) -> bool:
        """Writes a line into a pipe of the attempt. Returns whether it did: what is no such pipe, or is full, is left alone."""
        try:
            flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            pipe = os.open(f"{bell}{BELL}", flags, dir_fd=self._folder)
        except OSError:
            return False
        try:
            found = os.fstat(pipe)
            # A pipe that has a second name may be another attempt's.
            return stat.S_ISFIFO(found.st_mode) and found.st_nlink == 1 and os.write(pipe, line) == len(line)
        except OSError:
            return False
        finally:
            os.close(pipe)

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


def _decoded(data: bytes) -> Request:
    try:
        return _request.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"the request is not right: {error}", "The manual's page on the door has the requests.") from None


def _spelled(error: SkepError) -> bytes:
    return msgspec.json.encode(Reply(error=Fault(kind_of(error), error.message, error.fix)))
