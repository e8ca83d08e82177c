"""Terminals of this machine: a PTY or a pipe each, and a keeper that starts and ends the processes (`skep.terminals.keeper`)."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import math
import os
import signal
import struct
import sys
import tempfile
import termios
from collections.abc import Callable

from skep.errors import Exhausted, Invalid, Unavailable
from skep.terminals import Exit, Profile, keeper, leftovers
from skep.terminals.link import Link

#: Seconds for which what outlives the first process may hold its output open before `wait` returns.
LINGER = 0.2
#: Bytes that may wait to be typed.
TYPED = 1 << 20
_READS = 16  # reads in one go, so that one terminal does not hold up the others
_CHUNK = 1 << 16
_ARGUMENT = 128 * 1024  # longest argument or variable that Linux takes, its final NUL included


class NativeTerminal:
    """One process group of this machine; `Native.create` makes it."""

    def __init__(self, link: Link, ident: int, fds: tuple[int, int], profile: Profile, output: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._link, self._ident, self._output = link, ident, output
        self._fd, self._pipe = fds  # our ends: of the output, and of the input if that is a pipe
        self._nonce, self._stdin = profile.nonce, profile.stdin
        self._finished = False
        self._created: asyncio.Future[None] = self._loop.create_future()
        self._exit: asyncio.Future[Exit] = self._loop.create_future()
        self._ended: asyncio.Future[bool] | None = None
        self._status: Exit | None = None
        self._gone = False  # no process of it is left
        self._grace = math.inf
        self._typed = bytearray()
        self.pid = self.born = 0

    def release(self) -> None:
        """Opens the gate."""
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)
        self._link.ask(self._ident, keeper.RELEASE)

    def write(self, data: bytes) -> None:
        """Types. Raises Invalid if stdin is neither terminal nor pipe, Exhausted if a MiB was not read yet."""
        if self._stdin not in ("tty", "pipe"):
            raise Invalid("This terminal takes no input: the program's standard input is neither a terminal nor a pipe.")
        if self._entry < 0 or self._finished:
            return
        if len(self._typed) + len(data) > TYPED:
            raise Exhausted("The program does not read what is typed: a MiB waits already.", "Type less, or end the program.")
        self._typed += data
        self._type()

    def finish(self) -> None:
        """The program finds the end of its input once it has read what was written."""
        if self._stdin != "pipe":
            raise Invalid("The input of this terminal has no end: the program's standard input is no pipe.")
        self._finished = True
        if not self._typed:
            self._close_pipe()

    @property
    def _entry(self) -> int:
        return self._fd if self._stdin == "tty" else self._pipe

    def resize(self, columns: int, rows: int) -> None:
        """Changes the size. Without a terminal there is none to change."""
        if self._fd >= 0 and os.isatty(self._fd):
            _set_size(self._fd, columns, rows)

    async def wait(self) -> Exit:
        """Waits for the first process and the rest of its output; what outlives it holds this up for 0.2 s at most."""
        return self._exit.result() if self._exit.done() else await asyncio.shield(self._exit)

    async def end(self, grace: float = 2.0) -> None:
        """Ends everything of it. Costs nothing after a clean exit: the keeper saw at once that nothing could be left."""
        if not self._gone and not self._link.gone.done():
            if self._ended is None:
                self._ended = self._loop.create_future()
            if grace < self._grace:
                self._grace = grace
                self._link.ask(self._ident, keeper.END, keeper.END_BODY.pack(grace))
            if not await asyncio.shield(self._ended):
                raise Unavailable(f"The system does not kill process {self.pid} or what it started.", "See why with ps.")
        if not self._gone:  # the keeper is gone, and did not see to it
            await leftovers.end_marked(nonces=[self._nonce], grace=grace)
            self._gone = True
        self._cut()

    def _take(self, kind: int, a: int, b: int, c: int, d: int) -> bool:
        """Takes what the keeper says; true if it was the last word about this terminal."""
        if kind == keeper.CREATED:
            self.pid, self.born = a, b
            self._created.set_result(None)
        elif kind == keeper.REFUSED:
            self._created.set_exception(OSError(a, os.strerror(a), "folder" if b else None))
            self._gone = True
        elif kind == keeper.EXITED:
            self._status = Exit(a if a >= 0 else None, -a if a < 0 else None, c / 1e6, d)
            self._gone = bool(b)
            self._read()
            if self._fd >= 0:
                self._loop.call_later(LINGER, self._cut)
        elif self._ended is not None and not self._ended.done():
            self._gone = bool(a)
            self._ended.set_result(self._gone)
        return self._gone and (self._ended is None or self._ended.done())

    def _lose(self) -> None:
        """The keeper is gone, and the first process with it: that had asked the kernel for SIGKILL in this case."""
        if not self._created.done():
            self._created.set_exception(OSError(errno.EPIPE, "the keeper was killed"))
        if self._status is None:
            self._status = Exit(None, signal.SIGKILL, lost=True)
        self._cut()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(True)

    def _read(self) -> None:
        chunks: list[bytes] = []
        over = False
        while self._fd >= 0 and not over and len(chunks) < _READS:
            try:
                data = os.read(self._fd, _CHUNK)
            except BlockingIOError:
                break
            except OSError:  # EIO: nobody has the terminal open
                data = b""
            if data:
                chunks.append(data)
            over = not data
        if chunks:
            try:
                self._output(b"".join(chunks))
            except Exception as error:
                self._loop.call_exception_handler({"message": "what a program prints was not taken", "exception": error})
        if over and self._status is not None:
            self._close()
        elif over:  # it still runs, and may open its terminal again: look once more when it ends
            self._loop.remove_reader(self._fd)

    def _type(self) -> None:
        try:
            del self._typed[: os.write(self._entry, self._typed)]
        except BlockingIOError:
            pass
        except OSError:  # nobody reads any more
            self._typed.clear()
        if self._typed:
            self._loop.add_writer(self._entry, self._type)
        else:
            self._loop.remove_writer(self._entry)
            if self._finished:
                self._close_pipe()

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            self._loop.remove_writer(self._pipe)
            os.close(self._pipe)
            self._pipe = -1

    def _cut(self) -> None:
        """Takes what is there, and no more."""
        self._read()
        self._close()

    def _close(self) -> None:
        self._close_pipe()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            if self._stdin == "tty":
                self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1
        if self._status is not None and not self._exit.done():
            self._exit.set_result(self._status)


class Native:
    """Terminals of this machine. The first one starts the keeper; if that is killed, the next one starts another.

    Args:
        home: the state folder that the processes belong to; marks them as `SKEP_HOME`, so that recovery touches only its own.
    """

    def __init__(self, home: str = "") -> None:
        self._home = home
        self._link: Link | None = None
        self._terminals: dict[int, NativeTerminal] = {}
        self._count = 0

    #: What this machine does not give.
    lacks: frozenset[str] = frozenset() if sys.platform == "linux" else frozenset({"finding processes that leave their group"})

    @property
    def keeper(self) -> int:
        """The number of the keeper's process, 0 if there is none."""
        return 0 if self._link is None or self._link.gone.done() else self._link.pid

    async def create(self, profile: Profile, output: Callable[[bytes], None]) -> NativeTerminal:
        """Starts the program up to its gate. See `skep.terminals.Terminals.create`."""
        if profile.stdin == "tty" and not profile.tty:
            raise Invalid(f"{profile.name} cannot be started: a terminal as standard input needs one as output.", "Set tty.")
        body = self._order(profile)
        if self._link is None or not self.keeper:
            self._link = Link(self._marks(), self._answer, self._lose)
        ours, fds = _open(profile)
        self._count += 1
        ident = self._count & 0xFFFFFFFF
        terminal = self._terminals[ident] = NativeTerminal(self._link, ident, ours, profile, output)
        self._link.ask(ident, keeper.CREATE, body, fds)
        try:
            await asyncio.shield(terminal._created)
        except asyncio.CancelledError:
            await terminal.end(0)
            raise
        except OSError as error:
            terminal._close()
            raise _refusal(error, profile) from None
        return terminal

    async def close(self) -> None:
        """Ends all of them, and the keeper."""
        if self._link is not None:
            await self._link.close()

    def _marks(self, nonce: str = "") -> dict[str, str]:
        marks = {"SKEP_NONCE": nonce} if nonce else {}
        return marks | {"SKEP_HOME": self._home} if self._home else marks

    def _order(self, profile: Profile) -> bytes:
        env = {**profile.env, **self._marks(profile.nonce)}
        program = find_program(profile.argv[0] if profile.argv else "", env.get("PATH", os.defpath), profile.cwd)
        flags = 0 if profile.stdin == "null" else keeper.INPUT
        if profile.stdin == "tty":
            flags |= keeper.CONTROLLING
        words = [profile.cwd, program, profile.nonce, *profile.argv, *[f"{name}={value}" for name, value in env.items()]]
        body = os.fsencode("\0".join(words))
        if body.count(b"\0") != len(words) - 1 or any("=" in name or not name for name in env):
            raise Invalid(f"{profile.name} cannot be started: a NUL, or a variable without a proper name, in what it is given.")
        if len(body) >= _ARGUMENT and max(map(len, body.split(b"\0"))) >= _ARGUMENT:
            raise Invalid(
                f"{profile.name} cannot be started: an argument or variable is longer than 128 KiB.", "Pass it in a file."
            )
        return keeper.CREATE_HEAD.pack(flags, len(profile.argv)) + body

    def _answer(self, ident: int, kind: int, a: int, b: int, c: int, d: int) -> None:
        terminal = self._terminals.get(ident)
        if terminal is not None and terminal._take(kind, a, b, c, d):
            del self._terminals[ident]

    def _lose(self) -> None:
        lost, self._terminals = self._terminals, {}
        for terminal in lost.values():
            terminal._lose()


def find_program(name: str, path: str, cwd: str) -> str:
    """Where the program is that `name` means in this folder under this PATH, absolute. Raises Invalid if it is nowhere."""
    places = [name] if "/" in name else [os.path.join(place or ".", name) for place in path.split(os.pathsep)] if name else []
    there = ""
    for place in places:
        found = os.path.join(cwd, place)
        if os.access(found, os.X_OK) and not os.path.isdir(found):
            return found
        if os.path.exists(found):
            there = found
    if there:
        raise Invalid(f"{there} cannot be executed.", f"chmod +x {there}, or name the program that runs it.")
    if not os.path.isdir(cwd):
        raise Invalid(f"There is no folder {cwd} to work in.")
    where = f"in {cwd}" if "/" in name else f"on the PATH ({path})"
    raise Invalid(f"There is no program {name!r} {where}.", "Install it, or correct its name.")


def _open(profile: Profile) -> tuple[tuple[int, int], list[int]]:
    """Our ends of the output and of a piped input, and what the program gets: its output, then its input if it has one."""
    opened: list[int] = []
    pipe = -1
    try:
        opened += os.openpty() if profile.tty else os.pipe()
        ours, theirs = opened
        os.set_blocking(ours, False)
        if profile.tty:
            _set_size(ours, profile.columns, profile.rows)
        if profile.stdin == "tty":
            opened.append(os.dup(theirs))
        elif profile.stdin == "pipe":
            reads, pipe = os.pipe()
            os.set_blocking(pipe, False)
            opened.append(reads)
        elif profile.stdin != "null":
            opened.append(_hold(profile.stdin))
    except OSError as error:
        for fd in (*opened, pipe):
            if fd >= 0:
                os.close(fd)
        raise Exhausted(
            f"No terminal for {profile.name}: {error.strerror}.", "Run fewer at once, or raise `ulimit -n` and kernel.pty.max."
        ) from None
    return (ours, pipe), opened[1:]


def _hold(data: bytes) -> int:
    """An open file with these bytes. A program that does not read a file holds up nobody, unlike a pipe."""
    with os.fdopen(os.memfd_create("stdin"), "r+b") if sys.platform == "linux" else tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        return os.dup(file.fileno())


def _set_size(fd: int, columns: int, rows: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _refusal(error: OSError, profile: Profile) -> Exhausted | Invalid | Unavailable:
    """What the keeper's refusal means."""
    if error.filename:
        return Invalid(f"{profile.name} cannot work in {profile.cwd}: {error.strerror}.", "Name a folder that is there.")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Exhausted(f"{profile.name} cannot be started: {error.strerror}.", "Run fewer at once, or raise `ulimit -n`.")
    fix = "Run fewer at once, or raise `ulimit -u`." if error.errno == errno.EAGAIN else "Try again."
    return Unavailable(f"{profile.name} cannot be started: {error.strerror}.", fix)
