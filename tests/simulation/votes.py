"""Candidates and votes: who made what and who wrote which vote is known here, and every ballot is counted again, plainly."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from msgspec import Struct

from skep.core import events as ev
from skep.core.consensus import THRESHOLDS, Ballot
from tests.simulation.chronicle import OVER
from tests.simulation.witness import Witness

if TYPE_CHECKING:
    from tests.simulation.world import World


class Poll(Struct):
    """A ballot as the log tells it."""

    opened: ev.BallotOpened
    #: Elector -> option, empty for an abstention: as it truly said.
    votes: dict[str, str] = {}
    closed: ev.BallotClosed | None = None
    #: Candidate -> nonce of the attempt whose work the voters see.
    seen: dict[str, str] = {}


class Votes(Witness):
    """A decision is that of the electorate, each counted once and not for its own; what was refused is not chosen again."""

    def __init__(self, world: World, former: Votes | None = None) -> None:
        super().__init__(world)
        #: Nonce -> the text of the vote that a voter left.
        self.written: dict[str, str] = former.written if former is not None else {}
        #: Nonce -> the agent that worked.
        self.makers: dict[str, str] = former.makers if former is not None else {}
        self._polls: dict[str, Poll] = {}
        self._refused: dict[str, set[str]] = {}

    def shown(self, voter: str, prompt: str) -> None:
        """A voter's agent is told this: nothing in it says whose the candidates are."""
        opened = self._polls[self.chronicle.tasks[voter].task.parent].opened
        for name in opened.options.values():
            maker = self._maker(name)
            self.check(name not in prompt and maker not in prompt, f"voter {voter} is told that {maker} made {name}")

    def _maker(self, task: str) -> str:
        return self.makers.get(self.nonce(task), self.chronicle.tasks[task].agent)

    def _on_TaskAssigned(self, event: ev.TaskAssigned) -> None:
        self.makers[event.nonce] = event.agent

    def _on_BallotOpened(self, event: ev.BallotOpened) -> None:
        told, ballot = self.chronicle.tasks[event.task], event.ballot
        assert told.task.vote is not None
        spec = self.chronicle.specs[told.task.vote.by]
        due = tuple(f"{spec.name}-{seat}" for seat in range(1, spec.count + 1))
        self.check(ballot.electors == due, f"{ballot.electors} vote on {event.task}, and {due} should")
        rivals = [n for n in told.children if not self.chronicle.tasks[n].task.ballot]
        fit = [n for n in rivals if self.chronicle.tasks[n].state == "done" and n not in self._refused.get(event.task, ())]
        self.check(sorted(event.options.values()) == sorted(fit), f"{event.options} are voted on, {fit} could be")
        if list(event.options.values()) != fit:
            self.note("candidates in another order")
        for elector in ballot.electors:
            own = tuple(letter for letter, name in event.options.items() if self._maker(name) == elector)
            self.check(ballot.own.get(elector, ()) == own, f"{own} are {elector}'s own, the ballot says {ballot.own}")
        self._polls[event.task] = Poll(event, seen={name: self.nonce(name) for name in fit})

    def _on_VoteCast(self, event: ev.VoteCast) -> None:
        poll = self._polls[event.task]
        opened = poll.opened
        self.check(event.elector not in poll.votes and poll.closed is None, f"{event.elector} votes again on {event.task}")
        voter = opened.voters[opened.ballot.electors.index(event.elector)].id
        told = self.chronicle.tasks[voter]
        self.check(told.state in OVER, f"{event.elector} votes on {event.task} before it has said so")
        text = self.written.get(told.nonce, "") if told.state == "done" else ""
        counts = text in opened.options and self._maker(opened.options[text]) != event.elector
        self.check(event.choice == (text if counts else ""), f"{event.elector} wrote '{text}', '{event.choice}' is counted")
        poll.votes[event.elector] = text if counts else ""

    def _on_BallotClosed(self, event: ev.BallotClosed) -> None:
        poll = self._polls[event.task]
        ballot, until, result = poll.opened.ballot, poll.opened.until, event.result
        late = 0 < until <= event.at
        enough = [option for option in ballot.options if wins(ballot, poll.votes, option)]
        self.check(([result.choice] if result.reached else []) == enough, f"{poll.votes}: {result.choice} won, {enough} should")
        if not enough and not late:
            may = [option for option in ballot.options if wins(ballot, poll.votes, option, silent=True)]
            self.check(not may, f"the vote on {event.task} is given up, and {may} could still win")
        poll.closed = event
        self.note("vote decided" if result.reached else "vote undecided")
        if late and len(poll.votes) < len(ballot.electors):
            self.note("vote out of time")
        if len(result.leading) > 1:
            self.note("vote split")

    def _on_CandidateChosen(self, event: ev.CandidateChosen) -> None:
        told, poll = self.chronicle.tasks[event.task], self._polls.get(event.task)
        refused = self._refused.setdefault(event.task, set())
        self.check(event.candidate not in refused, f"{event.candidate} is chosen again for {event.task}")
        names = [name for name in told.children if not self.chronicle.tasks[name].task.ballot]
        fit = [name for name in names if self.chronicle.tasks[name].state == "done" and name not in refused]
        if len(fit) > 1 and not event.by:
            if told.task.vote is None:
                due = fit[0]
            else:
                self.check(poll is not None and poll.closed is not None, f"{event.candidate} is chosen without a vote")
                due = poll.opened.options.get(poll.closed.result.choice, "") if poll and poll.closed else ""
                seen = poll is not None and poll.seen.get(event.candidate) == self.nonce(event.candidate)
                self.check(seen, f"{event.candidate} has done other work since it was voted on")
            self.check(event.candidate == due, f"{event.candidate} is chosen for {event.task}, {due} won")

    def _on_CandidateRefused(self, event: ev.CandidateRefused) -> None:
        self._refused[event.task].add(event.candidate)

    def _on_MergeFailed(self, event: ev.MergeFailed) -> None:
        told = self.chronicle.tasks[event.task]
        if told.task.candidates and event.then == "expanded":
            self._refused[event.task].add(told.chosen)
            self.note("winner refused at the merge")

    def _on_Merged(self, event: ev.Merged) -> None:
        told = self.chronicle.tasks[event.task]
        for name in told.children if told.task.candidates else ():
            lost = self.chronicle.tasks[name].commit
            if name != told.chosen and lost and lost != told.commit:
                self.check(not self.world.git.contains(event.commit, lost), f"{name} lost, and is merged with {event.task}")

    def _on_TaskRetried(self, event: ev.TaskRetried) -> None:
        """Whatever goes round again is voted on anew, and so is the task of a candidate that does."""
        self._polls.pop(event.task, None)
        self._refused.pop(event.task, None)
        self._polls.pop(self.chronicle.tasks[event.task].task.parent, None)

    def _on_TaskExpanded(self, event: ev.TaskExpanded) -> None:
        self._polls.pop(event.task, None)
        self._refused.pop(event.task, None)

    def _on_SessionForked(self, event: ev.SessionForked) -> None:
        """Ballots are void, and what was refused may be chosen again."""
        self._polls.clear()
        self._refused.clear()

    def appended(self) -> None:
        """No ballot stays open beyond its time."""
        if self.chronicle.copied:
            return
        for name, poll in self._polls.items():
            open_one = poll.closed is None and self.chronicle.tasks[name].state == "expanded"
            late = 0 < poll.opened.until <= self.chronicle.last_at
            self.check(not (open_one and late), f"the vote on {name} is open beyond its time, {poll.opened.until}")


def wins(ballot: Ballot, votes: Mapping[str, str], option: str, silent: bool = False) -> bool:
    """Whether an option has its share of the whole electorate; with `silent`, if all who said nothing yet were for it."""
    weights = ballot.weights if ballot.rule == "weighted" else {}
    got = total = 0
    for elector in ballot.electors:
        weight = weights.get(elector, 1)
        total += weight
        may = silent and elector not in votes and option not in ballot.own.get(elector, ())
        got += weight if votes.get(elector) == option or may else 0
    return got >= total * Fraction(ballot.threshold or THRESHOLDS[ballot.rule]) and 2 * got > total
