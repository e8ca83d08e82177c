"""The one door: what every face (command line, Python, later REST, WebSocket, MCP) calls.

```python
async with skep.open("workspace") as hive:
    session = await hive.session("bench")
    task = await session.submit(skep.Task(run="pytest -q", retries=2))
    print(await task.result())
```

Without an owner of the workspace's state folder, `open` becomes the owner; with one, it is its client. The calls are the same.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from skep import config as configuration
from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.apply import replay
from skep.core.estimates import Estimate
from skep.core.model import Answer, Plan, Task
from skep.core.placement import INPROCESS, Explanation
from skep.core.state import State
from skep.errors import Conflict, NotFound, SkepError
from skep.memories import Memory
from skep.runtime import checkup as machine
from skep.runtime import requests as rq
from skep.runtime.checkup import Finding
from skep.runtime.choice import ChoiceView
from skep.runtime.costs import CostView
from skep.runtime.foretell import foretell
from skep.runtime.kept import BackupView
from skep.runtime.mail import Handed, MailView
from skep.runtime.node import Role
from skep.runtime.owner import Door, connect_or_own
from skep.runtime.reading import foretold as foretold
from skep.runtime.reading import planning as planning
from skep.runtime.reading import preview as preview
from skep.runtime.reading import prompts as prompts
from skep.runtime.reading import read_plan as read_plan
from skep.runtime.ready import Readiness
from skep.runtime.typed import path as path_of
from skep.runtime.typed import typed, wrong
from skep.runtime.views import Brief, ClaimView, InquiryView, Landing, Need, Result, SessionView, TaskView, session_view
from skep.wiring import assemble, runtimes_here
from skep.workflow import complete

if TYPE_CHECKING:
    from skep.runtime.receipt import Verdict

R = TypeVar("R")

#: Tasks sent in one request by `submit_many`.
CHUNK = 1_000


def open(workspace: str | Path = ".", config: configuration.Config | None = None, agents: int = 0, by: str = "") -> Skep:
    """Opens a workspace; use it with `async with`.

    Args:
        workspace: the folder that agents work on; its state lives in `.skep/` there.
        config: settings; otherwise `skep.toml` of the workspace.
        agents: attempts at once in sessions made through this door (0 = the configuration's).
        by: who is calling, for the record.

    Raises (on entering):
        Invalid: no such folder, or a bad configuration.
        Unavailable: the owner of the state folder does not answer, or the store fails its checks.
    """
    if config is not None and not isinstance(config, configuration.Config):
        raise wrong("config", "skep.config.Config", config)
    return Skep(path_of(workspace, "workspace"), config, agents, by)


async def may_cost(plan: Plan, workspace: str | Path = ".") -> Estimate:
    """What carrying out a plan in a workspace may cost, by its history if it has one. Raises as `preview`."""
    folder = path_of(workspace, "workspace").expanduser().resolve()
    if (folder / configuration.STATE).is_dir():
        async with open(folder) as hive:
            return await hive.call(rq.Foretell(plan=plan))
    return foretell(plan, folder, configuration.load(folder))


async def checkup(workspace: str | Path = ".", login: str | None = None) -> list[Finding]:
    """Checks the machine, the runtimes, the workspace and, if there is one, its store and owner. Trouble is a finding.

    Args:
        login: the runtime whose login is tried by a real call, empty = all of them; Invalid is raised if it has none.
    """
    folder = path_of(workspace, "workspace").expanduser().resolve()
    found = await asyncio.to_thread(machine.checkup, folder)
    found += await runtimes_here(folder, login)
    if not (folder / configuration.STATE).is_dir():
        return found
    try:
        async with open(folder) as hive:
            found += machine.in_use(None if hive.owner else await hive.who())
            found.append(machine.remembered(await hive.memory.stats()))
    except SkepError as error:
        return [*found, Finding("store", "error", error.message, error.fix or "Mend what it names.")]
    return found


async def verify_receipt(path: Path, signer: str = "", repository: Path | None = None) -> Verdict:
    """Checks a receipt, offline. See `skep.runtime.receipt.check` for the arguments and what it raises."""
    from skep.runtime import receipt

    return await receipt.check(path, signer, repository)


class Skep:
    """An open workspace. Every method may raise the errors of its request in `skep.runtime.requests`."""

    def __init__(
        self, workspace: Path, config: configuration.Config | None, agents: int, by: str, role: Role | None = None
    ) -> None:
        self.workspace = workspace.expanduser().resolve()
        self.by = by
        self._config, self._agents, self._role = config, agents, role
        #: What agents and people keep for later.
        self.memory = Memory(self.call)
        self._door: Door | None = None

    async def __aenter__(self) -> Skep:
        config = self._config or configuration.load(self.workspace)
        self._door = await connect_or_own(self.workspace, lambda: assemble(self.workspace, config, self._role))
        await self._check_store(configuration.redacted(config.store.url))
        return self

    async def _check_store(self, named: str) -> None:
        """An owner that is there already may work with another store than the one that was named here."""
        if named and not self.owner and (there := (await self.who()).store) != named:
            await self.door.close()
            owned = self.workspace / configuration.STATE
            why = f"the process that owns {owned} works with {there or 'its own store'}, not {named}"
            raise Conflict(why, "End it first, or work in another folder.")

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        door, self._door = self._door, None
        if door is not None:
            await asyncio.shield(door.close())

    @property
    def owner(self) -> bool:
        """Whether this process owns the state folder (and carries out what runs), rather than being a client of another."""
        return self.door.owner

    @property
    def door(self) -> Door:
        """Where requests go. Raises RuntimeError outside of `async with`."""
        if self._door is None:
            raise RuntimeError("skep.open(...) is used with `async with`")
        return self._door

    async def call(self, request: rq.Request[R]) -> R:
        """Asks the owner. Raises Invalid, naming it, if something in the request is not of its type."""
        plan = request.plan if isinstance(request, rq.Create | rq.Revise) else None
        return await self.door.call(typed(request, plan.tasks if isinstance(plan, Plan) else ()))

    async def who(self) -> rq.OwnerView:
        """Who owns the state folder."""
        return await self.call(rq.Who())

    async def inbox(self) -> list[Need]:
        """What waits for a person in any session here, oldest first."""
        return await self.call(rq.Inbox())

    async def sessions(self) -> list[Brief]:
        """All sessions, oldest first."""
        return await self.call(rq.ListSessions())

    async def session(self, name: str) -> Session:
        """The session of this name, made if it is not there, being carried out.

        In the process that owns the workspace, its callables run in this process; otherwise in processes of their own.
        """
        view = await self.call(rq.Ensure(name=name, agents=self._agents, inprocess=self.owner, by=self.by))
        return Session(self, view.name)

    async def start(self, plan: Plan, new: bool = False) -> Session:
        """Opens a session for a plan and begins to carry it out. Raises Conflict if one of the same file is unfinished."""
        view = await self.call(rq.Create(plan=plan, new=new, by=self.by))
        return Session(self, view.name, view.notes, view.estimate)

    async def revise(self, plan: Plan, name: str = "") -> Session:
        """Goes on with another version of a session's file: unchanged tasks that did not fail stay, the rest is replaced."""
        view = await self.call(rq.Revise(plan=plan, session=name, by=self.by))
        return Session(self, view.name)

    async def find(self, name: str = "") -> Session:
        """A session that is there, by name; the newest without one. Raises NotFound."""
        view = await self.call(rq.Status(session=name, tasks=False))
        return Session(self, view.name)

    async def drop(self, name: str, unmerged: bool = False) -> list[str]:
        """Removes the refs of a session whose state folder was deleted; returns those that alone held work.

        Raises Conflict, and removes nothing, if there are such and `unmerged` is not said.
        """
        return await self.call(rq.Drop(session=name, unmerged=unmerged))

    async def load(self, path: str | Path) -> Session:
        """Imports an exported session; it is paused until someone resumes it."""
        view = await self.call(rq.Import(path=str(path_of(path, "path").resolve()), by=self.by))
        return Session(self, view.name)

    async def backup(self, name: str = "", everything: bool = False, to: str | Path = "", keep: int = 0) -> list[BackupView]:
        """Backs up a session (the newest one without a name) or all of them, each into a file that is whole or absent.

        Args:
            to: the folder; otherwise that of the settings.
            keep: so many of each session stay, the newest; 0 = all.

        Returns:
            a view of each session; its `trouble` says why there is no backup of it.
        """
        folder = str(path_of(to, "to").expanduser().resolve()) if to else ""
        return await self.call(rq.BackUp(session=name, all=everything, to=folder, keep=keep))

    async def backups(self, name: str = "", folder: str | Path = "") -> list[BackupView]:
        """The backups in a folder (otherwise that of the settings), newest first, each read whole and checked."""
        place = str(path_of(folder, "folder").expanduser().resolve()) if folder else ""
        return await self.call(rq.Backups(session=name, folder=place))

    async def restore(self, name: str, source: str | Path = "", until: int = 0) -> Session:
        """Makes a session, paused, from the newest good backup of a session; it takes over the name. Nothing is overwritten.

        Args:
            source: a file, or a folder of backups; otherwise that of the settings.
            until: as the session was at this time, wall-clock ms; 0 = as it was when it was backed up.
        """
        path = str(path_of(source, "source").expanduser().resolve()) if source else ""
        view = await self.call(rq.Restore(session=name, path=path, until=until, by=self.by))
        return Session(self, view.name, view.notes)


class Handle:
    """A submitted task."""

    __slots__ = ("_session", "id")

    def __init__(self, session: Session, task: str) -> None:
        self._session = session
        self.id = task

    async def result(self) -> Result:
        """How it ended, once it has; check `.ok`."""
        return (await self._session.results([self.id]))[0]

    async def view(self) -> TaskView:
        """The task as it stands."""
        return await self._session.task(self.id)

    def __repr__(self) -> str:
        return f"Handle({self._session.name!r}, {self.id!r})"


class Session:
    """One session of an open workspace. `notes`: what Skep had to say when it was started, such as figures it scaled down;
    `estimate`: what it may cost, if something of it costs anything."""

    def __init__(self, hive: Skep, name: str, notes: tuple[str, ...] = (), estimate: Estimate | None = None) -> None:
        self.hive, self.name = hive, name
        self.notes, self.estimate = notes, estimate

    async def _tell(self, given: inp.Input) -> Any:
        return await self.hive.call(rq.Tell(session=self.name, input=given))

    async def submit(self, task: Task, key: str = "") -> Handle:
        """Hands one task over; it is durable when this returns.

        Args:
            key: repeating a call with the same key submits nothing twice; without one, a random key is used for the retries
                that a lost connection makes necessary.
        """
        return (await self._submit_part((task,), key or self._key()))[0]

    async def submit_many(self, tasks: Iterable[Task], key: str = "") -> list[Handle]:
        """Hands tasks over, in parts of a thousand; each part is accepted whole or not at all.

        A task may need tasks of its own part and of earlier ones.
        """
        if not isinstance(tasks, Iterable):
            raise wrong("tasks", "an iterable of Task", tasks)
        handles: list[Handle] = []
        part: list[Task] = []
        for task in tasks:
            part.append(task)
            if len(part) == CHUNK:
                handles += await self._submit_part(part, f"{key}/{len(handles)}" if key else self._key())
                part = []
        if part:
            handles += await self._submit_part(part, f"{key}/{len(handles)}" if key else self._key())
        return handles

    async def _submit_part(self, part: Sequence[Task], key: str) -> list[Handle]:
        asked = typed(rq.Submit(session=self.name, tasks=tuple(part), key=key, by=self.hive.by), part)
        # A callable's name says too little to infer anything from; there may be very many of them.
        tasks = tuple(self._placed(task) if task.call is not None else complete(task) for task in asked.tasks)
        ids = await self.hive.door.call(msgspec.structs.replace(asked, tasks=tasks))
        return [Handle(self, task) for task in ids]

    def _placed(self, task: Task) -> Task:
        """The owner's own callables are trusted: they run in its process. Those of its clients run in processes of their own."""
        return msgspec.structs.replace(task, agent=INPROCESS) if self.hive.owner and not task.agent else task

    def _key(self) -> str:
        """A client of another process may lose its connection and ask again; within one process a call is made once."""
        return "" if self.hive.owner else secrets.token_hex(16)

    async def results(self, tasks: Sequence[str]) -> list[Result]:
        """How these tasks ended, once all have."""
        return await self.hive.call(rq.Await(session=self.name, tasks=tuple(tasks)))

    async def gather(self, handles: Iterable[Handle]) -> list[Result]:
        """The results of submitted tasks, in order, once all are finished."""
        given = list(handles)
        for number, handle in enumerate(given):
            if not isinstance(handle, Handle):
                raise wrong(f"handles[{number}]", "Handle", handle)
        return await self.results([handle.id for handle in given])

    async def follow(self, after: int = 0) -> AsyncIterator[tuple[int, ev.Event]]:
        """Every event after number `after` with its number, then every new one, without end.

        A client that loses its owner goes on with the next owner, from where it was.
        """
        async for number, event in self.hive.door.stream(typed(rq.Follow(session=self.name, after=after))):
            yield number, event

    async def at(self, number: int) -> SessionView:
        """The session as it stood after event `number`, from its log alone. Raises NotFound if it is not that long."""
        if not isinstance(number, int):
            raise wrong("number", "int", number)
        now = await self.status(tasks=False)
        if not 0 < number <= now.seq:
            raise NotFound(f"session {now.name} has no event {number}", f"It has the events 1 to {now.seq}.")
        state = State()
        async for reached, event in self.follow():
            replay(state, [event])
            if reached >= number:
                break
        return session_view(state, now.name)

    async def status(self, tasks: bool = True) -> SessionView:
        """The session as it stands."""
        return await self.hive.call(rq.Status(session=self.name, tasks=tasks))

    async def task(self, task: str) -> TaskView:
        """One task as it stands, finished long ago or not."""
        return await self.hive.call(rq.GetTask(session=self.name, task=task))

    async def tell(self, agent: str, text: str, ttl: float = 0.0, answers: str = "") -> Handed:
        """Sends a message to an agent, such as `coder-1`; undelivered after `ttl` seconds it is dropped (0 = never).

        Args:
            answers: the id of the question that it answers, as the inbox has it.
        """
        key = secrets.token_hex(8)
        said = rq.Message(session=self.name, agent=agent, text=text, ttl=ttl, key=key, answers=answers)
        return await self.hive.call(said)

    async def messages(self, agent: str = "") -> MailView:
        """The messages that wait, for one agent or for all."""
        return await self.hive.call(rq.Messages(session=self.name, agent=agent))

    async def candidates(self, task: str) -> ChoiceView:
        """The candidates of a task, and the vote on them."""
        return await self.hive.call(rq.Candidates(session=self.name, task=task))

    async def explain(self, task: str) -> Explanation | None:
        """Why the task would go to which agent now."""
        return await self.hive.call(rq.Explain(session=self.name, task=task))

    async def proposed(self, task: str = "") -> Plan:
        """What a task proposes, or the first that waits for an answer: its tasks with the session's agents, for looking at."""
        return await self.hive.call(rq.Proposed(session=self.name, task=task))

    async def costs(self) -> CostView:
        """What the session has spent, by task, agent and model."""
        return await self.hive.call(rq.Costs(session=self.name))

    async def ready(self) -> list[Readiness]:
        """What is ready to be taken now, first in line first, and why the rest of the open tasks waits."""
        return await self.hive.call(rq.Ready(session=self.name))

    async def claim(self, task: str, nonce: str = "", lease: float = 0.0) -> ClaimView:
        """Takes a ready task by hand, or with its nonce renews that claim; for `lease` seconds, 0 = as before or half an hour."""
        return await self.hive.call(rq.Claim(session=self.name, task=task, nonce=nonce, lease=lease, by=self.hive.by))

    async def settle(self, task: str, nonce: str, how: Literal["done", "fail", "release"], message: str = "") -> TaskView:
        """Ends a claim; returns the task once its work was judged and merged, or was not."""
        return await self.hive.call(rq.Settled(session=self.name, task=task, nonce=nonce, how=how, message=message))

    async def ask(self, task: str, question: str) -> InquiryView:
        """Asks the agent of a task something after its end; its conversation and work stay as they are. It costs something."""
        return await self.hive.call(rq.Inquire(session=self.name, task=task, question=question, by=self.hive.by))

    async def settled(self) -> SessionView:
        """The session once nothing in it goes on by itself: finished, paused, or a person is needed."""
        return await self.hive.call(rq.Settle(session=self.name))

    async def cancel(self, *tasks: str, subtree: bool = False) -> list[str]:
        """Cancels tasks and what cannot go on without them; returns all that fell."""
        return list(await self._tell(inp.Cancel(at=0, tasks=tasks, subtree=subtree, by=self.hive.by)))

    async def retry(self, task: str, comment: str = "", agent: str = "") -> None:
        """Sends a finished task round again, with what was skipped for want of it."""
        await self._tell(inp.Retry(at=0, task=task, comment=comment, agent=agent, by=self.hive.by))

    async def answer(self, task: str, answer: Answer, comment: str = "", choice: str = "", fingerprint: str = "") -> None:
        """Answers what a task asks.

        Args:
            choice: names a candidate when the answer is `choose`.
            fingerprint: of what it proposes: then a yes is to that proposal and to no other.
        """
        said = inp.Say(at=0, task=task, answer=answer, comment=comment, by=self.hive.by, choice=choice, fingerprint=fingerprint)
        await self._tell(said)

    async def allow(self, ask: str, always: bool = False, comment: str = "") -> None:
        """Says yes to what an attempt asks, once; with `always` to every action of its shape in this session.

        Args:
            ask: the question, `task/number`.
        """
        await self._tell(inp.Permit(at=0, ask=ask, allowed=True, always=always, comment=comment, by=self.hive.by))

    async def refuse(self, ask: str, comment: str = "") -> None:
        """Says no to what an attempt asks; its agent reads the comment."""
        await self._tell(inp.Permit(at=0, ask=ask, allowed=False, comment=comment, by=self.hive.by))

    async def pause(self) -> None:
        """Starts nothing new; what runs goes on to its end."""
        await self._tell(inp.Pause(at=0, why="paused by a person", by=self.hive.by))

    async def stop(self, why: str = "stopped") -> int:
        """Interrupts what runs, keeps its work, pauses; returns the number of attempts interrupted."""
        return await self.hive.call(rq.Stop(session=self.name, why=why, by=self.hive.by))

    async def interrupt(self, task: str) -> str:
        """Ends the attempt of one task and keeps its work; the task asks how to go on. Returns the id of its agent."""
        return str(await self._tell(inp.Interrupt(at=0, task=task, by=self.hive.by)))

    async def resume(self) -> SessionView:
        """Goes on."""
        return await self.hive.call(rq.Activate(session=self.name, by=self.hive.by))

    async def close(self) -> None:
        """Ends the session for good; open tasks are cancelled, the log stays."""
        await self._tell(inp.Close(at=0, by=self.hive.by))

    async def checkpoint(self, name: str) -> int:
        """Names this point of the log; returns its event number."""
        return int(await self._tell(inp.Mark(at=0, name=name, by=self.hive.by)))

    async def fork(self, at: str = "") -> Session:
        """A new session that goes on from a checkpoint (or event number, or now) of this one."""
        view = await self.hive.call(rq.Fork(session=self.name, at=at, by=self.hive.by))
        return Session(self.hive, view.name)

    async def restore(self, at: str) -> Session:
        """Like `fork`, and the new session takes over this one's name. Nothing is rewound or lost."""
        view = await self.hive.call(rq.Fork(session=self.name, at=at, restore=True, by=self.hive.by))
        return Session(self.hive, view.name)

    async def export(self, path: str | Path) -> int:
        """Writes the session, its log and its commits, into a file; returns its size in bytes."""
        return await self.hive.call(rq.Export(session=self.name, path=str(path_of(path, "path").resolve())))

    async def receipt(self) -> bytes:
        """A signed record of what the session was asked, did and checked, as a file holds it; `verify_receipt` checks it."""
        return await self.hive.call(rq.MakeReceipt(session=self.name))

    async def merge(self, branch: str = "", squash: bool = False) -> Landing:
        """Brings the session's work to the user's branch; returns its commit and the branch that moved."""
        return await self.hive.call(rq.Land(session=self.name, branch=branch, squash=squash, by=self.hive.by))

    async def discard(self, task: str = "") -> list[str]:
        """Drops kept, unmerged work; returns the refs that are gone."""
        return await self.hive.call(rq.Discard(session=self.name, task=task, by=self.hive.by))

    async def open(self, task: str) -> str:
        """A folder with a task's newest work, to look at."""
        return await self.hive.call(rq.OpenTask(session=self.name, task=task))

    async def diff(self, task: str = "", color: bool = False, stat: bool = False) -> str:
        """What a task's newest commit changes, or, without a task, the whole session."""
        return await self.hive.call(rq.Diff(session=self.name, task=task, color=color, stat=stat))
