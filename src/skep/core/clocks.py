"""How long attempts have worked, by task and by kind of agent: what budgets of time are held against. Pure.

The clock of an attempt runs from its assignment until its agent has ended or is told to end. It stands while a question of the
attempt waits for a person, and while nobody carries the session out. It does not run for verifications and merges, which are
Skep's own work, nor for what is claimed by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from skep.core.placement import HAND

if TYPE_CHECKING:
    from skep.core.model import Entry
    from skep.core.state import State


class Meter(Struct, omit_defaults=True, gc=False):
    """Working time of many attempts, ms: `used` until `since`; from then on `running` of them work at once."""

    used: int = 0
    running: int = 0
    since: int = 0

    def at(self, now: int) -> int:
        """How much it is by now."""
        return self.used + self.running * max(0, now - self.since)

    def change(self, now: int, by: int) -> None:
        """So many more are at work from now on, or fewer."""
        self.used, self.since, self.running = self.at(now), now, self.running + by

    def full(self, limit: int) -> int:
        """When it comes to a limit (ms) if it goes on like this: wall-clock ms; 0 = never."""
        return self.since + max(0, -((self.used - limit) // self.running)) if self.running else 0


def start(state: State, entry: Entry, at: int) -> None:
    """The clock of the task's attempt runs, from now on."""
    attempt = entry.attempt
    assert attempt is not None
    kind = state.agents[attempt.agent].spec
    if attempt.since or kind == HAND:
        return
    attempt.since = at
    if (meter := state.clocks.get(kind)) is None:
        meter = state.clocks[kind] = Meter()
    meter.change(at, 1)
    if state.live and entry.task.budget is not None:
        state.due.watch(entry)


def halt(state: State, entry: Entry, at: int) -> None:
    """It stands, from now on. Once more changes nothing."""
    attempt = entry.attempt
    if attempt is None or not attempt.since:
        return
    entry.worked, attempt.since = worked(entry, at), 0
    state.clocks[state.agents[attempt.agent].spec].change(at, -1)


def forgive(state: State, entry: Entry, gap: int) -> None:
    """So many of the last milliseconds of a clock that runs do not count: nobody carried the session out."""
    attempt = entry.attempt
    if attempt is None or not attempt.since:
        return
    attempt.since += gap
    state.clocks[state.agents[attempt.agent].spec].used -= gap
    if state.live and entry.task.budget is not None:
        state.due.watch(entry)


def worked(entry: Entry, at: int) -> int:
    """Milliseconds that the attempts of a task have worked by then."""
    since = entry.attempt.since if entry.attempt is not None else 0
    return entry.worked + (max(0, at - since) if since else 0)
