"""What an agent does while its process works: it speaks, spends, asks leave, writes to others and reads what they write.

All of it goes through whoever owns the attempt, so it ends with the owner. What the agent knows of it is noted with the world's
witnesses before anything is told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from skep.agents import Ask
from skep.core import inputs as inp
from skep.core.envelope import Message
from skep.core.model import Cost, Proposal, Task
from skep.errors import SkepError
from skep.runtime.asking import Leave
from skep.runtime.session import Session
from tests.simulation.leaves import COMMANDS
from tests.simulation.world import Process, World

#: What voters write: options there may be, an abstention, and what is no option.
BALLOTS = ("A", "A", "A", "B", "B", "C", "", "?")


class Agent:
    """What works in one process.

    Args:
        session: of the owner that started it.
        mail: what its prompt holds.
        hand_over: gives an agent at work what waits for it.
    """

    def __init__(
        self, world: World, session: Session, process: Process, mail: Sequence[Message], hand_over: Callable[[Session, str], None]
    ) -> None:
        self.world = world
        self.session = session
        self.process = process
        self.given = [message.id for message in mail]
        #: Whether it takes messages while it works.
        self.hears = world.random.random() < 0.5
        self._mail = mail
        self._hand_over = hand_over
        self._leave = Leave(session, process.task.id, process.n, process.nonce, world.now)
        self._deeds = [self.speak, *[self.spend] * 3, *[self.ask] * 3, *[self.write] * 3]

    async def work(self) -> None:
        """Reads its prompt, then does this and that."""
        for message in self._mail:
            self.world.mail.reads(self.process.agent, message)
        silent = self.world.random.random() < 0.2
        for _ in range(self.world.random.choice((0, 2, 4))):
            deed = self.world.random.choice(self._deeds)
            if self.process.stage != "working":
                return
            if not (silent and deed == self.spend):
                await deed()
            await self.world.pass_time(0.0, 1.0)

    async def speak(self) -> None:
        """Tells the thread that it works in."""
        task, n, nonce = self.process.task.id, self.process.n, self.process.nonce
        self.session.report(inp.Spoke(at=self.world.now(), task=task, n=n, nonce=nonce, conversation=f"{task}/{n}"))

    async def spend(self) -> None:
        """Tells what a call of its model cost."""
        random = self.world.random
        unpriced = random.random() < 0.02
        usd = 0.0 if unpriced else random.choice((0.01, 0.05, 0.3))
        cost = Cost(input=random.randrange(1, 1_000), output=random.randrange(500), usd=usd, unpriced=int(unpriced))
        spent = self.world.costs.spend(self.process, cost)
        self.session.report(spent)
        if self.world.faults.strikes("report twice"):
            self.session.report(spent)

    async def ask(self) -> None:
        """Asks leave for something, and does it if it may."""
        process, command = self.process, self.world.random.choice(COMMANDS)
        self.world.leaves.put[process.nonce, command] += 1
        spec = self.world.chronicle.specs.get(process.agent.rpartition("-")[0])  # its kind may be no part of the plan any more
        can_ask = spec is not None and spec.runtime == "claude"
        verdict = await self._leave.ask(Ask("r", "Bash", {"command": command}, ""), "/", "ask", can_ask)
        if not verdict.allowed:
            return
        self.world.leaves.done(process.nonce, command)
        found = self.world.leaves.last(process.nonce, command)
        if found is not None and self.world.faults.strikes("leave used twice"):
            named: dict[str, Any] = {"task": process.task.id, "n": process.n, "nonce": process.nonce}
            with contextlib.suppress(SkepError):
                await self.session.tell(inp.Use(at=self.world.now(), number=found.number, digest=found.digest, **named))
                self.world.leaves.done(process.nonce, command)

    async def write(self) -> None:
        """Sends a message; what has been written in an earlier attempt is the same message again."""
        mail, task = self.world.mail, self.process.task.id
        name = f"{task}/m{self.world.random.randrange(4)}"
        random = Random(f"{self.world.session} {name}")
        targets = mail.members()
        given = mail.write(
            inp.Send(
                at=self.world.now(),
                kind="note",
                source=self.process.agent,
                target=random.choice([*targets, "you"]),
                payload={"said": name},
                id=name,
                ttl=random.choice((0, 0, 5_000, 60_000)),
            )
        )
        await self.world.send(self.session, given)
        self._hand_over(self.session, given.target)

    def hear(self, message: Message) -> None:
        """Somebody's message, while it works."""
        if self.process.stage == "working":
            self.given.append(message.id)
            self.world.mail.reads(self.process.agent, message)


def proposal(world: World, process: Process) -> Proposal | None:
    """What the process proposes with its result: the same, however often its result is told."""
    if process.nonce not in world.offers.written:
        random = Random(f"{process.nonce} proposes")
        if random.random() >= process.task.metadata.get("proposes", 0.0):
            return None
        count, works = random.choice((1, 1, 2, 5)), [f"extra {n}" for n in range(8)]
        random.shuffle(works)
        tasks = tuple(Task(id=f"{process.task.id}+{process.n}.{n}", run=works[n]) for n in range(count))
        world.offers.written[process.nonce] = Proposal(tasks=tasks, fingerprint=process.nonce)
    return world.offers.written[process.nonce]


def vote(world: World, process: Process) -> str:
    """The text that a voter leaves: the same, however often its result is told."""
    said = world.votes.written.setdefault(process.nonce, Random(f"{process.nonce} votes").choice(BALLOTS))
    return '{"vote": null}' if said == "" else f'{{"vote": "{said}"}}'
