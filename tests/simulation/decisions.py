"""A small world for votes and messages: an owner that crashes before and after its appends, callers that repeat themselves, and a
checker that knows from outside who made and who wrote what. It judges the appended events alone, with no code of the core.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import msgspec

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.apply import replay
from skep.core.decide import decide
from skep.core.model import AgentSpec, Limits, Output, Plan, Resources, Task, Vote
from skep.core.state import State
from skep.core.topology import Shape
from skep.errors import SkepError
from tests.simulation.world import Violated

AGENTS = tuple(f"coder-{n}" for n in range(1, 6))
#: What a voter may write: a vote, an abstention, or rubbish.
ABSTAINS, RUBBISH = "null", "?"


class Small:
    """One session of one seed.

    Args:
        seed: of all that is random.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.log: list[ev.Event] = []
        self.state = State().rebuild()
        self.now = 1_000_000
        self.turns = 0
        judges = self.random.choice((1, 3, 4, 5))
        specs = (AgentSpec(name="coder", runtime="x", count=5), AgentSpec(name="judge", runtime="x", count=judges))
        self.judges = judges
        plan = Plan(name="small", agents=specs, limits=Limits(agents=20), topology=Shape("ring"))
        self.insist(inp.OpenSession(at=0, session="s", plan=plan, base="c0", kind="git"))
        room = Resources(cpu=99.0, memory=1 << 40, storage=1 << 40)
        self.insist(inp.JoinNode(at=0, node="here", boot="b", capacity=room, slots=99))

    def check(self, holds: bool, message: str) -> None:
        if not holds:
            raise Violated(message)

    def say(self, given: inp.Input) -> Any:
        """Once. The owner may die before the append (nothing happened) or after it (nobody heard); both answer None."""
        self.turns += 1
        self.now += 1_000
        decision = decide(self.state, (given,), self.now, self.turns.to_bytes(16, "big"))
        fate = self.random.random()
        if fate >= 0.15:
            self.log += decision.events
        if fate < 0.3:
            self.state = State()
            replay(self.state, msgspec.msgpack.decode(msgspec.msgpack.encode(self.log), type=list[ev.Event]))
            self.state.rebuild()
            return None
        return decision.answers[0] if decision.answers[0] is not None else True

    def insist(self, given: inp.Input) -> Any:
        """Until there is an answer."""
        while (answer := self.say(given)) is None:
            pass
        return answer

    # Votes

    def vote(self) -> None:
        """Candidates, voters, a decision or none; then the checker."""
        by = self.random.choice(("coder", "judge"))
        vote = Vote(by=by, timeout=self.random.choice((0.0, 60.0)))
        self.insist(
            inp.Submit(at=0, tasks=(Task(id="a", prompt="do", candidates=("coder", "judge", "coder"), vote=vote),), key="k")
        )
        maker: dict[str, str] = {}
        said: dict[str, str] = {}
        while (entry := self.state.entries["a"]).state == "expanded":
            running = [one for one in self.state.entries.values() if one.state == "running" and one.attempt is not None]
            if not running or (entry.poll is not None and self.random.random() < 0.1):
                self.say(inp.Tick(at=0))
                self.now += 20_000
                continue
            one = self.random.choice(running)
            assert one.attempt is not None
            name, n, nonce, agent = one.task.id, one.attempt.n, one.attempt.nonce, one.attempt.agent
            report = inp.Ended(at=0, task=name, n=n, nonce=nonce, outcome="ok", commit=f"c-{name}")
            if one.task.ballot:
                # What a voter wrote stays what it wrote, however often it is reported.
                text = said.setdefault(agent, self.random.choice(("A", "A", "A", "B", "C", ABSTAINS, RUBBISH)))
                written = text if text == ABSTAINS else f'"{text}"'
                outputs = {"vote": Output(digest="d", size=9, text=f'{{"vote": {written}}}')}
                report = msgspec.structs.replace(report, commit="", outputs=outputs)
            else:
                maker[name] = agent
            self.say(report)
        self._judge(f"{by}-", 5 if by == "coder" else self.judges, maker, said)

    def _judge(self, by: str, electorate: int, maker: dict[str, str], said: dict[str, str]) -> None:
        """Two thirds of all who may vote, each counted once and not for its own, and nothing else, is a decision."""
        opened = next((event for event in self.log if isinstance(event, ev.BallotOpened)), None)
        closed = next((event for event in self.log if isinstance(event, ev.BallotClosed)), None)
        if opened is None or closed is None:
            return
        told = [event.elector for event in self.log if isinstance(event, ev.VoteCast)]
        self.check(len(told) == len(set(told)), f"somebody voted twice: {told}")
        own = {elector for elector, text in said.items() if maker.get(opened.options.get(text, "")) == elector}
        honest = Counter(text for elector, text in said.items() if elector in told and elector not in own)
        enough = [option for option in opened.options if 3 * honest[option] >= 2 * electorate]
        won = [closed.result.choice] if closed.result.reached else []
        self.check(won == enough, f"{dict(honest)} of {electorate}: {won} won, {enough} should")
        self.check(len(opened.voters) == electorate and all(by in task.id for task in opened.voters), "another electorate")

    # Messages

    def talk(self) -> None:
        """Agents of a ring write to each other and read; at the end every accepted message was read once, in order."""
        accepted: dict[tuple[str, str], list[str]] = {}
        read: dict[tuple[str, str], list[str]] = {}
        for number in range(40):
            a, b = self.random.randrange(5), self.random.randrange(5)
            answer = self.insist(inp.Send(at=0, kind="note", source=AGENTS[a], target=AGENTS[b], id=f"x{number}"))
            if not isinstance(answer, SkepError):
                self.check(abs(a - b) == 1, f"{AGENTS[a]} wrote to {AGENTS[b]}, which is not next to it")
                accepted.setdefault((AGENTS[a], AGENTS[b]), []).append(answer)
            if self.random.random() < 0.5:
                self._read(AGENTS[b], read)
        for agent in AGENTS:
            self._read(agent, read)
        self.check(read == accepted, f"accepted {accepted}, read {read}")

    def _read(self, agent: str, read: dict[tuple[str, str], list[str]]) -> None:
        """An agent reads what waits; who was told twice knows it by the id."""
        while box := self.state.mail.inboxes.get(agent):
            message = next(iter(box.values()))
            seen = read.setdefault((message.source, agent), [])
            if message.id not in seen:
                seen.append(message.id)
            self.insist(inp.Delivered(at=0, id=message.id, target=agent))
