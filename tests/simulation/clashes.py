"""Conflicts that tasks resolve, judged by the log and by what resolvers truly left; and no marks of a conflict on the branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skep.core import events as ev
from tests.simulation.witness import Witness

if TYPE_CHECKING:
    from tests.simulation.world import World

#: What a file holds that nobody has brought together.
MARK = "<<<<<<< "


class Clashes(Witness):
    """A resolution is a task that ended well, and its commit is what goes to the merge; one chance for each run of a task."""

    def __init__(self, world: World, former: Clashes | None = None) -> None:
        super().__init__(world)
        self._stands: dict[str, str] = {}

    def _on_TaskAssigned(self, event: ev.TaskAssigned) -> None:
        self._stands.pop(event.task, None)

    _on_TaskRetried = _on_TaskAssigned

    def _on_ConflictResolved(self, event: ev.ConflictResolved) -> None:
        self._stands[event.task] = made = self.chronicle.tasks[event.resolver].commit
        tree = self.world.git.commits[made].tree
        left = [path for path, text in tree.items() if text.startswith(MARK)]
        self.check(not left, f"{event.resolver} is taken for a resolution, and {left} hold conflict markers")
        self.note("conflict resolved")

    def _on_MergeStarted(self, event: ev.MergeStarted) -> None:
        for one in event.intent.stack:
            self.check(one.commit == self._stands.get(one.task, one.commit), f"{one.task} is not merged as it was resolved")

    def _on_MergeFailed(self, event: ev.MergeFailed) -> None:
        if event.cause == "conflict":
            self.check(event.resolver is None or event.task not in self._stands, f"{event.task} has a second chance")

    def _on_TaskAsked(self, event: ev.TaskAsked) -> None:
        if event.question == "conflict":
            self.note("resolution fails")

    def _on_Merged(self, event: ev.Merged) -> None:
        made = self._stands.get(event.task)
        self.check(made is None or self.world.git.contains(event.commit, made), f"{event.task} lacks its resolution")
