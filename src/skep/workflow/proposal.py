"""A file of tasks that an agent wrote: a plan, or what a running task proposes. Read more narrowly than a person's file.

It names no agents of its own, no secrets, no environment, no files to read and no runtime's own settings, so that nothing of it
costs more or reaches further than what the configuration and the session's own file allow. Every command in it can be shown.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec.structs import replace

from skep.core.model import AgentSpec, Plan, Proposal, Task
from skep.core.placement import BUILT_IN
from skep.core.proposals import MAX_RETRIES
from skep.core.terms import Proposals
from skep.errors import Invalid, NotFound
from skep.workflow.check import Known
from skep.workflow.plans import parse
from skep.workflow.problems import Problems
from skep.workflow.yamltree import Map, Node, compose, decode

#: What a planner writes, and what any other task may write, below $SKEP_OUT.
PLAN, FILE = "plan.yaml", "propose.yaml"
#: Keys that such a file may hold, and its tasks.
KEYS = ("version", "name", "objective", "defaults", "verify", "phases", "tasks")
TASK_KEYS = (
    *("run", "prompt", "objective", "type", "complexity", "agent", "priority", "needs", "phase", "if", "foreach"),
    *("capabilities", "locks", "budget", "timeout", "retries", "exit_codes", "mode", "setup", "verify", "protect"),
    *("outputs", "merge", "on_conflict", "approve", "recovery"),
)
_LOOKED_UP = re.compile(r"\bneeds\.([A-Za-z0-9_-]+)")
_SPAN = re.compile(r"\$\{\{.*?\}\}", re.DOTALL)


def read(data: bytes, source: str, bounds: Proposals, agents: Mapping[str, AgentSpec], proposer: str, now: int) -> Proposal:
    """Reads and checks the file; with `refused`, all that is wrong with it, if it cannot be taken.

    Args:
        source: what messages call it.
        agents: the kinds of the session.
        proposer: the task that proposes: its id stands before the ids of the tasks, and all of them need it. Empty for a plan.
        now: wall-clock milliseconds.
    """
    fingerprint = hashlib.sha256(data).hexdigest()
    try:
        _narrow(data, source)
        specs = {name: spec for name, spec in agents.items() if not bounds.agents or name in bounds.agents}
        known = Known(agents={name: {"runtime": spec.runtime, "with": spec.options} for name, spec in specs.items()})
        plan = parse(data, source, {}, now=now, read=_no_files, known=known)
        tasks = tuple(_assigned(task, specs, bounds) for task in plan.tasks)
        _bounded(tasks, source)
        if plan.verify is not None and proposer:
            raise Invalid(f"{source}: the `verify` of all merges is not a task's to propose", "Give the tasks their own.")
        if proposer and any(task.gate for task in tasks):
            raise Invalid(f"{source}: phases are for a plan", "What a task proposes belongs to the phase of that task.")
    except Invalid as error:
        return Proposal(fingerprint=fingerprint, refused=str(error))
    if proposer:
        tasks = prefixed(tasks, re.sub(r"[^A-Za-z0-9_-]+", "-", proposer).strip("-"), proposer)
    return Proposal(tasks=tasks, fingerprint=fingerprint, verify=plan.verify)


def _narrow(data: bytes, source: str) -> None:
    """Raises Invalid for keys that only a person may use."""
    problems = Problems(source)
    text = decode(data, problems)
    root = compose(text, problems) if text is not None else None
    if isinstance(root, Map):
        _only(root, KEYS, "such a file", problems)
        tasks, defaults = root.entries.get("tasks"), root.entries.get("defaults")
        each: Iterable[Node] = tasks.entries.values() if isinstance(tasks, Map) else ()
        for node in (*each, *([defaults] if defaults is not None else [])):
            if isinstance(node, Map):
                _only(node, TASK_KEYS, "its tasks", problems)
    problems.check()


def _only(node: Map, keys: tuple[str, ...], what: str, problems: Problems) -> None:
    for key in node.entries:
        if key not in keys:
            problems.add(node.keys[key], f"{key[:60]!r} is for people alone; {what} may hold {', '.join(keys)}")


def _no_files(path: Path) -> bytes:
    raise NotFound(f"{path} is not read: such a file spells its prompts out", "Write the prompt itself.")


def _assigned(task: Task, specs: Mapping[str, AgentSpec], bounds: Proposals) -> Task:
    """A prompt goes to an agent that it may go to. Raises Invalid if it does not say to which of several."""
    if task.prompt is None or task.agent or not bounds.agents:
        return task
    if len(bounds.agents) > 1:
        names = ", ".join(bounds.agents)
        raise Invalid(f"task '{task.id}' does not say who carries it out", f"Give it an `agent`, one of {names}.")
    return replace(task, agent=bounds.agents[0])


def _bounded(tasks: Iterable[Task], source: str) -> None:
    for task in tasks:
        retries = task.retries if isinstance(task.retries, int) else task.retries.max
        if retries > MAX_RETRIES:
            raise Invalid(f"{source}: task '{task.id}' asks for {retries} retries, more than {MAX_RETRIES}", "Ask for fewer.")


def prefixed(tasks: Iterable[Task], prefix: str, proposer: str) -> tuple[Task, ...]:
    """Tasks under names of their own, also where they look each other up; all of them need the proposer."""
    names = {task.id: f"{prefix}-{task.id}" for task in tasks}

    def renamed(text: str) -> str:
        return _LOOKED_UP.sub(lambda found: f"needs.{names.get(found[1], found[1])}", text)

    result = []
    for task in tasks:
        foreach = task.foreach
        result.append(
            replace(
                task,
                id=names[task.id],
                needs=(proposer, *(names[need] for need in task.needs)),
                prompt=None if task.prompt is None else _SPAN.sub(lambda found: renamed(found[0]), task.prompt),
                condition=renamed(task.condition),
                foreach=None if foreach is None else replace(foreach, source=renamed(foreach.source)),
            )
        )
    return tuple(result)


def written(plan: Plan) -> str:
    """A plan that was proposed as a workflow file of a person's, with the session's agents and limits: for editing."""
    allowed = plan.proposals.agents
    agents = {spec.name: spec for spec in plan.agents if spec.name in allowed or not (allowed or spec.name in BUILT_IN.values())}
    gates = frozenset(task.id for task in plan.tasks if task.gate)
    whole: dict[str, Any] = {
        "version": 1,
        "name": plan.name,
        "objective": plan.objective,
        "limits": _plain(plan.limits),
        "agents": {name: _plain(spec, "name") for name, spec in agents.items()},
        "verify": msgspec.to_builtins(plan.verify),
        "memory": msgspec.to_builtins(plan.memory),
        "phases": {task.phase: _phase(task) for task in plan.tasks if task.gate},
        "tasks": {task.id: _task(task, gates) for task in plan.tasks if not task.gate},
    }
    kept = {key: value for key, value in whole.items() if value not in ("", None, {})}
    return yaml.safe_dump(_lists(kept), sort_keys=False, allow_unicode=True, width=120)


def _task(task: Task, gates: Collection[str]) -> dict[str, Any]:
    own = replace(task, needs=tuple(need for need in task.needs if need not in gates))
    return _plain(own, "id", "generation", "inferred", *task.inferred)


def _phase(gate: Task) -> dict[str, Any]:
    """A phase as a file says it."""
    given = {"verify": gate.run, "vote": gate.vote, "approve": bool(gate.approve), "timeout": gate.timeout}
    said = {"objective": gate.objective, "gate": {key: msgspec.to_builtins(value) for key, value in given.items() if value}}
    return {key: value for key, value in said.items() if value}


def _plain(record: msgspec.Struct, *without: str) -> dict[str, Any]:
    return {key: value for key, value in msgspec.to_builtins(record).items() if key not in without}


def _lists(value: Any) -> Any:
    """What YAML writes alike: every sequence is a list."""
    if isinstance(value, dict):
        return {key: _lists(inner) for key, inner in value.items()}
    return [_lists(inner) for inner in value] if isinstance(value, list | tuple) else value
