"""A part of a plan (`--select`), and whether a task is still the same task (`resume --file`)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from graphlib import TopologicalSorter
from typing import Any

import msgspec

from skep.core import conditions, references
from skep.core.model import Plan, Task
from skep.core.phase import gate_of
from skep.core.references import Path, nearest
from skep.errors import Invalid

#: What says when, how often and by whom a task is carried out, or what it is called, but not what comes of it: made alike.
_ALIKE: dict[str, Any] = {
    "needs": (),
    "objective": "",
    "type": "",
    "complexity": "",
    "priority": "normal",
    "capabilities": (),
    "constraints": {},
    "resources": None,
    "locks": (),
    "deadline": 0,
    "timeout": 0.0,
    "retries": 0,
    "approve": "",
    "recovery": "rerun",
    "on_conflict": "rerun",
    "metadata": {},
    "inferred": {},
}


def select(plan: Plan, what: str) -> Plan:
    """The part of a plan that a selection names, with the same session settings.

    Args:
        what: tasks, joined by commas; `build+` is build and all that depends on it, `+build` build and all that it needs. What is
            needed from outside of the part counts as met.

    Raises:
        Invalid: a task that is not there, or one of the part that looks up something of a task outside of it.
    """
    tasks = {task.id: task for task in plan.tasks}
    needs = {task.id: task.needs for task in plan.tasks}
    dependents: dict[str, list[str]] = {name: [] for name in tasks}
    for task in plan.tasks:
        for need in task.needs:
            dependents[need].append(task.id)
    chosen: set[str] = set()
    for part in what.split(","):
        name = part.strip().removeprefix("+").removesuffix("+")
        if name not in tasks:
            raise Invalid(
                f"--select: there is no task {name!r}{nearest(name, tasks)}", "Write a task's id, with + before or after it."
            )
        chosen.add(name)
        if part.strip().startswith("+"):
            chosen |= _reach(name, needs)
        if part.strip().endswith("+"):
            chosen |= _reach(name, dependents)
    kept = []
    for task in plan.tasks:
        if task.id in chosen:
            _check_names(task, chosen)
            phase = task.phase if gate_of(task.phase) in chosen else ""
            kept.append(msgspec.structs.replace(task, needs=tuple(need for need in task.needs if need in chosen), phase=phase))
    return msgspec.structs.replace(plan, tasks=tuple(kept))


def _reach(name: str, edges: Mapping[str, Iterable[str]]) -> set[str]:
    seen: set[str] = set()
    stack = [name]
    while stack:
        fresh = [other for other in edges[stack.pop()] if other not in seen]
        seen.update(fresh)
        stack += fresh
    return seen


def _check_names(task: Task, chosen: set[str]) -> None:
    for path in looked_up(task):
        if path[0] == "needs" and path[1] not in chosen:
            raise Invalid(
                f"--select: task {task.id!r} looks up {'.'.join(path)}, and {path[1]!r} is not selected",
                f"Select it too: +{task.id} takes all that {task.id} needs.",
            )


def looked_up(task: Task) -> Iterator[Path]:
    """Every path that the task's prompt, `if` and foreach look up."""
    if task.prompt is not None:
        yield from (reference.path for reference in references.find(task.prompt))
    if task.condition:
        yield from conditions.paths(conditions.parse(task.condition))
    if task.foreach is not None:
        yield references.parse_path(task.foreach.source)


def definitions(plan: Plan) -> dict[str, str]:
    """A stable hash of each task: of what it does, of the session's inputs, and of everything that it needs.

    Two plans that give a task the same hash ask for the same result of it. What speaks of the way there only (timeout, retries,
    priority, ...) does not count.

    Args:
        plan: checked: every need is one of its tasks, and no circle among them.

    Returns:
        id -> SHA-256, hex.
    """
    encoder = msgspec.json.Encoder(order="deterministic")
    inputs = encoder.encode(plan.inputs)
    found: dict[str, str] = {}
    tasks = {task.id: task for task in plan.tasks}
    for name in TopologicalSorter({name: task.needs for name, task in tasks.items()}).static_order():
        task = tasks[name]
        # Of a gate also the way counts: who is asked is what it is.
        own = msgspec.structs.replace(task, **({"needs": ()} if task.gate else _ALIKE))
        before = encoder.encode([[need, found[need]] for need in sorted(task.needs)])
        found[name] = hashlib.sha256(b"\n".join((encoder.encode(own), inputs, before))).hexdigest()
    return found


def fingerprint(plan: Plan) -> str:
    """SHA-256 (hex) of all that a plan would do: what an approval of it is bound to. Where the file lies does not count."""
    same = msgspec.structs.replace(plan, source="")
    return hashlib.sha256(msgspec.json.Encoder(order="deterministic").encode(same)).hexdigest()
