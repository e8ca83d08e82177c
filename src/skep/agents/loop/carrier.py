"""One attempt on the runtime's side: passes on what its loop says, and starts and ends the programs that it wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from skep.agents import LOST, Ask, Ending, Host, Job
from skep.agents.door.tools import Calls
from skep.agents.loop import Answer, AtDoor, Heard, Launch, Leave, Request, Run, Start, Stop, Tell, Word
from skep.agents.loop.link import Link
from skep.agents.process import end
from skep.errors import SkepError
from skep.terminals import Plain, Profile, Terminal, Terminals

#: Characters of a command's output that the model gets: so many of its beginning, and of its end.
HEAD, TAIL = 10_000, 20_000
#: Bytes of one line of an MCP server.
MAX_LINE = 16 << 20


class Output:
    """What a command printed: its beginning and its end, in bounded memory."""

    def __init__(self) -> None:
        self._head, self._tail, self._size = bytearray(), bytearray(), 0

    def feed(self, data: bytes) -> None:
        """More of it."""
        self._size += len(data)
        free = HEAD - len(self._head)
        self._head += data[:free]
        self._tail += data[free:] if free < len(data) else b""
        if len(self._tail) > 2 * TAIL:
            del self._tail[:-TAIL]

    def text(self) -> str:
        """Plain text; it says where something is left out."""
        tail = self._tail[-TAIL:]
        left = self._size - len(self._head) - len(tail)
        middle = b"\n[... %d bytes ...]\n" % left if left else b""
        return Plain().feed(bytes(self._head) + middle + bytes(tail), final=True).strip("\n")


class Carrier:
    """Stands between an attempt's loop in the worker and its host.

    Args:
        terminals: where its programs are started.
        job, host: the attempt.
        start: what the worker is told.
        env: of its programs: without the keys of providers.
        link: to the worker.
    """

    def __init__(self, terminals: Terminals, job: Job, host: Host, start: Start, env: dict[str, str], link: Link) -> None:
        self._terminals, self._job, self._host = terminals, job, host
        self._start, self._env, self._link = start, env, link
        self._over: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._doing: set[asyncio.Task[None]] = set()
        self._servers: dict[str, Terminal] = {}
        self._recording = asyncio.Lock()
        self._recorded = False
        self._calls = Calls()

    async def go(self) -> Ending:
        """Carries the attempt out. Also raises what recording a process raises."""
        self._link.send(self._start)
        return await asyncio.shield(self._over)

    def tell(self, text: str) -> None:
        """A message for the agent."""
        if not self._over.done():
            self._link.send(Tell(self._start.id, text))

    def heard(self, word: Word) -> None:
        """What the worker says about this attempt."""
        if self._over.done():
            return
        if word.report is not None:
            self._host.report(word.report)
        elif word.request is not None:
            self._do(self._answer(word.number, word.request))
        elif word.ending is not None:
            self._over.set_result(word.ending)
        elif word.server in self._servers:
            with contextlib.suppress(SkepError):  # a server that does not read is as good as gone: its calls end by their time
                self._servers[word.server].write(word.line.encode() + b"\n")

    def lost(self, ending: Ending) -> None:
        """The worker is gone."""
        if not self._over.done():
            self._over.set_result(ending)

    async def end(self, patience: float) -> bool:
        """Ends everything of the attempt; false if the worker did not let go of it in so many seconds."""
        stopped = self._over.done()
        if not stopped:
            with contextlib.suppress(SkepError):
                self._link.send(Stop(self._start.id))
            stopped = bool((await asyncio.wait([self._over], timeout=patience))[0])
        for task in self._doing:
            task.cancel()
        if self._doing:
            await asyncio.wait(self._doing)
        await asyncio.gather(*(terminal.end() for terminal in self._servers.values()))
        if self._over.done() and not self._over.cancelled():
            self._over.exception()
        return stopped

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._doing.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._doing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._over.done():
            self._over.set_exception(error)

    async def _answer(self, number: int, request: Request) -> None:
        if isinstance(request, Leave):
            ask = Ask(f"{self._start.id}-{number}", request.tool, request.arguments, request.about)
            verdict = await self._host.ask(ask)
            value: Any = [verdict.allowed, verdict.why]
        elif isinstance(request, Run):
            value = await self._run(request)
        elif isinstance(request, AtDoor):
            value = await self._at_door(request)
        else:
            value = await self._launch(request)
        if not self._over.done():
            self._link.send(Answer(self._start.id, number, value))

    async def _at_door(self, wanted: AtDoor) -> list[Any]:
        try:
            asked = self._calls.request(wanted.tool, wanted.arguments)
            return [True, self._calls.text(asked, await self._host.serve(asked))]
        except SkepError as error:
            return [False, f"{error.message}. {error.fix}".strip()]

    async def _run(self, wanted: Run) -> list[Any]:
        """Runs a program to its end, or to the end of its time."""
        output = Output()

        def heard(data: bytes) -> None:
            output.feed(data)
            self._host.output(data)

        profile = Profile(
            name=self._job.agent, argv=wanted.argv, cwd=self._job.cwd, env=self._env, nonce=self._job.nonce, tty=False
        )
        try:
            terminal = await self._terminals.create(profile, heard)
        except SkepError as error:
            return [127, error.message]
        try:
            await self._release(terminal)
            async with asyncio.timeout(wanted.timeout):
                ended = await terminal.wait()
        except TimeoutError:
            return [None, output.text()]
        finally:
            await end(terminal)
        if ended.lost:
            self.lost(LOST)
        return [ended.code if ended.code is not None else 128 + (ended.signal or 0), output.text()]

    async def _launch(self, wanted: Launch) -> str:
        """Starts the program of an MCP server, which runs as long as the attempt."""
        server = self._start.servers[wanted.server]
        rest = bytearray()

        def heard(data: bytes) -> None:
            *ends, last = data.split(b"\n")
            for part in ends:
                line = bytes(rest + part)
                rest.clear()
                self._pass_on(Heard(self._start.id, wanted.server, line.decode(errors="replace")))
            rest.extend(last[: MAX_LINE - len(rest)])

        # Standard error would come between the lines: nobody reads it.
        argv = ("sh", "-c", 'exec "$@" 2>/dev/null', "sh", server.command, *server.args)
        env = {**self._env, **server.env}
        profile = Profile(
            name=wanted.server, argv=argv, cwd=self._job.cwd, env=env, nonce=self._job.nonce, stdin="pipe", tty=False
        )
        try:
            terminal = await self._terminals.create(profile, heard)
        except SkepError as error:
            return error.message
        self._servers[wanted.server] = terminal
        await self._release(terminal)
        self._do(self._watch(wanted.server, terminal))
        return ""

    async def _watch(self, name: str, terminal: Terminal) -> None:
        ended = await terminal.wait()
        if ended.lost:
            self.lost(LOST)
        self._pass_on(Heard(self._start.id, name, None))

    def _pass_on(self, order: Heard) -> None:
        if not self._over.done():
            with contextlib.suppress(SkepError):  # what the worker cannot take is lost: its call ends by its time
                self._link.send(order)

    async def _release(self, terminal: Terminal) -> None:
        """Lets a process run: the attempt's first one is recorded before that, the others are known by their mark."""
        async with self._recording:
            if not self._recorded:
                await self._host.spawned(terminal.pid, terminal.born)
                self._recorded = True
        terminal.release()
