"""A session goes on with another version of its file: what of it stays as it is."""

from __future__ import annotations

from msgspec.structs import replace

from skep.core.model import Plan, Task, TaskState
from skep.core.state import State, unpack
from skep.runtime.session import Session
from skep.store import Log
from skep.workflow import definitions

#: A task in one of these did not do what it was for: another version of the file is its chance.
AGAIN = ("failed", "gave-up", "cancelled", "skipped")


async def kept(log: Log, loop: Session, plan: Plan) -> tuple[tuple[str, ...], dict[str, TaskState]]:
    """Compares the session's tasks with those of the new plan.

    Args:
        plan: complete.

    Returns:
        ids of tasks that ask for the same as before, as does everything they need, and that did not fail; and the fates of those
        of the plan that are in the archive.
    """

    def live(state: State) -> tuple[Plan, dict[str, tuple[Task, str]]]:
        return state.plan, {name: (e.task, e.state) for name, e in state.entries.items() if not e.task.parent}

    old, tasks = await loop.ask(live)
    known: dict[str, TaskState] = {}
    async for name, blob in log.archive(loop.name):
        entry = unpack(blob)
        if name not in tasks and not entry.task.parent:
            tasks[name] = (entry.task, entry.state)
            known[name] = entry.state
    # Tasks that were added to the session by hand may need what the file does not know: they stay out of the comparison.
    named = {name: task for name, (task, _) in tasks.items() if all(need in tasks for need in task.needs)}
    before = definitions(replace(old, tasks=tuple(named.values())))
    after = definitions(plan)
    keep: dict[str, None] = {}
    for task in _in_order(plan):
        same = before.get(task.id) == after[task.id] and tasks[task.id][1] not in AGAIN
        if same and all(need in keep for need in task.needs):
            keep[task.id] = None
    return tuple(keep), {name: fate for name, fate in known.items() if name in after}


def _in_order(plan: Plan) -> list[Task]:
    """The plan's tasks, needs first."""
    done: dict[str, Task] = {}
    left = list(plan.tasks)
    while left:
        ready = [task for task in left if all(need in done for need in task.needs)]
        done.update((task.id, task) for task in ready)
        left = [task for task in left if task.id not in done]
    return list(done.values())
