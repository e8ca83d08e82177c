"""Skep's end of one keeper: starts it, sends requests in batches, hands replies on, and notices when it is gone."""

from __future__ import annotations

import array
import asyncio
import os
import resource
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from skep.errors import Unavailable
from skep.terminals import keeper

#: File descriptors in one message; Linux allows 253.
FDS = 200
#: Bytes in one message, more or less.
BYTES = 1 << 16


class Link:
    """A keeper and the socket to it.

    Args:
        mark: environment of the keeper, so that recovery finds it (see `skep.terminals.leftovers`).
        answer: gets every reply: terminal, kind, four numbers (see `keeper.REPLY`).
        lost: called once when the keeper is gone, asked or not.
    """

    def __init__(
        self, mark: Mapping[str, str], answer: Callable[[int, int, int, int, int, int], None], lost: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._answer, self._lost = answer, lost
        self._out: deque[tuple[bytes, Sequence[int]]] = deque()
        self._in = b""
        self._flushing = False
        self.gone = self._loop.create_future()
        soft = open_many_files()
        # Bound at once, a library function costs no page copy in each child. LD_LIBRARY_PATH is what Python itself may need.
        env = {"LD_BIND_NOW": "1", **mark}
        if "LD_LIBRARY_PATH" in os.environ:
            env["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        self._socket, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-W", "ignore", keeper.__file__, str(theirs.fileno()), str(soft)],
                env=env,
                cwd="/",
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            self._socket.close()
            raise Unavailable(
                f"The process that keeps terminals does not start: {error.strerror}.", "Run `skep doctor`."
            ) from error
        finally:
            theirs.close()
        self.pid = self._process.pid
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._receive)

    def ask(self, ident: int, kind: int, body: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Sends a request with the next batch. Closes the descriptors.

        When the keeper is gone nothing is sent: `lost` told so.
        """
        if self.gone.done():
            for fd in fds:
                os.close(fd)
            return
        self._out.append((keeper.REQUEST.pack(len(body), ident, kind) + body, fds))
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    async def close(self) -> None:
        """Lets the keeper end everything, and waits until it has."""
        if not self.gone.done():
            self._flush()
            self._socket.shutdown(socket.SHUT_WR)
            await asyncio.shield(self.gone)

    def _flush(self) -> None:
        while self._out and not self.gone.done():
            batch: list[bytes] = []
            fds: list[int] = []
            size = 0
            while self._out and size < BYTES and len(fds) + len(self._out[0][1]) <= FDS:
                data, beside = self._out.popleft()
                batch.append(data)
                fds += beside
                size += len(data)
            data = b"".join(batch)
            try:
                sent = self._socket.sendmsg(
                    [data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
                )
            except BlockingIOError:
                self._out.appendleft((data, fds))
                self._loop.add_writer(self._socket, self._flush)
                return
            except OSError:
                self._out.appendleft((data, fds))
                self._end()
                return
            for fd in fds:
                os.close(fd)
            if sent < size:
                self._out.appendleft((data[sent:], ()))
        self._flushing = False
        if not self.gone.done():
            self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end()
            return
        data = self._in + data
        whole = len(data) - len(data) % keeper.REPLY.size
        self._in = data[whole:]
        for reply in keeper.REPLY.iter_unpack(memoryview(data)[:whole]):
            self._answer(*reply)

    def _end(self) -> None:
        """The keeper is gone: its socket closes as the last thing that it does, or as it is killed."""
        if self.gone.done():
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._process.wait()
        for _data, fds in self._out:
            for fd in fds:
                os.close(fd)
        self._out.clear()
        self.gone.set_result(None)
        self._lost()


def open_many_files() -> int:
    """Raises this process's soft limit of open files to the hard one; returns what the soft one was at first."""
    global _first
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _first is None:
        _first = soft
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _first


_first: int | None = None
