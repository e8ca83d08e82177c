"""The plan a session goes by: what makes no sense in one, and how a session goes on with another version of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core import placement
from skep.core.closing import close
from skep.core.merges import refuse_stacked
from skep.core.model import TERMINAL, AgentSpec, Budget, Entry, Plan
from skep.core.state import State
from skep.core.submit import checked
from skep.core.turn import Turn, is_open
from skep.errors import Conflict, Invalid

#: Agents of one kind, tasks that one agent carries, attempts under way at once.
MAX_AGENTS = 10_000
#: Seconds for which an agent's question may wait for an answer.
MAX_WAIT = 30 * 24 * 3_600
#: Factors that a plan may weigh.
FACTORS = frozenset(name for profile in placement.PROFILES.values() for name in profile)


def check_plan(plan: Plan) -> None:
    """Raises Invalid for limits, weights and agents that mean nothing."""
    if not 1 <= plan.limits.agents <= MAX_AGENTS:
        raise Invalid(
            f"a session has 1 to {MAX_AGENTS} agents at work, not {plan.limits.agents}", "Set limits.agents to such a number."
        )
    if not (math.isfinite(plan.limits.time) and plan.limits.time >= 0):
        raise Invalid(f"a session cannot take {plan.limits.time} seconds", "Set limits.time to a number that is not negative.")
    if not 0 <= plan.limits.answer_within <= MAX_WAIT:
        raise Invalid(
            f"nobody can have {plan.limits.answer_within} seconds to answer", f"Set limits.answer_within to at most {MAX_WAIT}."
        )
    bounds = {"limits": Budget(plan.limits.cost_usd, plan.limits.tokens)}
    bounds |= {f"agent '{spec.name}'": spec.budget for spec in plan.agents if spec.budget is not None}
    for name, bound in bounds.items():
        if not (math.isfinite(bound.usd + bound.time) and min(bound.usd, bound.tokens, bound.time) >= 0):
            words = f"${bound.usd}, {bound.tokens} tokens or {bound.time} seconds"
            raise Invalid(f"{name}: nothing can cost {words}", "Use numbers that are not negative.")
    for name, weight in plan.placement.weights.items():
        if name not in FACTORS:
            raise Invalid(f"no factor of placement is called '{name}'", f"Known are {', '.join(sorted(FACTORS))}.")
        if not (math.isfinite(weight) and weight >= 0):
            raise Invalid(f"the weight of '{name}' is {weight}", "Use a number that is not negative.")
    check_specs(plan.agents)


def check_specs(specs: Iterable[AgentSpec]) -> None:
    """Raises Invalid for kinds of agents whose numbers mean nothing."""
    names: set[str] = set()
    for spec in specs:
        if not spec.name or spec.name in names:
            raise Invalid(
                f"two agents are called '{spec.name}'" if spec.name else "an agent has no name", "Give it another name."
            )
        names.add(spec.name)
        if not (0 <= spec.count <= MAX_AGENTS and 1 <= spec.max_load <= MAX_AGENTS):
            raise Invalid(
                f"agent '{spec.name}': count is {spec.count}, max_load {spec.max_load}",
                f"count is 0 to {MAX_AGENTS} (0 = as many as the session's limit), max_load 1 to {MAX_AGENTS}.",
            )
        if not (0.0 <= spec.reliability <= 1.0 and 0.0 <= spec.cost < math.inf):
            raise Invalid(
                f"agent '{spec.name}': reliability is {spec.reliability}, cost {spec.cost}",
                "reliability lies between 0 and 1, cost is not negative.",
            )
        asked = spec.resources
        if asked is not None and not (0.0 <= asked.cpu < math.inf and asked.memory >= 0 and asked.storage >= 0):
            raise Invalid(f"agent '{spec.name}' asks for less than nothing", "Use numbers that are not negative.")


def declare(turn: Turn, given: inp.DeclareAgents) -> None:
    """Adds kinds of agents, or changes the ones of the same name.

    Raises:
        Invalid: numbers that mean nothing, or an open task could never run any more.
        Conflict: a rehearsal would get agents that are no stand-ins.
    """
    state = turn.state
    check_specs(given.specs)
    if state.plan.rehearsal and any(spec.name != placement.INPROCESS for spec in given.specs):
        raise Conflict(f"session {state.session} is a rehearsal: no other agent joins it", "Open a session of its own.")
    check_still_possible(state, state.entries.values(), state.specs | {spec.name: spec for spec in given.specs})
    turn.emit(ev.AgentsDeclared(turn.at, given.specs))


def check_still_possible(state: State, entries: Iterable[Entry], specs: Mapping[str, AgentSpec]) -> None:
    """Raises Invalid if an open task could not be carried out by such agents, though it can be by those that there are."""
    possible: set[placement.Requirement] = set()
    for entry in entries:
        need = placement.requirement(entry.task)
        if is_open(entry) and need not in possible:
            why = placement.impossible(state, entry.task, specs)
            if why and not placement.impossible(state, entry.task, state.specs):
                raise Invalid(f"task '{entry.task.id}' could never run any more: {why}", "Cancel it first, or keep its agent.")
            possible.add(need)


def change(turn: Turn, given: inp.ChangePlan) -> tuple[str, ...]:
    """Goes on with another plan: what is kept stays as it is, what is not is replaced. Returns the ids of what is new.

    A replaced task ends as such, also a finished one; what runs of it is to end. A new task may have a replaced one's id: it
    takes its place in the live state and counts its attempts on, while the log keeps what the old one was and did.

    Raises:
        Conflict: the session is closed, or a rehearsal while the plan is none; a task that is not kept is being merged, or
            has left for the archive.
        Invalid: the plan can never work, or keeps a task but not what it needs.
        Exhausted: too many tasks.
    """
    state, plan = turn.state, given.plan
    if state.closed:
        raise Conflict(f"session {state.session} is closed", "Open a new session.")
    if state.plan.rehearsal != plan.rehearsal:
        raise Conflict(f"session {state.session} is a rehearsal, the file is not", "`skep run FILE --rehearse` begins another.")
    check_plan(plan)
    kept = _kept(state, given)
    leaving = [name for name, entry in reversed(state.entries.items()) if name not in kept and entry.state != "replaced"]
    refuse_stacked(state, leaving)
    old = next((task.id for task in plan.tasks if task.id in given.known and task.id not in given.keep), "")
    if old:
        raise Conflict(
            f"task '{old}' is in the archive and cannot be replaced",
            "Give its new version another id, or begin with `skep run --new`.",
        )
    specs = {spec.name: spec for spec in plan.agents}
    fresh = [task for task in plan.tasks if task.id not in given.keep]
    tasks, fates = checked(state, fresh, given.known, specs, frozenset(leaving))
    # What follows may be what makes older tasks leave for the archive: how they ended must not be forgotten with them.
    for need in (need for task in tasks for need in task.needs if need in state.entries):
        if need not in leaving and state.entries[need].state in TERMINAL and state.entries[need].state != "done":
            fates[need] = state.entries[need].state
    check_still_possible(state, (state.entries[name] for name in kept), specs)
    # The finished ones first, or they might leave for the archive meanwhile. Then dependents first, as when they are cancelled:
    # nobody is decided on account of a task that is replaced later.
    for name in sorted(leaving, key=lambda name: is_open(state.entries[name])):
        close(turn, state.entries[name], "replaced", "the plan was changed", given.by)
    turn.emit(ev.PlanChanged(turn.at, replace(plan, tasks=()), given.by))
    if tasks:
        turn.emit(ev.TasksSubmitted(turn.at, tuple(tasks), "", given.by, fates or None))
    return tuple(task.id for task in tasks)


def _kept(state: State, given: inp.ChangePlan) -> dict[str, None]:
    """The live tasks that stay, in their order; what a task made (items, candidates, a resolution) stays with it."""
    if given.all:
        return {name: None for name, entry in state.entries.items() if entry.state != "replaced"}
    for name in given.keep:
        entry = state.entries.get(name)
        if (entry is None and given.known.get(name) not in TERMINAL) or (entry is not None and entry.state == "replaced"):
            raise Invalid(f"there is no task '{name}' to keep", "`skep status` lists the tasks.")
    keep = frozenset(given.keep)
    kept: dict[str, None] = {}
    for name, entry in state.entries.items():
        if name in keep or entry.task.parent in kept:
            kept[name] = None
    for name in kept:
        lost = next((need for need in state.entries[name].task.needs if need in state.entries and need not in kept), "")
        if lost:
            raise Invalid(f"task '{name}' cannot stay: it needs '{lost}', which is replaced", "Keep a task only with its needs.")
        parent = state.entries[name].task.parent
        if parent in state.entries and parent not in kept:
            raise Invalid(f"task '{name}' cannot stay without '{parent}', which made it", "Keep an item only with its foreach.")
    return kept
