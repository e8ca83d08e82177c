"""A ballot as tasks: each elector is one, what it writes is heard and counted. What comes of the outcome is for whoever asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from skep.core import consensus, messages, placement, references, topology
from skep.core import events as ev
from skep.core.consensus import Poll
from skep.core.model import TERMINAL, AgentSpec, Entry, Task, Vote
from skep.core.state import State
from skep.core.turn import Turn, is_open
from skep.errors import Invalid, SkepError

#: Voters of one task: each is a task of its own.
MAX_VOTERS = 1_000
#: Characters of a voter's reason that the log keeps.
MAX_REASON = 2_000
#: Rules that need no topology.
RULES = ("quorum", "unanimous", "weighted")


class _Said(msgspec.Struct):
    """What a voter wrote."""

    vote: str | None
    reason: str = ""


def check(state: State, task: Task, specs: Mapping[str, AgentSpec]) -> None:
    """Raises Invalid if a task's vote could never come to a decision here."""
    vote = task.vote
    assert vote is not None
    shape = messages.topology_of(state, specs)
    if state.plan.topology.kind:
        topology.check_rule(shape.kind, vote.rule)
    elif vote.rule not in RULES:
        raise Invalid(
            f"task '{task.id}': voting by rule {vote.rule} needs a topology",
            f"Say `topology`, or use {' or '.join(RULES)}.",
        )
    if not (math.isfinite(vote.timeout) and vote.timeout >= 0):
        raise Invalid(f"task '{task.id}': vote.timeout is {vote.timeout}", "Use a number that is not negative.")
    spec = specs.get(vote.by)
    if spec is None:
        raise Invalid(f"task '{task.id}': no agent is called '{vote.by}', which is to vote", f"Declared: {', '.join(specs)}.")
    if not 1 <= spec.count <= MAX_VOTERS:
        raise Invalid(
            f"task '{task.id}': agent '{vote.by}' has count {spec.count} and is to vote",
            f"The electorate must be known: give it a count from 1 to {MAX_VOTERS}.",
        )
    why = placement.impossible(state, Task(prompt="vote", agent=vote.by), specs)
    if why:
        raise Invalid(f"task '{task.id}': nobody could vote: {why}", "Let an agent vote that takes prompts.")
    consensus.check(_ballot(task, spec, task.id, ("A", "B"), shape))


def _ballot(task: Task, spec: AgentSpec, name: str, options: Sequence[str], shape: topology.Topology) -> consensus.Ballot:
    vote = task.vote
    assert vote is not None
    electors = tuple(f"{spec.name}-{seat}" for seat in range(1, spec.count + 1))
    return consensus.Ballot(
        id=name,
        electors=electors,
        options=tuple(options),
        rule=vote.rule,
        threshold=vote.threshold,
        weights=vote.weights,
        **(topology.seats(shape, electors) if vote.rule not in RULES else {}),
    )


def electorate(state: State, vote: Vote) -> AgentSpec | None:
    """The kind of agent that votes, if it is still there with a number of voters that is known."""
    spec = state.specs.get(vote.by)
    return spec if spec is not None and 1 <= spec.count <= MAX_VOTERS else None


def ask(
    turn: Turn, entry: Entry, spec: AgentSpec, options: Mapping[str, str], said: str, own: Mapping[str, tuple[str, ...]]
) -> None:
    """Opens a ballot of a task; an older one of it is over.

    Args:
        spec: whose agents are the electors.
        options: what the voters see -> the task behind it, empty if there is none.
        said: what each voter is told.
        own: elector -> options for which it cannot vote.
    """
    state, task = turn.state, entry.task
    assert task.vote is not None
    dismiss(turn, entry, "another ballot takes its place")
    number = entry.polls + 1
    name = task.id if number == 1 else f"{task.id}.{number}"
    ballot = _ballot(task, spec, name, tuple(options), messages.topology_of(state))
    ballot = msgspec.structs.replace(ballot, own={elector: own[elector] for elector in ballot.electors if elector in own})
    voters = tuple(
        Task(
            id=references.child_id(task.id, elector if number == 1 else f"{elector}.{number}"),
            prompt=said,
            objective=f"vote on {task.objective or task.id}",
            type="review",
            agent=spec.name,
            seat=seat,
            ballot=name,
            parent=task.id,
            priority=task.priority,
            mode="isolated" if state.base and (task.gate or task.mode != "none") else "none",
            merge="never",
            outputs={"vote": "vote.json"},
            timeout=task.vote.timeout,
            deadline=task.deadline,
        )
        for seat, elector in enumerate(ballot.electors, 1)
    )
    until = turn.at + int(task.vote.timeout * 1000) if task.vote.timeout else 0
    turn.emit(ev.BallotOpened(turn.at, task.id, ballot, dict(options), voters, until))


def hear(turn: Turn, entry: Entry, poll: Poll) -> consensus.Result | None:
    """Takes in the votes that have come, and counts. Returns the result once there is one."""
    state, task, ballot = turn.state, entry.task, poll.ballot
    for elector, name in poll.voters.items():
        voter = state.entries.get(name)
        if elector not in poll.votes and (voter is None or voter.state in TERMINAL):
            choice, reason = _vote(poll, elector, voter)
            turn.emit(ev.VoteCast(turn.at, task.id, ballot.id, elector, choice, reason))
    result = consensus.count(ballot, poll.votes, turn.at, closed=0 < poll.until <= turn.at)
    if result is not None:
        turn.emit(ev.BallotClosed(turn.at, task.id, result))
        dismiss(turn, entry, "the ballot was decided without it")
    return result


def told(result: consensus.Result) -> str:
    """A result in words: `2 of 3 for A`, `no decision: A 1, B 1, C 1 of 3, 2/3 needed`."""
    if result.reached:
        return f"{result.weights[result.choice]} of {result.total} for {result.choice}"
    got = ", ".join(f"{option} {weight}" for option, weight in result.weights.items())
    unused = [f"{n} {word}" for n, word in ((result.abstained, "abstained"), (result.silent, "silent")) if n]
    needed = "more than 1/2" if result.threshold == "1/2" else result.threshold
    return f"no decision: {', '.join((got, *unused))} of {result.total}, {needed} needed"


def _vote(poll: Poll, elector: str, voter: Entry | None) -> tuple[str, str]:
    """What a voter that is over chose, and why. Whatever cannot count as a vote is an abstention that says so."""
    if voter is None or voter.state != "done":
        return "", f"abstained: its task is {voter.state}: {voter.detail[:500]}" if voter is not None else "abstained: it is gone"
    output = (voter.outputs or {}).get("vote")
    try:
        if output is None or output.text is None:
            raise Invalid("vote.json is not text of at most 64 KiB")
        said = msgspec.json.decode(output.text, type=_Said)
        choice = said.vote or ""
        consensus.admit(poll.ballot, poll.votes, elector, choice)
    except (SkepError, msgspec.MsgspecError, RecursionError) as error:
        return "", f"abstained: {error.message if isinstance(error, SkepError) else f'vote.json: {error}'}"[:MAX_REASON]
    return choice, said.reason[:MAX_REASON]


def dismiss(turn: Turn, entry: Entry, why: str) -> None:
    """Voters that are not needed any more end; that one of them failed is no failure of the session."""
    for name in entry.children:
        voter = turn.state.entries.get(name)
        if voter is None or not voter.task.ballot or voter.state in ("done", "skipped"):
            continue
        if is_open(voter):
            _end(turn, voter, why)
        else:
            turn.emit(ev.TaskClosed(turn.at, name, "skipped", voter.cause, voter.detail))


def _end(turn: Turn, entry: Entry, why: str) -> None:
    if entry.attempt is not None and entry.attempt.stage != "ending":
        turn.emit(ev.AttemptEnding(turn.at, entry.task.id, entry.attempt.n, "cancelled"))
    turn.emit(ev.TaskClosed(turn.at, entry.task.id, "skipped", "", why))
