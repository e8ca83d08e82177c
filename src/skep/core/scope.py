"""What the names in a condition or a prompt mean for a task: `needs.build.state`, `inputs.issue`, `item.name`, success()."""

from __future__ import annotations

from typing import Any

from skep.core import conditions
from skep.core.model import TERMINAL, Entry, Output, TaskState
from skep.core.references import Lookup, Path, walk
from skep.core.state import State


def facets(state: TaskState, entry: Entry | None) -> dict[str, Any]:
    """What may be asked of a task that came before."""
    if entry is None:
        return {"state": state, "cause": "", "outputs": {}}
    return {
        "state": entry.state,
        "cause": entry.cause,
        "result": entry.result,
        "exit_code": entry.exit_code,
        "outputs": {name: text(output) for name, output in (entry.outputs or {}).items()},
    }


def text(output: Output) -> str:
    """An output as text; one that is too large for the log is named by its digest."""
    return output.text if output.text is not None else f"blob:{output.digest}"


def lookup(state: State, entry: Entry) -> Lookup:
    """A function that gives what a path names for this task, and raises LookupError for what is not there."""

    def fates() -> list[TaskState]:
        return [state.fate(entry, need) for need in entry.task.needs]

    def find(path: Path) -> Any:
        root, *rest = path
        if root == "success()":
            return all(fate == "done" for fate in fates())
        if root == "failure()":
            return any(failed(state, entry, need) for need in entry.task.needs)
        if root == "inputs":
            return walk(state.plan.inputs, rest)
        if root == "item":
            if not entry.task.parent:
                raise LookupError("item")
            return walk(entry.task.item, rest)
        return walk(_task(state, entry, rest[0]), rest[1:])

    return find


def without(state: State, entry: Entry) -> list[str]:
    """What a task needs, and has to do without: it ended otherwise than done, and no `if` of the task asks how it ended."""
    condition, needs = entry.task.condition, entry.task.needs
    if condition and conditions.asks_outcome(conditions.parse(condition)):
        # It may ask how tasks ended, but no gate opens for it.
        needs = tuple(need for need in needs if (other := state.entries.get(need)) is not None and other.task.gate)
    fates = ((need, state.fate(entry, need)) for need in needs)
    return [need for need, fate in fates if fate in TERMINAL and fate != "done"]


def failed(state: State, entry: Entry, need: str) -> bool:
    """Whether something that a task needs failed.

    Skipped counts as failed if it was skipped because something before it failed, not if its own `if` said no.
    """
    other = state.entries.get(need)
    fate = state.fate(entry, need)
    return fate in ("failed", "gave-up", "cancelled") or (fate == "skipped" and other is not None and other.cause == "needs")


def _task(state: State, entry: Entry, name: str) -> dict[str, Any]:
    other = state.entries.get(name)
    if other is None and name not in entry.task.needs:
        raise LookupError(name)
    found = facets(other.state if other is not None else state.fate(entry, name), other)
    if other is not None and other.task.foreach is not None and other.children:
        found["outputs"] = {
            child.removeprefix(name)[1:-1]: facets(item.state, item)["outputs"]
            for child in other.children
            if (item := state.entries.get(child)) is not None
        }
    return found
