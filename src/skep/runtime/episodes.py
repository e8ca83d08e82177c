"""Writes down what attempts came to: a follower of the logs of the sessions that are written here, after the log has it.

A file for each session that is written here says from which event on episodes may be missing. It goes when all are there and
the session is closed; after a crash it is still there, and the next owner goes on from it. What is there already is not written
again. (After a power cut the file may be older, then more is looked at; one of the last seconds may not be there at all.)
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from skep.core import events as ev
from skep.core.model import AgentSpec, Plan, Task
from skep.core.state import State, unpack
from skep.errors import Invalid, NotFound, SkepError
from skep.memory.bank import Bank
from skep.memory.trust import Author
from skep.runtime.episode import Tried, draft, gather, worth
from skep.runtime.recall import granted, scope_of
from skep.runtime.session import Session
from skep.store import Log, codec
from skep.workspace import Workspace

R = TypeVar("R")

#: Appends that are read at once.
PAGE = 200
#: Events before its head from which on a session is looked at that another process wrote: its file lies on that machine.
LOOK_BACK = 5_000
#: Seconds until it is tried again after the bank or the log failed.
AGAIN = 2.0
#: The folder of those files in the state folder.
FOLDER = "episodes"


class Look(Protocol):
    """Asks a session something, see `Live.look`."""

    async def __call__(self, session: str, query: Callable[[State], R]) -> R:
        """The answer."""


class Known(Struct, frozen=True):
    """What of a session's state episodes are made of. `specs`: kinds of agents by agent."""

    plan: Plan
    tasks: dict[str, Task]
    specs: dict[str, AgentSpec]


class Teller:
    """Writes the episodes of one session, from an event on."""

    def __init__(self, episodes: Episodes, session: str, place: int) -> None:
        self._episodes, self.session, self.place = episodes, session, place
        self._under_way: dict[tuple[str, int], Tried] = {}
        self._woken = asyncio.Event()
        self._reading = asyncio.Lock()
        self.behind = False
        self.task: asyncio.Task[None] | None = None

    @property
    def mark(self) -> int:
        """The event behind which everything is still to be read if this process dies."""
        return min((tried.seq - 1 for tried in self._under_way.values()), default=self.place)

    def wake(self) -> None:
        """There is something to write."""
        self.behind = True
        self._woken.set()

    async def run(self) -> None:
        """Writes, whenever there is something, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                await self.catch_up()
            except SkepError:  # it is tried again; and after a crash by the next owner
                await asyncio.sleep(AGAIN)
                self._woken.set()

    async def catch_up(self) -> None:
        """Writes what the log has by now. Raises what the log or the bank raises."""
        log = self._episodes.log
        async with self._reading:
            self.behind = False
            try:
                while page := await log.read(self.session, after=self.place, limit=PAGE):
                    for append in page:
                        ends = self._taken(append.first, codec.decode(append.blob))
                        if ends:
                            await self._write(ends)
                        self.place = append.last
                        await asyncio.sleep(0)  # the loop is others' too
                    self._episodes.keep(self)
            except BaseException:
                self.behind = True
                raise

    def _taken(self, first: int, events: list[ev.Event]) -> list[tuple[Tried, ev.AttemptEnded]]:
        ends = []
        for number, event in enumerate(events, first):
            if number > self.place and (tried := gather(self._under_way, number, event)) is not None:
                assert isinstance(event, ev.AttemptEnded)
                ends.append((tried, event))
        return ends

    async def _write(self, ends: list[tuple[Tried, ev.AttemptEnded]]) -> None:
        known = await self._known({event.task for _, event in ends}, {tried.agent for tried, _ in ends})
        if known.plan.rehearsal:
            return
        for tried, event in ends:
            task = known.tasks.get(event.task)
            if task is not None and worth(task, event.outcome):
                await self._episodes.write(self.session, known.plan, task, known.specs.get(tried.agent), tried, event)

    async def _known(self, tasks: set[str], agents: set[str]) -> Known:
        def look(state: State) -> Known:
            there = {name: state.entries[name].task for name in tasks if name in state.entries}
            specs = {agent: state.specs.get(state.agents[agent].spec) for agent in agents if agent in state.agents}
            return Known(state.plan, there, {agent: spec for agent, spec in specs.items() if spec is not None})

        known = await self._episodes.look(self.session, look)
        gone = [name for name in tasks if name not in known.tasks]
        archived = await self._episodes.log.archived(self.session, gone) if gone else {}
        known.tasks.update({name: unpack(blob).task for name, blob in archived.items()})
        return known


class Episodes:
    """All sessions that are written here.

    Args:
        log, bank, workspace: where sessions, memory and commits are.
        folder: the state folder.
        look: asks a session something.
        shared: whether others write sessions of this store too.
    """

    def __init__(self, log: Log, bank: Bank, workspace: Workspace, folder: Path, look: Look, shared: bool) -> None:
        self.log, self.bank, self.look = log, bank, look
        self._workspace, self._folder, self._shared = workspace, folder / FOLDER, shared
        self._tellers: dict[str, Teller] = {}

    def begin(self, session: Session, fresh: bool) -> None:
        """A session is written here from now on. Raises nothing: without its file it is looked at all the same."""
        if session.name in self._tellers:
            return
        head = session.head.seq
        place = self._marked(session.name)
        if place is None:
            place = max(0, head - LOOK_BACK) if self._shared and not fresh else head
        teller = self._tellers[session.name] = Teller(self, session.name, place)
        self.keep(teller)
        teller.task = asyncio.get_running_loop().create_task(teller.run(), name=f"episodes {session.name}")
        session.ended = lambda event: self._ended(session, teller, event)
        if place < head:
            teller.wake()

    async def end(self, session: str) -> None:
        """The session is not written here any more. What is missing is written now, or by the next owner."""
        teller = self._tellers.pop(session, None)
        if teller is None or teller.task is None:
            return
        teller.task.cancel()
        await asyncio.gather(teller.task, return_exceptions=True)
        if teller.behind:
            with contextlib.suppress(SkepError):
                await teller.catch_up()
        if teller.behind:
            self.keep(teller)
        else:
            self._path(session).unlink(missing_ok=True)

    async def run(self) -> None:
        """Writes what an owner that died did not get to. What the bank or the log refuses stays for the next one."""
        for path in sorted(self._folder.glob("*.json")) if self._folder.is_dir() else ():
            name, place = _read(path)
            if name in self._tellers:
                continue
            with contextlib.suppress(SkepError):
                if name:
                    with contextlib.suppress(NotFound):  # it was pruned
                        await Teller(self, name, place).catch_up()
                if name not in self._tellers:
                    path.unlink(missing_ok=True)

    async def write(
        self, session: str, plan: Plan, task: Task, spec: AgentSpec | None, tried: Tried, ended: ev.AttemptEnded
    ) -> None:
        """Keeps the episode of an attempt, unless it is there. Raises what the bank raises."""
        grant = granted(plan, spec)
        if grant is not None and grant.mode == "off":
            return
        namespace = scope_of(session, grant).shared
        made = draft(namespace, plan.name, session, task, spec, tried, ended, await self._files(tried, ended))
        record = await self.bank.record(namespace, made.key)
        if record is not None and any(one.kind == "episodic" and one.trust == "observed" for one in record.entries):
            return
        with contextlib.suppress(Invalid):  # nothing of it can be kept: no further try would do better
            await self.bank.store(made, Author(trust="observed", agent=tried.agent, session=session, task=task.id))

    def keep(self, teller: Teller) -> None:
        """Writes down from where a session is to be read."""
        path = self._path(teller.session)
        draft = path.with_suffix(".new")
        with contextlib.suppress(OSError):  # a full disk: more is read after a crash
            self._folder.mkdir(exist_ok=True)
            draft.write_text(json.dumps({"session": teller.session, "place": teller.mark}), encoding="utf-8")
            os.replace(draft, path)

    def _ended(self, session: Session, teller: Teller, event: ev.AttemptEnded) -> None:
        entry = session.state.entries.get(event.task)
        if entry is None or worth(entry.task, event.outcome):
            teller.wake()

    async def _files(self, tried: Tried, ended: ev.AttemptEnded) -> list[str]:
        commit = ended.commit or tried.commit
        if not commit or not tried.base:
            return []
        try:
            return await self._workspace.changed(tried.base, commit)
        except SkepError:  # its commit is on another machine, or gone
            return []

    def _marked(self, session: str) -> int | None:
        path = self._path(session)
        return _read(path)[1] if path.exists() else None

    def _path(self, session: str) -> Path:
        return self._folder / f"{hashlib.sha256(session.encode()).hexdigest()[:32]}.json"


def _read(path: Path) -> tuple[str, int]:
    """Session and place; no name and 0 where the file is damaged."""
    try:
        found: Any = json.loads(path.read_text("utf-8"))
        return str(found["session"]), int(found["place"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", 0
