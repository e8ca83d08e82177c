"""What the events of candidates and ballots do to a state: the part of `core.apply` that concerns them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skep.core import events as ev
from skep.core.consensus import Poll
from skep.core.model import Entry
from skep.core.state import State


def _opened(s: State, e: ev.BallotOpened) -> None:
    entry = s.entries[e.task]
    voters = tuple(task.id for task in e.voters)
    entry.polls += 1
    entry.poll = Poll(
        ballot=e.ballot,
        options=e.options,
        voters=dict(zip(e.ballot.electors, voters, strict=True)),
        opened=e.at,
        until=e.until,
    )
    entry.children += voters
    entry.open_children += len(voters)
    s.add(e.voters, e.at, None)
    if s.live:
        s.due.watch(entry)


def _cast(s: State, e: ev.VoteCast) -> None:
    poll = _poll(s.entries[e.task])
    poll.votes[e.elector] = e.choice
    poll.reasons[e.elector] = e.reason


def _closed(s: State, e: ev.BallotClosed) -> None:
    _poll(s.entries[e.task]).result = e.result


def _poll(entry: Entry) -> Poll:
    assert entry.poll is not None
    return entry.poll


def _chosen(s: State, e: ev.CandidateChosen) -> None:
    """The task has the candidate's work. Its attempts count the choices: each of its merges is named apart from the others."""
    entry, winner = s.entries[e.task], s.entries[e.candidate]
    entry.chosen, entry.agent, entry.question = e.candidate, winner.agent, e.question
    entry.attempts += 1
    entry.base, entry.commit = winner.base, winner.commit
    entry.result, entry.exit_code, entry.outputs = winner.result, winner.exit_code, winner.outputs
    entry.cause, entry.detail = "", e.why
    s.move(entry, e.then, e.at)
    if e.then == "merging":
        s.merge_queue.append(e.task)


def _refused(s: State, e: ev.CandidateRefused) -> None:
    entry = s.entries[e.task]
    entry.question = ""
    s.move(entry, "expanded", e.at)
    pass_over(s, entry, e.why)


def pass_over(s: State, entry: Entry, why: str) -> None:
    """The chosen candidate did not do: the task goes on with those that are left."""
    entry.refused = {**(entry.refused or {}), entry.chosen: why}
    entry.chosen = ""
    entry.result, entry.outputs, entry.commit = None, None, ""
    if s.live:
        s.due.pending[entry.task.id] = None


def afresh(entry: Entry) -> None:
    """A task is sent round again: what was decided about its candidates counts no more."""
    entry.poll, entry.chosen, entry.refused = None, "", None


APPLY: dict[type, Callable[[State, Any], None]] = {
    ev.BallotOpened: _opened,
    ev.VoteCast: _cast,
    ev.BallotClosed: _closed,
    ev.CandidateChosen: _chosen,
    ev.CandidateRefused: _refused,
}
