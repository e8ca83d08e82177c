"""Bugs to plant in what agents are promised: votes, costs, approvals, messages, limits of providers, proposals, conflicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from msgspec.structs import replace

from skep.core import apply as applying
from skep.core import (
    approvals,
    attempts,
    budgets,
    candidates,
    clocks,
    consensus,
    decide,
    messages,
    polls,
    proposals,
    resolving,
    topology,
    voting,
)
from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.closing import after_success
from skep.core.consensus import Poll
from skep.core.model import Entry, Task
from skep.core.state import State
from skep.core.turn import Turn, is_open
from skep.runtime import ballots
from skep.runtime.asking import Leave
from tests.simulation.planted import Planted, swap, swapped

_APPLY = applying._APPLY
_assigned, _ending, _resolved = _APPLY[ev.TaskAssigned], _APPLY[ev.AttemptEnding], _APPLY[ev.ConflictResolved]
_asked = _APPLY[ev.ApprovalAsked]
_release, _sent, _forked = State.release, _APPLY[ev.MessageSent], _APPLY[ev.SessionForked]

# Costs


def _charged_again(turn: Turn, report: inp.Spent) -> None:
    """A report that is told again is charged again."""
    attempts.spent(turn, replace(report, number=0))


def _from_what_is_held(state: State, entry: Entry, agent: Any) -> float | None:
    """What others hold is not looked at."""
    limits = state.plan.limits
    return min(limits.reserve_usd or budgets.RESERVE, limits.cost_usd - state.cost.usd) if limits.cost_usd else 0.0


def _asked_for_nothing() -> AbstractContextManager[None]:
    """The clock of an attempt goes on while its question waits."""

    def asked(state: State, event: ev.ApprovalAsked) -> None:
        with swapped(clocks, "halt", lambda state, entry, at: None):
            _asked(state, event)

    return swapped(_APPLY, ev.ApprovalAsked, asked)


def _keeps_hold(self: State, entry: Entry) -> None:
    """What was held for an attempt stays held when it is over."""
    held = self.held
    _release(self, entry)
    self.held = held


def _forks_afresh(state: State, event: ev.SessionForked) -> None:
    """A fork knows nothing of the money that was spent."""
    _forked(state, event)
    state.kinds = {}


# Approvals


@contextmanager
def _of_an_earlier_attempt() -> Iterator[None]:
    """What an attempt asked and was allowed is there for the next one."""
    kept: dict[tuple[int, str], Any] = {}

    def release(self: State, entry: Entry) -> None:
        kept[id(self), entry.task.id] = entry.attempt.asks if entry.attempt is not None else None
        _release(self, entry)

    def assigned(state: State, event: ev.TaskAssigned) -> None:
        _assigned(state, event)
        attempt = state.entries[event.task].attempt
        assert attempt is not None
        attempt.asks = kept.get((id(state), event.task))

    with swapped(State, "release", release), swapped(_APPLY, ev.TaskAssigned, assigned), _asks_stay():
        yield


@contextmanager
def _asks_stay() -> Iterator[None]:
    """The questions of an attempt that is being ended are not void."""

    def ending(state: State, event: ev.AttemptEnding) -> None:
        attempt = state.entries[event.task].attempt
        asks = attempt.asks if attempt is not None else None
        _ending(state, event)
        if attempt is not None:
            attempt.asks = asks

    with swapped(_APPLY, ev.AttemptEnding, ending):
        yield


@contextmanager
def _after_the_end() -> Iterator[None]:
    """An attempt that is being ended still asks, is answered, and uses it."""
    with _asks_stay(), swapped(Turn, "at_work", lambda turn, task, n, nonce: turn.fenced(task, n, nonce)):
        yield


async def _hasty(self: Leave, number: int, digest: str) -> None:
    """It goes on with the answer that it heard."""


def _still_stands(state: State, event: ev.SessionForked) -> None:
    """What was allowed for the rest of a session is allowed in its forks."""
    standing = state.standing
    _forked(state, event)
    state.standing = standing


def _counts_from_one(self: State, entry: Entry, former: Entry) -> None:
    """Questions of a task that took another one's id have the names of the other's questions."""
    _succeed(self, entry, former)
    entry.asked = 0


_succeed = State._succeed

# Votes


def _twice(ballot: consensus.Ballot) -> list[tuple[tuple[str, ...], int]]:
    """The first elector's vote counts twice."""
    blocks = _blocks(ballot)
    return [blocks[0], *blocks]


def _of_those_that_came(ballot: consensus.Ballot, votes: Mapping[str, str], at: int, closed: bool = False) -> Any:
    """A quorum of the votes that arrived."""
    result = _count(ballot, votes, at, closed)
    came = tuple(elector for elector in ballot.electors if votes.get(elector))
    return result if result is None or not came else _count(replace(ballot, electors=came), votes, at, True)


_blocks, _count, _said, _admit = consensus._blocks, consensus.count, consensus._said, consensus.admit


@contextmanager
def _own_counts() -> Iterator[None]:
    """Who made it votes for it."""

    def said(ballot: consensus.Ballot, votes: Mapping[str, str], elector: str, closed: bool) -> str | None:
        return _said(replace(ballot, own={}), votes, elector, closed)

    def admit(ballot: consensus.Ballot, votes: Mapping[str, str], elector: str, choice: str) -> None:
        _admit(replace(ballot, own={}), votes, elector, choice)

    with swapped(consensus, "_said", said), swapped(consensus, "admit", admit):
        yield


def _passes_nobody(s: State, entry: Entry, why: str) -> None:
    """What was refused may be chosen again."""
    _pass_over(s, entry, why)
    entry.refused = None


_pass_over = polls.pass_over


def _without_end(turn: Turn, entry: Entry, poll: Poll) -> Any:
    """A ballot has no time."""
    return _hear(turn, entry, replace(poll, until=0))


_hear = voting.hear


def _names_told(state: State, poll: Any) -> list[Any]:
    """Voters are told who made what."""
    return [replace(one, said={**one.said, "author": poll.options[one.option]}) for one in _candidates(state, poll)]


_candidates = ballots._candidates


def _in_order(turn: Turn, entry: Entry, winner: str, why: str, by: str = "") -> None:
    """The first that is done is chosen, whatever the vote says."""
    fit = [
        r.task.id for r in candidates.rivals(turn.state, entry) if r.state == "done" and r.task.id not in (entry.refused or {})
    ]
    _choose(turn, entry, fit[0], why, by)


_choose = candidates._choose

# Messages


def _forgets(state: State, event: ev.MessageSent) -> None:
    """A message is known only to the owner that took it."""
    if state.live:
        _sent(state, event)


def _in_any_order(turn: Turn, report: inp.Delivered) -> None:
    """What was handed over is delivered, whatever came before it."""
    for name in report.ids:
        if name in turn.state.mail.inboxes.get(report.target, {}):
            turn.emit(ev.MessageDelivered(turn.at, name, report.target))


def _another_each_time(turn: Turn, given: inp.Send) -> str:
    """The same id again is another message."""
    turn.state.mail.known.pop(given.id, None)
    return messages.send(turn, given)


def _lost_or_there(state: State, event: ev.MessageSent) -> None:
    """An inbox keeps the newest only."""
    state.mail.inboxes.pop(event.message.target, None)
    _sent(state, event)


# Providers


def _counted(turn: Turn, entry: Entry, report: inp.Ended) -> None:
    """A provider's limit counts as an interruption."""
    attempts.interrupted(turn, entry, replace(report, until=0))


def _a_failure(turn: Turn, report: inp.Ended) -> None:
    """A provider's limit is the task's failure."""
    attempts.ended(turn, replace(report, outcome="failed", cause="error") if report.cause == "limit" else report)


def _too_long(entry: Entry, until: int = 0) -> tuple[Any, int]:
    """It is forgotten until when a task waits."""
    then, at = _again(entry, until)
    return then, at and at + 1


_again = attempts.again

# Proposals


@contextmanager
def _no_bounds() -> Iterator[None]:
    """What a task proposes is not looked at but for its form."""
    with swapped(proposals, "refusal", lambda state, entry, given: ""):
        yield


def _nobody_asked(turn: Turn, entry: Entry) -> None:
    """What a task proposes is taken whoever would have to say yes."""
    if entry.proposal is not None:
        proposals.take(turn, entry, "")


def _no_twins(state: State, entry: Entry, tasks: Sequence[Task]) -> str:
    """The same work may be proposed any number of times."""
    return ""


# Conflicts


def _keeps_old(state: State, event: ev.ConflictResolved) -> None:
    """What did not merge goes to the merge again."""
    commit = state.entries[event.task].commit
    _resolved(state, event)
    state.entries[event.task].commit = commit


@contextmanager
def _marks_accepted() -> Iterator[None]:
    """What an agent leaves with its markers in it is taken for a resolution."""

    def resolved(state: State, event: ev.ConflictResolved) -> None:
        _resolved(state, event)
        made = state.entries[event.resolver]
        state.entries[event.task].commit = made.commit or made.wip

    def gather(turn: Turn, entry: Entry) -> None:
        made = turn.state.entries[entry.children[-1]]
        if not is_open(made):
            then, question = after_success(entry, made.commit or made.wip)
            turn.emit(ev.ConflictResolved(turn.at, entry.task.id, made.task.id, then, question))

    with swapped(resolving, "gather", gather), swapped(_APPLY, ev.ConflictResolved, resolved):
        yield


def _quietly(name: str) -> Callable[..., Any]:
    """Does nothing: what it should do is forgotten."""

    def nothing(*given: Any) -> None:
        """Nothing."""

    nothing.__name__ = name
    return nothing


AGENTS: dict[str, Planted] = {
    "an attempt that told no cost costs nothing": Planted(14, swap(budgets, "unreported", _quietly("unreported"))),
    "a cost told twice charged twice": Planted(14, swap(decide._HANDLERS, inp.Spent, _charged_again)),
    "more held than is left": Planted(14, swap(budgets, "reserve", _from_what_is_held)),
    "what was held stays held": Planted(14, swap(State, "release", _keeps_hold)),
    "a session over its limit goes on": Planted(14, swap(budgets, "used_up", lambda state, at: "")),
    "a task over its budget goes on": Planted(14, swap(budgets, "over", lambda entry, at: "")),
    "a fork begins its budgets anew": Planted(13, swap(_APPLY, ev.SessionForked, _forks_afresh)),
    "the clock runs on while a person is asked": Planted(14, _asked_for_nothing),
    "the clock runs on while nobody is there": Planted(14, swap(clocks, "forgive", lambda state, entry, gap: None)),
    "time of an agent's kind never used up": Planted(14, swap(budgets, "worked_by", lambda state, spec, at: 0)),
    "time of a task never used up": Planted(14, swap(budgets, "ends", lambda entry: 0)),
    "the approval of an earlier attempt accepted": Planted(15, _of_an_earlier_attempt),
    "an answer after the attempt's end": Planted(15, _after_the_end),
    "an approval used twice": Planted(15, swap(_APPLY, ev.ApprovalUsed, lambda state, event: None)),
    "released before it is recorded": Planted(15, swap(Leave, "_use", _hasty)),
    "a fork keeps what is allowed for good": Planted(13, swap(_APPLY, ev.SessionForked, _still_stands)),
    "questions of a replaced task named again": Planted(15, swap(State, "_succeed", _counts_from_one)),
    "a question waits for ever": Planted(15, swap(approvals, "expire", _quietly("expire"))),
    "two votes of one elector counted": Planted(15, swap(consensus, "_blocks", _twice)),
    "a quorum of the votes that arrived": Planted(15, swap(consensus, "count", _of_those_that_came)),
    "a vote for one's own counted": Planted(15, _own_counts),
    "what was refused chosen again": Planted(15, swap(polls, "pass_over", _passes_nobody)),
    "a ballot open beyond its time": Planted(15, swap(voting, "hear", _without_end)),
    "voters told who made what": Planted("G4", swap(ballots, "_candidates", _names_told)),
    "the first candidate chosen whatever the vote": Planted("G4", swap(candidates, "_choose", _in_order)),
    "a message over a missing edge": Planted("F3", swap(topology, "send", lambda *ends: None)),
    "a message lost in a crash": Planted("F3", swap(_APPLY, ev.MessageSent, _forgets)),
    "a message takes the place of another": Planted("F3", swap(_APPLY, ev.MessageSent, _lost_or_there)),
    "messages delivered in any order": Planted("F3", swap(decide._HANDLERS, inp.Delivered, _in_any_order)),
    "a message sent again is another one": Planted("F3", swap(decide._HANDLERS, inp.Send, _another_each_time)),
    "a provider's limit counts as an interruption": Planted(10, swap(attempts, "interrupted", _counted)),
    "a provider's limit counts as a failure": Planted(10, swap(decide._HANDLERS, inp.Ended, _a_failure)),
    "parked until another time": Planted(11, swap(attempts, "again", _too_long)),
    "proposals without bounds": Planted("A2", _no_bounds),
    "a proposal taken unasked": Planted("A2", swap(proposals, "take_by_rule", _nobody_asked)),
    "the same proposed again": Planted("A2", swap(proposals, "_twin", _no_twins)),
    "what did not merge is merged again": Planted(5, swap(_APPLY, ev.ConflictResolved, _keeps_old)),
    "markers accepted": Planted(5, _marks_accepted),
}
