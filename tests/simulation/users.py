"""People and programs that use the session, and the account they keep of every answer they got."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import replace

from skep.core import inputs as inp
from skep.core.events import SessionMarked
from skep.core.model import TERMINAL, AgentSpec, Answer, Entry, Task
from skep.core.people import QUESTIONS
from skep.core.state import State, unpack
from skep.errors import Exhausted, NotFound, SkepError, Unavailable
from tests.simulation.chronicle import OVER
from tests.simulation.invariants import broken
from tests.simulation.owners import Owner, Owners
from tests.simulation.workload import Workload, nonsense
from tests.simulation.world import World


class Call(Struct):
    """What was asked, and what came back."""

    given: inp.Input
    status: str
    answer: Any


class User:
    """Somebody with a socket to whoever owns the session.

    Args:
        name: begins the ids of their tasks and their idempotency keys.
        calls: the account, shared by all users of a world.
    """

    def __init__(self, name: str, world: World, owners: Owners, workload: Workload, calls: list[Call]) -> None:
        self.name = name
        self.world = world
        self.owners = owners
        self.workload = workload
        self.calls = calls
        self.accepted: list[str] = []
        self.waiting: dict[str, asyncio.Future[str]] = {}
        self._keys = 0

    async def act(self, times: int) -> None:
        """Does this and that, and thinks in between."""
        often = [self.submit] * 8 + [self.answer] * 4 + [self.look, self.cancel, self.resume, self.permit_some, self.write] * 2
        deeds = [*often, self.retry, self.change, self.pause, self.mark, self.declare, self.err]
        for _ in range(times):
            await self.world.random.choice(deeds)()
            await self.world.pass_time(0.1, 10.0)

    async def call(self, given: inp.Input) -> Call:
        """Says it once. The way there and the way back may fail."""
        owner = await self.owners.reach()
        stale = self.owners.stale()
        if stale is not None and self.world.faults.strikes("call to an old owner"):
            owner = stale
        if self.world.faults.strikes("call lost"):
            made = Call(given, "unknown", "lost on the way")
        else:
            made = Call(given, *await owner.reach(owner.session.tell(given)))
            if self.world.faults.strikes("answer lost"):
                made = Call(given, "unknown", "the answer was lost")
        self.calls.append(made)
        return made

    async def insist(self, given: inp.Input) -> Call:
        """Says it until the outcome is known."""
        while (made := await self.call(given)).status == "unknown":
            await self.world.pass_time(0.1, 5.0)
        return made

    async def submit(self) -> None:
        """Hands tasks over under a key, and repeats that until it is known whether they were taken."""
        tasks = self.workload.graph(self.name, list(self.world.chronicle.tasks), self.world.now())
        self._keys += 1
        given = inp.Submit(at=self.world.now(), tasks=tasks, key=f"{self.name}/{self._keys}")
        made = await self.insist(await self.informed(given))
        for _ in range(5):
            if made.status == "ok" or "does not exist" not in str(made.answer):
                break
            made = await self.insist(await self.informed(given))
        if made.status == "ok":
            told = self.world.chronicle.keys.get(given.key)
            self.world.check(
                told == tuple(made.answer), f"submission {given.key} was accepted as {made.answer}, the log says {told}"
            )
            self.accepted += made.answer
            if made.answer and self.world.random.random() < 0.3:
                self.world.run(self.wait_for(self.world.random.choice(made.answer)))

    async def informed(self, given: inp.Submit) -> inp.Submit:
        """The submission, with the fates of what it needs and is not in the live state any more."""
        needs = sorted({need for task in given.tasks for need in task.needs} | {task.id for task in given.tasks if task.id})
        while True:
            missing = await self.owners.ask(lambda state: [need for need in needs if need not in state.entries])
            try:
                found = await (await self.owners.reach()).log.archived(self.world.session, missing)
            except Unavailable:
                continue
            return replace(given, known={name: unpack(blob).state for name, blob in found.items()})

    async def wait_for(self, task: str) -> None:
        """Waits for the end of a task, through as many owners as it takes."""
        self.waiting[task] = ended = self.world.loop.create_future()
        while not ended.done():
            owner = await self.owners.reach()
            status, entry = await owner.reach(owner.session.ask(partial(self._hear, owner, task)))
            if status == "ok":
                await asyncio.wait({entry, owner.life.died}, return_when=asyncio.FIRST_COMPLETED)
                if entry.done() and entry.exception() is not None:
                    await self.world.pass_time(0.1, 2.0)  # the owner gave up, or the session is at its limit
                elif entry.done():
                    self.world.check(entry.result() in OVER, f"{self.name} was told that {task} is {entry.result()}")
                    ended.set_result(entry.result())
            elif isinstance(entry, NotFound):
                ended.set_result("archived")
            else:
                await self.world.pass_time(0.1, 2.0)

    def _hear(self, owner: Owner, task: str, state: State) -> asyncio.Future[str]:
        heard: asyncio.Future[str] = self.world.loop.create_future()
        entry = state.entries.get(task)
        if entry is None:
            raise NotFound(f"{task} has left the live state")
        if entry.state in TERMINAL:
            heard.set_result(entry.state)
        else:
            owner.session.when_done(task, lambda done: _tell(heard, done))
            owner.waiting.append((task, heard))
        return heard

    async def cancel(self) -> None:
        """Cancels something; whatever the answer says must have fallen in one append."""
        open_tasks = [told.task.id for told in self.world.chronicle.unfinished()]
        if not open_tasks:
            return
        names = tuple(self.world.random.sample(open_tasks, min(len(open_tasks), self.world.random.choice((1, 1, 2)))))
        given = inp.Cancel(at=self.world.now(), tasks=names, subtree=self.world.random.random() < 0.5, by=self.name)
        made = await self.call(given)
        if made.status == "ok":
            appends = {self.world.chronicle.tasks[name].closed_in for name in made.answer}
            self.world.check(
                len(appends) == 1 and 0 not in appends, f"the cancellation of {made.answer} lies in appends {appends}"
            )

    async def retry(self) -> None:
        """Sends something that is over round again."""
        over = [name for name, told in self.world.chronicle.tasks.items() if told.state in OVER or told.state == "parked"]
        if over:
            given = inp.Retry(at=self.world.now(), task=self.world.random.choice(over), comment="again", by=self.name)
            await self.call(given)

    async def answer(self) -> None:
        """Answers a question, if there is one."""
        asked = await self.owners.ask(questions)
        if asked:
            name, question = self.world.random.choice(asked)
            await self.say(name, question, answers(question))

    async def say(self, task: str, question: str, fitting: list[Answer]) -> None:
        """One of the fitting answers."""
        said = self.world.random.choice(fitting)
        if question in ("proposal", "plan") and said == "approve":
            self.world.offers.approved.add(task)
        choice = str(self.world.random.randrange(1, 4)) if said == "choose" else ""
        await self.call(inp.Say(at=self.world.now(), task=task, answer=said, choice=choice, by=self.name))

    async def permit_some(self) -> None:
        """Answers what agents ask leave for; sometimes what was answered already, or was never asked."""
        asked = self.world.leaves.open_ones()
        known = [f"{task}/{number}" for task, number in self.world.leaves.questions]
        for question in asked[:3] or known[-1:]:
            await self.permit(question)

    async def permit(self, question: str) -> None:
        """Says yes or no to an agent."""
        random = self.world.random
        allowed, always = random.random() < 0.7, random.random() < 0.1
        given = inp.Permit(at=self.world.now(), ask=question, allowed=allowed, always=always, by=self.name)
        self.world.leaves.permits.append(given)
        await self.call(given)

    async def write(self) -> None:
        """Sends a message to an agent, which hears it at once if it can."""
        targets = self.world.mail.members()
        if not targets:
            return
        self._keys += 1
        target = self.world.random.choice(self.world.mail.waiting() or targets)
        given = inp.Send(at=0, kind="note", source="you", target=target, payload="hurry", id=f"{self.name}/{self._keys}")
        owner = await self.owners.reach()
        await owner.reach(self.world.send(owner.session, self.world.mail.write(given)))
        if not owner.life.dead:
            owner.life.run(_hand_over(owner, target))

    async def pause(self) -> None:
        """Holds everything up."""
        await self.call(inp.Pause(at=self.world.now(), stop=self.world.random.random() < 0.5, by=self.name))

    async def resume(self) -> None:
        """Lets it go on; sometimes with another limit, if that is what holds it up."""
        if self.world.random.random() < 0.3:
            await self.go_on()
        else:
            await self.call(inp.Resume(at=self.world.now(), by=self.name))

    async def go_on(self) -> None:
        """Lets it go on, with all the time it needs."""
        made = await self.call(inp.Resume(at=self.world.now(), by=self.name))
        if isinstance(made.answer, Exhausted):
            plan, keep = await self.owners.ask(lambda state: (state.plan, tuple(_lasting(state))))
            limits = replace(plan.limits, time=0.0, cost_usd=0.0, tokens=0)
            plan = replace(plan, limits=limits, agents=tuple(replace(spec, budget=None) for spec in plan.agents))
            await self.call(inp.ChangePlan(at=self.world.now(), plan=plan, keep=keep, by=self.name))

    async def change(self) -> None:
        """Goes on with another version of the plan: some tasks stay, some are replaced, some are new."""
        plan, entries = await self.owners.ask(lambda state: (state.plan, _lasting(state)))
        keep = [name for name in entries if self.world.random.random() < 0.9]
        keep = [name for name in keep if all(need in keep or need not in entries for need in entries[name].needs)]
        fresh = self.workload.graph(self.name, keep, self.world.now()) if self.world.random.random() < 0.5 else ()
        again = tuple(task for name, task in entries.items() if name not in keep and not task.needs and not task.parent)[:1]
        given = inp.ChangePlan(at=self.world.now(), plan=replace(plan, tasks=fresh + again), keep=tuple(keep), by=self.name)
        made = await self.call(given)
        if made.status == "ok":
            self.accepted += made.answer

    async def mark(self) -> None:
        """Makes a checkpoint."""
        self._keys += 1
        name = f"{self.name}/{self._keys}"
        made = await self.call(inp.Mark(at=self.world.now(), name=name, by=self.name))
        if made.status == "ok":
            event = self.world.chronicle.events[made.answer - 1]
            self.world.check(isinstance(event, SessionMarked) and event.name == name, f"checkpoint {name} is at {event}")

    async def declare(self) -> None:
        """Brings another agent in, or changes one."""
        number = self.world.random.randrange(3)
        spec = AgentSpec(name=f"guest{number}", runtime="claude", count=1, cost=float(number), capabilities=("docs",))
        await self.call(inp.DeclareAgents(at=self.world.now(), specs=(spec,)))

    async def err(self) -> None:
        """Hands over what must be refused."""
        self._keys += 1
        tasks = nonsense(self.world.random, f"{self.name}-bad{self._keys}")
        made = await self.insist(inp.Submit(at=self.world.now(), tasks=tasks, key=f"{self.name}/{self._keys}"))
        self.world.check(isinstance(made.answer, Exception), f"nonsense was accepted: {tasks}")
        self.world.check(not any(task.id in self.world.chronicle.tasks for task in tasks), f"refused tasks are there: {tasks}")

    async def look(self) -> None:
        """Reads the state: it is one that the log holds, and it contradicts itself nowhere."""
        seq, objections = await self.owners.ask(lambda state: (state.seq, broken(state, settled=True)))
        self.world.check(seq <= len(self.world.chronicle.events), f"a query saw event {seq}, which the log does not hold")
        for message in objections:
            self.world.object(message)


def _tell(heard: asyncio.Future[str], ended: Entry | SkepError) -> None:
    if heard.done():
        return
    if isinstance(ended, SkepError):
        heard.set_exception(ended)
    else:
        heard.set_result(ended.state)


async def _hand_over(owner: Owner, target: str) -> None:
    owner.hands.hand_over(owner.session, target)


def answers(question: str) -> list[Answer]:
    """What may be said to a question."""
    return [cast(Answer, answer) for answer in QUESTIONS[question]]


def questions(state: State) -> list[tuple[str, str]]:
    return [(name, entry.question) for name, entry in state.entries.items() if entry.state == "needs-you"]


def _lasting(state: State) -> dict[str, Task]:
    """The tasks that are part of the plan."""
    return {name: entry.task for name, entry in state.entries.items() if entry.state != "replaced"}
