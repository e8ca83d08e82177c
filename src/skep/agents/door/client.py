"""The inner side of the door: asks, and waits for the answer. For programs inside an attempt; it needs no event loop."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import select
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from skep.agents.door import ANSWER, ASK, BELL, KNOCK, MAX_LINE, MAX_REQUEST, VARIABLE, Read, Reply, Request
from skep.errors import FAMILY, Invalid, SkepError, Unavailable

#: Seconds within which an answer comes, beside what the request itself waits.
PATIENCE = 60.0
#: Seconds between two looks for the answer: at first, and at most; with a bell, which rings when it is there.
SOON, LATER, RUNG = 0.001, 0.05, 1.0
_INSIDE = "Only agents at work have a door: programs of an attempt find it in $SKEP_DOOR."


class Bell:
    """A pipe of this process in the door's folder. Answers come through it, or word that they are there.

    Raises OSError if there can be none, from the start.
    """

    def __init__(self, folder: str) -> None:
        self.name = secrets.token_hex(8)
        path = f"{folder}/{self.name}{BELL}"
        os.mkfifo(path, 0o600)
        # For both, so that it does not come to its end between two answers.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        self._rest = b""
        self.remove = weakref.finalize(self, _remove, path, self._pipe)

    def wait(self, name: str, seconds: float) -> bytes | None:
        """The answer to a request; empty if it lies in its file; None if nothing is heard so long."""
        until = time.monotonic() + seconds
        while True:
            *lines, self._rest = (self._rest + self._heard(until - time.monotonic())).split(b"\n")
            for line in lines:
                asked, _, answer = line.partition(b" ")
                if asked == name.encode():  # not a late one, of a request that was given up
                    return answer
            if time.monotonic() >= until:
                return None

    def _heard(self, seconds: float) -> bytes:
        if not self._poll.poll(max(0.0, seconds) * 1000):
            return b""
        return os.read(self._pipe, 16 * MAX_LINE)


def _remove(path: str, pipe: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
    os.close(pipe)


class Door:
    """The door of the attempt that this process runs in. Several threads may ask at once.

    Args:
        folder: what $SKEP_DOOR names.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        #: Those that nobody waits at just now.
        self._bells: list[Bell] = []

    @classmethod
    def here(cls, env: Mapping[str, str] = os.environ) -> Door:
        """This process's own. Raises Invalid if it runs in no attempt that has one."""
        if not env.get(VARIABLE):
            raise Invalid(f"there is no door here: ${VARIABLE} is not set", _INSIDE)
        return cls(env[VARIABLE])

    def ask(self, request: Request) -> Any:
        """What a request comes to.

        Raises:
            SkepError: what it is refused with.
            Unavailable: nobody answers.
        """
        try:
            data = msgspec.json.encode(request)
        except (TypeError, ValueError) as error:
            raise Invalid(f"it cannot be sent: {error}", "Texts are Unicode, numbers have up to 64 bits.") from None
        if len(data) > MAX_REQUEST:
            raise Invalid(f"it is {len(data)} bytes long, more than {MAX_REQUEST}", "Put it into a file and name that.")
        deadline = time.monotonic() + PATIENCE + (request.wait if isinstance(request, Read) else 0.0)
        try:
            reply = msgspec.json.decode(self._asked(data, deadline), type=Reply)
        except OSError as error:
            raise Unavailable(f"the door cannot be used: {error.strerror}", _INSIDE) from None
        except msgspec.MsgspecError as error:
            raise Unavailable(f"the answer cannot be read: {error}", "Use the same version of Skep everywhere.") from None
        if reply.error is not None:
            raise FAMILY.get(reply.error.kind, SkepError)(reply.error.message, reply.error.fix)
        return reply.value

    def _asked(self, data: bytes, deadline: float) -> bytes:
        """The answer to a request, as it came."""
        name = secrets.token_hex(8)
        file = f"{self._folder}/{name}"
        with self._bell() as bell:
            line = (name if bell is None else f"{name}@{bell.name}").encode()
            try:
                if len(line) + len(data) + 2 <= MAX_LINE:
                    self._knock(b"%s %s\n" % (line, data), deadline)
                else:
                    self._put(name, data)
                    self._knock(line + b"\n", deadline)
                return fetched(f"{file}{ANSWER}", deadline, partial(bell.wait, name) if bell is not None else None)
            finally:
                for path in (f"{file}{ANSWER}", f"{file}{ASK}"):
                    with contextlib.suppress(OSError):
                        os.unlink(path)

    @contextlib.contextmanager
    def _bell(self) -> Iterator[Bell | None]:
        """One for a request alone; None where no pipe can be made: then its answer is looked for."""
        try:
            bell = self._bells.pop()
        except IndexError:
            try:
                bell = Bell(self._folder)
            except OSError:
                yield None
                return
        try:
            yield bell
        except BaseException:
            bell.remove()
            raise
        self._bells.append(bell)

    def _put(self, name: str, data: bytes) -> None:
        draft = f"{self._folder}/.{name}"
        with open(draft, "xb") as file:
            file.write(data)
        os.rename(draft, f"{self._folder}/{name}{ASK}")

    def _knock(self, line: bytes, deadline: float) -> None:
        """Raises Unavailable if nobody is behind the door, or takes nothing any more."""
        while True:
            try:
                pipe = os.open(f"{self._folder}/{KNOCK}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    os.write(pipe, line)  # whole or not at all
                finally:
                    os.close(pipe)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable("the door is busy", "Try again in a moment.") from None
                time.sleep(LATER)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    raise Unavailable("nobody is behind the door: the owner of this session is gone", "") from None
                raise


def fetched(path: str, deadline: float, ring: Callable[[float], bytes | None] | None = None) -> bytes:
    """An answer, once it is there. Raises Unavailable after the deadline, by the monotonic clock.

    Args:
        ring: waits so many seconds, or less: then with the answer, or with nothing if the file is there.
    """
    pause = SOON
    while True:
        if ring is None:
            time.sleep(pause)
            pause = min(2 * pause, LATER)
        elif found := ring(RUNG):
            return found
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            return file.read()
        if time.monotonic() > deadline:
            raise Unavailable("nobody answered at the door; outcome unknown", "Ask again with the same id.")
