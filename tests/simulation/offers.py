"""What tasks propose, by their agents' own account, and what comes of it: within the bounds, after a yes, nothing twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skep.core import events as ev
from skep.core.model import Proposal
from tests.simulation.chronicle import OVER
from tests.simulation.witness import Witness

if TYPE_CHECKING:
    from tests.simulation.world import World


class Offers(Witness):
    """Holds proposals against what agents wrote, and what is accepted against what people said."""

    def __init__(self, world: World, former: Offers | None = None) -> None:
        super().__init__(world)
        #: Nonce -> what its agent proposes; and the tasks of which people approved what they propose.
        self.written: dict[str, Proposal] = former.written if former is not None else {}
        self.approved: set[str] = former.approved if former is not None else set()
        self._taken = 0

    def _on_TaskProposed(self, event: ev.TaskProposed) -> None:
        written = self.written.get(self.nonce(event.task))
        names = [task.id for task in event.proposal.tasks]
        self.check(written is not None and names == [task.id for task in written.tasks], f"{event.task} did not propose {names}")
        if event.refused:
            self.note("proposal refused")
            return
        rule = self.chronicle.plan.proposals
        self.check(rule.rule != "never", f"{event.task} proposes, and nobody may")
        deep = [task.generation for task in event.proposal.tasks if task.generation > rule.depth]
        self.check(not deep and len(names) <= rule.max_tasks, f"{names} are proposed by {event.task}, more than may be")
        self._check_new(event)

    def _check_new(self, event: ev.TaskProposed) -> None:
        open_ones = {told.task.run: name for name, told in self.chronicle.tasks.items() if told.state not in OVER}
        for task in event.proposal.tasks:
            self.check(task.run not in open_ones, f"{task.id} is proposed, and {open_ones.get(task.run)} does that already")

    def _on_ProposalAccepted(self, event: ev.ProposalAccepted) -> None:
        rule, tasks = self.chronicle.plan.proposals, self.chronicle.proposed[event.task]
        self._taken += len(tasks)
        self.check(self._taken <= rule.most, f"{self._taken} tasks were taken that were proposed, {rule.most} may be")
        said = event.task in self.approved if event.by else rule.rule == "auto"
        self.check(said, f"what {event.task} proposes was taken, and nobody said so")
        runs = [told.task.run for told in self.chronicle.tasks.values() if told.state not in OVER]
        twice = [task.id for task in tasks if task.run in runs]
        self.check(not twice, f"{twice} of {event.task} were taken, and others do that already")
        self.note("proposal accepted")
