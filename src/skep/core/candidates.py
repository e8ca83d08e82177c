"""Several agents at one task: each candidate works apart from the others, and one result becomes the task's.

While candidates are at work nothing is decided. Then those that are done (their `verify` passed) are the options. One alone is
chosen as it is. Of several a vote chooses, or, where none is asked for, their order. What is chosen and then refused (its merge
fails, or a person says no) is passed over, and the question is put again over those that are left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from skep.core import consensus, messages, placement, references, topology
from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.closing import MAX_DETAIL, after_success
from skep.core.consensus import Poll
from skep.core.model import TERMINAL, AgentSpec, Entry, Task
from skep.core.state import State
from skep.core.turn import Turn, is_open
from skep.errors import Invalid, SkepError

#: Candidates of one task: as many as there are letters to call them by.
MAX_CANDIDATES = 26
#: Voters of one task: each is a task of its own.
MAX_VOTERS = 1_000
#: Characters of a voter's reason that the log keeps.
MAX_REASON = 2_000
#: Rules that need no topology.
RULES = ("quorum", "unanimous", "weighted")
#: What a voter is told. The candidates themselves are put below it when its attempt begins.
INSTRUCTION = """You are one of {count} voters. {many} candidates for the same task lie before you, without their authors' names.
Judge each by what it does for the task: is it right, complete, tested, simple? Then vote for one, or abstain.

Write your vote as JSON into the file vote.json in the folder that the environment variable SKEP_OUT names:
{{"vote": "{first}", "reason": "one or two sentences"}}
The vote is one of {letters}, or null to abstain. What is not written so counts as an abstention. Change nothing else."""


class _Said(msgspec.Struct):
    """What a voter wrote."""

    vote: str | None
    reason: str = ""


def check(state: State, task: Task, specs: Mapping[str, AgentSpec]) -> None:
    """Raises Invalid if a task's candidates or its vote could never come to anything here.

    Args:
        specs: the kinds of agents there will be.
    """
    if task.seat or task.ballot:
        raise Invalid(f"task '{task.id}' says that it is a vote", "Leave `seat` and `ballot` to Skep.")
    if not task.candidates:
        if task.vote is not None:
            raise Invalid(f"task '{task.id}' has a vote and no candidates", "Say how many `candidates` there are.")
        return
    if not 2 <= len(task.candidates) <= MAX_CANDIDATES:
        raise Invalid(f"task '{task.id}' has {len(task.candidates)} candidates", f"Use 2 to {MAX_CANDIDATES}.")
    if task.foreach is not None or task.mode == "shared":
        what = "foreach" if task.foreach is not None else "mode: shared"
        raise Invalid(f"task '{task.id}': candidates do not go with {what}", "Candidates work apart, each in its own worktree.")
    for name in dict.fromkeys(task.candidates):
        why = placement.impossible(state, replace(task, agent=name or task.agent), specs)
        if why:
            raise Invalid(f"candidate {name or 'any'} of task '{task.id}' could never run here: {why}", "Name another agent.")
    if task.vote is not None:
        _check_vote(state, task, specs)


def _check_vote(state: State, task: Task, specs: Mapping[str, AgentSpec]) -> None:
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


def expand(turn: Turn, entry: Entry) -> None:
    """Makes one task per candidate. Nothing of a candidate is merged by itself, and nobody is asked about it."""
    task = entry.task
    made = tuple(
        replace(
            task,
            id=references.child_id(task.id, str(n)),
            parent=task.id,
            agent=agent or task.agent,
            candidates=(),
            vote=None,
            merge="never",
            approve="",
            condition="always()" if task.condition else "",
        )
        for n, agent in enumerate(task.candidates, 1)
    )
    turn.emit(ev.TaskExpanded(turn.at, task.id, made))


def rivals(state: State, entry: Entry) -> list[Entry]:
    """The candidates of a task, without the voters, in order."""
    found = (state.entries[name] for name in entry.children if name in state.entries)
    return [other for other in found if not other.task.ballot]


def gather(turn: Turn, entry: Entry) -> None:
    """Decides about a task with candidates as far as it can be decided."""
    found = rivals(turn.state, entry)
    if any(is_open(other) for other in found):
        return
    fit = [other for other in found if other.state == "done" and other.task.id not in (entry.refused or {})]
    poll = entry.poll
    if not fit:
        last = next((f"; {name}: {why}" for name, why in reversed((entry.refused or {}).items())), "")
        why = f"none of {len(found)} candidates can be merged{last}" if entry.refused else f"all {len(found)} candidates failed"
        turn.emit(ev.TaskClosed(turn.at, entry.task.id, "failed", "needs", why[-MAX_DETAIL:]))
    elif len(fit) == 1:
        _choose(turn, entry, fit[0].task.id, "the only candidate that is left" if entry.refused else "the only one that is done")
    elif entry.task.vote is None:
        _choose(turn, entry, fit[0].task.id, "the first in the order of candidates")
    elif poll is None or sorted(poll.options.values()) != sorted(other.task.id for other in fit):
        _open(turn, entry, fit)
    elif poll.result is None:
        _hear(turn, entry, poll)


def _open(turn: Turn, entry: Entry, fit: Sequence[Entry]) -> None:
    """A ballot over these. Their order, and so their letters, say nothing about who made them."""
    state, task = turn.state, entry.task
    assert task.vote is not None
    _dismiss(turn, entry, "another ballot takes its place")
    spec = state.specs.get(task.vote.by)
    if spec is None or not 1 <= spec.count <= MAX_VOTERS:
        _undecided(turn, entry, f"agent '{task.vote.by}', which is to vote, is not there any more")
        return
    number = entry.polls + 1
    shuffled = sorted(fit, key=lambda other: turn.nonce(other.task.id, number))
    letters = {chr(ord("A") + n): other for n, other in enumerate(shuffled)}
    own: dict[str, tuple[str, ...]] = {}
    for letter, other in letters.items():
        if other.agent.rpartition("-")[0] == spec.name:
            own[other.agent] = (*own.get(other.agent, ()), letter)
    name = task.id if number == 1 else f"{task.id}.{number}"
    ballot = _ballot(task, spec, name, tuple(letters), messages.topology_of(state))
    ballot = replace(ballot, own={elector: own[elector] for elector in ballot.electors if elector in own})
    said = INSTRUCTION.format(count=spec.count, many=len(fit), first=ballot.options[0], letters=", ".join(ballot.options))
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
            mode="isolated" if state.base and task.mode != "none" else "none",
            merge="never",
            outputs={"vote": "vote.json"},
            timeout=task.vote.timeout,
            deadline=task.deadline,
        )
        for seat, elector in enumerate(ballot.electors, 1)
    )
    until = turn.at + int(task.vote.timeout * 1000) if task.vote.timeout else 0
    options = {letter: other.task.id for letter, other in letters.items()}
    turn.emit(ev.BallotOpened(turn.at, task.id, ballot, options, voters, until))


def _hear(turn: Turn, entry: Entry, poll: Poll) -> None:
    """Takes in the votes that have come, and counts."""
    state, task, ballot = turn.state, entry.task, poll.ballot
    for elector, name in poll.voters.items():
        voter = state.entries.get(name)
        if elector not in poll.votes and (voter is None or voter.state in TERMINAL):
            choice, reason = _vote(poll, elector, voter)
            turn.emit(ev.VoteCast(turn.at, task.id, ballot.id, elector, choice, reason))
    result = consensus.count(ballot, poll.votes, turn.at, closed=0 < poll.until <= turn.at)
    if result is None:
        return
    turn.emit(ev.BallotClosed(turn.at, task.id, result))
    _dismiss(turn, entry, "the ballot was decided without it")
    if result.reached:
        _choose(turn, entry, poll.options[result.choice], "")
    else:
        _undecided(turn, entry, told(result))


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


def _dismiss(turn: Turn, entry: Entry, why: str) -> None:
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


def _choose(turn: Turn, entry: Entry, winner: str, why: str, by: str = "") -> None:
    """The candidate's work is the task's. That another one failed is no failure of the session."""
    for other in rivals(turn.state, entry):
        if other.state in ("failed", "gave-up", "cancelled"):
            turn.emit(ev.TaskClosed(turn.at, other.task.id, "skipped", other.cause, other.detail))
    then, question = after_success(entry, turn.state.entries[winner].commit)
    turn.emit(ev.CandidateChosen(turn.at, entry.task.id, winner, then, question, why, by))


def _undecided(turn: Turn, entry: Entry, why: str) -> None:
    assert entry.task.vote is not None
    if entry.task.vote.otherwise == "ask":
        turn.emit(ev.TaskAsked(turn.at, entry.task.id, "vote", why))
    else:
        turn.emit(ev.TaskClosed(turn.at, entry.task.id, "failed", "undecided", why))


def choose(turn: Turn, entry: Entry, given: inp.Say) -> None:
    """A person chooses where a vote did not. Raises Invalid if that is no candidate that is done."""
    fit = [r.task.id for r in rivals(turn.state, entry) if r.state == "done" and r.task.id not in (entry.refused or {})]
    name = given.choice if given.choice in fit else references.child_id(entry.task.id, given.choice)
    if name not in fit:
        raise Invalid(f"'{given.choice}' is no candidate of '{entry.task.id}' that is done", f"Choose {' or '.join(fit)}.")
    _choose(turn, entry, name, given.comment or "chosen by a person", given.by)
