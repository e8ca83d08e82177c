"""The cost of an assignment in the core, with few tasks and agents and with many: it must hardly grow.

All agents are busy and tasks of ten classes wait; attempts end, fifty in a turn, and the next tasks are assigned.
"""

from __future__ import annotations

import time
from pathlib import Path

from bench.shape import Numbers, serve
from skep.core import inputs as inp
from skep.core.decide import decide
from skep.core.model import AgentSpec, Limits, Plan, Resources, Task
from skep.core.state import State

CLASSES = 10
TURN = 50
SMALL, LARGE = (1_000, 100), (100_000, 1_000)
#: Submitted at once.
PART = 4_000


class Session:
    """A state and its clock."""

    def __init__(self, tasks: int, agents: int) -> None:
        self.state = State().rebuild()
        self.turns = 0
        specs = tuple(
            AgentSpec(
                name=f"a{kind}", runtime="shell", count=agents // CLASSES, capabilities=(f"c{kind}", f"c{(kind + 1) % CLASSES}")
            )
            for kind in range(CLASSES)
        )
        plan = Plan(name="bench", limits=Limits(agents=agents), agents=specs)
        self.say(inp.OpenSession(at=0, session="bench-1", plan=plan))
        self.say(inp.JoinNode(at=0, node="here", boot="b", capacity=Resources(cpu=1e6, memory=2**50), slots=10 * agents))
        for start in range(0, tasks, PART):
            part = range(start, min(start + PART, tasks))
            made = tuple(Task(id=f"p{n}", prompt="do", mode="none", capabilities=(f"c{n % CLASSES}",)) for n in part)
            self.say(inp.Submit(at=0, tasks=made))

    def say(self, *inputs: inp.Input) -> None:
        """One turn, and those that it leaves to be taken."""
        more = True
        while more:
            self.turns += 1
            decision = decide(self.state, inputs, 1_000_000 + self.turns, self.turns.to_bytes(16, "big"))
            refused = [answer for answer in decision.answers if isinstance(answer, Exception)]
            if refused:
                raise refused[0]
            self.state.leaving = []
            more, inputs = decision.more, ()

    def endings(self) -> list[inp.Ended]:
        """The reports that end a turn's worth of attempts."""
        found: list[inp.Ended] = []
        for entry in self.state.entries.values():
            if entry.attempt is not None and len(found) < TURN:
                found.append(inp.Ended(at=0, task=entry.task.id, n=entry.attempt.n, nonce=entry.attempt.nonce, outcome="ok"))
        return found


def cost(tasks: int, agents: int) -> float:
    """Seconds of cpu for ending one attempt and assigning the next task."""
    session = Session(tasks, agents)
    count = min(tasks - agents, 10_000) // TURN * TURN
    used = 0.0
    for _ in range(count // TURN):
        endings = session.endings()
        start = time.process_time()
        session.say(*endings)
        used += time.process_time() - start
        if session.state.running != agents:
            raise RuntimeError(f"{session.state.running} of {agents} agents are busy")
    return used / count


def placement(_variant: str, _folder: Path) -> Numbers:
    """How many times as much an assignment costs with many tasks and agents."""
    small = sorted(cost(*SMALL) for _ in range(9))[4]
    large = cost(*LARGE)
    return {"growth": large / small, "cost": large * 1e6}


if __name__ == "__main__":
    serve({"placement": placement})
