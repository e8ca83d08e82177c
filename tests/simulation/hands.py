"""The hands of one owner: they carry out what the core owes to the world, step by step, and may be cut off between any two."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec

from skep.core import due
from skep.core import inputs as inp
from skep.core.commands import EndAttempt, Merge, Owed, StartAttempt, VerifyAttempt
from skep.core.envelope import Message
from skep.core.intent import Candidate, MergeIntent
from skep.core.messages import inbox
from skep.core.model import Entry, Output
from skep.errors import Conflict, SkepError, Unavailable
from skep.runtime import ballots, stacks
from skep.runtime.environment import Told
from skep.runtime.session import Session
from skep.runtime.stacks import Refusal
from skep.workspace import Built
from tests.simulation.agents import Agent, proposal, vote
from tests.simulation.virtual import Life
from tests.simulation.world import Process, World

Report = inp.Worked | inp.Ended | inp.Gone | inp.MergeEnded
#: Kind of command, task, attempt, nonce.
Key = tuple[str, str, int, str]


class SimHands:
    """The protocol `Hands` in a simulated world.

    Args:
        world: the outside.
        life: the owner's process; its children and its work in hand die with it, unless the world says otherwise.
    """

    def __init__(self, world: World, life: Life) -> None:
        self.world = world
        self.life = life
        #: Work in hand, and work that was done and reported.
        self.in_hand: set[Key] = set()
        self.reported: set[Key] = set()
        #: Agents at work under this owner.
        self.agents: list[Agent] = []

    def perform(self, session: Session, command: Owed, entry: Entry) -> None:
        """See `Hands.perform`."""
        kind = type(command).__name__
        if isinstance(command, Merge):
            key = (kind, *due.merge_key(command.intent)[1:], "")
        else:
            key = (kind, command.task.id, command.n, command.nonce)
        # A merge may be asked for again by a person, and what is ended already is ended at no cost.
        again = key in self.reported and isinstance(command, StartAttempt | VerifyAttempt)
        self.world.check(not again, f"{kind} of {key[1]} is begun again although it was done and reported")
        if key not in self.in_hand:
            self.in_hand.add(key)
            self.life.run(self._carry_out(session, command, key, entry))

    async def _carry_out(self, session: Session, command: Owed, key: Key, entry: Entry) -> None:
        if isinstance(command, StartAttempt):
            report = await self.start(session, command, entry)
        elif isinstance(command, VerifyAttempt):
            report = await self.verify(command)
        elif isinstance(command, EndAttempt):
            report = await self.finish(command)
        else:
            report = await self.merge(command)
        if report is not None:
            await self.send(session, report, key)
        self.in_hand.discard(key)

    async def send(self, session: Session, report: Report, key: Key) -> None:
        """Reports, sometimes late, sometimes twice."""
        faults = self.world.faults
        if faults.strikes("report late"):
            await self.world.pass_time(1.0, 30.0)
        session.report(report)
        self.reported.add(key)
        if faults.strikes("report twice"):
            await self.world.pass_time(0.0, 10.0)
            session.report(report)

    async def start(self, session: Session, command: StartAttempt, entry: Entry) -> Report | None:
        """Spawns at the gate, has it recorded, lets go, waits. Nothing is to be reported of what somebody else ends."""
        mail: tuple[Message, ...] = ()
        if command.task.ballot:
            await self._show(session, entry)
        elif command.task.prompt is not None:
            mail = inbox(session.state, command.agent)
        await self.world.pass_time(0.0, 0.2)
        named = {"task": command.task.id, "n": command.n, "nonce": command.nonce}
        if self.world.faults.strikes("spawn fails"):
            return self.ended(named, "failed", cause="infrastructure", detail="no space for a worktree")
        process = self.world.spawn(command, self.life)
        if not await self.recorded(session, process):
            self.world.kill(process)
            return None
        self.world.release(process)
        if command.task.prompt is not None:
            agent = Agent(self.world, session, process, mail, self.hand_over)
            self.agents.append(agent)
            process.deeds = self.life.run(agent.work())
        timed_out = not await self.wait(process, command.task.timeout)
        if process.deeds is not None:
            process.deeds.cancel()
            self.agents = [other for other in self.agents if other.process is not process]
        if timed_out:
            self.world.kill(process)
            await process.gone
        if process.outcome == "killed" and not timed_out:
            return None
        if process.stage == "lingering" and command.task.verify is not None:
            self.world.kill(process)
            await process.gone
        await self.world.pass_time(0.0, 0.2)
        report = self.result(process, named, timed_out)
        if not (isinstance(report, inp.Ended) and report.outcome == "interrupted"):
            session.report(inp.Delivered(at=0, ids=tuple(message.id for message in mail), target=process.agent))
        return report

    async def _show(self, session: Session, entry: Entry) -> None:
        """What a voter is told, by the production code."""
        told = Told(task=entry.task, needs={}, inputs={}, prompt=entry.task.prompt or "")
        diffs: Any = SimDiffs(self.world)  # as much of a workspace as it needs
        with contextlib.suppress(SkepError):
            shown = await ballots.put_before(diffs, session.state, entry, told)
            self.world.votes.shown(entry.task.id, shown.prompt)

    def hand_over(self, session: Session, agent: str) -> None:
        """Gives an agent at work what waits for it, if it can hear."""
        for one in self.agents:
            if one.process.agent == agent and one.hears and one.process.stage == "working":
                for message in [message for message in inbox(session.state, agent) if message.id not in one.given]:
                    one.hear(message)
                    session.report(inp.Delivered(at=0, ids=(message.id,), target=agent))
                return

    async def wait(self, process: Process, timeout: float) -> bool:
        """Waits for the end of the main process; False if its time is up first."""
        done, _ = await asyncio.wait({process.ended}, timeout=timeout or None)
        return bool(done)

    async def recorded(self, session: Session, process: Process) -> bool:
        """Whether the log holds that the process exists; asks again while that is unknown."""
        while True:
            told = inp.Spawned(
                at=self.world.now(),
                task=process.task.id,
                n=process.n,
                nonce=process.nonce,
                pid=process.pid,
                born=process.pid,
            )
            try:
                await session.tell(told)
                return True
            except Conflict:
                return False
            except Unavailable:
                if session.failure is not None:
                    return False
                await self.world.pass_time(0.01, 1.0)

    def result(self, process: Process, named: dict[str, object], timed_out: bool) -> Report:
        """What is reported of a process that ended by itself, or because its time was up."""
        gone = process.stage == "gone"
        if timed_out and process.outcome == "killed":
            self.world.reported[process.task.id, process.n].add("failed")
            return self.ended(named, "failed", cause="timed-out", detail="its time is up", feedback="be quicker", gone=gone)
        if process.outcome == "failed":
            return self.ended(named, "failed", cause="exit", exit_code=1, detail="exit 1", feedback="it broke", gone=gone)
        if process.outcome == "turned away":
            until = self.world.providers.stated[process.nonce]
            cause = "limit" if until else "infrastructure"
            return self.ended(named, "interrupted", cause=cause, until=until, detail="its provider", gone=gone)
        if process.outcome == "marks":
            return self.ended(named, "failed", cause="conflict", commit=process.commit, detail="marks are left", gone=gone)
        outputs = {name: output(process.task.metadata.get("items", [])) for name in process.task.outputs}
        if process.task.ballot:
            text = vote(self.world, process)
            outputs = {"vote": Output(digest="0" * 64, size=len(text), text=text)}
        fields = {"commit": process.commit, "exit_code": 0, "outputs": outputs, "result": process.n}
        fields["proposal"] = proposal(self.world, process)
        if process.task.verify is not None:
            return msgspec.convert({**named, **fields, "at": self.world.now(), "type": "worked"}, inp.Worked)
        return self.ended(named, "ok", gone=gone, **fields)

    def ended(self, named: dict[str, object], outcome: str, **fields: object) -> inp.Ended:
        """The report that an attempt is over."""
        return msgspec.convert({**named, **fields, "outcome": outcome, "at": self.world.now(), "type": "ended"}, inp.Ended)

    async def verify(self, command: VerifyAttempt) -> Report:
        """Runs the task's own check on its commit."""
        await self.world.pass_time(0.1, 3.0)
        named = {"task": command.task.id, "n": command.n, "nonce": command.nonce}
        if self.world.random.random() < command.task.metadata.get("unverified", 0.0):
            self.world.faults.note("task fails its verification")
            self.world.reported.setdefault((command.task.id, command.n), set()).add("failed")
            return self.ended(named, "failed", cause="verify-failed", detail="no", feedback="test_a failed")
        return self.ended(named, "ok")

    async def finish(self, command: EndAttempt) -> Report:
        """Ends every process that carries the attempt's marker, whoever started it, and waits until they are gone."""
        await self.world.pass_time(0.0, 0.2)
        mine = [process for process in self.world.processes if process.nonce == command.nonce]
        wip = ""
        for process in mine:
            self.world.kill(process)
            await asyncio.wait({process.gone})
            wip = self.world.keep(process) if process.released >= 0 else wip
        return inp.Gone(at=self.world.now(), task=command.task.id, n=command.n, nonce=command.nonce, wip=wip)

    async def merge(self, command: Merge) -> Report:
        """The protocol itself, with the world's repository and checks in place of real ones."""
        world = self.world
        flaking, runs = (world.random.randrange(5) if world.faults.strikes("verification flakes") else -1), 0

        async def verify(top: Candidate, commit: str) -> Refusal | None:
            nonlocal runs
            await world.pass_time(0.1, world.checking)
            if world.faults.strikes("verification lost"):
                return Refusal("infrastructure", "no room for a checkout")
            fails, runs = runs == flaking or world.spoiled(commit), runs + 1
            return Refusal("verify-failed", "it fails") if fails else None

        await world.pass_time(0.0, 0.5)
        report = await stacks.land(SimBranch(world, self.life, command.intent), world.session, command, verify)
        if report.cause in ("conflict", "verify-failed"):
            world.faults.note("merge conflicts" if report.cause == "conflict" else "merge fails")
        if len(report.commits) > 1:
            world.faults.note("several are merged at once")
        if report.commits and report.cause == "verify-failed":
            world.faults.note("a culprit above good ones")
        await world.pass_time(0.0, 0.5)
        return msgspec.structs.replace(report, at=world.now())


class SimDiffs:
    """What candidates changed, as voters see it: the world's stand-in for `Workspace.diff`."""

    def __init__(self, world: World) -> None:
        self._git = world.git

    async def have(self, session: str, *commits: str) -> None:
        """See `Workspace.have`: all lie here."""

    async def diff(self, base: str, commit: str) -> str:
        """See `Workspace.diff`."""
        before, after = self._git.commits[base].tree, self._git.commits[commit].tree
        return "\n".join(f"+++ {path}" for path in after if after[path] != before.get(path))


class SimBranch:
    """The world's repository as the merge protocol uses it; every step takes its time, so an owner may die before it."""

    def __init__(self, world: World, life: Life, intent: MergeIntent) -> None:
        self.world = world
        self.life = life
        self.intent = intent

    async def build(
        self, session: str, base: str, candidate: Candidate, at: int, message: str, trailers: Mapping[str, str]
    ) -> Built:
        """See `Workspace.build`."""
        await self.world.pass_time(0.0, 0.1)
        commit = self.world.git.merge(base, candidate.commit, f"{candidate.task}/{candidate.attempt} at {at}")
        return Built(commit) if commit else Built(conflicts=("a file",), detail="both changed it")

    async def have(self, session: str, *commits: str) -> None:
        """The world has one repository."""

    async def changed(self, base: str, commit: str) -> list[str]:
        """See `Workspace.changed`. Nothing is protected."""
        return []

    async def marked(self, ours: str, theirs: str, commit: str) -> list[str]:
        """See `Workspace.marked`. Who resolves a conflict leaves no marks."""
        return []

    async def tip(self, session: str) -> str:
        """See `Workspace.tip`."""
        await self.world.pass_time(0.0, 0.1)
        return self.world.git.ref

    async def advance(self, session: str, new: str, old: str) -> str:
        """See `Workspace.advance`."""
        await self.world.pass_time(0.0, 0.1)
        self.world.move(self.intent, new, self.life)
        return self.world.git.ref


def output(items: list[object]) -> Output:
    """A list as the text of an output file."""
    text = msgspec.json.encode(items)
    return Output(digest="0" * 64, size=len(text), text=text.decode())
