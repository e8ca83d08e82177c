"""A conflict as a task: an agent brings together what does not merge, and its commit takes the place of the one that did not.

The agent finds both sides in its worktree, conflicts marked in the files (`runtime.conflicts`). It gets one chance: if it fails,
or what it made conflicts again, a person is asked.
"""

from __future__ import annotations

from collections.abc import Mapping

from skep.core import events as ev
from skep.core import placement, references
from skep.core.closing import after_success
from skep.core.model import AgentSpec, Entry, Task
from skep.core.state import State
from skep.core.turn import Turn, is_open

#: What the agent is told. The two sides are put below it when its attempt begins.
INSTRUCTION = """The work of another task does not merge with what was merged meanwhile. Bring the two together.

Your folder holds what is merged so far, with that work merged into it as far as git could. Make every file that conflicts what it
should be: keep what both sides meant, and take out all lines with conflict markers. Change nothing that the conflict does not ask
for. You need not commit or merge: what the files hold at the end is committed for you."""


def resolver(entry: Entry, commit: str) -> Task:
    """The task that resolves the conflict of `commit`. A task with a prompt has it resolved by its own agent."""
    task, own = entry.task, entry.task.prompt is not None
    number = len(entry.children) + 1
    return Task(
        id=references.child_id(task.id, "conflict" if number == 1 else f"conflict.{number}"),
        prompt=INSTRUCTION,
        objective=f"resolve the conflict of {task.objective or task.id}",
        type=task.type if own else "",
        agent=task.agent if own else "",
        capabilities=task.capabilities if own else (),
        constraints=task.constraints,
        inferred=task.inferred if own else {},
        resources=task.resources,
        budget=task.budget,
        priority=task.priority,
        deadline=task.deadline,
        timeout=task.timeout,
        retries=task.retries,
        mode="isolated",
        setup=task.setup,
        env=task.env,
        verify=task.verify,
        protect=task.protect,
        merge="never",
        parent=task.id,
        metadata=task.metadata,
        resolves=commit,
    )


def impossible(state: State, task: Task, specs: Mapping[str, AgentSpec]) -> str:
    """Why no agent could ever resolve a conflict of the task; empty if one could."""
    return placement.impossible(state, resolver(Entry(task=task, seq=0, submitted=0), ""), specs)


def gather(turn: Turn, entry: Entry) -> None:
    """The resolution goes the way of any result of the task; without one a person is asked."""
    name = entry.children[-1]
    made = turn.state.entries[name]
    if is_open(made):
        return
    if made.state == "done" and made.commit:
        then, question = after_success(entry, made.commit)
        turn.emit(ev.ConflictResolved(turn.at, entry.task.id, name, then, question))
    else:
        detail = f"{entry.detail}; {name} did not resolve it: {made.detail or made.state}"
        dismiss(turn, entry)
        turn.emit(ev.TaskAsked(turn.at, entry.task.id, "conflict", detail))


def dismiss(turn: Turn, entry: Entry) -> None:
    """That a conflict was not resolved is no failure of the session: its task goes on some other way."""
    for name in entry.children:
        made = turn.state.entries.get(name)
        if made is not None and made.task.resolves and made.state in ("failed", "gave-up", "cancelled"):
            turn.emit(ev.TaskClosed(turn.at, name, "skipped", made.cause, made.detail))
