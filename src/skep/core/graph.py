"""Dependencies: cycles of what is submitted, what falls with a cancelled task, the critical path."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from skep.core.model import TERMINAL, Task
from skep.core.state import State
from skep.errors import Invalid


def check_acyclic(tasks: Sequence[Task]) -> None:
    """Raises Invalid, with the circle spelled out, if new tasks need each other in a circle."""
    own = {task.id for task in tasks}
    seen: set[str] = set()
    for task in tasks:
        if any(need in own and need not in seen for need in task.needs):
            break
        seen.add(task.id)
    else:
        return
    try:
        TopologicalSorter({task.id: [need for need in task.needs if need in own] for task in tasks}).prepare()
    except CycleError as error:
        cycle = " -> ".join(reversed(error.args[1]))
        raise Invalid(f"tasks need each other in a circle: {cycle}", "Remove one of these needs.") from None


def fall(state: State, roots: Iterable[str], everything: bool) -> list[str]:
    """Open tasks that cannot go on when the roots are cancelled, roots first, each once.

    A task whose own `if` decides (such as always()) does not fall with its needs, unless `everything`.
    Items fall with their foreach.
    """
    found: dict[str, None] = {}
    left = deque(roots)
    while left:
        name = left.popleft()
        entry = state.entries.get(name)
        if entry is None or name in found or entry.state in TERMINAL:
            continue
        found[name] = None
        left.extend(entry.children)
        left.extend(
            dependent
            for dependent in entry.dependents or ()
            if everything or (dependent in state.entries and not state.entries[dependent].task.condition)
        )
    return list(found)


def critical_path(state: State, seconds: Mapping[str, float]) -> tuple[float, list[str]]:
    """The chain of open tasks that takes longest.

    Args:
        seconds: expected duration of each open task; what is not there counts as nothing.

    Returns:
        its length in seconds, and its tasks in order.
    """
    tasks = {name: entry.task for name, entry in state.entries.items() if entry.state not in TERMINAL}
    order = TopologicalSorter({name: [need for need in task.needs if need in tasks] for name, task in tasks.items()})
    longest: dict[str, tuple[float, str]] = {}
    for name in order.static_order():
        before = max(((longest[need][0], need) for need in tasks[name].needs if need in tasks), default=(0.0, ""))
        longest[name] = (before[0] + seconds.get(name, 0.0), before[1])
    if not longest:
        return 0.0, []
    last = max(longest, key=lambda name: longest[name][0])
    total, path = longest[last][0], [last]
    while longest[path[-1]][1]:
        path.append(longest[path[-1]][1])
    return total, path[::-1]
