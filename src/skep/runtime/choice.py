"""What the outside sees of a task's candidates and of the vote on them: plain records, as in `runtime.views`."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from skep.core.consensus import Poll, threshold_of
from skep.core.model import Entry
from skep.core.voting import told


class VoteView(Struct, frozen=True, kw_only=True):
    """One elector's vote. `cast`: whether it has voted; an empty `choice` is an abstention then."""

    elector: str
    cast: bool
    choice: str = ""
    reason: str = ""


class BallotView(Struct, frozen=True, kw_only=True):
    """A ballot over candidates. `result` says in words how it ended, empty while it is open. Times: wall-clock ms, 0 = none."""

    id: str
    rule: str
    threshold: str
    electorate: int
    opened: int
    until: int
    result: str
    reached: bool
    votes: tuple[VoteView, ...]


class CandidateView(Struct, frozen=True, kw_only=True):
    """One candidate. `option` is what the voters call it; `refused` says why it was chosen and then passed over."""

    id: str
    state: str
    agent: str
    attempts: int
    option: str = ""
    votes: int = 0
    chosen: bool = False
    refused: str = ""
    cause: str = ""
    detail: str = ""
    commit: str = ""
    wip: str = ""


class ChoiceView(Struct, frozen=True, kw_only=True):
    """A task's candidates, and the last ballot on them. `why` says why the chosen one was chosen where no ballot did."""

    session: str
    task: str
    state: str
    question: str
    why: str
    chosen: str
    candidates: tuple[CandidateView, ...]
    ballot: BallotView | None = None


def choice_view(session: str, entry: Entry, rivals: Sequence[Entry]) -> ChoiceView:
    """The candidates of a task, shown.

    Args:
        rivals: the candidates, in order.
    """
    poll = entry.poll
    options = {name: option for option, name in poll.options.items()} if poll is not None else {}
    votes = list(poll.votes.values()) if poll is not None else []
    return ChoiceView(
        session=session,
        task=entry.task.id,
        state=entry.state,
        question=entry.question,
        why=entry.detail,
        chosen=entry.chosen,
        candidates=tuple(
            CandidateView(
                id=rival.task.id,
                state=rival.state,
                agent=rival.agent,
                attempts=rival.attempts,
                option=options.get(rival.task.id, ""),
                votes=votes.count(options[rival.task.id]) if rival.task.id in options else 0,
                chosen=rival.task.id == entry.chosen,
                refused=(entry.refused or {}).get(rival.task.id, ""),
                cause=rival.cause,
                detail=rival.detail,
                commit=rival.commit,
                wip=rival.wip,
            )
            for rival in rivals
        ),
        ballot=_ballot(poll) if poll is not None else None,
    )


def _ballot(poll: Poll) -> BallotView:
    ballot = poll.ballot
    return BallotView(
        id=ballot.id,
        rule=ballot.rule,
        threshold=str(threshold_of(ballot.rule, ballot.threshold)),
        electorate=len(ballot.electors),
        opened=poll.opened,
        until=poll.until,
        result=told(poll.result) if poll.result is not None else "",
        reached=poll.result is not None and poll.result.reached,
        votes=tuple(
            VoteView(
                elector=elector,
                cast=elector in poll.votes,
                choice=poll.votes.get(elector, ""),
                reason=poll.reasons.get(elector, ""),
            )
            for elector in ballot.electors
        ),
    )
