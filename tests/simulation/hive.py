"""A world of several processes in one session: who may lead, nodes, faces; production `Membership`, `Live`, `Loop` and `Replica`
in virtual time, over a store that they share. Some are killed, paused, cut off; people submit, cancel, and repeat themselves.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

from msgspec import Struct

from skep.core import inputs as inp
from skep.core.commands import EndAttempt, Owed, StartAttempt
from skep.core.model import AgentSpec, Entry, Limits, Plan, Resources, Task
from skep.errors import Bug, Conflict, SkepError, Unavailable
from skep.runtime.live import Live
from skep.runtime.membership import Membership
from skep.runtime.node import Here, SystemClock
from skep.runtime.parts import Parts
from skep.runtime.replica import Replica
from skep.runtime.session import Session
from skep.runtime.shared import NODES, Shared
from tests.simulation.faults import Faults
from tests.simulation.ledger import Ledger
from tests.simulation.shared_store import SESSION, SharedInbox, SharedLeases, SharedLog, SharedStore, Way
from tests.simulation.virtual import Life, VirtualLoop
from tests.simulation.world import Violated

#: What may go wrong, and how likely it is each time that it could.
KINDS = {
    "call slow": 0.003,
    "call lost": 0.01,
    "answer lost": 0.01,
    "killed before a call": 0.002,
    "killed after a call": 0.004,
    "push lost": 0.1,
    "push twice": 0.1,
    "push late": 0.1,
    "letter put twice": 0.1,
    "letter repeated": 0.05,
    "replicas behind": 0.05,
    "failover": 0.3,
    "killed": 0.15,
    "paused": 0.15,
    "cut off": 0.15,
    "clock jumps": 0.05,
    "given up by mistake": 0.05,
    "report late": 0.1,
    "report twice": 0.1,
}
#: Wall-clock ms at the beginning, and by how much the clocks of processes differ at most.
EPOCH, SKEW = 1_700_000_000_000, 100_000
#: Seconds that a caller waits; in which a healed world must come to rest; after which who is kept from nothing has noticed.
PATIENCE, LONG, SOON = 20.0, 200.0, 1.0
#: Seconds after which a session in which nothing goes on rests, and is let go of.
RESTED = 15.0
#: What the processes of a world may be: whether they lead, their slots. A lone one goes on with what it was asked.
ROLES = {"boss": (True, 0), "worker": (False, 3), "both": (True, 3), "face": (False, 0), "lone": (False, 3)}


class Call(Struct):
    """A submission: known by its mark."""

    mark: str
    answered: bool = False
    answer: tuple[str, ...] = ()


class Clock(SystemClock):
    """The clock of one process, wrong by its skew (ms)."""

    def __init__(self, loop: VirtualLoop, random: Random) -> None:
        self.skew = random.randrange(-SKEW, SKEW)
        self._loop = loop
        self._random = random

    def now(self) -> int:
        """See `SystemClock.now`."""
        return EPOCH + int(self._loop.time() * 1000) + self.skew

    def random(self, size: int) -> bytes:
        """See `SystemClock.random`."""
        return self._random.randbytes(size)


class SimHere(Here, frozen=True, kw_only=True):
    """A machine that has what it says, whatever this one has. `boots`: with which its process joined."""

    boots: list[str] = []  # noqa: RUF012  # a struct gives each of its own

    def join(self, folder: Path, clock: SystemClock) -> inp.JoinNode:
        """See `Here.join`."""
        has = Resources(cpu=99.0, memory=1 << 40, storage=1 << 40)
        self.boots.append(clock.random(16).hex())
        return inp.JoinNode(at=clock.now(), node=self.name, boot=self.boots[-1], capacity=has, slots=self.slots)


class NoServices:
    """Nothing runs beside the tasks here."""

    async def end(self, session: str) -> None:
        """See `Services.end`."""


class SimPerformer:
    """Carries out attempts on one process: what takes a while, ends well or not, and is reported late, or twice."""

    def __init__(self, hive: Hive, machine: Machine) -> None:
        self.services = NoServices()
        self.at_work: dict[tuple[str, str, int, str], asyncio.Task[None]] = {}
        #: Since when the work in hand longest is in hand.
        self.since = 0.0
        self._told: dict[tuple[str, str, int, str], Session] = {}
        self._begun: set[tuple[str, str, int, str]] = set()
        self._hive = hive
        self._machine = machine

    def perform(self, session: Session, command: Owed, entry: Entry) -> None:
        """See `Hands.perform`."""
        assert isinstance(command, StartAttempt | EndAttempt)
        key = (type(command).__name__, command.task.id, command.n, command.nonce)
        if key not in self.at_work and key not in self._begun:
            self.since = self.since if self.at_work else self._hive.loop.time()
            work = self._start(session, command) if isinstance(command, StartAttempt) else self._end(session, command)
            if isinstance(command, StartAttempt):
                self._begun.add(key)
            self.at_work[key] = task = asyncio.get_running_loop().create_task(work)
            self._told[key] = session
            task.add_done_callback(lambda _: (self.at_work.pop(key, None), self._told.pop(key, None)))

    def tells(self, session: Session) -> bool:
        """See `Performer.tells`."""
        return session in self._told.values()

    def hand_over(self, session: Session, agent: str) -> None:
        """See `Hands.hand_over`."""

    async def _start(self, session: Session, command: StartAttempt) -> None:
        hive, random = self._hive, self._hive.random
        named: dict[str, Any] = {"at": 0, "task": command.task.id, "n": command.n, "nonce": command.nonce}
        hive.ledger.begun(self._machine.node, self._machine.here.boots, command)
        while True:
            try:
                await session.tell(inp.Spawned(**named, pid=7, born=7))
                break
            except Conflict:
                return
            except Unavailable:
                if session.failure is not None:
                    return
                await asyncio.sleep(0.5)
        await asyncio.sleep(random.choice((0.01, 1.0, 8.0)))
        failed = random.random() < 0.1
        hive.ledger.reported(command)
        if hive.faults.strikes("report late"):
            await asyncio.sleep(random.uniform(0.1, 10.0))
        report = inp.Ended(**named, outcome="failed" if failed else "ok", result=None if failed else command.nonce)
        session.report(report)
        if hive.faults.strikes("report twice"):
            await asyncio.sleep(random.uniform(0.0, 10.0))
            session.report(report)

    async def _end(self, session: Session, command: EndAttempt) -> None:
        work = self.at_work.get(("StartAttempt", command.task.id, command.n, command.nonce))
        if work is not None:
            work.cancel()
            await asyncio.wait({work})
        session.report(inp.Gone(at=0, task=command.task.id, n=command.n, nonce=command.nonce))

    async def abandon(self, session: str) -> None:
        """See `Performer.abandon`."""
        tasks = [task for key, task in self.at_work.items() if self._told[key].name == session]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class SimLive(Live):
    """The sessions of one process; an earlier one left nothing behind, as its processes died with it."""

    async def _sweep(self) -> None:
        self._swept = True


class Machine:
    """One process.

    Args:
        role: see `ROLES`.
        number: of processes before it in the world.
    """

    def __init__(self, hive: Hive, name: str, role: str, number: int) -> None:
        leads, slots = ROLES[role]
        self.name, self.role = name, role
        self.node = name if slots else ""
        self.life = Life(f"{name}.{number}", hive.loop)
        self.way = Way(hive.store, self.life)
        self.clock = Clock(hive.loop, hive.random)
        self.performer = SimPerformer(hive, self)
        #: Since when nothing keeps it from noticing what goes on, on the world's clock.
        self.free = 0.0
        self.known = False
        serves = slots > 0 and role != "lone"
        leases = SharedLeases(self.way)
        shared = Shared(inbox=SharedInbox(self.way), leases=leases, owner=self.life.name, serves=serves, leads=leads)
        self.here = SimHere(name=name, slots=slots)
        parts: Any = {"performer": self.performer, "clock": self.clock, "here": self.here, "shared": shared}
        nothing: Any = None
        self.log = SharedLog(self.way)
        for name in ("config", "blobs", "bank", "workspace", "terminals", "close"):
            parts[name] = nothing
        whole = Parts(folder=Path(), state=Path(), log=self.log, **parts)
        self.live = SimLive(whole, nothing)
        if role == "lone":
            self.live.asked(SESSION)
        self.membership = Membership(whole, shared, self.live)

    async def main(self) -> None:
        """Takes its leases, as soon as its name is free and the store answers."""
        while True:
            with suppress(Conflict, Unavailable):
                await self.membership.start()
                self.known = True
                return
            await asyncio.sleep(1.0)

    async def session(self) -> Session:
        """The session as its callers get it; none before it is known to the others."""
        if not self.known:
            raise Unavailable("it is not open yet")
        return self.live.get(SESSION) or await self.live.loop(SESSION, hands=self.role == "lone")


class Hive:
    """One seed.

    Args:
        seed: of all that is random.
        calm: whether nothing goes wrong.
    """

    def __init__(self, seed: int, calm: bool = False) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.loop = VirtualLoop()
        self.faults = Faults(self.random, calm, KINDS)
        self.ledger = Ledger()
        self.ledger.at_work = self._still_works
        self.store = SharedStore(self.loop, self.random, self.faults, self.ledger)
        self.machines: list[Machine] = []
        self.calls: list[Call] = []
        self.told: list[tuple[Machine, asyncio.Future[Any]]] = []
        #: Nodes that are there and about to be given up: they cannot know it before.
        self._mistaken: set[str] = set()
        self._started = 0

    def go(self) -> Outcome:
        """Runs it to its end. Raises Violated."""
        objections = self.ledger.objections
        try:
            self.loop.complete(self._main())
        except Exception as error:
            if not objections:
                raise Violated(f"seed {self.seed}: at {self.loop.time():.3f} s: {type(error).__name__}: {error}") from error
        finally:
            self.loop.close()
        if objections:
            raise Violated(f"seed {self.seed}: {objections[0]}")
        digest = blake2b(b"".join(append.hash for append in self.store.session.log), digest_size=16).hexdigest()
        return Outcome(digest, self.faults.counts, self.ledger.kinds, self.loop.time())

    async def _main(self) -> None:
        self.faults.healed = True
        # Some must lead: those that may lead any session, or those that were asked for this one.
        leading = self.random.choice((("boss", "both"), ("boss", "both"), ("lone",)))
        roles = [leading[-1], "worker", self.random.choice(leading), self.random.choice(list(ROLES))]
        self.machines = [self._start(f"m{number}", role) for number, role in enumerate(roles)]
        await asyncio.sleep(0.1)
        await self.machines[0].life.run(self._open(self.machines[0]))
        self.faults.healed = False
        looking = self.loop.create_task(self._compare())
        users = [self.loop.create_task(self._use(f"u{n}")) for n in range(3)]
        await self._trouble()
        self._heal()
        _, left = await asyncio.wait(users, timeout=LONG)
        self.ledger.check(not left, f"{len(left)} callers repeat themselves for {LONG} s")
        await self._rest()
        looking.cancel()

    def _start(self, name: str, role: str) -> Machine:
        self._started += 1
        machine = Machine(self, name, role, self._started)
        machine.life.run(machine.main())
        return machine

    async def _open(self, machine: Machine) -> None:
        """The session is made while nothing goes wrong."""
        log = machine.log
        await log.create(SESSION, machine.clock.now())
        session = await machine.live.loop(SESSION, hands=False)
        agents = AgentSpec(name="shell", runtime="shell", count=0)
        plan = Plan(name=SESSION, agents=(agents,), limits=Limits(agents=8))
        await session.tell(inp.OpenSession(at=0, session=SESSION, plan=plan))
        await log.annotate(SESSION, "{}")
        await machine.live.loop(SESSION, hands=True)

    # What people do

    async def _use(self, name: str) -> None:
        for number in range(self.random.randrange(2, 6)):
            await asyncio.sleep(self.random.choice((0.0, 0.1, 4.0)))
            await self._submit(f"{name}.{number}", keyed=self.random.random() < 0.5)

    async def _submit(self, mark: str, keyed: bool) -> None:
        """Once, or with a key and until there is an answer."""
        random, call = self.random, Call(mark)
        self.calls.append(call)
        known = [name for made in self.ledger.made.values() for name in made]
        needs = tuple(random.sample(known, 1)) if known and random.random() < 0.3 else ()
        names = [f"{mark}.{n}" for n in range(random.choice((1, 2, 3)))]
        chain = random.random() < 0.5
        tasks = tuple(
            Task(id=name if chain else "", run="true", objective=mark, needs=(names[n - 1],) if chain and n else needs)
            for n, name in enumerate(names)
        )
        given = inp.Submit(at=0, tasks=tasks, key=mark if keyed else "")
        while True:
            if await self._ask(call, random.choice(self.machines), given) or not keyed:
                return
            await asyncio.sleep(1.0)

    async def _ask(self, call: Call, machine: Machine, given: inp.Submit) -> bool:
        """Whether there was an answer."""

        async def ask() -> None:
            with suppress(SkepError):
                answer = (await machine.session()).tell(given)
                self.told.append((machine, answer))
                await asyncio.wait({answer})
                if answer.exception() is None:
                    call.answered, call.answer = True, answer.result()

        await asyncio.wait({machine.life.run(ask()), machine.life.died}, timeout=PATIENCE, return_when="FIRST_COMPLETED")
        return call.answered

    # What goes wrong

    async def _trouble(self) -> None:
        for _ in range(self.random.choice((6, 12))):
            await asyncio.sleep(self.random.choice((0.3, 2.0, 4.0)))
            for number, machine in enumerate(self.machines):
                if machine.life.dead or self.faults.strikes("killed"):
                    machine.life.kill()
                    await asyncio.sleep(self.random.choice((0.0, 3.0)))
                    self.machines[number] = self._start(machine.name, machine.role)
                elif self.faults.strikes("paused"):
                    machine.life.pause()
                    machine.free = float("inf")
                    self.loop.call_later(self.random.choice((0.5, 3.0, 7.0)), self._resume, machine)
                elif self.faults.strikes("cut off"):
                    machine.way.cut()
                    self.loop.call_later(self.random.choice((0.5, 3.0, 9.0)), machine.way.mend)
                if machine.node and (session := machine.live.get(SESSION)) and self.faults.strikes("given up by mistake"):
                    self._mistaken.add(machine.node)
                    session.report(inp.LoseNode(at=0, node=machine.node, why="somebody says so"))
                if self.faults.strikes("clock jumps"):
                    machine.clock.skew += self.random.choice((-1, 1)) * self.random.randrange(3_600_000)

    def _resume(self, machine: Machine) -> None:
        machine.life.resume()
        machine.free = self.loop.time() + SOON

    def _still_works(self, node: str, boot: str) -> bool:
        """Whether a process that is kept from nothing works as this node, under this boot: it may have joined anew."""
        if node in self._mistaken:
            return False
        for machine in self.machines:
            works = machine.performer.at_work and boot.rpartition("-")[2] in machine.here.boots
            if machine.node == node and not machine.life.dead and machine.free < self.loop.time() and works:
                there = self.store.disk.leases[NODES].get(node, (0, "", ""))
                # It may be back, with nothing in hand from before, when it is given up for its absence.
                has = there[0] > self.store.now() and there[1] == machine.life.name
                return not (has and machine.performer.since >= machine.way.taken)
        return False

    def _heal(self) -> None:
        self.faults.heal()
        for number, machine in enumerate(self.machines):
            machine.way.mend()
            if machine.life.dead:
                self.machines[number] = self._start(machine.name, machine.role)
            elif machine.life.paused:
                self._resume(machine)

    # What must be so

    def _sessions(self) -> Iterator[tuple[Machine, Session]]:
        for machine in self.machines:
            session = machine.live._loops.get(SESSION)
            if not machine.life.dead and session is not None:
                yield machine, session

    async def _compare(self) -> None:
        """Whoever follows has, at each event, the state that the log gives; nobody breaks Skep's own rules."""
        compared: dict[str, tuple[Session, int]] = {}
        while True:
            await asyncio.sleep(1.0)
            for machine, session in self._sessions():
                self.ledger.check(not isinstance(session.failure, Bug), f"{machine.life.name}: {session.failure}")
                knows = session, session.head.seq
                if isinstance(session, Replica) and session.failure is None and compared.get(machine.life.name) != knows:
                    compared[machine.life.name] = knows
                    self.ledger.follows(machine.life.name, session.head.seq, session.state.digest())

    async def _rest(self) -> None:
        """Everything ends, everybody is answered, everybody knows the same."""
        await self._all_over()
        await asyncio.sleep(RESTED)
        last = [Call(f"last.{n}") for n in range(len(self.machines))]
        for call, machine in zip(last, self.machines, strict=True):
            given = inp.Submit(at=0, tasks=(Task(id=call.mark, run="true", objective=call.mark),), key=call.mark)
            # Once more, as another may just go on with a session that was only changed here.
            answered = await self._ask(call, machine, given) or await self._ask(call, machine, given)
            self.ledger.check(answered, f"{machine.life.name} is not answered")
        for call in (*self.calls, *last):
            decided, made = self.ledger.decided[call.mark], self.ledger.made.get(call.mark, ())
            if call.answered:
                self.ledger.check(decided == 1 and made == call.answer, f"{call.mark} was answered, and is not there")
        await self._all_over()
        await asyncio.sleep(RESTED)  # until those that rest have said so, and all have heard it
        former = [machine.life.name for machine in self.machines if machine.live._former]
        self.ledger.check(not former, f"{former} follow what they write, although they have nothing more to tell")
        head = self.store.session.head
        for machine, session in self._sessions():
            node = self.ledger.state.nodes.get(machine.node)
            self.ledger.check(node is None or not node.lost, f"{machine.life.name} is there and does not take part")
            known = await machine.life.run(_known(session))
            self.ledger.follows(machine.life.name, *known)
            self.ledger.check(known[0] >= head.seq, f"{machine.life.name} knows {known[0]} of {head.seq} events")

    async def _all_over(self) -> None:
        end = self.loop.time() + LONG
        while True:
            if self.loop.time() >= end or self.ledger.objections or not self._left():
                break
            await asyncio.sleep(1.0)
        self.ledger.check(not self._left(), f"after {LONG} s: {self._left()}")

    def _left(self) -> str:
        """What is still under way."""
        unfinished = self.ledger.unfinished()
        unanswered = [machine.life.name for machine, answer in self.told if not machine.life.dead and not answer.done()]
        return "" if not (unfinished or unanswered) else f"{unfinished} are not over, {unanswered} wait for answers"


async def _known(session: Session) -> tuple[int, str]:
    known: tuple[int, str] = await session.ask(lambda state: (state.seq, state.digest()))
    return known


class Outcome(Struct):
    """What a seed came to: a digest of its log, how often each fault struck, and each kind of event was told."""

    digest: str
    faults: Counter[str]
    kinds: Counter[str]
    seconds: float
