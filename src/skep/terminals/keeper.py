"""The keeper: a small process beside Skep that starts programs, waits for them, and ends them, also when Skep is killed.

Skep runs this file by its path with `python -I -S`; it imports a little of the standard library and nothing of Skep: it
forks for every program, and a small process forks fast. The main thread talks, waits and ends; a second thread does nothing
but fork. The reason is one fact of Linux (kernel/exit.c, find_new_reaper): processes that lose their parent become children
of the *main thread* of the nearest subreaper, while those that the second thread forked are its own. A wait restricted to
the main thread (`__WNOTHREAD`, wait(2)) therefore tells at once, without reading /proc, whether anything strayed.

A child waits at its gate, a pipe, before it becomes the program. Only the keeper holds the other end: a byte lets the
program run; the end of the pipe (the keeper is gone, or was told to end it) means that it never runs.

When Skep's process or the socket to it ends, everything is ended: SIGTERM, a short grace, then SIGKILL until no child is
left. What made a session of its own or forked twice is among them, because it became a child of the keeper.
"""

from __future__ import annotations

import _thread
import array
import contextlib
import ctypes
import errno
import fcntl
import gc
import os
import resource
import select
import signal
import socket
import struct
import sys
import termios
import time

#: Requests: length of the body, terminal, kind, body. A CREATE's body: flags, count of arguments, then fields parted by NUL:
#: folder, program, nonce, arguments, environment; beside it come file descriptors: output, then (if flagged) input.
REQUEST = struct.Struct("<IIB")
CREATE, RELEASE, END = 1, 2, 3
CREATE_HEAD = struct.Struct("<BI")
INPUT, CONTROLLING = 1, 2
END_BODY = struct.Struct("<d")

#: Replies: terminal, kind, four numbers. CREATED: pid, born. REFUSED: errno, 1 if it is about the folder.
#: EXITED: exit code (negative: the signal), 1 if nothing can be left, microseconds of CPU, bytes of memory.
#: ENDED: 1 if nothing is left, 0 if the kernel did not kill something.
REPLY = struct.Struct("<IBqqqq")
CREATED, REFUSED, EXITED, ENDED = 1, 2, 3, 4

MARK = b"SKEP_NONCE="
SHUTDOWN_GRACE = 1.0  # seconds between SIGTERM and SIGKILL when Skep is gone
UNKILLABLE = 10.0  # seconds after SIGKILL until a process counts as one that cannot be killed
STEP = 0.02  # seconds between two looks at what is being ended
BATCH = 8  # forks before their replies are sent: Skep goes on with these while the next are forked

NOT_STARTED = 125  # exit code of a child whose gate was never opened
_HANDLED = {signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT}
_LINUX = sys.platform == "linux"
_NOTHREAD = 0x20000000  # __WNOTHREAD, linux/wait.h
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_GATE = 3  # the descriptor at which a child finds its gate
_ALL_FILES = 1 << 30


class Order:
    """A program to start, and what became of it."""

    __slots__ = (
        "argv", "cwd", "entrance", "env", "error", "flags", "folder", "gate", "ident", "nonce", "pid", "program",
        "stdin", "stdout",
    )  # fmt: skip

    def __init__(self, ident: int, body: bytes, fds: list[int]) -> None:
        self.ident = ident
        self.flags, count = CREATE_HEAD.unpack_from(body)
        fields = body[CREATE_HEAD.size :].split(b"\0")
        self.cwd, self.program, self.nonce = fields[:3]
        self.argv = fields[3 : 3 + count]
        self.env = dict([pair.split(b"=", 1) for pair in fields[3 + count :]])
        self.stdout = fds.pop(0)
        self.stdin = fds.pop(0) if self.flags & INPUT else -1
        self.entrance = self.gate = -1  # the ends of its gate: the child's and the keeper's
        self.pid = self.error = 0
        self.folder = False  # whether the error is about the folder


class Process:
    """The first process of a terminal, and how far its end has come."""

    __slots__ = ("born", "gate", "ident", "kill_at", "nonce", "pid", "reaped", "told")

    def __init__(self, order: Order, born: int) -> None:
        self.ident, self.nonce, self.pid, self.gate = order.ident, order.nonce, order.pid, order.gate
        self.born = born
        self.reaped = False
        self.kill_at = 0.0
        self.told: set[int] = set()  # groups that got SIGTERM


class Stray:
    """A process that lost its parent and became the keeper's child."""

    __slots__ = ("born", "group", "pid", "session")

    def __init__(self, pid: int, fields: list[bytes]) -> None:
        self.pid, self.group, self.session, self.born = pid, int(fields[2]), int(fields[3]), int(fields[19])


def stat(pid: int | str) -> list[bytes]:
    """Fields 3 and on of /proc/PID/stat (state, parent, group, session, ...; index 19 is the start time), or nothing."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            data = os.read(fd, 1024)
        finally:
            os.close(fd)
    except OSError:
        return []
    return data[data.rindex(b")") + 2 :].split()


def environ(pid: int | str) -> list[bytes]:
    """The environment that a process was started with, `NAME=value` each, or nothing."""
    try:
        with open(f"/proc/{pid}/environ", "rb", 0) as file:
            return (file.read() or b"").split(b"\0")
    except OSError:
        return []


def _close(*fds: int) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)


def _become(order: Order, libc: ctypes.CDLL | None, files: tuple[int, int]) -> None:
    """In the child: get ready, wait at the gate, become the program. Never returns."""
    code = NOT_STARTED
    try:
        os.setsid()
        if order.flags & CONTROLLING:
            fcntl.ioctl(1, termios.TIOCSCTTY, 0)
        if libc is not None:
            libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_NOFILE, files)
        os.closerange(_GATE + 1, _ALL_FILES)
        if os.read(_GATE, 1):
            os.execve(order.program, order.argv, order.env)
    except OSError as error:
        code = 127 if error.errno == errno.ENOENT else 126
        os.write(2, b"skep: cannot run " + order.program + b": " + str(error.strerror).encode() + b"\n")
    finally:
        os._exit(code)


class Keeper:
    """Serves one Skep over `owner` until that ends. `files` are the limits of open files that the children get."""

    def __init__(self, owner: socket.socket, files: tuple[int, int]) -> None:
        self.owner, self.files = owner, files
        self.terminals: dict[int, Process] = {}  # by ident: all of which something may be left
        self.living: dict[int, Process] = {}  # by pid: first processes that were not waited for yet
        self.ending: dict[int, Process] = {}  # by ident
        self.fds: list[int] = []
        self.inbox = bytearray()
        self.outbox: list[bytes] = []
        self.look_at = 0.0  # not before this time may /proc be searched again
        self.null = os.open(os.devnull, os.O_RDWR)
        self.libc = ctypes.CDLL(None) if _LINUX else None
        if self.libc is not None:
            self.libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.orders: list[Order] = []
        self.pid, self.over = os.getpid(), False
        self.go, self.done = _thread.allocate_lock(), _thread.allocate_lock()
        self.go.acquire()
        self.done.acquire()
        _thread.start_new_thread(self._forking, ())

    def serve(self) -> None:
        """Works until Skep is gone or SIGTERM comes, ends everything, and returns."""
        wake, waker = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in signal.valid_signals():
            if number in _HANDLED or signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, lambda *_: None)  # not ignored: what is ignored, by whoever, stays so across exec
        signal.signal(signal.SIGTERM, self._stop)
        poller = select.poll()
        poller.register(wake, select.POLLIN)
        poller.register(self.owner, select.POLLIN)
        if hasattr(os, "pidfd_open"):  # a fork of Skep may hold the socket open after Skep is gone
            poller.register(os.pidfd_open(os.getppid()), select.POLLIN)
        try:
            while not self.over:
                ready = dict(poller.poll(STEP * 1000 if self.ending else None))
                if ready.pop(wake, 0):
                    os.read(wake, 4096)
                    self._reap()
                if (ready.pop(self.owner.fileno(), 0) and not self._receive()) or ready:
                    break
                self._advance()
                if not self._flush():
                    break
        finally:
            self._finish()

    def _stop(self, _number: int, _frame: object) -> None:
        self.over = True

    def _receive(self) -> bool:
        """Takes what Skep asks for; False when Skep is gone."""
        try:
            data, beside, _flags, _from = self.owner.recvmsg(1 << 16, 4096, socket.MSG_CMSG_CLOEXEC if _LINUX else 0)
        except ConnectionError:
            return False
        for _level, _kind, numbers in beside:
            fds = array.array("i")
            fds.frombytes(numbers)
            self.fds.extend(fds)
        if not data:
            return False
        self.inbox += data
        orders, at = [], 0
        while len(self.inbox) >= at + REQUEST.size:
            length, ident, kind = REQUEST.unpack_from(self.inbox, at)
            start, end = at + REQUEST.size, at + REQUEST.size + length
            if len(self.inbox) < end:
                break
            body, at = bytes(self.inbox[start:end]), end
            if kind == CREATE:
                orders.append(Order(ident, body, self.fds))
            elif kind == RELEASE:
                self._release(ident)
            else:
                self._create(orders)  # it may be among them
                orders = []
                self._end(ident, *END_BODY.unpack(body))
        del self.inbox[:at]
        self._create(orders)
        return True

    def _create(self, orders: list[Order]) -> None:
        """Has the second thread fork these, and says what came of it."""
        for first in range(0, len(orders), BATCH):
            self.orders = orders[first : first + BATCH]
            for order in self.orders:
                try:
                    order.entrance, order.gate = os.pipe()
                except OSError as error:
                    order.error = error.errno or errno.EIO
            self.go.release()
            self.done.acquire()
            for order in self.orders:
                _close(order.stdin, order.stdout, order.entrance)
                if order.error:
                    _close(order.gate)
                    self._say(order.ident, REFUSED, order.error, int(order.folder))
                    continue
                fields = stat(order.pid)
                process = Process(order, int(fields[19]) if fields else 0)
                self.terminals[order.ident] = self.living[order.pid] = process
                self._say(order.ident, CREATED, process.pid, process.born)
            self._flush()

    def _forking(self) -> None:
        """The second thread: forks what the main one hands over, while that waits. It does little else: what is written to
        between two forks is a page to copy."""
        while True:
            self.go.acquire()
            for order in self.orders:
                if not order.error:
                    self._fork(order)
            for fd in range(_GATE + 1):  # let go of the last child's output
                os.dup2(self.null, fd)
            os.chdir("/")
            self.done.release()

    def _fork(self, order: Order) -> None:
        """Makes one child that waits at its gate. The keeper itself enters the folder and takes the descriptors, because in
        the child every page that is touched is copied first."""
        try:
            order.folder = True
            os.chdir(order.cwd)
            order.folder = False
            os.dup2(self.null if order.stdin < 0 else order.stdin, 0)
            os.dup2(order.stdout, 1)
            os.dup2(order.stdout, 2)
            os.dup2(order.entrance, _GATE, inheritable=False)
            order.pid = os.fork()
        except OSError as error:
            order.error = error.errno or errno.EIO
        else:
            if not order.pid:
                _become(order, self.libc, self.files)

    def _release(self, ident: int) -> None:
        process = self.terminals.get(ident)
        if process is not None and not process.reaped:
            with contextlib.suppress(BrokenPipeError):  # it died at its gate: its exit tells
                os.write(process.gate, b"!")

    def _end(self, ident: int, grace: float) -> None:
        process = self.terminals.get(ident)
        if process is None:
            self._say(ident, ENDED, 1)
            return
        kill_at = time.monotonic() + grace
        process.kill_at = min(process.kill_at, kill_at) if ident in self.ending else kill_at
        self.ending[ident] = process
        if not process.reaped:
            self._shut(process)

    def _shut(self, process: Process) -> None:
        """What did not become the program yet never does, and needs no grace. The child's end of the gate closes at that."""
        poller = select.poll()
        poller.register(process.gate, 0)
        if not poller.poll(0):
            os.kill(process.pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Waits for all that ended. If nothing strayed by then, nothing of the ended ones can be left: whatever a process
        leaves behind is the keeper's child before the process can be waited for."""
        exited = []
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            process = self.living.pop(pid, None)
            if process is not None:
                exited.append((process, os.waitstatus_to_exitcode(status), used))
        if not exited:
            return
        alone = _LINUX and not self._strayed()
        for process, code, used in exited:
            process.reaped = True
            os.close(process.gate)
            cpu = int((used.ru_utime + used.ru_stime) * 1e6)
            self._say(process.ident, EXITED, code, int(alone), cpu, used.ru_maxrss * (1024 if _LINUX else 1))
            if alone and process.ident not in self.ending:
                self.terminals.pop(process.ident, None)

    def _strayed(self) -> bool:
        """Whether any process that lost its parent lives."""
        while _LINUX:
            try:
                pid, _status, _used = os.wait4(-1, os.WNOHANG | _NOTHREAD)
            except ChildProcessError:
                break
            if not pid:
                return True
        return False

    def _strays(self) -> list[Stray]:
        """All processes that lost their parent, from /proc."""
        me, found = b"%d" % self.pid, []
        for name in os.listdir("/proc") if _LINUX else ():
            if name.isdecimal() and int(name) not in self.living:
                fields = stat(name)
                if fields and fields[1] == me and fields[0] not in b"ZX":
                    found.append(Stray(int(name), fields))
        return found

    def _advance(self) -> None:
        """Moves every ending on. Strays are looked for only if there are any, and then for at most a fifth of the time."""
        if not self.ending:
            return
        now = time.monotonic()
        strays: dict[int, set[int]] = {}
        strayed = self._strayed()
        if strayed:
            if now < self.look_at:
                return
            strays = self._assign(self._strays())
            done = time.monotonic()
            self.look_at = done + 4 * (done - now)
        for process in list(self.ending.values()):
            groups = strays.get(process.ident, set())
            gone = process.reaped and not groups
            if gone or now >= process.kill_at + UNKILLABLE:
                del self.ending[process.ident], self.terminals[process.ident]
                self._say(process.ident, ENDED, int(gone))
            else:
                self._press(groups if process.reaped else {process.pid, *groups}, process.told, now >= process.kill_at)

    def _assign(self, strays: list[Stray]) -> dict[int, set[int]]:
        """Whose strays they are: ending terminal -> groups. A stray belongs to its session, else to the terminal whose nonce
        its environment carries; one without either belongs to the last that may have started it."""
        sessions = {process.pid: process for process in self.terminals.values()}
        nonces = {process.nonce: process for process in self.terminals.values()}
        found: dict[int, set[int]] = {}
        for stray in strays:
            owner = sessions.get(stray.session) or sessions.get(stray.group)
            if owner is None:
                marks = [entry[len(MARK) :] for entry in environ(stray.pid) if entry.startswith(MARK)]
                owner = next((nonces[mark] for mark in marks if mark in nonces), None)
            if owner is not None:
                owners = [owner]
            else:
                owners = [process for process in self.terminals.values() if process.born <= stray.born]
                if any(process.ident not in self.ending for process in owners):
                    continue
                owners = owners or list(self.ending.values())
            for process in owners:
                found.setdefault(process.ident, set()).add(stray.group)
        return found

    def _press(self, groups: set[int], told: set[int], kill: bool) -> None:
        """Tells groups to end, once; or kills them. A group lives as long as the stray or first process that it is known
        from, which only the keeper waits for: its number cannot be somebody else's by now."""
        for group in groups if kill else groups - told:
            told.add(group)
            with contextlib.suppress(ProcessLookupError, PermissionError):  # not a group yet; another user's by now
                os.killpg(group, signal.SIGKILL if kill else signal.SIGTERM)
                os.killpg(group, signal.SIGCONT)

    def _finish(self) -> None:
        """Ends everything, whosever it is, until no child is left; waits 10 s for what the kernel cannot kill."""
        self._flush()  # what is said from here on would make an interruption look like a failure
        for process in self.living.values():
            self._shut(process)
        kill_at, told = time.monotonic() + SHUTDOWN_GRACE, set[int]()
        while (self.living or self._strayed()) and time.monotonic() < kill_at + UNKILLABLE:
            self._press({*self.living, *[stray.group for stray in self._strays()]}, told, time.monotonic() >= kill_at)
            time.sleep(STEP)
            self._reap()
            self.outbox.clear()

    def _say(self, ident: int, kind: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> None:
        self.outbox.append(REPLY.pack(ident, kind, a, b, c, d))

    def _flush(self) -> bool:
        """Sends what there is to say; False when Skep is gone."""
        if self.outbox:
            data = b"".join(self.outbox)
            self.outbox.clear()
            try:
                self.owner.sendall(data)
            except OSError:
                return False
        return True


def main(descriptor: int, soft: int) -> None:
    """Serves the Skep at the other end of this socket. `soft` is the limit of open files that programs start with."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    null = os.open(os.devnull, os.O_RDWR)
    owner = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 16)
    for fd in range(_GATE + 1):
        os.dup2(null, fd)
    os.closerange(_GATE + 1, 16)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gc.disable()
    gc.freeze()
    Keeper(socket.socket(fileno=owner), (min(soft, hard) if soft >= 0 else hard, hard)).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
