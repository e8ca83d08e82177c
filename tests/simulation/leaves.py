"""What agents asked leave for and did, and what people said to it: nothing is done that the log does not hold a yes for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.rules import ToolRule
from tests.simulation.witness import Witness

if TYPE_CHECKING:
    from tests.simulation.world import World

#: What the plans of simulated worlds say, and what follows from it for the commands that agents run; the rest is asked.
RULES = (ToolRule(do="always", command="ls"), ToolRule(do="never", command="rm *"))
COMMANDS = ("ls", "rm -rf all", "make", "deploy")
JUDGED = {"ls": "yes", "rm -rf all": "no"}


class Question(Struct):
    """What the log tells of a question."""

    asked: ev.ApprovalAsked
    nonce: str
    said: bool | None = None
    used: bool = False
    void: bool = False


class Leaves(Witness):
    """Each question is asked by one attempt, answered once, used once after a yes, for the same thing, in its life."""

    def __init__(self, world: World, former: Leaves | None = None) -> None:
        super().__init__(world)
        #: What agents put (nonce, command), and what people said to questions (`task/number`), refused or not.
        self.put: Counter[tuple[str, str]] = former.put if former is not None else Counter()
        self.permits: list[inp.Permit] = former.permits if former is not None else []
        self.questions: dict[tuple[str, int], Question] = {}
        self._granted: Counter[tuple[str, str]] = Counter()
        self._done: Counter[tuple[str, str]] = Counter()
        self._standing: set[str] = set()

    def done(self, nonce: str, command: str) -> None:
        """An agent was told that it may, and has done it."""
        self._done[nonce, command] += 1
        allowed = self._done[nonce, command] <= self._granted[nonce, command]
        self.check(allowed, f"'{command}' was done, and the log holds no leave for it that was not used before")
        self.note("allowed and done")

    def last(self, nonce: str, command: str) -> ev.ApprovalAsked | None:
        """The last question of an attempt about this that a person said yes to."""
        found = [q.asked for q in self.questions.values() if q.nonce == nonce and q.asked.about == command and q.said]
        return found[-1] if found else None

    def open_ones(self) -> list[str]:
        """Questions that nobody has answered."""
        return [f"{task}/{n}" for (task, n), q in self.questions.items() if q.said is None and not q.asked.verdict and not q.void]

    def _on_ApprovalAsked(self, event: ev.ApprovalAsked) -> None:
        nonce, name = self.nonce(event.task), f"{event.task}/{event.number}"
        told = self.chronicle.tasks[event.task]
        self.check(
            told.held and told.n == event.n and not told.ended and not told.ending, f"{name} is asked by no attempt at work"
        )
        self.check((event.task, event.number) not in self.questions, f"two questions are {name}")
        self.check(self.put[nonce, event.about] > 0, f"{name} asks for '{event.about}', which its agent does not want")
        spec = self.chronicle.specs.get(told.agent.rpartition("-")[0])
        due = JUDGED.get(event.about, "yes" if event.shape in self._standing else "")
        due = "no" if not due and spec is not None and spec.runtime != "claude" else due
        self.check(event.verdict == due, f"{name}, '{event.about}', is judged '{event.verdict}', and it should be '{due}'")
        self.questions[event.task, event.number] = Question(event, nonce)
        if event.verdict == "yes":
            self._granted[nonce, event.about] += 1

    def _current(self, event: ev.ApprovalAnswered | ev.ApprovalUsed) -> Question:
        found = self.questions[event.task, event.number]
        self.check(found.asked.n == event.n and not found.void, f"{event} is of an attempt that is over")
        return found

    def _on_ApprovalAnswered(self, event: ev.ApprovalAnswered) -> None:
        found, name = self._current(event), f"{event.task}/{event.number}"
        self.check(found.said is None and not found.asked.verdict, f"{name} is answered twice")
        if event.by:
            self.check(event.at < found.asked.until, f"{name} is answered by {event.by} after its time")
            fits = [
                p for p in self.permits if p.ask == name or (event.always and p.always and self._shape(p) == found.asked.shape)
            ]
            self.check(any(p.allowed == event.allowed for p in fits), f"nobody said {event.allowed} to {name}")
        else:
            self.check(not event.allowed, f"nobody answered {name}, and it is allowed")
            self.check(event.at >= found.asked.until, f"{name} runs out before its time")
            self.note("nobody answers in time")
        found.said = event.allowed
        if event.always:
            self._standing.add(found.asked.shape)

    def _shape(self, given: inp.Permit) -> str:
        task, _, number = given.ask.rpartition("/")
        found = self.questions.get((task, int(number)))
        return found.asked.shape if found is not None else ""

    def _on_ApprovalUsed(self, event: ev.ApprovalUsed) -> None:
        found = self._current(event)
        self.check(found.said is True and not found.used, f"{event} is used without a yes, or again")
        self.check(event.digest == found.asked.digest, f"{event} is used for something else")
        found.used = True
        self._granted[found.nonce, found.asked.about] += 1

    def _over(self, event: ev.AttemptWorked | ev.AttemptEnding | ev.AttemptEnded | ev.AttemptGone) -> None:
        for (task, _), found in self.questions.items():
            if task == event.task:
                found.void = True

    _on_AttemptWorked = _on_AttemptEnding = _on_AttemptEnded = _on_AttemptGone = _over

    def _on_SessionForked(self, event: ev.SessionForked) -> None:
        self._standing.clear()
        for found in self.questions.values():
            found.void = True

    def appended(self) -> None:
        """Nobody waits for an answer beyond its time."""
        if self.chronicle.copied:
            return
        for (task, number), found in self.questions.items():
            waits = found.said is None and not found.asked.verdict and not found.void
            self.check(not (waits and found.asked.until <= self.chronicle.last_at), f"{task}/{number} waits beyond its time")
