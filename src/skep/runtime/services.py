"""Services: what runs beside a session's tasks, such as a database. Started before the first that needs them, ended with the run.

They work in a checkout of what the session began with, confined like the session's tasks but for the network: theirs is the
machine's, as nobody could reach them otherwise. Each gets a free port; tasks get it too, and may reach it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from skep.core.confinement import Confinement
from skep.core.model import Plan
from skep.core.terms import Service
from skep.errors import SkepError, Unavailable
from skep.runtime.attempt import Node
from skep.runtime.bounds import bounds, settled
from skep.runtime.checks import argv, check, setups
from skep.runtime.session import Session
from skep.terminals import Exit, Profile, Tail, Terminal
from skep.terminals.transcript import Transcript

#: How often one is started again that ended by itself, and the wait before the first time, seconds; it doubles.
RESTARTS, WAIT = 3, 0.5
#: Seconds between two looks whether one is ready, and lines of its output that are kept.
LOOK, LINES = 0.1, 20
#: Name of their checkout.
PLACE = "services"


class _Running:
    """One service: its process, the next one if that ends, and why there is none any more."""

    def __init__(self, service: Service, port: int) -> None:
        self.service, self.port = service, port
        self.tail = Tail(LINES)
        self.ended = ""
        self.terminal: Terminal | None = None
        self.keeping: asyncio.Task[None] | None = None

    def words(self, how: str) -> str:
        last = next((line.strip() for line in reversed(self.tail.lines()) if line.strip()), "")
        return f"service '{self.service.name}' {how}" + (f": {last[:300]}" if last else "")


class _Set:
    """The services of one session."""

    def __init__(self, services: tuple[Service, ...]) -> None:
        self.services = services
        self.running = [_Running(service, _free_port()) for service in services]
        self.env = {variable(one.service.name): str(one.port) for one in self.running}
        self.stack = contextlib.AsyncExitStack()
        self.starting = asyncio.Lock()
        self.ready = False
        self.cwd, self.nonce = "", secrets.token_hex(16)
        self.whole: dict[str, str] = {}


def variable(name: str) -> str:
    """The variable that holds a service's port: `SKEP_PORT_DB` for `db`."""
    return f"SKEP_PORT_{name.upper().replace('-', '_')}"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Services:
    """The services of the sessions that are carried out here.

    Args:
        node: the parts that attempts use.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._sets: dict[str, _Set] = {}

    async def ready(self, session: Session) -> dict[str, str]:
        """Returns when all services of the session are ready: the variables with their ports.

        Raises:
            Unavailable: one cannot be started, or is not ready in time, or ended too often; with its last line.
        """
        wanted = session.state.plan.services
        if not wanted:
            return {}
        found = self._sets.get(session.name)
        if found is None or found.services != wanted:
            if found is not None:
                await self.end(session.name)
            found = self._sets[session.name] = _Set(wanted)
        async with found.starting:
            try:
                if not found.ready:
                    await self._begin(session, found)
                for one in found.running:
                    await self._wait(one, found)
                found.ready = True
            except BaseException:
                if not found.ready or any(one.ended for one in found.running):
                    await self.end(session.name)
                raise
        return found.env

    def reach(self, session: str, said: Confinement) -> Confinement:
        """The same confinement, with leave to reach the services that run."""
        found = self._sets.get(session)
        if found is None or said.mode == "off":
            return said
        return replace(said, network=(*said.network, *(f"127.0.0.1:{one.port}" for one in found.running)))

    async def _begin(self, session: Session, found: _Set) -> None:
        """The checkout, its setup, and every service."""
        node, plan, base = self._node, session.state.plan, session.state.base
        nonce = found.nonce
        env = {**node.allowed, **found.env, **node.marks, "SKEP_SESSION": session.name, "SKEP_NONCE": nonce}
        cwd = found.cwd = await node.workspace.checkout(session.name, PLACE, base)
        transcript = Transcript.create(node.transcripts, session.name, PLACE, 1)
        found.stack.callback(transcript.close)
        said = settled(node.confining, plan.sandbox)
        within = None
        if said.mode != "off":
            around = await node.workspace.around(cwd)
            env = {**around.env, **env}
            within = replace(bounds(said, node.folder, node.state, env, around, (), ""), listens=True)
        found.stack.enter_context(node.wards.of(nonce, within))
        found.whole = env
        prepared = await setups(node.wards, plan.setup, cwd, env, nonce, transcript.write)
        if not prepared.ok:
            raise Unavailable(f"the services' folder could not be prepared: {prepared.detail}", "Mend `environment.setup`.")
        for one in found.running:
            one.keeping = asyncio.ensure_future(self._keep(one, cwd, env, nonce, transcript.write))

    async def _keep(self, one: _Running, cwd: str, env: Mapping[str, str], nonce: str, output: Callable[[bytes], None]) -> None:
        """Runs it, and again if it ends by itself, until that was too often."""

        def heard(data: bytes) -> None:
            one.tail.feed(data)
            output(data)

        profile = Profile(name=one.service.name, argv=argv(one.service.run), cwd=cwd, env=dict(env), nonce=nonce)
        for number in range(RESTARTS + 1):
            try:
                one.terminal = await self._node.wards.create(profile, heard)
            except SkepError as error:
                one.ended = f"service '{one.service.name}' cannot be started: {error.message}"
                return
            try:
                one.terminal.release()
                how = _how(await one.terminal.wait())
            finally:
                await asyncio.shield(one.terminal.end())
            output(f"\x1b[2mskep: {one.words(how)}\x1b[0m\r\n".encode())
            if number < RESTARTS:
                await asyncio.sleep(WAIT * 2**number)
        one.ended = one.words(f"ended {RESTARTS + 1} times, at last with {how}")

    async def _wait(self, one: _Running, found: _Set) -> None:
        """Until it is ready. Raises Unavailable."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(one.service.timeout):
                while not one.ended:
                    if await self._is_ready(one, found):
                        return
                    await asyncio.sleep(LOOK)
        why = one.ended or one.words(f"is not ready after {one.service.timeout:g} s")
        raise Unavailable(why, "Mend `environment.services`; its output is in the transcript of `services`.")

    async def _is_ready(self, one: _Running, found: _Set) -> bool:
        command = one.service.ready
        if command is not None:
            wards, nobody = self._node.wards, lambda data: None
            return (await check(wards, "ready", command, found.cwd, found.whole, found.nonce, nobody, one.service.timeout)).ok
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", one.port)
        except OSError:
            return False
        writer.close()
        return True

    async def end(self, session: str) -> None:
        """Ends the services of a session, if they run."""
        found = self._sets.pop(session, None)
        if found is None:
            return
        tasks = [one.keeping for one in found.running if one.keeping is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await found.stack.aclose()
        with contextlib.suppress(SkepError):
            await self._node.workspace.remove(self._node.workspace.path(session, PLACE))

    async def close(self) -> None:
        """Ends all of them."""
        for session in list(self._sets):
            await self.end(session)


def _how(ended: Exit) -> str:
    return f"exit code {ended.code}" if ended.code is not None else f"signal {ended.signal}"


def needed(plan: Plan, mode: str) -> bool:
    """Whether a task that works so needs the environment."""
    return bool(plan.services) and mode != "none"
