"""The inner side of the door: asks, and waits for the answer. For programs inside an attempt; it needs no event loop."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from skep.agents.door import ANSWER, ASK, KNOCK, MAX_REQUEST, VARIABLE, Read, Reply, Request
from skep.errors import FAMILY, Invalid, SkepError, Unavailable

#: Seconds within which an answer comes, beside what the request itself waits.
PATIENCE = 60.0
#: Seconds between two looks for the answer: at first, and at most.
SOON, LATER = 0.001, 0.05
_INSIDE = "Only agents at work have a door: programs of an attempt find it in $SKEP_DOOR."


class Door:
    """The door of the attempt that this process runs in.

    Args:
        folder: what $SKEP_DOOR names.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

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
        name = secrets.token_hex(8)
        answer = f"{self._folder}/{name}{ANSWER}"
        deadline = time.monotonic() + PATIENCE + (request.wait if isinstance(request, Read) else 0.0)
        try:
            self._put(name, data)
            self._knock(name, deadline)
            reply = msgspec.json.decode(fetched(answer, deadline), type=Reply)
        except OSError as error:
            raise Unavailable(f"the door cannot be used: {error.strerror}", _INSIDE) from None
        except msgspec.MsgspecError as error:
            raise Unavailable(f"the answer cannot be read: {error}", "Use the same version of Skep everywhere.") from None
        finally:
            for path in (answer, f"{self._folder}/{name}{ASK}"):
                with contextlib.suppress(OSError):
                    os.unlink(path)
        if reply.error is not None:
            raise FAMILY.get(reply.error.kind, SkepError)(reply.error.message, reply.error.fix)
        return reply.value

    def _put(self, name: str, data: bytes) -> None:
        draft = f"{self._folder}/.{name}"
        with open(draft, "xb") as file:
            file.write(data)
        os.rename(draft, f"{self._folder}/{name}{ASK}")

    def _knock(self, name: str, deadline: float) -> None:
        """Raises Unavailable if nobody is behind the door, or takes nothing any more."""
        while True:
            try:
                pipe = os.open(f"{self._folder}/{KNOCK}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    os.write(pipe, f"{name}\n".encode())  # less than PIPE_BUF: whole or not at all
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


def fetched(path: str, deadline: float) -> bytes:
    """A file's content, once it is there. Raises Unavailable after the deadline, by the monotonic clock."""
    pause = SOON
    while True:
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            if time.monotonic() > deadline:
                raise Unavailable("nobody answered at the door; outcome unknown", "Ask again with the same id.") from None
        time.sleep(pause)
        pause = min(2 * pause, LATER)
