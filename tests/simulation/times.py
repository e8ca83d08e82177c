"""How long attempts were at work, by the log's own times, and that nobody works beyond a budget of time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from skep.core import events as ev
from skep.core.state import State
from tests.simulation.witness import Witness

if TYPE_CHECKING:
    from tests.simulation.world import World


class Times(Witness):
    """Keeps a clock for every attempt, from the events alone. A fork tells its whole log again, so it knows nothing of before."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        #: Task -> since when its attempt is at work.
        self._since: dict[str, int] = {}
        self._asks: dict[str, set[int]] = {}
        self._kinds: Counter[str] = Counter()
        self._boot = ""
        #: When the event before was told.
        self._before = 0

    def hear(self, event: ev.Event) -> None:
        super().hear(event)
        self._before = event.at

    def _stop(self, task: str, at: int) -> None:
        since = self._since.pop(task, at)
        told = self.chronicle.tasks[task]
        told.worked += at - since
        kind = told.agent.rpartition("-")[0]
        self._kinds[kind] += at - since

    def _on_TaskAssigned(self, event: ev.TaskAssigned) -> None:
        self._since[event.task], self._asks[event.task] = event.at, set()

    def _on_ApprovalAsked(self, event: ev.ApprovalAsked) -> None:
        if not event.verdict:
            self._asks[event.task].add(event.number)
            self._stop(event.task, event.at)

    def _on_ApprovalAnswered(self, event: ev.ApprovalAnswered) -> None:
        self._asks[event.task].discard(event.number)
        if not self._asks[event.task]:
            self._since[event.task] = event.at

    def _on_NodeJoined(self, event: ev.NodeJoined) -> None:
        if event.boot != self._boot:
            for task in self._since:
                self._since[task] += event.at - self._before
        self._boot = event.boot

    def _on_SessionForked(self, event: ev.SessionForked) -> None:
        for task in list(self._since):
            self._stop(task, self._before)

    def _ends(self, event: Any) -> None:
        self._stop(event.task, event.at)

    _on_AttemptWorked = _on_AttemptEnding = _on_AttemptEnded = _on_AttemptGone = _ends

    def appended(self) -> None:
        """What has no time left is ended in the append that shows it."""
        at = self.chronicle.last_at
        kinds = Counter(self._kinds)
        for name, since in self._since.items():
            told = self.chronicle.tasks[name]
            kinds[told.agent.rpartition("-")[0]] += at - since
            budget = told.task.budget
            used = budget is not None and 0 < budget.time * 1000 <= told.worked + at - since
            self.check(not used, f"task {name} goes on with its time used up")
        for kind, worked in kinds.items():
            spec = self.chronicle.specs.get(kind)
            if spec is not None and spec.budget is not None and 0 < spec.budget.time * 1000 <= worked:
                self.check(self.chronicle.paused or self.chronicle.copied, f"{kind} goes on with its time used up")
                self.note("time used up")

    def _on_TaskClosed(self, event: ev.TaskClosed) -> None:
        if event.cause == "limit" and "at work" in event.detail:
            self.note("time used up")

    def rest(self, state: State) -> None:
        """The state says the same."""
        for name, told in self.chronicle.tasks.items():
            entry = state.entries.get(name)
            if entry is not None and entry.state != "replaced":
                self.check(entry.worked == told.worked, f"{name} worked {told.worked} ms by the log, {entry.worked} in the state")
        for kind, worked in self._kinds.items():
            meter = state.clocks.get(kind)
            its = meter.used if meter is not None else 0
            self.check(its == worked, f"agents {kind} worked {worked} ms by the log, {its} in the state")
