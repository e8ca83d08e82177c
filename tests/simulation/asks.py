"""A small world for what attempts ask leave for: owners that crash and appends of unknown fate, people who answer late, twice and
to the wrong question, agents that ask through the production code. The checker reads the appended events alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from skep.agents import Ask
from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.apply import replay
from skep.core.decide import decide
from skep.core.model import AgentSpec, Limits, Plan, Resources, Task
from skep.core.state import State
from skep.errors import SkepError, Unavailable
from skep.runtime.asking import Leave
from tests.simulation.world import Violated

TASKS = ("a", "b", "c")


class Asks:
    """One session of one seed, and the owner that it has now (`failure` is that of the owner)."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.log: list[ev.Event] = []
        self.state = State().rebuild()
        self.failure: SkepError | None = None
        self.now = 1_000_000
        self.turns = self.boots = self.released = 0
        self.agents: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self.done: set[tuple[str, int]] = set()
        plan = Plan(name="small", agents=(AgentSpec(name="coder", runtime="x", count=3),), limits=Limits(agents=3))
        self._say(inp.OpenSession(at=0, session="s", plan=plan), fate=1.0)
        self._join()
        self._say(inp.Submit(at=0, tasks=tuple(Task(id=name, prompt="do") for name in TASKS)), fate=1.0)

    def check(self, holds: bool, message: str) -> None:
        if not holds:
            raise Violated(message)

    def _join(self) -> None:
        self.boots += 1
        room = Resources(cpu=99.0, memory=1 << 40, storage=1 << 40)
        joins = inp.JoinNode(at=0, node="here", boot=f"b{self.boots}", capacity=room, slots=99)
        self._say(joins, fate=1.0)

    def _say(self, given: inp.Input, fate: float) -> Any:
        """Once. Below 0.1 the append is lost, below 0.2 only its answer; the owner reads the log again and knows of neither."""
        self.turns += 1
        self.now += 1_000
        decision = decide(self.state, (given,), self.now, self.turns.to_bytes(16, "big"))
        if fate >= 0.1:
            self.log += decision.events
        if fate < 0.2:
            self.state = State()
            replay(self.state, msgspec.msgpack.decode(msgspec.msgpack.encode(self.log), type=list[ev.Event]))
            self.state.rebuild()
            return Unavailable("outcome unknown")
        return decision.answers[0]

    # What the production code asks of a session

    async def tell(self, given: inp.Input) -> Any:
        """An input; sometimes it comes twice."""
        answer = self._say(given, self.random.random())
        if self.random.random() < 0.1:
            self._say(given, 1.0)
        await asyncio.sleep(0)
        if isinstance(answer, SkepError):
            raise answer
        return answer

    async def ask(self, query: Callable[[Any], Any]) -> Any:
        """A question to the state."""
        await asyncio.sleep(0)
        return query(self.state)

    async def moved(self, seq: int) -> None:
        """Somebody will have said something."""
        while self.state.seq <= seq:  # noqa: ASYNC110 - the turns of this world are turns of the event loop
            await asyncio.sleep(0)

    # Who there is

    async def agent(self, task: str, n: int, nonce: str) -> None:
        """Asks for the same few actions over and over, and does what it may."""
        leave = Leave(self, task, n, nonce, lambda: self.now)  # type: ignore[arg-type]  # as much of a session as it needs
        while True:
            command = self.random.choice(("make", "deploy"))
            verdict = await leave.ask(Ask("r", "Bash", {"command": command}, ""), "/", "ask", True)
            if verdict.allowed:
                self.release(task, n)

    def release(self, task: str, n: int) -> None:
        """An action is done: the log must hold a yes for a question of this attempt, used for this and nothing before."""
        self.released += 1
        used = [e for e in self.log if isinstance(e, ev.ApprovalUsed) and (e.task, e.n) == (task, n)]
        fresh = [e for e in used if (task, e.number) not in self.done]
        self.check(len(fresh) >= 1, f"{task} acts without a recorded leave of attempt {n}")
        self.done.add((task, fresh[-1].number))

    def judge(self) -> None:
        """Each question is asked by one attempt, answered once, used once after a yes, with the same arguments, in its life."""
        asked: dict[tuple[str, int], ev.ApprovalAsked] = {}
        said: dict[tuple[str, int], bool] = {}
        used: set[tuple[str, int]] = set()
        over: set[tuple[str, int]] = set()
        for e in self.log:
            if isinstance(e, ev.ApprovalAsked):
                self.check((e.task, e.number) not in asked, f"two questions are {e.task}/{e.number}")
                asked[e.task, e.number] = e
            elif isinstance(e, ev.ApprovalAnswered | ev.ApprovalUsed):
                key = (e.task, e.number)
                self.check(key in asked and asked[key].n == e.n, f"{key} is not of attempt {e.n}")
                self.check((e.task, e.n) not in over, f"{key} comes after the end of attempt {e.n}")
                if isinstance(e, ev.ApprovalAnswered):
                    self.check(key not in said, f"{key} is answered twice")
                    said[key] = e.allowed
                else:
                    self.check(said.get(key, False) and key not in used, f"{key} is used without a yes, or again")
                    self.check(e.digest == asked[key].digest, f"{key} is used for something else")
                    used.add(key)
            elif isinstance(e, ev.AttemptEnding | ev.AttemptEnded):
                over.add((e.task, e.n))

    async def live(self, steps: int) -> None:
        """So many things happen, in any order."""
        try:
            for _ in range(steps):
                self._follow()
                for _ in range(self.random.randrange(6)):
                    await asyncio.sleep(0)
                self.random.choice((self.person, self.person, self.person, self.person, self.trouble))()
                self._heed()
            self.judge()
        finally:
            for _, agent in self.agents.values():
                agent.cancel()
            await asyncio.gather(*(agent for _, agent in self.agents.values()), return_exceptions=True)

    def _follow(self) -> None:
        """What is owed is done: agents of attempts that there are, none of those that are over."""
        for name in TASKS:
            attempt = self.state.entries[name].attempt
            if attempt is not None and attempt.stage == "ending":
                if self.random.random() < 0.3:
                    self._stop(name)
                    self._say(inp.Gone(at=0, task=name, n=attempt.n, nonce=attempt.nonce), 1.0)
            elif attempt is not None and self.agents.get(name, ("",))[0] != attempt.nonce:
                self._stop(name)
                self._say(inp.Spawned(at=0, task=name, n=attempt.n, nonce=attempt.nonce, pid=1, born=1), 1.0)
                work = asyncio.get_running_loop().create_task(self.agent(name, attempt.n, attempt.nonce))
                self.agents[name] = (attempt.nonce, work)

    def _stop(self, name: str) -> None:
        if name in self.agents:
            self.agents.pop(name)[1].cancel()

    def _heed(self) -> None:
        for _, agent in self.agents.values():
            if agent.done() and not agent.cancelled() and (error := agent.exception()) is not None:
                raise error

    def person(self) -> None:
        """Answers some question, asked now or ever."""
        name = self.random.choice(TASKS)
        number = self.random.randrange(max(0, self.state.entries[name].asked - 2), self.state.entries[name].asked + 2)
        given = inp.Permit(at=0, ask=f"{name}/{number}", allowed=self.random.random() < 0.8, by="ann")
        self._say(given, self.random.random())

    def trouble(self) -> None:
        """An attempt is stopped, or the owner dies and another one comes, or time passes."""
        kind = self.random.choice(("stop", "crash", "time"))
        if kind == "stop":
            self._say(inp.Pause(at=0, stop=True), 1.0)
            self._say(inp.Resume(at=0), 1.0)
        elif kind == "crash":
            for name in TASKS:
                self._stop(name)
            self._join()
        else:
            self.now += 700_000
            self._say(inp.Tick(at=0), 1.0)
