"""Tasks that tasks propose: noted when their attempt ends well, taken when a person or the session's rule says so.

Everything is in the log before anybody is asked, so an approval speaks of what was shown, also after a crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import TopologicalSorter

from msgspec.structs import replace

from skep.core import events as ev
from skep.core import gates
from skep.core import inputs as inp
from skep.core.model import Entry, Proposal, Task
from skep.core.state import State
from skep.core.submit import checked
from skep.core.turn import Turn
from skep.errors import Conflict, SkepError

#: Attempts after the first that a proposed task may ask for.
MAX_RETRIES = 5
#: What an agent may say of a task that it proposes, and what Skep adds to that. All else is a person's to say.
_SAID = frozenset(
    (
        *(
            "id",
            "run",
            "prompt",
            "objective",
            "type",
            "complexity",
            "agent",
            "priority",
            "needs",
            "phase",
            "condition",
            "foreach",
        ),
        *("capabilities", "locks", "budget", "timeout", "retries", "exit_codes", "mode", "setup", "verify", "protect"),
        *("outputs", "merge", "on_conflict", "approve", "recovery", "inferred", "generation", "gate", "vote"),
    )
)
_BLANK = Task()
#: What does not make two tasks different.
_ALIKE = {"id": "", "objective": "", "needs": (), "type": "", "complexity": "", "metadata": {}, "inferred": {}, "generation": 0}


def note(turn: Turn, entry: Entry, report: inp.Ended | inp.Worked) -> str:
    """Records what an attempt that ended well proposes, if anything. Returns why it is refused, or nothing."""
    given = report.proposal
    if given is None or (not given.tasks and not given.refused):
        return ""
    generation = entry.task.generation + 1
    own = entry.task.phase
    tasks = tuple(replace(task, generation=generation, phase=task.phase or own) for task in given.tasks)
    refused = given.refused
    try:
        given = replace(given, tasks=gates.joined(turn.state, tasks))
    except SkepError as error:
        refused = error.message
    refused = refused or refusal(turn.state, entry, given)
    turn.emit(ev.TaskProposed(turn.at, entry.task.id, report.n, given, refused))
    return refused


def take(turn: Turn, entry: Entry, by: str) -> None:
    """Accepts what a task proposes.

    Raises:
        Conflict: since it was proposed, others were taken that ask for the same, or that leave no room for it.
        Invalid, Exhausted: it cannot be submitted any more.
    """
    assert entry.proposal is not None
    checked(turn.state, entry.proposal.tasks, {}, turn.state.specs)
    if why := refusal(turn.state, entry, entry.proposal):
        raise Conflict(f"what task '{entry.task.id}' proposes cannot be taken any more: {why}", "Skip it, or reject the result.")
    turn.emit(ev.ProposalAccepted(turn.at, entry.task.id, entry.proposal.fingerprint, by))


def take_by_rule(turn: Turn, entry: Entry) -> None:
    """Accepts what a task proposes if the session's rule says so; a planner's plan never."""
    proposal = entry.proposal
    if proposal is None or entry.task.plans or turn.state.plan.proposals.rule != "auto":
        return
    try:
        take(turn, entry, "")
    except SkepError as error:  # while it was verified, others took its names or its agents
        turn.emit(ev.TaskProposed(turn.at, entry.task.id, entry.attempts, proposal, error.message))


def refusal(state: State, entry: Entry, given: Proposal) -> str:
    """Why a task's proposal is not taken as it is; empty if it is."""
    rule, plans = state.plan.proposals, entry.task.plans
    parent = state.entries.get(entry.task.parent)
    if entry.task.ballot or (parent is not None and parent.task.candidates):
        return "candidates and voters propose nothing: most of their work is not used"
    if rule.rule == "never" and not plans:
        return "this session takes no proposals (proposals: never)"
    if not plans and any(task.gate for task in given.tasks):
        return "phases are for a plan, not for what a task proposes"
    if entry.task.generation >= rule.depth:
        return f"it was proposed itself, and proposals of proposals end after {rule.depth}"
    if given.amount > rule.max_tasks:
        return f"{given.amount} tasks in one proposal, more than {rule.max_tasks}"
    if state.proposed + given.amount > rule.most:
        return f"{given.amount} tasks more than the {state.proposed} that were taken already: the session takes {rule.most}"
    try:
        checked(state, given.tasks, {}, state.specs)
    except SkepError as error:
        return error.message
    if (found := length(given.tasks)) > rule.length:
        return f"{found} tasks come one after the other, more than {rule.length}"
    return _twin(state, entry, given.tasks)


def beyond(state: State, entry: Entry, given: Proposal) -> str:
    """Names what stands in a proposal and is a person's to say, such as secrets; empty if nothing is.

    Who reads the file that an agent wrote takes no such thing (`workflow.proposal`); this is for who may not have read any.
    """
    allowed = state.plan.proposals.agents
    if given.verify is not None and not entry.task.plans:
        return "verify"
    for task in given.tasks:
        for name in Task.__struct_fields__:
            if name not in _SAID and getattr(task, name) != getattr(_BLANK, name):
                return name
        if task.vote is not None and not task.gate:
            return "vote"
        if task.prompt is not None and allowed and task.agent not in allowed:
            return "agent"
        if (task.retries if isinstance(task.retries, int) else task.retries.max) > MAX_RETRIES:
            return "retries"
    return ""


def _twin(state: State, entry: Entry, tasks: Sequence[Task]) -> str:
    """Names the first task that asks for what another one asks for already."""
    works = {(task.run, task.call, task.prompt) for task in tasks}
    there = [
        other.task
        for other in state.entries.values()
        if other.state != "replaced" and (other.task.run, other.task.call, other.task.prompt) in works
    ]
    for task in tasks:
        if task.gate:
            continue
        twin = next((other.id for other in there if replace(other, **_ALIKE) == replace(task, **_ALIKE)), "")
        if twin:
            return f"task '{task.id}' asks for the same as '{twin}'"
        there.append(task)
    return ""


def length(tasks: Sequence[Task]) -> int:
    """How many of these tasks come one after the other at most. Raises CycleError for a circle."""
    own = {task.id: task for task in tasks}
    levels: dict[str, int] = {}
    for name in TopologicalSorter({task.id: task.needs for task in tasks}).static_order():
        needs = own[name].needs if name in own else ()
        levels[name] = (name in own and not own[name].gate) + max((levels[need] for need in needs), default=0)
    return max(levels.values(), default=0)
