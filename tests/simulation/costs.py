"""What agents spent, by their own account, and what the log makes of it: nothing twice, nothing for ever unsaid, limits held."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.budgets import FREE
from skep.core.model import Budget, Cost
from skep.core.state import State
from tests.simulation.witness import Witness

if TYPE_CHECKING:
    from tests.simulation.world import Process, World


class Costs(Witness):
    """Holds every report of a cost against what was really spent."""

    def __init__(self, world: World, former: Costs | None = None) -> None:
        super().__init__(world)
        #: Nonce -> what its agent told, in order.
        self.told: dict[str, list[Cost]] = former.told if former is not None else {}
        self.total = Cost()
        self._kinds: dict[str, Cost] = {}
        self._charged: Counter[str] = Counter()
        self._usd: dict[str, float] = {}
        self._held: dict[str, float] = {}
        self._touched: list[str] = []

    def spend(self, process: Process, cost: Cost) -> inp.Spent:
        """An agent has spent something and tells it."""
        told = self.told.setdefault(process.nonce, [])
        told.append(cost)
        return inp.Spent(at=0, task=process.task.id, n=process.n, nonce=process.nonce, cost=cost, model="m", number=len(told))

    def _priced(self, agent: str) -> bool:
        spec = self.chronicle.specs.get(agent.rpartition("-")[0])
        return spec is not None and spec.runtime not in FREE

    def _on_TaskAssigned(self, event: ev.TaskAssigned) -> None:
        why = self._used_up()
        self.check(not why, f"task {event.task} is assigned although {why}")
        limit = self.chronicle.plan.limits.cost_usd
        if limit and self._priced(event.agent):
            held = sum(self._held.values()) + event.held
            self.check(event.held > 0, f"nothing is held for task {event.task}")
            self.check(self.total.usd + held <= limit + 1e-5, f"${held} are held, ${self.total.usd} spent, of ${limit}")
        self._held[event.nonce] = event.held

    def _on_AttemptSpent(self, event: ev.AttemptSpent) -> None:
        told = self.chronicle.tasks[event.task]
        nonce, name = told.nonce, f"attempt {event.n} of {event.task}"
        known, number = self.told.get(nonce, []), self._charged[nonce]
        if event.cost.tokens == 0:
            held = self._held.get(nonce, 0.0)
            rest = round(held - self._usd.get(nonce, 0.0), 6)
            due = Cost(usd=rest, estimated=rest) if held else Cost(unpriced=1)
            lost = told.ending == "lost"
            self.check(number == 0 or lost, f"{name} told its cost and is charged by estimate as well")
            self.check(event.cost == due, f"{name} is charged {event.cost}, and {due} is its estimate")
            self.note("cost estimated")
        elif number >= len(known):
            self.world.object(f"{name} told {len(known)} costs, {number + 1} are charged")
        else:
            self.check(event.cost == known[number], f"{name} is charged {event.cost}, and has told {known[number]}")
            self._touched.append(event.task)
        self._charged[nonce] += 1
        self._usd[nonce] = self._usd.get(nonce, 0.0) + event.cost.usd
        self.total.add(event.cost)
        self._kinds.setdefault(told.agent.rpartition("-")[0], Cost()).add(event.cost)

    def _on_AttemptWorked(self, event: ev.AttemptWorked) -> None:
        self._over(event.task, by_itself=True)

    def _on_AttemptEnded(self, event: ev.AttemptEnded) -> None:
        self._over(event.task, by_itself=event.outcome != "interrupted")
        if event.gone:
            self._held.pop(self.nonce(event.task), None)

    def _on_AttemptGone(self, event: ev.AttemptGone) -> None:
        self._over(event.task, by_itself=False)
        self._held.pop(self.nonce(event.task), None)

    def _on_SessionForked(self, event: ev.SessionForked) -> None:
        self._held.clear()

    def _on_TaskClosed(self, event: ev.TaskClosed) -> None:
        if event.cause == "limit":
            self.note("task over its budget")

    def _over(self, task: str, by_itself: bool) -> None:
        """An attempt ends: its cost must be known by now, or be estimated."""
        told = self.chronicle.tasks[task]
        charged, known = self._charged[told.nonce], len(self.told.get(told.nonce, ()))
        owed = told.spawned and self._priced(told.agent)
        self.check(charged > 0 or not owed, f"attempt {told.n} of {task} ends and was never charged")
        process = next((p for p in self.world.processes if p.nonce == told.nonce), None)
        if by_itself and process is not None and process.life is self.world.owner and not process.life.dead:
            self.check(
                charged == known or not known, f"attempt {told.n} of {task} told {known} costs, {charged} are charged at its end"
            )

    def _used_up(self) -> str:
        """Why nothing more may begin."""
        limits = self.chronicle.plan.limits
        if limits.cost_usd and (self.total.usd >= limits.cost_usd - 1e-9 or self.total.unpriced):
            return f"${self.total.usd} are spent of ${limits.cost_usd}, {self.total.unpriced} times at a price nobody knows"
        if limits.tokens and self.total.tokens >= limits.tokens:
            return f"{self.total.tokens} tokens are used of {limits.tokens}"
        for name, spent in self._kinds.items():
            budget = self.chronicle.specs[name].budget if name in self.chronicle.specs else None
            if budget is not None and reached(budget, spent):
                return f"the budget of {name} is used up"
        return ""

    def appended(self) -> None:
        """A limit that was reached stops its task, or the session, in the append that tells of it."""
        why = self._used_up()
        if why and not self.chronicle.copied:
            self.check(self.chronicle.paused, f"the session goes on although {why}")
            self.note("session over its limit")
        for name in self._touched:
            told = self.chronicle.tasks[name]
            goes_on = told.state == "running" and not told.ended and not told.ending
            self.check(not (goes_on and told.over), f"task {name} goes on with its budget used up: {told.cost}")
        self._touched = []

    def rest(self, state: State) -> None:
        """The ledgers say the same, and nothing is held any more."""
        for name in Cost.__struct_fields__:
            mine, its = getattr(self.total, name), getattr(state.cost, name)
            self.check(abs(mine - its) < 1e-6, f"{name}: the log tells of {mine}, the state of {its}")
            for kind, cost in self._kinds.items():
                its = getattr(state.kinds.get(kind, Cost()), name)
                self.check(abs(getattr(cost, name) - its) < 1e-6, f"{name} of {kind}: {cost} by the log, {its} in the state")
        self.check(abs(state.held) < 1e-6, f"${state.held} are still held at the end")


def reached(budget: Budget, cost: Cost) -> bool:
    """Whether as much is spent as may be."""
    return 0 < budget.usd <= cost.usd + 1e-9 or 0 < budget.tokens <= cost.tokens
