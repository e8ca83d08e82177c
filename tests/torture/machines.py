"""Several machines, each a process, over one Redis; a client that notes what it was told; and what must hold in the end."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import skep
from skep import nodes
from skep.core import events as ev
from skep.core.model import Task
from skep.core.state import unpack
from skep.errors import Unavailable
from skep.redis.connect import Link
from skep.runtime.copies import events_until
from skep.runtime.node import Here, Role
from skep.runtime.nodes import NodeView, read_note
from skep.store.redis.leases import RedisLeases
from skep.store.redis.log import RedisLog
from skep.store.ring import HiveRing
from tests.runtime.actors import Actor, running
from tests.runtime.traces import left_behind
from tests.torture.checker import Told, judged
from tests.torture.machine import settings

MACHINE = Path(__file__).with_name("machine.py")
#: Who submits: it carries nothing out, and leaves what it began to the machines.
FACE = Role(here=Here(name="face", slots=0))
#: Attempts at once on a machine, tasks submitted at once.
SLOTS, AT_ONCE = 4, 20
#: Tasks submitted at once where that goes on and on.
FEW = 4
#: Seconds until a call that was not answered is repeated.
AGAIN = 0.1
#: Notes begin and end of an attempt, outside of the system, with no process beside the shell's own.
NOTE = 'echo "{what} $SKEP_ATTEMPT ${{EPOCHREALTIME//[.,]/}}000" >> "$EFFECTS/$SKEP_TASK"'
RUN = f"{NOTE.format(what='begin')}\n{NOTE.format(what='end')}"


class Hive:
    """Machines over one store.

    Args:
        url: of the Redis.
        folder: for all that they have.
        effects: where tasks note what they do.
        stack: ends them.
        replicas: of the Redis, that must have what counts.
        key: the file of the hive's key, if it is not in the folder.
    """

    def __init__(
        self, url: str, folder: Path, effects: Path, stack: AsyncExitStack, replicas: int = 0, key: Path | None = None
    ) -> None:
        self.url, self.folder, self.effects, self.replicas = url, folder, effects, replicas
        self.key = key or folder / "hive.key"
        #: Machines that run, by name; the names of all that ever did.
        self.machines: dict[str, Actor] = {}
        self.names: list[str] = []
        #: Keys of submissions that were answered: session -> key -> tasks.
        self.accepted: dict[str, dict[str, tuple[str, ...]]] = {}
        #: Answers that were lost, or did not come.
        self.unknown = 0
        #: Tasks that are known to be done.
        self.finished = set[str]()
        self._more = asyncio.Event()
        self._stack = stack

    @property
    def done(self) -> int:
        """How many tasks are known to be done."""
        return len(self.finished)

    async def open(self) -> skep.Skep:
        """The client's door."""
        config = settings(self.url, str(self.key), self.replicas)
        here = self.folder / "face"
        here.mkdir(exist_ok=True)
        return await self._stack.enter_async_context(nodes.join(here, config, FACE))

    async def join(self, url: str = "", within: Sequence[str] = ()) -> str:
        """One more machine; returns its name. `url`: its own way to the store. `within`: what its command begins with."""
        name = f"m{len(self.names)}"
        self.names.append(name)
        home = self.folder / name
        home.mkdir()
        words = (str(home), url or self.url, str(self.key), str(self.replicas), name, str(SLOTS))
        actor = await self._stack.enter_async_context(running(*within, sys.executable, str(MACHINE), *words))
        assert await actor.said("joined") == name
        self.machines[name] = actor
        return name

    async def kill(self, name: str) -> None:
        """kill -9."""
        await self.machines.pop(name).kill()

    async def there(self) -> list[NodeView]:
        """The machines that are there, as an operator sees them."""
        return await nodes.nodes(self.folder / "face", settings(self.url, str(self.key), self.replicas))

    async def leader(self, session: str, but: str = "") -> str:
        """The machine that writes a session; waits until there is one, and another than `but`.

        Fails if a process writes it that leads only what it was asked for: no machine takes that over.
        """
        link = Link(self.url, {})
        log, leases = RedisLog(link, HiveRing(self.key.read_bytes())), RedisLeases(link)
        try:
            while True:
                owner, owners = (await log.row(session)).owner, await leases.held("owner")
                found = [name for name, lease in (await leases.held("node")).items() if lease.holder == owner and name != but]
                if found:
                    return found[0]
                led = owner not in owners or read_note(owners[owner]).leads
                assert led, f"{session} is not left to machines: {owners[owner]}"
                await asyncio.sleep(AGAIN)  # tidy: sleeps because a store tells nobody who owns a session
        finally:
            await log.close()

    async def drain(self, name: str) -> None:
        """An operator sees it, and has it finish what it has, and leave."""
        there = list[str]()
        while name not in there:
            await asyncio.sleep(AGAIN)  # tidy: sleeps because a machine that comes back tells nobody
            there = [node.name for node in await self.there()]
        await nodes.tell_node(self.folder / "face", settings(self.url, str(self.key), self.replicas), name, "drain")
        actor = self.machines.pop(name)
        assert await actor.said("left") == name
        assert await actor.ended() == 0

    async def begin(self, door: skep.Skep, name: str) -> skep.Session:
        """A session, repeated until it is known to be there."""
        while True:
            try:
                return await door.session(name)
            except Unavailable:
                await self._again()

    async def submit(self, session: skep.Session, count: int, after: int = 0) -> None:
        """So many tasks, some at once, every third with a need; each call is repeated until it is answered.

        Args:
            after: how many were submitted before.
        """
        for first in range(after, after + count, AT_ONCE):
            key = f"{session.name}-{first}"
            await self.hand_over(session, key, list(self.tasks(key, min(AT_ONCE, after + count - first))))

    async def left(self, name: str) -> skep.Session:
        """A session that whoever began it has left to the machines: one of them writes it."""
        here = self.folder / "starter"
        here.mkdir()
        async with nodes.join(here, settings(self.url, str(self.key), self.replicas), FACE) as door:
            await self.begin(door, name)
        await self.leader(name)  # else whoever submits first would be quicker, and go on with it
        return await (await self.open()).find(name)

    async def hand_over(self, session: skep.Session, key: str, tasks: Sequence[Task]) -> None:
        """Submits tasks in one call, which is repeated until it is answered."""
        while key not in self.accepted.get(session.name, {}):
            try:
                await self.try_once(session, key, tasks)
            except Unavailable:
                await self._again()

    async def try_once(self, session: skep.Session, key: str, tasks: Sequence[Task]) -> None:
        """Submits tasks in one call. Raises Unavailable if it is not answered."""
        found = await session.submit_many(tasks, key=key)
        self.accepted.setdefault(session.name, {})[key] = tuple(handle.id for handle in found)

    def tasks(self, key: str, count: int) -> Iterable[Task]:
        """The tasks of a call: the same for the same key."""
        for n in range(count):
            needs = (f"{key}-{n - 1}",) if n % 3 == 2 else ()
            env = {"EFFECTS": str(self.effects)}
            yield Task(id=f"{key}-{n}", run=RUN, mode="none", needs=needs, env=env, retries=0, timeout=600.0)

    async def work(self, session: skep.Session, count: int) -> None:
        """Submits so many tasks, and waits until nothing goes on in the session any more."""
        async with self.counting(session):
            await self.submit(session, count)
            await self._settled(session)

    async def feed(self, session: skep.Session, enough: asyncio.Event) -> None:
        """Submits tasks until it is enough, and waits until nothing goes on in the session any more."""
        async with self.counting(session):
            for after in itertools.count(0, FEW):
                if enough.is_set():
                    break
                await self.submit(session, FEW, after)
                await self.until(done=after)  # no more are waiting than can be done
            await self._settled(session)

    @asynccontextmanager
    async def counting(self, session: skep.Session) -> AsyncIterator[None]:
        """Counts within what is done in the session."""
        following = asyncio.create_task(self._count(session))
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _settled(self, session: skep.Session) -> None:
        while True:
            try:
                await session.settled()
                return
            except Unavailable:
                await self._again()

    async def _count(self, session: skep.Session) -> None:
        after = 0
        while True:
            try:
                async for number, event in session.follow(after):
                    after = number
                    if isinstance(event, ev.AttemptEnded) and event.then == "done":
                        self.finished.add(event.task)
                        self._more.set()
            except Unavailable:
                await self._again()

    async def until(self, done: int) -> None:
        """Waits until so many tasks are done, in all sessions together."""
        while self.done < done:
            self._more.clear()
            await self._more.wait()

    async def until_finished(self, task: str) -> None:
        """Waits until a task is done."""
        while task not in self.finished:
            self._more.clear()
            await self._more.wait()

    async def _again(self) -> None:
        """A call was not answered."""
        self.unknown += 1
        await asyncio.sleep(AGAIN)  # tidy: sleeps because whoever is told to try again does so a little later

    async def told(self, session: str) -> Told:
        """What the log of a session says."""
        log = await RedisLog.open(Link(self.url, {}), HiveRing(self.key.read_bytes()), self.replicas)
        try:
            await log.verify(session)
            archived = {name: unpack(blob) async for name, blob in log.archive(session)}
            return Told(await events_until(log, session, ""), archived)
        finally:
            await log.close()

    def wanted(self, session: str) -> list[str]:
        """The tasks that were accepted."""
        return [task for tasks in self.accepted[session].values() for task in tasks]

    async def check(self, session: str) -> list[str]:
        """Everything that is wrong with a session that has come to rest."""
        told, wanted = await self.told(session), self.wanted(session)
        found = judged(told, wanted, self.effects)
        states = {name: told.entries[name].state for name in wanted if name in told.entries}
        found += [f"{name} is {state}" for name, state in states.items() if state != "done"]
        # A machine that is there has a keeper of terminals.
        return [*found, *(f"left running: {line}" for line in left_behind(self.folder) if "keeper" not in line)]
