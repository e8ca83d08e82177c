"""A plan as a rehearsal: the same graph, with stand-ins in place of the agents that carry out prompts. No model is called.

A stand-in is a shell command like any other, in the same worktree and the same confinement. It does what the user's script says
for its task; otherwise it makes a small marked change, leaves the outputs that are declared, and casts the votes that are due.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import msgspec
from msgspec.structs import replace

from skep.core import references
from skep.core.globs import matches
from skep.core.model import AgentSpec, Plan, Task
from skep.core.placement import BUILT_IN
from skep.core.references import nearest
from skep.errors import Invalid
from skep.workflow.parts import looked_up
from skep.workflow.plans import Read, read_file
from skep.workflow.problems import Problems
from skep.workflow.yamltree import MAX_BYTES, compose, decode, plain

#: How the file begins that a stand-in leaves.
MARK = "REHEARSAL-"
#: Items of a made-up list.
ITEMS = ("one", "two")
#: Runtimes of agents that never carry out a prompt.
_NO_PROMPTS = ("python", "inprocess")
#: What a stand-in does that nobody wrote a script for. One file of its own a task: stand-ins do not conflict with each other.
_CHANGE = r"""name=$(printf %s "$SKEP_TASK" | tr -c 'A-Za-z0-9._-' _)
if [ -e .git ]; then
  printf 'Rehearsal: a stand-in for the agent of task %s was here, try %s.\n' "$SKEP_TASK" "$SKEP_ATTEMPT" > "REHEARSAL-$name.txt"
fi
"""
_SAYS = r"""printf 'rehearsal: a stand-in did %s\n' "$SKEP_TASK"
"""
_VOTE = r"""letter=$(sed -n 's/^# Candidate \([A-Z]\)$/\1/p' "$SKEP_PROMPT" | head -n 1)
printf '{"vote": "%s", "reason": "rehearsal"}' "$letter" > "$SKEP_OUT/vote.json"
printf 'rehearsal: a stand-in votes for %s\n' "$letter"
"""
_PASS = r"""printf '{"vote": "pass", "reason": "rehearsal"}' > "$SKEP_OUT/vote.json"
printf 'rehearsal: a stand-in lets the next phase begin\n'
"""
_RESOLVE = r"""files=$(grep -rlI --exclude-dir=.git '^<<<<<<< ' . || true)
printf '%s\n' "$files" | while IFS= read -r file; do
  [ -z "$file" ] || sed -i -e '/^<<<<<<< /d' -e '/^=======$/d' -e '/^>>>>>>> /d' -e '/^||||||| /d' "$file"
done
printf 'rehearsal: a stand-in kept both sides\n'
"""


def rehearsed(plan: Plan, script: Mapping[str, str] | None = None) -> Plan:
    """The plan with stand-ins. Its session goes by another name and belongs to no file, so neither is taken for the other, and
    nobody is notified of it.

    Args:
        script: id of a task -> command that its stand-in runs in place of the small change.

    Raises:
        Invalid: the script names what is no task with a prompt.
    """
    own = script or {}
    prompts = {task.id: task for task in plan.tasks if task.prompt is not None}
    for name in own:
        if name not in prompts:
            known = ", ".join(prompts) or "none"
            raise Invalid(
                f"the script speaks of {name!r}, which is no task with a prompt{nearest(name, prompts)}",
                f"Tasks with a prompt: {known}. What has `run` or `call` is carried out as it is.",
            )
    command = _stand_in(plan.tasks, own)
    agents = tuple(_replaced(spec, command) for spec in plan.agents)
    return replace(plan, name=f"{plan.name}-rehearsal", agents=agents, notify=(), source="", rehearsal=True)


def _replaced(spec: AgentSpec, command: str) -> AgentSpec:
    if spec.runtime in _NO_PROMPTS or (spec.runtime in BUILT_IN.values() and "run" not in spec.options):
        return spec
    return replace(spec, runtime="shell", model="", options={"run": command})


def _stand_in(tasks: Iterable[Task], script: Mapping[str, str]) -> str:
    """One command for all stand-ins: what it does follows from the task that it is started for."""
    arms = list(_arms(list(tasks), script))
    return "\n".join(['case "$SKEP_TASK" in', *(f"{pattern})\n{body.rstrip()}\n;;" for pattern, body in arms), "esac"])


def _arms(tasks: list[Task], script: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Patterns of task ids, the first that fits counts, and what is done."""
    for task in tasks:
        name = quote(task.id)
        if task.vote is not None:
            yield f"{name}'['{quote(task.vote.by)}-*']'", _PASS if task.gate else _VOTE
        yield f"{name}'[conflict'*']'", _RESOLVE
        if task.prompt is not None:
            yield f"{name}|{name}'['*']'", _does(task, tasks, script.get(task.id, ""))
    yield "*", _CHANGE + _SAYS


def _does(task: Task, tasks: Iterable[Task], own: str) -> str:
    if own:
        return f"exec bash -euo pipefail -c {quote(own)}"
    outputs = "".join(_output(task, output, file, tasks) for output, file in task.outputs.items())
    return outputs + ("" if matches(f"{MARK}{task.id}.txt", task.protect) else _CHANGE) + _SAYS


def _output(task: Task, name: str, file: str, tasks: Iterable[Task]) -> str:
    """Writes an output: a list where a foreach wants one, otherwise a line."""
    source = f"needs.{task.id}.outputs.{name}"
    fed = next((other for other in tasks if other.foreach is not None and other.foreach.source == source), None)
    text = f"rehearsal: {name} of {task.id}\n" if fed is None else msgspec.json.encode(_list_for(fed)).decode()
    folder = posixpath.dirname(file)
    make = f'mkdir -p "$SKEP_OUT"/{quote(folder)}\n' if folder else ""
    return f'{make}printf %s {quote(text)} > "$SKEP_OUT"/{quote(file)}\n'


def _list_for(task: Task) -> list[Any]:
    """Two items with all fields that the task of a foreach looks up."""
    assert task.foreach is not None
    paths = [path[1:] for path in looked_up(task) if path[0] == "item"]
    paths += [(task.foreach.key,)] if task.foreach.key else []
    if not any(paths):
        return list(ITEMS[: task.foreach.max_items])
    return [_item(one, paths) for one in ITEMS[: task.foreach.max_items]]


def _item(value: str, paths: Iterable[references.Path]) -> dict[str, Any]:
    item: dict[str, Any] = {}
    for path in filter(None, paths):
        inner = item
        for name in path[:-1]:
            inner = found if isinstance(found := inner.get(name), dict) else inner.setdefault(name, {})
        if isinstance(inner, dict):
            inner.setdefault(path[-1], value)
    return item


def read_script(path: Path, read: Read = read_file) -> dict[str, str]:
    """A script for stand-ins: a YAML mapping, id of a task -> shell command.

    Raises:
        NotFound, Invalid: there is no such file, or it is something else.
    """
    problems = Problems(str(path))
    data = read(path)
    if len(data) > MAX_BYTES:
        raise Invalid(f"{path} is larger than {MAX_BYTES} bytes", "Put long commands into files of their own.")
    text = decode(data, problems)
    root = compose(text, problems) if text is not None else None
    problems.check()
    found = plain(root) if root is not None else None
    if not isinstance(found, dict) or not all(isinstance(one, str) and one.strip() for one in found.values()):
        raise Invalid(f"{path} is no script for a rehearsal", "Write a mapping: TASK: COMMAND, one line a task.")
    return {str(name): command for name, command in found.items()}
