"""Whoever knows from outside what is so, and compares the log with it: one for each promise about agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skep.core import events as ev
from skep.core.state import State

if TYPE_CHECKING:
    from tests.simulation.world import World


class Witness:
    """Notes what agents, voters and people did, and hears every event as soon as the log holds it.

    A method `_on_TaskAssigned` hears the events of that kind, before the chronicle takes them in. Who goes on in a fork knows
    what was noted in the world before (`former`), and hears the log again from its beginning.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.chronicle = world.chronicle
        self.check = world.check
        self.note = world.faults.note

    def hear(self, event: ev.Event) -> None:
        """One event of an append."""
        handler = getattr(self, "_on_" + type(event).__name__, None)
        if handler is not None:
            handler(event)

    def appended(self) -> None:
        """The append has been told whole."""

    def rest(self, state: State) -> None:
        """All is quiet: nothing may be left over in the state."""

    def nonce(self, task: str) -> str:
        """Of the task's current attempt."""
        return self.chronicle.tasks[task].nonce
