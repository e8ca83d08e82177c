"""Who owns a state folder: the process that holds its lock. Everybody else is its client, and takes over if it dies."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from skep.config import STATE
from skep.core.events import Event
from skep.errors import Denied, Invalid, Unavailable
from skep.runtime import memory_requests as mq
from skep.runtime import requests as rq
from skep.runtime.live import CLOSED
from skep.runtime.parts import Parts
from skep.runtime.sessions import Sessions
from skep.runtime.wire import Client, Lost, Server, Unsent

R = TypeVar("R")
LOCK = "owner.lock"
SOCKET = "owner.sock"
#: How long a client tries to reach an owner that holds the lock but does not answer (yet, or any more), seconds.
PATIENCE = 20.0
#: Owners that may die over one request before it is given up: it may be what they die of.
MAX_OWNERS = 10

Assemble = Callable[[], Awaitable[Parts]]


class Door:
    """Where requests go: to the sessions of this process if it is the owner, otherwise through the owner's socket.

    When the owner dies, the door connects to the next one or becomes it. Requests that may be repeated are; the others raise
    Unavailable with "outcome unknown".
    """

    def __init__(self, folder: Path, assemble: Assemble) -> None:
        self._folder = folder
        self._state = folder / STATE
        self._assemble = assemble
        self._lock = -1
        self._sessions: Sessions | None = None
        self._server: Server | None = None
        self._client: Client | None = None
        self._changing = asyncio.Lock()

    @property
    def owner(self) -> bool:
        """Whether this process is the owner."""
        return self._sessions is not None

    async def parted(self) -> None:
        """See `Sessions.parted`; returns at once in a client."""
        if self._sessions is not None:
            await self._sessions.parted()

    @property
    def guests(self) -> int:
        """Clients connected to this owner."""
        return self._server.guests if self._server is not None else 0

    async def open(self) -> None:
        """Becomes the owner or its client.

        Raises:
            Invalid: no such folder.
            Denied: the state folder belongs to somebody else.
            Unavailable: an owner is there and does not answer.
        """
        self._make_folder()
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            if self._take_lock():
                await self._own()
                return
            if await self._connect(deadline):
                return
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"{self._holder()} owns {self._state} and does not answer", "Wait for it, or end it.")
            await asyncio.sleep(0.05)

    def _make_folder(self) -> None:
        if not os.path.isdir(self._folder):
            raise Invalid(f"there is no folder {self._folder}", "Name an existing folder.")
        if "\n" in str(self._folder):
            raise Invalid("the path of this folder has a line break in it, which git's files cannot hold", "Rename the folder.")
        if (self._state.exists() or self._state.is_symlink()) and not self._state.is_dir():
            raise Invalid(f"{self._state} is there and is no folder", "Move it away: Skep keeps its state in a folder there.")
        try:
            self._state.mkdir(mode=0o700, exist_ok=True)
            found = self._state.stat()
            if found.st_uid != os.geteuid():
                raise Denied(f"the state folder {self._state} belongs to another user", "Run Skep as that user.")
            if found.st_mode & 0o077:
                self._state.chmod(0o700)
            if not (self._state / ".gitignore").exists():
                (self._state / ".gitignore").write_text("*\n")
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise Invalid(f"the path of {self._folder} is too long to keep anything there", "Use a shorter one.") from None
            raise Denied(
                f"cannot use the state folder {self._state}: {error.strerror}", "Run Skep as the folder's owner."
            ) from None

    def _take_lock(self) -> bool:
        lock = os.open(self._state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        with contextlib.suppress(OSError):  # for people alone; the disk may be full
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock
        return True

    def _holder(self) -> str:
        with contextlib.suppress(OSError):
            if pid := (self._state / LOCK).read_text().strip():
                return f"another Skep (process {pid})"
        return "another Skep"

    async def _connect(self, deadline: float) -> bool:
        """Connects to the owner, if one listens and answers in time. Raises what the owner refuses with."""
        try:
            client = await Client.connect(self._state / SOCKET)
        except OSError:
            return False
        try:
            async with asyncio.timeout_at(deadline):
                await client.call(rq.Who())
        except (TimeoutError, Lost):
            await client.close()
            return False
        except BaseException:
            await client.close()
            raise
        self._client = client
        return True

    async def _own(self) -> None:
        sessions: Sessions | None = None
        try:
            sessions = Sessions(await self._assemble())
            await sessions.begin()
            server = Server(sessions)
            sessions.guests = lambda: server.guests
            await server.start(self._state / SOCKET)
        except BaseException as error:
            if sessions is not None:
                await asyncio.shield(sessions.close())
            self._release_lock()
            if isinstance(error, OSError):
                raise Unavailable(f"cannot use {self._state}: {error.strerror}", "Check the disk, and repeat.") from error
            raise
        self._server, self._sessions = server, sessions

    def _release_lock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def close(self) -> None:
        """Stops what runs, closes the store, gives up the lock. Guests that are left look for the next owner."""
        client, server, sessions = self._client, self._server, self._sessions
        self._client = self._server = self._sessions = None
        try:
            if client is not None:
                await client.close()
            if server is not None:
                (self._state / SOCKET).unlink(missing_ok=True)
                await server.close()
        finally:
            try:
                if sessions is not None:
                    await sessions.close()
            finally:
                self._release_lock()

    async def call(self, request: rq.Request[R]) -> R:
        """Asks the owner, whoever it is by then."""
        for _ in range(MAX_OWNERS):
            if self._sessions is not None:
                return await self._sessions.call(request)
            client = self._client
            if client is None:
                raise Unavailable("this workspace is closed here", "Open it again.")
            try:
                return await client.call(request)
            except Lost as lost:
                await self._succeed(client, request)
                if not (_repeatable(request) or isinstance(lost, Unsent)):
                    raise Unavailable("the owner died during the call; outcome unknown", "Look with `skep status`.") from None
        raise Unavailable(f"{MAX_OWNERS} owners died during the call; outcome unknown", "Look with `skep status`.")

    async def stream(self, request: rq.Follow) -> AsyncGenerator[tuple[int, Event], None]:
        """The events of a session, across owners."""
        after = request.after
        while True:
            client, asked = self._client, rq.Follow(session=request.session, after=after)
            if self._sessions is None and client is None:
                return
            source = self._sessions.stream(asked) if self._sessions is not None else client.stream(asked) if client else None
            assert source is not None
            try:
                async with contextlib.aclosing(source):
                    async for number, event in source:
                        after = number
                        yield number, event
                return
            except Lost:
                if client is not None:
                    await self._succeed(client, request)

    async def _succeed(self, dead: Client, request: rq.Request[Any]) -> None:
        """The owner is gone: connect to the next one, or be it and go on with the session that is waited for."""
        async with self._changing:
            if self._client is dead:
                self._client = None
                await dead.close()
                await self.open()
        if self._sessions is not None and isinstance(request, rq.Await | rq.Settle | rq.Follow):
            await self._take_up(self._sessions, request)

    async def _take_up(self, sessions: Sessions, request: rq.Await | rq.Settle | rq.Follow) -> None:
        """Goes on with what the last owner left, unless somebody stopped it. Whoever only looks on does not undo a closing."""
        view = await sessions.call(rq.Status(session=request.session, tasks=False))
        closed = view.state == "paused" and view.why == CLOSED and not isinstance(request, rq.Follow)
        if not view.live and (view.state == "active" or closed):
            await sessions.call(rq.Activate(session=request.session))


def _repeatable(request: rq.Request[Any]) -> bool:
    """Whether asking twice is like asking once."""
    if isinstance(request, rq.Submit):
        return bool(request.key)
    return isinstance(
        request,
        rq.Who
        | rq.ListSessions
        | rq.Ensure
        | rq.Activate
        | rq.Status
        | rq.GetTask
        | rq.Await
        | rq.Settle
        | rq.Explain
        | rq.Costs
        | rq.Inbox
        | rq.FormFleet
        | rq.Fleets
        | rq.SendTask
        | rq.Export
        | rq.BackUp
        | rq.Backups
        | rq.Diff
        | mq.Repeatable,
    )


async def connect_or_own(folder: Path, assemble: Assemble) -> Door:
    """A door to a workspace: opened."""
    door = Door(folder, assemble)
    await door.open()
    return door
