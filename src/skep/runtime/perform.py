"""Carries out what sessions owe on this node. Work in hand is known by session, command and nonce, so nothing starts twice."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec.structs import replace

from skep.agents import Ending
from skep.agents.inprocess import InProcess
from skep.core import inputs as inp
from skep.core.commands import EndAttempt, Merge, Owed, StartAttempt, VerifyAttempt
from skep.core.confinement import Confinement
from skep.core.envelope import Message
from skep.core.intent import Candidate
from skep.core.messages import inbox
from skep.core.model import AgentSpec, Cause, Entry, Output, Task
from skep.core.placement import kind_of
from skep.core.terms import Command
from skep.errors import Bug, SkepError
from skep.runtime import ballots, conflicts, environment, phases, reminding
from skep.runtime.asking import Leave
from skep.runtime.attempt import Node, Work, mode_of, place_of
from skep.runtime.bounds import bounds, of_agent, settled
from skep.runtime.checks import Checked, check, excused, setups
from skep.runtime.deputies import Deputies
from skep.runtime.desk import Desk
from skep.runtime.homes import short
from skep.runtime.mail import with_mail, written
from skep.runtime.notify import Teller
from skep.runtime.room import Full, bounded
from skep.runtime.services import Services, needed
from skep.runtime.session import Session
from skep.runtime.shared import opened_with
from skep.runtime.stacks import Refusal, land
from skep.terminals.leftovers import end_marked
from skep.terminals.transcript import Transcript

#: Attempts that were begun here and are remembered.
REMEMBERED = 20_000
#: Session, kind of command, task, attempt, nonce.
Key = tuple[str, str, str, int, str]


class Performer:
    """The hands of this node.

    Args:
        node: the parts that attempts use.
        inprocess: runs callables of trusted callers here; sessions whose python agent has the runtime `inprocess` use it.
        now: wall-clock ms.
        calls: whether functions that a program handed over run here; otherwise in processes of their own.
    """

    def __init__(self, node: Node, inprocess: InProcess, now: Callable[[], int], calls: bool = True) -> None:
        self._calls_here = calls
        self.node = node
        self._inprocess = inprocess
        self._now = now
        #: Commands under way that may answer for the person.
        self.deputies = Deputies()
        self._in_hand: dict[Key, asyncio.Task[None]] = {}
        self._works: dict[Key, Work] = {}
        self._calls: set[Key] = set()
        #: Who hears of what is in hand.
        self._told: dict[Key, Session] = {}
        #: Attempts that were begun here, the last ones last: who owes one again has not heard of its end yet.
        self._begun: dict[Key, None] = {}
        #: Sessions that were worked on here.
        self._entered: set[str] = set()
        #: What runs beside the tasks.
        self.services = Services(node)

    def perform(self, session: Session, command: Owed, entry: Entry) -> None:
        """Begins to carry out a command. What is in hand already is not begun again, and an attempt never is."""
        if isinstance(command, StartAttempt):
            key = (session.name, "start", command.task.id, command.n, command.nonce)
            if key in self._begun:
                return
            self._begun[key] = None
            if len(self._begun) > REMEMBERED:
                del self._begun[next(iter(self._begun))]
            spec = session.state.specs.get(command.spec)
            if spec is None:
                session.report(_orphaned(command))
                return
            if spec.runtime == "inprocess" and command.task.call is not None:
                if self._calls_here:
                    self._call(session, command)
                    return
                spec = replace(spec, runtime="python")
            self._begin(key, session, self._start(key, session, command, entry, spec))
        elif isinstance(command, VerifyAttempt):
            self._begin(
                (session.name, "verify", command.task.id, command.n, command.nonce), session, self._verify(session, command)
            )
        elif isinstance(command, EndAttempt):
            self._begin((session.name, "end", command.task.id, command.n, command.nonce), session, self._end(session, command))
        else:
            lowest = command.intent.stack[0]
            self._begin((session.name, "merge", lowest.task, lowest.attempt, ""), session, self._merge(session, command))

    def _begin(self, key: Key, session: Session, work: Coroutine[Any, Any, None]) -> None:
        if key in self._in_hand:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work, name=" ".join(map(str, key[:4])))
        self._in_hand[key], self._told[key] = task, session
        task.add_done_callback(lambda done: self._over(key, session, done))

    def _over(self, key: Key, session: Session, task: asyncio.Task[None]) -> None:
        for kept in (self._in_hand, self._works, self._told):
            kept.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            session.break_off(Bug(f"{' '.join(map(str, key[:4]))}: {type(error).__name__}: {error}", "Please report it."))

    def _call(self, session: Session, command: StartAttempt) -> None:
        """The short way of a callable in this process: no folder, no transcript, no task of the event loop."""
        name, n, nonce = command.task.id, command.n, command.nonce
        key = (session.name, "call", name, n, nonce)
        self._calls.add(key)
        self._told[key] = session

        def done(ending: Ending) -> None:
            self._calls.discard(key)
            self._told.pop(key, None)
            session.report(
                inp.Ended(
                    at=0,
                    task=name,
                    n=n,
                    nonce=nonce,
                    outcome="ok" if ending.ok else "interrupted" if ending.interrupted else "failed",
                    cause=ending.cause,
                    detail=ending.detail,
                    feedback=ending.detail,
                    result=ending.result,
                )
            )

        self._inprocess.start(command.task, key, done)

    async def _start(self, key: Key, session: Session, command: StartAttempt, entry: Entry, spec: AgentSpec) -> None:
        told: environment.Told | SkepError
        waiting: tuple[Message, ...] = ()
        try:
            if mode_of(command.task) != "none":
                await self._enter(session)
                await self.node.workspace.have(session.name, command.base, command.origin)
            told = environment.tell(session.state, entry)
            if command.task.resolves:
                told = await conflicts.put_before(self.node.workspace, session.state, entry, told)
            gate = session.state.entries.get(command.task.parent)
            if gate is not None and gate.task.gate:
                told = await phases.put_before(self.node.workspace, session.state, gate, told)
            elif command.task.ballot:
                told = await ballots.put_before(self.node.workspace, session.state, entry, told)
            elif kind_of(command.task) == "prompt":
                waiting = inbox(session.state, command.agent)
                told = with_mail(await reminding.put_before(self.node.bank, session.name, session.state, command, told), waiting)
            if needed(session.state.plan, mode_of(command.task)):
                told = replace(told, services=await self.services.ready(session))
        except SkepError as error:
            told = error
        setup = session.state.plan.setup
        leave = Leave(session, command.task.id, command.n, command.nonce, self._now)
        said = self.services.reach(session.name, of_agent(self.node.confining, session.state.plan, spec))
        desk = self._desk(session, command)
        tell, record = session.tell, session.report
        work = Work(self.node, session.name, command, spec, said, told, setup, tell, record, self._now, leave, desk)
        desk.prompted = work.given = tuple(message.id for message in waiting)
        self._works[key] = work
        self.node.recorder.begin(session.name, command.task.id, command.n)
        try:
            report = await work.carry_out()
        finally:
            self.node.recorder.keep(session.name, command.task.id, command.n)
        if not (isinstance(report, inp.Ended) and report.outcome == "interrupted"):
            # Only now: an agent that was interrupted may not have read them, and finds them again.
            had = (message.id for message in inbox(session.state, command.agent))
            if ids := tuple(name for name in had if name in work.given or name in desk.given):
                session.report(inp.Delivered(at=0, ids=ids, target=command.agent))
        session.report(report)
        if isinstance(report, inp.Ended | inp.Worked) and report.outputs:
            await self._unpin(session, report.outputs)

    async def _enter(self, session: Session, anew: bool = False) -> None:
        """Before the first work on a session here, and before each merge: it may have begun, or gone on, elsewhere."""
        state = session.state
        if state.base and (anew or session.name not in self._entered):
            await self.node.workspace.enter(session.name, opened_with(state), state.tip)
            self._entered.add(session.name)

    def _desk(self, session: Session, command: StartAttempt) -> Desk:
        return Desk(session, command, self._now, self.node.bank)

    def at_work(self, session: str) -> set[str]:
        """The tasks of a session for which something is being done here."""
        return {key[2] for key in self._in_hand if key[0] == session}

    def tells(self, session: Session) -> bool:
        """Whether something is in hand here of which this very session will hear."""
        return session in self._told.values()

    def hand_over(self, session: Session, agent: str) -> bool:
        """See the port; returns whether it could hear. What could not be said waits for its next prompt."""
        for key, work in self._works.items():
            if key[0] == session.name and work.command.agent == agent and work.hear is not None:
                if work.desk.reading:
                    return False  # it asks for its messages itself just now
                fresh = [message for message in inbox(session.state, agent) if message.id not in work.given]
                with contextlib.suppress(SkepError):  # it reads nothing just now
                    for message in fresh:
                        work.hear(written(message))
                        work.given += (message.id,)
                        session.report(inp.Delivered(at=0, ids=(message.id,), target=agent))
                    return True
        return False

    async def _unpin(self, session: Session, outputs: dict[str, Output]) -> None:
        """The outputs are safe from collection by their pins until the log names them."""
        with contextlib.suppress(SkepError):
            await session.ask(lambda state: None)
            for output in outputs.values():
                await self.node.blobs.unpin(output.digest)

    async def _end(self, session: Session, command: EndAttempt) -> None:
        """Ends what runs of an attempt, here or left behind by an owner that died, and keeps what it left."""
        name, n, nonce = command.task.id, command.n, command.nonce
        wip = ""
        call = (session.name, "call", name, n, nonce)
        if await self._inprocess.cancel(call):
            self._calls.discard(call)
            self._told.pop(call, None)
            session.report(inp.Gone(at=self._now(), task=name, n=n, nonce=nonce))
            return
        mine = [(key, task) for key, task in self._in_hand.items() if key[0] == session.name and key[2:] == (name, n, nonce)]
        for key, task in mine:
            if key[1] in ("start", "verify"):
                work = self._works.get(key)
                task.cancel()
                await asyncio.wait([task])
                wip = work.wip if work is not None else wip
        if len(mine) <= 1:
            wip = await self._salvage(session.name, command)
        session.report(inp.Gone(at=self._now(), task=name, n=n, nonce=nonce, wip=wip))

    async def _salvage(self, session: str, command: EndAttempt) -> str:
        """What an attempt of a dead owner left in its worktree. Its processes are gone: `sweep` came first."""
        workspace, task = self.node.workspace, command.task
        if mode_of(task) == "none":
            return ""
        with contextlib.suppress(SkepError):
            path = workspace.path(session, place_of(task))
            wip = await self.keep(path, session, task, command.n)
            if mode_of(task) == "isolated":
                await workspace.remove(path)
            return wip
        return ""

    async def keep(self, path: str, session: str, task: Task, n: int) -> str:
        """Commits what an attempt left in a working tree, as work in progress; returns the commit, "" if it left nothing."""
        trailers = {"Skep-Session": session, "Skep-Task": task.id, "Skep-Attempt": str(n)}
        words = f"{task.objective or task.id}: interrupted"
        return await self.node.workspace.capture(path, session, f"wip/{task.id}/{n}", words, trailers, self._now())

    async def sweep(self) -> None:
        """Ends what an owner that died left running and removes its attempts' folders. Before anything new is started."""
        await end_marked(str(self.node.state))
        await asyncio.to_thread(shutil.rmtree, self.node.state / "attempts", True)

    def teller(self, session: Session) -> Teller:
        """Whoever runs the session's notifications."""
        env = {**self.node.allowed, **self.node.marks}
        return Teller(session, self.node.aside, env, str(self.node.folder), self._now, self.deputies)

    async def _verify(self, session: Session, command: VerifyAttempt) -> None:
        """Runs a task's `verify` in a clean checkout of its commit, never where the agent worked."""
        task = command.task
        assert task.verify is not None
        env = {"SKEP_TASK": task.id, "SKEP_SLOT": str(command.slot), **task.env}
        found, cause = await self._checked(
            session,
            ("verify", task.id, command.n),
            command.commit,
            (*session.state.plan.setup, *task.setup),
            task.verify,
            command.nonce,
            env,
            task.timeout,
            self._said(session, task.id),
            stood_in=session.state.plan.rehearsal and kind_of(task) == "prompt",
        )
        session.report(
            inp.Ended(
                at=0,
                task=task.id,
                n=command.n,
                nonce=command.nonce,
                outcome="ok" if found.ok else "failed",
                cause=cause,
                detail=found.detail,
                feedback=found.feedback,
            )
        )

    def _said(self, session: Session, task: str) -> Confinement:
        """How the agent of a task is confined."""
        state = session.state
        agent = state.agents.get(state.entries[task].agent)
        spec = state.specs.get(agent.spec) if agent is not None else None
        if spec is None:
            return settled(self.node.confining, state.plan.sandbox)
        return of_agent(self.node.confining, state.plan, spec)

    async def _merge(self, session: Session, command: Merge) -> None:
        """Lands a stack, each of its verifications in a clean checkout of its own (see `runtime.stacks`)."""

        said, rehearsal = settled(self.node.confining, session.state.plan.sandbox), session.state.plan.rehearsal
        remarks: dict[str, None] = {}

        async def verify(top: Candidate, commit: str) -> Refusal | None:
            if command.verify is None:
                return None
            name = ("merge", top.task, top.attempt)
            nonce = short(session.name, *name).ljust(32, "0")
            found, cause = await self._checked(
                session, name, commit, command.setup, command.verify, nonce, {}, 0.0, said, stood_in=rehearsal
            )
            if found.ok and found.detail:
                remarks[found.detail] = None
            return None if found.ok else Refusal(cause, found.detail, found.feedback)

        try:
            await self._enter(session, anew=True)
        except SkepError as error:
            why = error.message
            session.report(inp.MergeEnded(at=0, intent=command.intent, cause="infrastructure", detail=why, feedback=why))
            return
        report = await land(self.node.workspace, session.name, command, verify)
        session.report(report if report.cause else replace(report, detail="; ".join(remarks)))

    async def _checked(
        self,
        session: Session,
        name: tuple[str, str, int],
        commit: str,
        setup: tuple[Command, ...],
        verify: Command,
        nonce: str,
        env: dict[str, str],
        timeout: float,
        said: Confinement,
        *,
        stood_in: bool,
    ) -> tuple[Checked, Cause]:
        """Runs a verification in a clean checkout of a commit, recorded beside the attempt's transcript.

        Args:
            stood_in: whether it judges the work of stand-ins, in a rehearsal.
        """
        node = self.node
        kind, task, n = name
        transcript = Transcript.create(node.transcripts, session.name, task, n, kind)
        env = {**node.allowed, **env, **node.marks, "SKEP_NONCE": nonce, "SKEP_SESSION": session.name}
        path = ""
        try:
            await self._enter(session)
            env |= await self.services.ready(session)
            said = self.services.reach(session.name, said)
            path = await node.workspace.checkout(session.name, f"{kind}/{task}/{n}", commit)
            confined = None
            if said.mode != "off":
                around = await node.workspace.around(path)
                env = {**around.env, **env}
                confined = bounds(said, node.folder, node.state, env, around, (), "")
            with node.wards.of(nonce, confined, hosts=said.network):
                async with bounded(confined):
                    found = await setups(node.wards, setup, path, env, nonce, transcript.write)
                    if not found.ok:
                        return found, "infrastructure"
                    found = await check(node.wards, "verify", verify, path, env, nonce, transcript.write, timeout)
                found = excused(found) if stood_in else found
                return found, "" if found.ok else "infrastructure" if found.lost else "verify-failed"
        except Full as error:
            return Checked(False, f"verify: {error.message}", str(error)), "verify-failed"
        except SkepError as error:
            return Checked(False, error.message, str(error)), "infrastructure"
        except OSError as error:
            return Checked(False, str(error)), "infrastructure"
        finally:
            transcript.close()
            node.recorder.keep(session.name, task, n, kind)
            if path:
                with contextlib.suppress(SkepError):
                    await asyncio.shield(node.workspace.remove(path))

    async def abandon(self, session: str) -> None:
        """Ends what runs of a session here, and tells nobody: it may be given to others by now. What it left is kept."""
        tasks = [task for key, task in self._in_hand.items() if key[0] == session]
        for task in tasks:
            task.cancel()
        for key in [key for key in self._calls if key[0] == session]:
            await self._inprocess.cancel(key)
            self._calls.discard(key)
            self._told.pop(key, None)
        if tasks:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Gives up what is in hand; it stays owed. Attempts must have been ended before, by stopping their sessions."""
        tasks = list(self._in_hand.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.services.close()


def _orphaned(command: StartAttempt) -> inp.Ended:
    """What becomes of an attempt that was to start again after the plan lost its kind of agent."""
    detail = f"there are no agents '{command.spec}' any more"
    return inp.Ended(
        at=0, task=command.task.id, n=command.n, nonce=command.nonce, outcome="interrupted", cause="interrupted", detail=detail
    )
