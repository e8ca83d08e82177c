"""The gates of phases: what makes no sense in one, who may still join a phase, how a gate is judged, and where a phase stands.

A gate with a command is carried out as any task with one; the others are decided here, by what their needs came to and by a vote.
A person's yes, where a gate asks for it, comes last.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from skep.core import events as ev
from skep.core import voting
from skep.core.closing import MAX_DETAIL
from skep.core.model import TERMINAL, AgentSpec, Entry, Task
from skep.core.phase import MAX_PHASES, PhaseState, channel_of, gate_of, linked
from skep.core.scope import failed
from skep.core.state import State
from skep.core.turn import Turn
from skep.errors import Conflict, Exhausted, Invalid, NotFound

#: What voters on a gate choose from.
PASS, STOP = "pass", "stop"
_SHUT = "the gate of phase "
#: What a voter is told. What the phase did is put below it when its attempt begins.
INSTRUCTION = """You are one of {count} voters. A phase of the work is done, and its gate is before you: may the next phase begin?
Your folder holds all that is merged so far. Judge what the phase did: is it right, complete, tested? Then vote, or abstain.

Write your vote as JSON into the file vote.json in the folder that the environment variable SKEP_OUT names:
{{"vote": "pass", "reason": "one or two sentences"}}
The vote is `pass` (the next phase begins), `stop` (it does not), or null to abstain. What is not written so counts as an
abstention. Change nothing else."""


def check(state: State, task: Task, specs: Mapping[str, AgentSpec]) -> None:
    """Raises Invalid if a gate is none, or its vote could never come to anything here.

    Args:
        specs: the kinds of agents there will be.
    """
    if not task.phase or task.id != gate_of(task.phase):
        raise Invalid(f"task '{task.id}' says that it is the gate of phase '{task.phase}'", f"Call it '{gate_of(task.phase)}'.")
    work = task.call is not None or task.prompt is not None or task.candidates or task.foreach is not None or task.condition
    if work or task.approve == "before" or task.merge != "never":
        raise Invalid(f"'{task.id}' does more than a gate does", "A gate has a command, a vote, a person's yes, or nothing.")
    if task.vote is not None and task.run is not None:
        raise Invalid(f"'{task.id}' has both a command and a vote", "Make two phases of it.")
    if task.vote is not None:
        voting.check(state, task, specs)


def joined(state: State, tasks: Sequence[Task], leaving: Collection[str] = ()) -> tuple[Task, ...]:
    """Tasks with the needs that their phases give them.

    Args:
        tasks: all with ids.
        leaving: live tasks that are about to be replaced.

    Raises:
        NotFound: a phase that there is not.
        Conflict: a phase whose gate was passed, or is being judged.
        Exhausted: too many phases.
    """
    there = {name: phase.gate for name, phase in state.phases.items() if stands(state, phase.gate) and phase.gate not in leaving}
    fresh = dict.fromkeys(task.phase for task in tasks if task.gate)
    if len(there) + len(fresh) > MAX_PHASES:
        raise Exhausted(f"{len(there) + len(fresh)} phases, more than {MAX_PHASES}", "Make fewer of them.")
    for name in dict.fromkeys(task.phase for task in tasks if task.phase and task.phase not in fresh):
        joining = [task for task in tasks if task.phase == name]
        if name not in there:
            names = ", ".join((*there, *fresh)) or "none"
            raise NotFound(f"task '{joining[0].id}': there is no phase '{name}'", f"There are {names}.")
        gate = state.entries[there[name]]
        if gate.state != "waiting" and (gate.state not in TERMINAL or gate.state == "done"):
            how = "was passed" if gate.state == "done" else "is being judged"
            raise Conflict(f"task '{joining[0].id}': the gate of phase '{name}' {how}", "Name a later phase, or none.")
        after = _after(state, gate.task.id, tasks)
        wrong = next((task.id for task in joining if task.id in after), "")
        if wrong:
            raise Invalid(
                f"task '{wrong}' is to be done before the gate of phase '{name}', and needs what comes after it",
                "Name a later phase, or none.",
            )
    return linked(tasks, there)


def _after(state: State, gate: str, tasks: Sequence[Task]) -> set[str]:
    """A gate and everything that needs it, directly or not, in whatever state: it may be sent round again."""
    dependents: dict[str, list[str]] = {}
    for task in tasks:
        for need in task.needs:
            dependents.setdefault(need, []).append(task.id)
    found: set[str] = set()
    left = [gate]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            entry = state.entries.get(name)
            left += (*dependents.get(name, ()), *((entry.dependents if entry is not None else None) or ()))
    return found


def stands(state: State, gate: str) -> bool:
    """Whether a gate is part of the plan, not of one that was changed."""
    entry = state.entries.get(gate)
    return entry is not None and entry.task.gate and entry.state != "replaced"


def consider(turn: Turn, entry: Entry) -> None:
    """A gate is judged when all that it needs has ended; one of its phase that failed is enough to shut it."""
    state, task = turn.state, entry.task
    bad = [need for need in task.needs if failed(state, entry, need)]
    if bad:
        # What lies behind a gate failed for its sake.
        culprit = next((need for need in bad if need in state.entries and state.entries[need].task.gate), bad[0])
        turn.emit(ev.TaskClosed(turn.at, task.id, "skipped", "needs", missing(state, entry, culprit)))
    elif entry.unmet:
        return
    elif task.run is not None:
        turn.emit(ev.TaskReady(turn.at, task.id))
    else:
        turn.emit(ev.TaskExpanded(turn.at, task.id, ()))


def missing(state: State, entry: Entry, need: str) -> str:
    """Why a task does not start whose need ended otherwise than done."""
    other = state.entries.get(need)
    return shut(state, need) if other is not None and other.task.gate else f"{need} is {state.fate(entry, need)}"


def shut(state: State, gate: str) -> str:
    """Why what comes after a gate does not start."""
    entry = state.entries[gate]
    if entry.state == "skipped" and entry.detail.startswith(_SHUT):
        return entry.detail
    return f"{_SHUT}{entry.task.phase} was not passed: {entry.detail or entry.cause or entry.state}"[:MAX_DETAIL]


def gather(turn: Turn, entry: Entry) -> None:
    """Decides a gate without a command: at once, or by what its voters say."""
    task, poll = entry.task, entry.poll
    if task.vote is None:
        _passed(turn, entry, "")
    elif poll is None:
        spec = voting.electorate(turn.state, task.vote)
        if spec is None:
            _undecided(turn, entry, f"agent '{task.vote.by}', which is to vote, is not there any more")
        else:
            voting.ask(turn, entry, spec, {PASS: "", STOP: ""}, INSTRUCTION.format(count=spec.count), {})
    elif poll.result is None and (result := voting.hear(turn, entry, poll)) is not None:
        said = voting.told(result)
        if not result.reached:
            _undecided(turn, entry, said)
        elif result.choice == PASS:
            _passed(turn, entry, said)
        else:
            reasons = [poll.reasons.get(elector, "") for elector, choice in poll.votes.items() if choice == STOP]
            detail = "; ".join((said, *filter(None, reasons)))
            turn.emit(ev.TaskClosed(turn.at, task.id, "failed", "rejected", detail[:MAX_DETAIL]))


def _passed(turn: Turn, entry: Entry, said: str) -> None:
    if entry.task.approve == "after":
        turn.emit(ev.TaskAsked(turn.at, entry.task.id, "gate", said))
    else:
        turn.emit(ev.TaskClosed(turn.at, entry.task.id, "done", "", said))


def _undecided(turn: Turn, entry: Entry, why: str) -> None:
    assert entry.task.vote is not None
    if entry.task.vote.otherwise == "ask":
        turn.emit(ev.TaskAsked(turn.at, entry.task.id, "gate", why))
    else:
        turn.emit(ev.TaskClosed(turn.at, entry.task.id, "failed", "undecided", why))


def behind(state: State, task: Task) -> list[str]:
    """The gates that were passed, or are being judged, on the ground of a task, in order: the one of its phase, and all after it.

    What is at work on one is left to end: what it finds counts no more (`closing.after_success`).
    """
    names = list(state.phases)
    if task.phase not in state.phases:
        return []
    gates = [state.phases[name].gate for name in names[names.index(task.phase) :]]
    known = ("done", "needs-you", "expanded")
    return [gate for gate in gates if gate != task.id and stands(state, gate) and state.entries[gate].state in known]


def standing(state: State) -> dict[str, tuple[PhaseState, str]]:
    """Where every phase of the plan stands, and what is in its way, in order."""
    found: dict[str, tuple[PhaseState, str]] = {}
    before: tuple[PhaseState, str] = ("passed", "")
    for name, phase in state.phases.items():
        if not stands(state, phase.gate):
            continue
        gate = state.entries[phase.gate]
        if gate.state == "done":
            before = ("passed", "")
        elif before[0] in ("failed", "closed"):
            before = ("closed", before[1])
        elif before[0] != "passed":
            before = ("waiting", "")
        elif gate.state in TERMINAL:
            before = ("failed", shut(state, phase.gate))
        else:
            before = ("open", "")
        found[name] = before
    return found


def follow(turn: Turn) -> None:
    """Records where the phases stand, as far as that changed."""
    state = turn.state
    for name, (to, why) in standing(state).items():
        if state.phases[name].state == to:
            continue
        if to == "open":
            turn.emit(ev.PhaseOpened(turn.at, name, channel_of(name), state.tip))
        else:
            turn.emit(ev.PhaseEnded(turn.at, name, to, why))
