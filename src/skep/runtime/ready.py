"""What of a session is ready to be taken now, and why the rest waits."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from skep.core import placement, resources
from skep.core.model import PRIORITY_RANK, TERMINAL, Entry
from skep.core.state import State
from skep.runtime.views import SHOWN


class Readiness(Struct, frozen=True, kw_only=True):
    """An open task. `ready`: nothing but an agent is missing. `why`: what it waits for, or who could take it, in words."""

    id: str
    title: str
    state: str
    ready: bool
    why: str
    kind: str
    priority: str
    needs: tuple[str, ...] = ()


def readiness(state: State) -> list[Readiness]:
    """Every open task: first those that are ready, in the order in which they would be taken, then the rest by age."""
    entries = [entry for entry in state.entries.values() if entry.state not in TERMINAL]
    found = [(entry, *_judged(state, entry)) for entry in entries]
    found.sort(key=lambda item: (not item[1], -PRIORITY_RANK[item[0].task.priority] if item[1] else 0, item[0].seq))
    return [
        Readiness(
            id=entry.task.id,
            title=entry.task.objective,
            state=SHOWN.get(entry.state, entry.state),
            ready=ready,
            why=why,
            kind=placement.kind_of(entry.task),
            priority=entry.task.priority,
            needs=entry.task.needs,
        )
        for entry, ready, why in found
    ]


def _judged(state: State, entry: Entry) -> tuple[bool, str]:
    """Whether a task is ready, and the words."""
    task = entry.task
    if entry.state == "waiting":
        missing = [need for need in task.needs if state.fate(entry, need) not in TERMINAL]
        return False, f"needs {', '.join(missing)}" if missing else "is judged when the session goes on"
    if entry.state == "needs-you":
        return False, "waits for an answer of yours; `skep status` shows the question"
    if entry.state == "parked":
        until = datetime.fromtimestamp(entry.until / 1000).astimezone().isoformat(timespec="seconds")
        return False, f"waits until {until}"
    if entry.state != "ready":
        what = {"merging": "its work is being merged", "expanded": "its items are under way"}
        if entry.state == "expanded" and entry.cause == "conflict":
            return False, f"{entry.children[-1]} resolves its conflict"
        return False, what.get(entry.state, f"{entry.agent or 'an agent'} works on it")
    for lock, most in resources.locks_of(state, entry).items():
        if len(holders := state.locks.get(lock, [])) >= most:
            lock_of = f"the lock '{lock}', held by " if lock.isprintable() else ""  # those of Skep's own have no name to show
            return False, f"waits for {lock_of}{', '.join(holders)}"
    if state.paused:
        return False, f"the session is paused{f': {state.why}' if state.why else ''}"
    said = placement.explain(state, task)
    return True, f"{said.target} could take it" if said else placement.lacks(state, entry)
