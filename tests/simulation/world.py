"""The outside: processes, agents, a repository, a wall clock. It keeps its own account, and objects when the core errs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from random import Random
from typing import Any, Literal

from msgspec import Struct

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.commands import StartAttempt
from skep.core.intent import MergeIntent
from skep.core.model import Plan, Resources, Task
from skep.errors import Denied, SkepError, Unavailable
from skep.runtime.session import Session
from tests.simulation.chronicle import Chronicle
from tests.simulation.clashes import MARK, Clashes
from tests.simulation.costs import Costs
from tests.simulation.faults import Faults
from tests.simulation.git import Git
from tests.simulation.leaves import Leaves
from tests.simulation.mail import Mail
from tests.simulation.offers import Offers
from tests.simulation.providers import Providers
from tests.simulation.times import Times
from tests.simulation.virtual import Life, VirtualLoop
from tests.simulation.votes import Votes
from tests.simulation.witness import Witness

#: Wall-clock ms at the beginning.
EPOCH = 1_700_000_000_000
#: What the text of a file ends in that fails every verification.
SPOILED = " spoiled"
#: What the one node has.
CAPACITY = Resources(cpu=4.0, memory=8 << 30, storage=100 << 30)


class Violated(Exception):
    """Something that must never be. The message begins with the seed."""


class Process(Struct, eq=False):
    """A process group of an attempt. `gated` = it waits for being let go; `lingering` = only children of it are left."""

    pid: int
    task: Task
    n: int
    nonce: str
    agent: str
    slot: int
    base: str
    life: Life
    ended: asyncio.Future[str]
    gone: asyncio.Future[None]
    stage: Literal["gated", "working", "lingering", "gone"] = "gated"
    outcome: str = ""
    commit: str = ""
    released: float = -1.0
    #: What its agent does by way of its owner.
    deeds: asyncio.Task[None] | None = None


class World:
    """One seeded world.

    Args:
        session: name of the session that lives in it.
        random: where all chance comes from.
        faults: what goes wrong.
        plan: what the session is opened with.
        slots: of the one node.
        former: the world that this one is a fork of.
    """

    def __init__(
        self,
        session: str,
        loop: VirtualLoop,
        random: Random,
        faults: Faults,
        plan: Plan,
        slots: int,
        former: World | None = None,
    ) -> None:
        self.session = session
        self.loop = loop
        self.random = random
        self.faults = faults
        self.slots = slots
        self.chronicle = Chronicle(self.object, self._hear)
        self.chronicle.ended = self._appended
        self.git = Git()
        self.objections: list[str] = []
        self.processes: list[Process] = []
        self.skew = 0
        #: How likely it is that what an attempt made fails every verification of a commit that holds it.
        self.unmergeable = 0.0
        #: Seconds that such a verification takes at most: while it goes on, more results wait to be merged.
        self.checking = 2.0
        #: What processes told of themselves: (task, attempt number) -> outcomes.
        self.reported: dict[tuple[str, int], set[str]] = {}
        #: Events that were in the log when this world began: a fork's.
        self.begun_at = 0
        self.late: Callable[[Process], None] = lambda process: None
        #: The process that has the lock of the state folder.
        self.owner: Life | None = None
        self.life = Life("world", loop)
        self._limit = plan.limits.agents
        self._max_load = {spec.name: spec.max_load for spec in plan.agents}
        self.costs: Costs = Costs(self, former.costs if former is not None else None)
        self.leaves: Leaves = Leaves(self, former.leaves if former is not None else None)
        self.mail: Mail = Mail(self, former.mail if former is not None else None)
        self.offers: Offers = Offers(self, former.offers if former is not None else None)
        self.providers: Providers = Providers(self, former.providers if former is not None else None)
        self.votes: Votes = Votes(self, former.votes if former is not None else None)
        #: A promise more is a witness more. What was worked is known first: the others judge by it.
        self.witnesses: tuple[Witness, ...] = (
            Times(self),
            *(self.costs, self.leaves, self.mail, self.offers, self.providers, self.votes),
            Clashes(self),
        )
        #: How often each kind of event was told.
        self.kinds: Counter[str] = Counter()

    def object(self, message: str) -> None:
        """Something is wrong: the world stops."""
        self.objections.append(f"at {self.loop.time():.3f} s: {message}")
        self.loop.stop()

    def check(self, holds: bool, message: str) -> None:
        """Objects unless it holds."""
        if not holds:
            self.object(message)

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts something that no crash of an owner touches."""
        return self.life.run(work)

    def now(self) -> int:
        """What the wall clock shows, ms."""
        return EPOCH + int(self.loop.time() * 1000) + self.skew

    async def pass_time(self, least: float, most: float) -> None:
        """Sleeps between `least` and `most` seconds."""
        await asyncio.sleep(self.random.uniform(least, most))

    def spawn(self, command: StartAttempt, life: Life) -> Process:
        """A process that waits at its gate."""
        self.check(self.git.contains(command.base, self.git.root), f"{command.task.id} starts from nowhere")
        process = Process(
            len(self.processes) + 100,
            command.task,
            command.n,
            command.nonce,
            command.agent,
            command.slot,
            command.base,
            life,
            self.loop.create_future(),
            self.loop.create_future(),
        )
        self.processes.append(process)
        return process

    def release(self, process: Process) -> None:
        """Opens its gate: from here on it works."""
        if process.stage != "gated" or process.life.dead:
            return
        name = f"attempt {process.n} of {process.task.id}"
        self.check(self.chronicle.may_run(process.task.id, process.n, process.nonce), f"{name} was let go without being recorded")
        twice = any(other.nonce == process.nonce and other.released >= 0 for other in self.processes)
        self.check(not twice, f"{name} was begun twice")
        self._check_room(process, name)
        for commit in self.chronicle.tasks[process.task.id].builds_on:
            self.check(self.git.contains(process.base, commit), f"{name} starts without what was merged of its needs")
        process.stage, process.released = "working", self.loop.time()
        self.run(self._work(process))

    def _check_room(self, process: Process, name: str) -> None:
        others = list(self.working())
        for other in others:
            self.check(other.task.id != process.task.id, f"{name} is let go while attempt {other.n} still works")
            self.check(other.slot != process.slot, f"{name} shares slot {process.slot} with {other.task.id}")
            both = set(locks(process.task)) & set(locks(other.task))
            self.check(not both, f"{name} works under {both}, which {other.task.id} holds")
        carried = sum(other.agent == process.agent for other in others)
        most = self._max_load.get(process.agent.rpartition("-")[0], 1)
        self.check(carried < most, f"agent {process.agent} carries {carried + 1} tasks, {most} at most")
        self.check(len(others) < min(self._limit, self.slots), f"{len(others) + 1} attempts work at once")
        held = (self.chronicle.tasks[other.task.id].reserved for other in (*others, process))
        asked = [reserved for reserved in held if reserved is not None]
        self.check(sum(r.cpu for r in asked) <= CAPACITY.cpu + 1e-6, f"{name} takes more cpu than there is")
        self.check(sum(r.memory for r in asked) <= CAPACITY.memory, f"{name} takes more memory than there is")
        foreach = self.chronicle.tasks[process.task.parent].task.foreach if process.task.parent else None
        if foreach is not None and foreach.max_parallel:
            beside = sum(other.task.parent == process.task.parent for other in others)
            self.check(beside < foreach.max_parallel, f"{name}: {beside + 1} items at once, {foreach.max_parallel} at most")

    def working(self) -> Iterable[Process]:
        """Processes that were let go and are not gone."""
        return (process for process in self.processes if process.stage in ("working", "lingering"))

    async def _work(self, process: Process) -> None:
        """The life of a process, once it was let go. It goes on when its owner dies."""
        task, nature = process.task, process.task.metadata
        await self.pass_time(0.05, nature.get("seconds", 5.0))
        if process.stage != "working":
            return
        if nature.get("kills"):
            self.faults.note("task kills its owner")
            process.life.kill()
        if self.random.random() < nature.get("hangs", 0.0):
            self.faults.note("task hangs")
            return
        if process.deeds is not None:
            # An agent waits for what it asked, but not for ever.
            waiting = {process.deeds, process.life.died}
            await asyncio.wait(waiting, timeout=self.random.uniform(5.0, 120.0), return_when=asyncio.FIRST_COMPLETED)
            if process.stage != "working":
                return
            if self.random.random() < nature.get("limited", 0.0):
                self._turn_away(process)
                return
        if self.random.random() < nature.get("fails", 0.0):
            self.faults.note("task fails")
            self.end(process, "failed")
            return
        if leaves_marks(process):
            process.commit = self.keep(process)
            self.end(process, "marks")
            return
        process.commit = self.keep(process) if task.mode in ("", "isolated") and task.call is None else ""
        self.end(process, "ok")

    def _turn_away(self, process: Process) -> None:
        """Its provider names a time to come back, or does not answer at all."""
        down = self.random.random() < 0.2
        self.faults.note("provider down" if down else "provider limits")
        self.providers.stated[process.nonce] = 0 if down else self.now() + self.random.randrange(1_000, 90_000)
        self.end(process, "turned away")

    def keep(self, process: Process) -> str:
        """Commits what the attempt has done; its base if that is nothing."""
        writes = process.task.metadata.get("writes", ())
        if not writes:
            return process.base
        tree = dict(self.git.commits[process.base].tree)
        made = f"{process.task.id}/{process.n}"
        if process.task.resolves and (process.outcome == "killed" or leaves_marks(process)):
            made = MARK + made
        # The same again if it is asked twice.
        spoiled = SPOILED if Random(f"{made} {process.nonce}").random() < self.unmergeable else ""
        tree.update((path, made + spoiled) for path in writes)
        return self.git.commit((process.base,), tree, f"{process.task.id}/{process.n}")

    def spoiled(self, commit: str) -> bool:
        """Whether a commit holds something that fails."""
        return any(text.endswith(SPOILED) for text in self.git.commits[commit].tree.values())

    def end(self, process: Process, outcome: str) -> None:
        """Its main process ends; sometimes children of it stay behind."""
        process.outcome = outcome
        stays = outcome != "killed" and not process.life.dead and self.faults.strikes("process leaves children")
        process.stage = "lingering" if stays else "gone"
        self.reported.setdefault((process.task.id, process.n), set()).add("failed" if outcome == "marks" else outcome)
        process.ended.set_result(outcome)
        if not stays:
            process.gone.set_result(None)
        if process.life.dead and outcome != "killed":
            self.late(process)

    def kill(self, process: Process) -> None:
        """Terminates, then kills the group; it is gone soon, or, if it hangs in the kernel, later."""
        if process.stage == "gated":
            self.end(process, "killed")
        elif process.stage != "gone":
            delay = (
                self.random.uniform(20.0, 60.0) if self.faults.strikes("process unkillable") else self.random.uniform(0.0, 2.0)
            )
            self.loop.call_later(delay, self._killed, process, context=self.life.context())

    def _killed(self, process: Process) -> None:
        if process.stage == "lingering":
            process.stage = "gone"
            process.gone.set_result(None)
        elif process.stage == "working":
            self.end(process, "killed")

    def move(self, intent: MergeIntent, commit: str, life: Life) -> bool:
        """Moves the session's branch from where the intent says to the commit that was built.

        On one machine nobody does so who lost the lock of the state folder; here a superseded owner may think that it has it.
        """
        if life is not self.owner or not self.git.move(intent.base, commit):
            return False
        names = [candidate.task for candidate in intent.stack]
        marked = [path for path, text in self.git.commits[commit].tree.items() if text.startswith(MARK)]
        self.check(not marked, f"the branch moved for {names}, and {marked} hold conflict markers")
        self.check(self.chronicle.intent == intent, f"the branch moved for {names}, and the log holds no such intent")
        self.check(not self.spoiled(commit), f"the branch moved for {names} to what fails its verification")
        return True

    async def send(self, session: Session, given: inp.Send) -> None:
        """Says a message until it is known whether it was taken, or nobody is there any more."""
        while True:
            try:
                answer = await session.tell(given)
            except Denied:
                self.mail.refused(given)
                return
            except Unavailable:
                if session.failure is not None:
                    return
                await self.pass_time(0.1, 1.0)
            except SkepError:
                return
            else:
                self.mail.accepted(given, answer)
                if not self.faults.strikes("message sent twice"):
                    return

    def _hear(self, event: ev.Event) -> None:
        self.kinds[type(event).__name__] += 1
        self._judge_merge(event)
        for witness in self.witnesses:
            witness.hear(event)

    def _appended(self) -> None:
        for witness in self.witnesses:
            witness.appended()

    def _judge_merge(self, event: ev.Event) -> None:
        """What the log says of a merge must be so in the repository: it alone knows who has failed."""
        if isinstance(event, ev.Merged):
            made = self.chronicle.tasks[event.task].commit
            self.check(self.git.contains(self.git.ref, event.commit), f"{event.task} is merged, by the log alone")
            self.check(
                made in self.git.commits and self.git.contains(event.commit, made), f"{event.task} is merged without its work"
            )
        elif isinstance(event, ev.MergeFailed) and event.cause == "verify-failed":
            self.check(self.spoiled(self.chronicle.tasks[event.task].commit), f"{event.task} has failed, and is innocent")

    def owner_died(self, life: Life) -> None:
        """Gates close with their owner; the watchdog ends what was let go, unless it was ended as well."""
        for process in [process for process in self.processes if process.life is life and process.stage != "gone"]:
            if process.stage == "gated" or not self.faults.strikes("orphan lives on"):
                self.kill(process)


def leaves_marks(process: Process) -> bool:
    """Whether an agent that was to resolve a conflict leaves it half done."""
    return bool(process.task.resolves) and Random(f"{process.nonce} resolves").random() < 0.5


def locks(task: Task) -> tuple[str, ...]:
    """What no two attempts may hold at once."""
    return task.locks + (("the session's worktree",) if task.mode == "shared" else ())
