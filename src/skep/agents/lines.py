"""A program that talks in lines of JSON over its standard input and output: what coding clients do that are no terminals.

What is no JSON (warnings, stack traces) is kept aside: its last lines say why a client failed. Standard error goes to a file of
its own, because two writers of one pipe would cut each other's lines.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from skep.agents import LOST, Ending, Host, Job, left
from skep.agents.endings import Failed
from skep.agents.process import end
from skep.errors import Invalid, SkepError
from skep.terminals import Exit, Profile, Tail, Terminal, Terminals

#: Bytes of one line. A client that says more at once is cut off there: the line counts as noise.
MAX_LINE = 32 * 2**20
#: Lines that wait to be looked at. A client that says more than that is given up.
MAX_WAITING = 10_000
#: Lines of noise and of standard error that are kept, and characters of the last one that stand for a failure.
KEPT = 50
DETAIL_SIZE = 500
#: Has the shell put standard error aside and become the program.
_ASIDE = ("sh", "-c", 'errors=$1; shift; exec "$@" 2>"$errors"', "sh")

Message = dict[str, Any]
_decode = msgspec.json.Decoder(Message).decode


class Lines:
    """One such program, from its start to its end. Use it as an async context: none of its processes outlives that.

    Args:
        terminals: where it is started.
        job: the attempt that it carries out.
        host: records it.
        argv: the program with its arguments.
        env: all of its environment.
        input: whether it is written to, or all that it reads; otherwise it finds the end of its input at once.

    Raises (on entering):
        Failed: with the ending of the attempt, if it cannot be started.
    """

    def __init__(
        self,
        terminals: Terminals,
        job: Job,
        host: Host,
        argv: tuple[str, ...],
        env: Mapping[str, str],
        *,
        input: bool | bytes = False,
    ) -> None:
        self._terminals, self._host = terminals, host
        self._errors = Path(job.out) / f".{job.nonce[:8]}-errors"
        self._profile = Profile(
            name=job.agent,
            argv=(*_ASIDE, str(self._errors), *argv),
            cwd=job.cwd,
            env=dict(env),
            nonce=job.nonce,
            stdin=input if isinstance(input, bytes) else "pipe" if input else "null",
            tty=False,
        )
        self._terminal: Terminal | None = None
        self._buffer = bytearray()
        self._dropping = False
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()
        self._waiting: asyncio.Task[Exit] | None = None
        self.noise = Tail(KEPT)
        #: Whether it said more than anybody could listen to.
        self.flooded = False

    async def __aenter__(self) -> Lines:
        try:
            self._terminal = await self._terminals.create(self._profile, self._heard)
        except Invalid as error:
            raise Failed(Ending(ok=False, cause="error", detail=error.message)) from None
        except SkepError as error:
            raise Failed(Ending(ok=False, cause="infrastructure", detail=error.message)) from None
        try:
            await self._host.spawned(self._terminal.pid, self._terminal.born)
            self._terminal.release()
        except BaseException:
            await end(self._terminal)
            raise
        self._waiting = asyncio.ensure_future(self._wait(self._terminal))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._terminal is not None
        assert self._waiting is not None
        try:
            await end(self._terminal)
        finally:
            self._waiting.cancel()
            with contextlib.suppress(OSError):
                self._errors.unlink()

    def say(self, message: Message) -> None:
        """Writes one line. Raises Exhausted if the program does not read."""
        assert self._terminal is not None
        self._terminal.write(msgspec.json.encode(message) + b"\n")

    def finish(self) -> None:
        """Nothing more is said: the program finds the end of its input."""
        assert self._terminal is not None
        self._terminal.finish()

    async def heard(self) -> AsyncIterator[Message]:
        """What the program says, until it has ended (or was given up: `flooded`)."""
        while (message := await self._messages.get()) is not None:
            yield message

    async def ended(self) -> Exit:
        """How the program ended."""
        assert self._waiting is not None
        return await asyncio.shield(self._waiting)

    async def failure(self) -> Ending:
        """The ending of an attempt whose program ended without saying how it went."""
        if self.flooded:
            return Ending(ok=False, cause="wedged", detail=f"the client said {MAX_WAITING} things that nobody had heard yet")
        exit = await self.ended()
        if exit.lost:
            return LOST
        how = f"exit code {exit.code}" if exit.code is not None else f"ended by signal {exit.signal}"
        last = self.complaint()
        return Ending(ok=False, cause="exit", detail=f"{how}: {last}" if last else how, exit_code=exit.code)

    def complaint(self) -> str:
        """The last line that it wrote to standard error, or that was no JSON."""
        try:
            out = self._errors.parent
            said = left.read(out.parent, f"{out.name}/{self._errors.name}", 65_536, cut="begin")
            lines = said.decode(errors="replace").splitlines()
        except OSError:
            lines = []
        found = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if not found:
            found = next((line.strip() for line in reversed(self.noise.lines()) if line.strip()), "")
        return found[-DETAIL_SIZE:]

    async def _wait(self, terminal: Terminal) -> Exit:
        try:
            return await terminal.wait()
        finally:
            self._take(bytes(self._buffer))
            self._messages.put_nowait(None)

    def _heard(self, data: bytes) -> None:
        *ends, rest = data.split(b"\n")
        for part in ends:
            self._buffer += part
            if not self._dropping:
                self._take(self._buffer)
            self._buffer, self._dropping = bytearray(), False
        self._buffer += rest
        if len(self._buffer) > MAX_LINE:
            self.noise.feed(b"a line of more than %d bytes was dropped\n" % MAX_LINE)
            self._buffer, self._dropping = bytearray(), True

    def _take(self, line: bytes | bytearray) -> None:
        if not line.strip():
            return
        try:
            message = _decode(line)
        except (msgspec.DecodeError, RecursionError):
            self.noise.feed(bytes(line[:10_000]) + b"\n")
            return
        if self._messages.qsize() < MAX_WAITING:
            self._messages.put_nowait(message)
        elif not self.flooded:
            self.flooded = True
            self._messages.put_nowait(None)
