"""The publishers of a process: one for each session that is written here. Keys that somebody deleted come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import Struct

from skep.config import PublishConfig
from skep.core.model import TERMINAL
from skep.core.state import State
from skep.errors import SkepError
from skep.observe import Board, keys
from skep.runtime.publishing import Command, Means, Numbered, Publisher
from skep.runtime.session import Session
from skep.store import Log, codec

#: Keys that are looked for at once, and seconds from one look to the next, all sessions of the process in turn.
LOOK, LOOK_EVERY = 100, 1.0


class There(Struct, frozen=True):
    """What there is of a session after an event: tasks that can be read, how many are not finished, agents."""

    sequence: int
    lasting: list[str]
    unfinished: int
    agents: list[str]


class Publishers:
    """Begins and ends publishers.

    Args:
        board: where to; closed by `close`.
        config: what.
        log: of all sessions.
        now: wall-clock ms.
    """

    def __init__(self, board: Board, config: PublishConfig, log: Log, now: Callable[[], int]) -> None:
        self.look_every = LOOK_EVERY
        self._means = Means(board, config, log, now, asyncio.Lock())
        self._running: dict[str, tuple[Publisher, asyncio.Task[None]]] = {}
        self._tending: asyncio.Task[None] | None = None

    def begin(self, session: Session) -> None:
        """Publishes a session that is written here, unless that is done already."""
        if self._tending is None:
            self._tending = asyncio.ensure_future(self._tend())
        former, task = self._running.get(session.name, (None, None))
        if former is None or former.session is not session:
            if task is not None:
                task.cancel()
            self._start(Publisher(session, self._means))

    def _start(self, publisher: Publisher) -> None:
        self._running[publisher.session.name] = publisher, asyncio.ensure_future(publisher.follow())

    async def end(self, session: str) -> None:
        """Publishes the rest, if that is soon done, and no more."""
        publisher, task = self._running.pop(session, (None, None))
        if publisher is not None and task is not None:
            await publisher.drain()
            await _cancel(task)

    async def forget(self, session: str) -> None:
        """The session is gone, and so is what can be read of it. Its finished tasks go when their time is over."""
        _, task = self._running.pop(session, (None, None))
        if task is not None:
            await _cancel(task)
        parts = ("tasks", "agents", "state", "config", "published")
        tasks, agents, *own = (keys.of_swarm(session, part) for part in parts)
        gone = [key for name in await self._fields(tasks) for key in keys.all_of_task(session, name)]
        gone += [key for name in await self._fields(agents) for key in keys.all_of_agent(session, name)]
        await self._means.board.many([("UNLINK", key) for key in (*gone, *own, tasks, agents)])

    async def _fields(self, key: str) -> list[str]:
        """The fields of a hash. What somebody else put in its place, or into it, holds up nobody who prunes."""
        (kind,) = await self._means.board.many([("TYPE", key)])
        (found,) = await self._means.board.many([("HKEYS", key)]) if kind == b"hash" else [()]
        return [name.decode(errors="replace") for name in found]

    def publisher(self, session: str) -> Publisher:
        """Whoever publishes a session here."""
        return self._running[session][0]

    def trouble(self, session: str) -> str:
        """What is to be said of publishing a session here, in a line; empty if nothing is."""
        if session not in self._running:
            return ""
        publisher, _ = self._running[session]
        behind = f"{publisher.behind} events behind" if publisher.trouble else ""
        return f"{behind}: {publisher.trouble}" if behind else ""

    async def close(self) -> None:
        """Ends all of them, and the connections."""
        if self._tending is not None:
            await _cancel(self._tending)
        for session in list(self._running):
            await self.end(session)
        await self._means.board.close()

    # What was deleted

    async def _tend(self) -> None:
        """Looks for keys that should be there, some at a time."""
        while True:
            await asyncio.sleep(self.look_every)
            for publisher, _ in list(self._running.values()):
                try:
                    await self.look_after(publisher)
                except SkepError:
                    pass  # it says itself what is in the way
                except Exception as error:  # the others are looked after all the same
                    publisher.broke(error)
            for name in [name for name, (publisher, _) in self._running.items() if publisher.session.failure is not None]:
                self._running.pop(name, None)

    async def look_after(self, publisher: Publisher) -> None:
        """A walk through the keys of a session. What was never published to its end is not looked for."""
        if not publisher.report.sequence or publisher.behind or publisher.trouble:
            return
        session = publisher.session.name
        if await publisher.written() is None:
            await self._again(publisher)
            return
        if not self._means.config.state:
            return
        there = await publisher.session.ask(self._there)
        if not await self._whole(publisher, there):
            return
        wanted = dict.fromkeys((keys.of_swarm(session, "state"), keys.of_swarm(session, "config")), "")
        wanted |= {key: agent for agent in there.agents for key in keys.all_of_agent(session, agent)}
        around = len(wanted)
        wanted |= {key: task for task in there.lasting for key in keys.all_of_task(session, task)}
        names = list(wanted)
        for start in range(0, len(names), LOOK):
            page = names[start : start + LOOK]
            replies = await self._means.board.many([("EXISTS", key) for key in page])
            lost = [start + at for at, reply in enumerate(replies) if not reply]
            if lost and not publisher.behind:
                tasks = {wanted[names[at]] for at in lost if at >= around}
                await self._mend(publisher, tasks, any(at < around for at in lost))
            if start + LOOK < len(names):
                await asyncio.sleep(self.look_every)

    def _there(self, state: State) -> There:
        now, keep = self._means.now(), self._means.keep
        # What goes in a moment anyway is not missed.
        lasting = [name for name, entry in state.entries.items() if not 0 < keys.gone_at(entry, keep) <= now + keep // 10]
        unfinished = sum(1 for entry in state.entries.values() if entry.state not in TERMINAL)
        return There(state.seq, lasting, unfinished, list(state.agents))

    async def _whole(self, publisher: Publisher, there: There) -> bool:
        """Whether the session's hashes have what they should have; if not, they are made anew."""
        tasks, agents = (keys.of_swarm(publisher.session.name, part) for part in ("tasks", "agents"))
        lengths = await self._means.board.many([("HLEN", tasks), ("HLEN", agents)])
        if publisher.report.sequence != there.sequence or publisher.behind:
            return False  # it moves: another time
        if lengths[1] != len(there.agents) + 1:
            await self._means.board.call("UNLINK", agents)
            await self._mend(publisher, set(), True)
        if lengths[0] != there.unfinished + 1:
            await self._means.board.many([("UNLINK", tasks), ("UNLINK", keys.of_swarm(publisher.session.name, "published"))])
            await self._again(publisher)
            return False
        return True

    async def _again(self, publisher: Publisher) -> None:
        """Nothing says how far a session is published: it is published from the beginning, what was told is not told again."""
        name = publisher.session.name
        found, task = self._running.get(name, (None, None))
        if found is not publisher or task is None:
            return
        await _cancel(task)
        if self._running.get(name) == (publisher, task):  # else it was ended meanwhile, or begun by another look
            publisher.rewind()
            self._start(publisher)

    async def _mend(self, publisher: Publisher, tasks: set[str], around: bool) -> None:
        """Writes what is missing: of tasks, and of the session and its agents."""
        commands: list[Command] = []
        if tasks:
            commands = [*await self._histories(publisher, tasks), *(await publisher.look(sorted(tasks))).writes]
        async with self._means.turn:
            await self._means.board.many(commands)
            if around:
                await publisher.around(None)

    async def _histories(self, publisher: Publisher, tasks: set[str]) -> list[Command]:
        """The histories of tasks, from the log."""
        session, steps = publisher.session.name, dict[str, list[Numbered]]()
        seq = 0
        while appends := await self._means.log.read(session, after=seq, limit=20):
            for append in appends:
                for number, event in enumerate(codec.decode(append.blob), append.first):
                    for name in tasks.intersection(keys.tasks_of(event)):
                        steps[name] = [*steps.get(name, [])[1 - keys.HISTORY :], (number, event)]
                seq = append.last
            await asyncio.sleep(0)
        return [command for name, found in steps.items() for command in keys.history(session, name, found)]


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
