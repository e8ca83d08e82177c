"""What providers told agents: to come back at a certain time, or nothing at all. Neither is a task's failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skep.core import events as ev
from tests.simulation.witness import Witness

if TYPE_CHECKING:
    from tests.simulation.world import World


class Providers(Witness):
    """A limit parks the task until the time that was stated; an outage interrupts it."""

    def __init__(self, world: World, former: Providers | None = None) -> None:
        super().__init__(world)
        #: Nonce -> the time (ms) at which its agent may come back; 0 = its provider is down.
        self.stated: dict[str, int] = former.stated if former is not None else {}
        #: Task -> kind of agent -> until when its provider refuses the task.
        self._refused: dict[str, dict[str, int]] = {}
        self._parked: dict[str, int] = {}

    def _on_AttemptEnded(self, event: ev.AttemptEnded) -> None:
        told = self.chronicle.tasks[event.task]
        until = self.stated.get(told.nonce)
        if until is None or told.ending or told.late or event.cause == "timed-out":
            return
        name = f"attempt {event.n} of {event.task}"
        self.check(event.outcome == "interrupted", f"{name} could not reach its provider, and it is {event.outcome}")
        if until > event.at:
            refused = self._refused.setdefault(event.task, {})
            refused[told.agent.rpartition("-")[0]] = until
            self.check(not event.counted, f"{name} was to come back later, and that counts against it")
            self.check(event.then in ("parked", "waiting", "ready"), f"{name} was to come back later, and is {event.then}")
            soonest = min(time for time in refused.values() if time > event.at)
            if event.then == "parked":
                self.check(event.until == until, f"{name} was to come back at {until}, and the log says {event.until}")
                self._parked[event.task] = soonest
            elif event.then == "ready":
                others = self._others(event.task, event.at)
                self.check(bool(others), f"{name} was to come back later, and nobody else can take over")

    def _others(self, task: str, at: int) -> list[str]:
        """Kinds of agents that may have the task and are not refused."""
        wants, refused = self.chronicle.tasks[task].task, self._refused.get(task, {})
        found = []
        for spec in self.chronicle.specs.values():
            able = not spec.capabilities or set(wants.capabilities) <= set(spec.capabilities)
            able = able and spec.name not in ("shell", "python") and wants.agent in ("", spec.name)
            if able and refused.get(spec.name, 0) <= at:
                found.append(spec.name)
        return found

    def _forget(self, event: ev.TaskRetried | ev.TaskClosed) -> None:
        self._refused.pop(event.task, None)
        self._parked.pop(event.task, None)

    _on_TaskRetried = _on_TaskClosed = _forget

    def _on_SessionForked(self, event: ev.SessionForked) -> None:
        self._refused.clear()
        self._parked.clear()

    def _on_TaskAssigned(self, event: ev.TaskAssigned) -> None:
        """Not to whom its provider refuses, unless nobody else is left."""
        soonest = self._parked.pop(event.task, 0)
        self.check(event.at >= soonest, f"{event.task} starts at {event.at}, and nobody may have it before {soonest}")
        refused, kind = self._refused.get(event.task, {}), event.agent.rpartition("-")[0]
        if refused.get(kind, 0) > event.at:
            others = self._others(event.task, event.at)
            self.check(not others, f"{event.task} goes to {kind} again before {refused[kind]}, and {others} could have it")
        elif any(time > event.at for time in refused.values()):
            self.note("another agent takes over")
