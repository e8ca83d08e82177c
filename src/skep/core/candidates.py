"""Several agents at one task: each candidate works apart from the others, and one result becomes the task's.

While candidates are at work nothing is decided. Then those that are done (their `verify` passed) are the options. One alone is
chosen as it is. Of several a vote chooses, or, where none is asked for, their order. What is chosen and then refused (its merge
fails, or a person says no) is passed over, and the question is put again over those that are left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core import placement, references, voting
from skep.core.closing import MAX_DETAIL, after_success
from skep.core.model import AgentSpec, Entry, Task
from skep.core.state import State
from skep.core.turn import Turn, is_open
from skep.errors import Invalid

#: Candidates of one task: as many as there are letters to call them by.
MAX_CANDIDATES = 26
#: What a voter is told. The candidates themselves are put below it when its attempt begins.
INSTRUCTION = """You are one of {count} voters. {many} candidates for the same task lie before you, without their authors' names.
Judge each by what it does for the task: is it right, complete, tested, simple? Then vote for one, or abstain.

Write your vote as JSON into the file vote.json in the folder that the environment variable SKEP_OUT names:
{{"vote": "{first}", "reason": "one or two sentences"}}
The vote is one of {letters}, or null to abstain. What is not written so counts as an abstention. Change nothing else."""


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
        voting.check(state, task, specs)


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
    if entry.poll is None:
        voting.dismiss(turn, entry, "its ballot is void")
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
    elif poll.result is None and (result := voting.hear(turn, entry, poll)) is not None:
        if result.reached:
            _choose(turn, entry, poll.options[result.choice], "")
        else:
            _undecided(turn, entry, voting.told(result))


def _open(turn: Turn, entry: Entry, fit: Sequence[Entry]) -> None:
    """A ballot over these. Their order, and so their letters, say nothing about who made them."""
    state, task = turn.state, entry.task
    assert task.vote is not None
    spec = voting.electorate(state, task.vote)
    if spec is None:
        voting.dismiss(turn, entry, "there is no ballot any more")
        _undecided(turn, entry, f"agent '{task.vote.by}', which is to vote, is not there any more")
        return
    shuffled = sorted(fit, key=lambda other: turn.nonce(other.task.id, entry.polls + 1))
    letters = {chr(ord("A") + n): other for n, other in enumerate(shuffled)}
    own: dict[str, tuple[str, ...]] = {}
    for letter, other in letters.items():
        if other.agent.rpartition("-")[0] == spec.name:
            own[other.agent] = (*own.get(other.agent, ()), letter)
    said = INSTRUCTION.format(count=spec.count, many=len(fit), first=next(iter(letters)), letters=", ".join(letters))
    voting.ask(turn, entry, spec, {letter: other.task.id for letter, other in letters.items()}, said, own)


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
