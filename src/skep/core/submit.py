"""Accepting tasks: what can never work is refused before anything is recorded."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence

from msgspec.structs import asdict, replace

from skep.core import candidates, conditions, gates, graph, placement, references, resolving
from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.model import TERMINAL, AgentSpec, Task, TaskState
from skep.core.retry import retries_of
from skep.core.state import State
from skep.core.turn import Turn
from skep.errors import Conflict, Exhausted, Invalid

#: Tasks in one submission, or items of one foreach.
MAX_TASKS = 10_000
#: Tasks of one session that are not finished.
MAX_OPEN = 1_000_000
MAX_NEEDS = 1_000
MAX_ID = 200
MAX_KEY = 200
_OWN_IDS = re.compile(r"t\d+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def submit(turn: Turn, given: inp.Submit) -> tuple[str, ...]:
    """Accepts tasks and returns their ids; the same key again returns the same ids and changes nothing.

    Raises:
        Invalid: a task that can never run, unknown needs, a cycle.
        Conflict: an id that is taken, or the session is closed.
        Exhausted: too many tasks.
    """
    state = turn.state
    if given.key and given.key in state.keys:
        return state.keys[given.key]
    if len(given.key) > MAX_KEY:
        raise Invalid(f"the key of the submission is {len(given.key)} characters long", f"Use at most {MAX_KEY}.")
    if state.closed:
        raise Conflict(f"session {state.session} is closed", "Open a new session.")
    if not given.tasks:
        return ()
    tasks, fates = checked(state, given.tasks, given.known, state.specs)
    turn.emit(ev.TasksSubmitted(turn.at, tuple(tasks), given.key, given.by, fates or None))
    return tuple(task.id for task in tasks)


def checked(
    state: State,
    given: Sequence[Task],
    known: Mapping[str, TaskState],
    specs: Mapping[str, AgentSpec],
    leaving: Collection[str] = (),
) -> tuple[Sequence[Task], dict[str, TaskState]]:
    """Tasks with their ids, and the fates of what they need that is in the archive.

    Args:
        known: fates of archived tasks: those that are needed, and those whose ids the tasks want (which they cannot have).
        specs: the kinds of agents there will be.
        leaving: live tasks that are about to be replaced.

    Raises: as `submit`.
    """
    if len(given) > MAX_TASKS:
        raise Exhausted(f"{len(given)} tasks in one submission, more than {MAX_TASKS}", "Submit them in parts.")
    if state.open_tasks + len(given) > MAX_OPEN:
        raise Exhausted(
            f"session {state.session} has {state.open_tasks} open tasks, the limit is {MAX_OPEN}", "Wait until some are finished."
        )
    tasks = named(state, given, known, leaving)
    if any(task.phase or task.gate for task in tasks):
        tasks = gates.joined(state, tasks, leaving)
    fates = check_needs(state, tasks, known, leaving)
    possible: dict[placement.Requirement, str] = {}
    for task in tasks:
        check(state, task, possible, specs)
    graph.check_acyclic(tasks)
    return tasks, fates


def _stands(state: State, name: str, leaving: Collection[str]) -> bool:
    """Whether a name is that of a live task, not of one that was or is about to be replaced."""
    entry = state.entries.get(name)
    return entry is not None and entry.state != "replaced" and name not in leaving


def named(state: State, tasks: Sequence[Task], known: Mapping[str, TaskState], leaving: Collection[str] = ()) -> Sequence[Task]:
    """Gives ids to tasks that have none. Raises Conflict for an id that is taken, Invalid for one that may not be."""
    result: list[Task] = []
    own: set[str] = set()
    number = state.counter
    for task in tasks:
        name = task.id
        number += 1
        if not name:
            task = replace(task, id=f"t{number}")
        else:
            if name in own or name in known or _stands(state, name, leaving):
                raise Conflict(f"there is a task '{name}' already", "Give the task another id, or none.")
            if len(name) > MAX_ID or _CONTROL.search(name) or name != name.strip() or "[" in name or _OWN_IDS.fullmatch(name):
                raise Invalid(
                    f"{name[:40]!r} cannot be a task's id",
                    f"Use at most {MAX_ID} printable characters without [, not `t` and a number (those are given by Skep).",
                )
            own.add(name)
        result.append(task)
    return result


def check_needs(
    state: State, tasks: Sequence[Task], known: Mapping[str, TaskState], leaving: Collection[str] = ()
) -> dict[str, TaskState]:
    """Raises Invalid for a need that names no task; returns the fates of those that are in the archive."""
    fates: dict[str, TaskState] = {}
    own: set[str] | None = None
    for task in tasks:
        if not task.needs:
            continue
        if own is None:
            own = {other.id for other in tasks}
        if len(task.needs) > MAX_NEEDS and not task.gate:
            raise Invalid(f"task '{task.id}' needs {len(task.needs)} tasks, more than {MAX_NEEDS}", "Put a task in between.")
        if len(set(task.needs)) != len(task.needs):
            raise Invalid(f"task '{task.id}' names one of its needs twice", "Name each need once.")
        for need in task.needs:
            if need in own or _stands(state, need, leaving):
                continue
            if known.get(need) not in TERMINAL:
                raise Invalid(f"task '{task.id}' needs '{need}', which does not exist", "Name a task of this session.")
            fates[need] = known[need]
    return fates


def check(
    state: State, task: Task, possible: dict[placement.Requirement, str], specs: Mapping[str, AgentSpec] | None = None
) -> None:
    """Raises Invalid if the task's definition is none, or no agent or node here could ever run it.

    Args:
        possible: findings by requirement class, filled as it goes: most tasks of a submission are alike.
        specs: the kinds of agents there will be; None for those there are.
    """
    if task.gate:
        gates.check(state, task, state.specs if specs is None else specs)
    elif (task.run is not None) + (task.call is not None) + (task.prompt is not None) != 1:
        raise Invalid(f"task '{task.id}' must have exactly one of run, call, prompt", "Say what it does in one of them.")
    if task.run is not None and not any(task.run):
        raise Invalid(f"task '{task.id}' runs nothing", "Write a command.")
    if task.run is not None and any("\0" in part for part in task.run):
        raise Invalid(f"task '{task.id}': its command holds a NUL, which no program can be given", "Take it out.")
    if task.parent or task.item is not None or task.resolves:
        raise Invalid(f"task '{task.id}' says that another task made it", "Leave `parent`, `item` and `resolves` to Skep.")
    bounded = task.timeout or task.deadline or task.retries or task.resources or task.locks or task.budget
    if bounded or task.condition or task.foreach:
        check_details(task)
    if task.candidates or (task.vote and not task.gate) or task.seat or task.ballot:
        candidates.check(state, task, state.specs if specs is None else specs)
    if task.on_conflict == "task" and (lacks := resolving.impossible(state, task, state.specs if specs is None else specs)):
        raise Invalid(
            f"task '{task.id}' has on_conflict: task, and nobody could resolve a conflict: {lacks}",
            "Declare an agent that takes prompts, or use rerun or ask.",
        )
    need = placement.requirement(task)
    why = possible.get(need)
    if why is None:
        why = possible[need] = placement.impossible(state, task, state.specs if specs is None else specs)
    if why:
        raise Invalid(f"task '{task.id}' could never run here: {why}", "Change what it asks for, or declare such an agent.")


def check_details(task: Task) -> None:
    """Raises Invalid for numbers that mean nothing, and for conditions, paths and names that cannot be read."""
    try:
        conditions.parse(task.condition)
        if task.foreach is not None:
            references.parse_path(task.foreach.source)
    except Invalid as error:
        raise Invalid(f"task '{task.id}': {error.message}", error.fix or "Correct it there.") from None
    numbers: dict[str, float] = {"deadline": task.deadline, "timeout": task.timeout}
    if task.retries:
        retries = retries_of(task)
        numbers |= {"retries": retries.max, "retries.backoff": retries.backoff}
    if task.resources is not None:
        asked = task.resources
        numbers |= {"resources.cpu": asked.cpu, "resources.memory": asked.memory, "resources.storage": asked.storage}
    if task.foreach is not None:
        foreach = task.foreach
        numbers |= {"foreach.max_items": foreach.max_items, "foreach.max_parallel": foreach.max_parallel}
        if foreach.max_items > MAX_TASKS:
            raise Invalid(f"task '{task.id}': foreach.max_items is more than {MAX_TASKS}", "Make fewer, larger items.")
    if task.budget is not None:
        numbers |= {f"budget.{name}": amount for name, amount in asdict(task.budget).items()}
    for name, number in numbers.items():
        if not (math.isfinite(number) and number >= 0):
            raise Invalid(f"task '{task.id}': {name} is {number}", "Use a number that is not negative.")
    for lock in task.locks:
        if not lock or len(lock) > MAX_ID or _CONTROL.search(lock):
            raise Invalid(f"task '{task.id}': {lock[:40]!r} cannot be a lock", f"Use 1 to {MAX_ID} printable characters.")
