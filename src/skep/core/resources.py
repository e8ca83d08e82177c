"""The ledger of cpu, memory, storage, slots and locks. `fits` is the one judgement of what a node can still take.

A node grants each session a credit, the part of it that the session may use. What fits is judged against the credit, what could
ever fit against the whole node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skep.core.model import AgentSpec, Entry, Node, Resources

if TYPE_CHECKING:
    from skep.core.state import State

#: Lock of the session's own worktree, held by tasks of mode `shared`; no user's lock can have this name.
WORKTREE = "\0worktree"


def reservation(asked_for: Resources | None, spec: AgentSpec, node: Node) -> Resources | None:
    """What an attempt reserves on the node: the task's own figures, or a strict agent's, scaled down to the node."""
    if asked_for is not None:
        return asked_for
    if spec.strict and spec.resources is not None:
        asked, has = spec.resources, node.capacity
        return Resources(min(asked.cpu, has.cpu), min(asked.memory, has.memory), min(asked.storage, has.storage))
    return None


def fits(node: Node, need: Resources | None) -> bool:
    """Whether the node can take one more attempt of this session that reserves this much."""
    has: Resources
    if node.credit is None:
        has, slots = node.capacity, node.slots
    else:
        has, slots = node.credit, node.credit.slots
    if node.lost or node.used_slots >= slots:
        return False
    if need is None:
        return True
    return (
        node.used_cpu + need.cpu <= has.cpu + 1e-9
        and node.used_memory + need.memory <= has.memory
        and node.used_storage + need.storage <= has.storage
    )


def used(node: Node) -> float:
    """The share of the node's places for this session that are taken."""
    return node.used_slots / max((node.credit or node).slots, 1)


def leaves(node: Node, need: Resources | None, other: Resources | None) -> bool:
    """Whether an attempt that reserves `need` takes nothing of the room that `other` waits for."""
    has: Resources = node.credit or node.capacity
    if node.used_slots + 2 > (node.credit or node).slots:
        return False
    if need is None or other is None:
        return True
    return (
        (not need.cpu or not other.cpu or node.used_cpu + need.cpu + other.cpu <= has.cpu + 1e-9)
        and (not need.memory or not other.memory or node.used_memory + need.memory + other.memory <= has.memory)
        and (not need.storage or not other.storage or node.used_storage + need.storage + other.storage <= has.storage)
    )


def could_fit(node: Node, need: Resources | None) -> bool:
    """Whether the node could take it if it were empty and this session's alone."""
    has = node.capacity
    return need is None or (need.cpu <= has.cpu and need.memory <= has.memory and need.storage <= has.storage)


def take(node: Node, need: Resources | None) -> None:
    """Books an attempt on the node."""
    node.used_slots += 1
    if need is not None:
        node.used_cpu += need.cpu
        node.used_memory += need.memory
        node.used_storage += need.storage


def give_back(node: Node, need: Resources | None) -> None:
    """Books it out. Cpu that is almost nothing is nothing: sums of floats must not drift over a million tasks."""
    node.used_slots -= 1
    if need is not None:
        node.used_cpu -= need.cpu
        node.used_memory -= need.memory
        node.used_storage -= need.storage
    if node.used_slots == 0 or node.used_cpu < 1e-6:
        node.used_cpu = 0.0


def locks_of(state: State, entry: Entry) -> dict[str, int]:
    """Names of the locks a task takes while it runs -> how many may hold each. A foreach's `max_parallel` is such a lock."""
    task = entry.task
    if not task.locks and task.mode != "shared" and not task.parent:
        return {}
    locks = dict.fromkeys(task.locks, 1)
    if task.mode == "shared":
        locks[WORKTREE] = 1
    if task.parent:
        parent = state.entries.get(task.parent)
        if parent is not None and parent.task.foreach is not None and parent.task.foreach.max_parallel:
            locks["\0foreach " + task.parent] = parent.task.foreach.max_parallel
    return locks
