"""The core alone, without loop and store, in a small world: an owner that crashes before and after its appends, and callers that
repeat themselves. For what needs one kind of session, and many of them.
"""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.apply import replay
from skep.core.decide import decide
from skep.core.model import AgentSpec, Limits, Plan, Resources
from skep.core.state import State
from skep.core.topology import Shape
from tests.simulation.world import Violated


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
