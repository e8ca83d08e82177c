"""The states of a task as a table. Every move goes through `check`; there is no other way to change a state."""

from __future__ import annotations

from skep.core.model import Entry
from skep.errors import Bug

#: From -> the states that may follow.
TRANSITIONS: dict[str, frozenset[str]] = {
    "waiting": frozenset({"ready", "expanded", "needs-you", "skipped", "cancelled", "failed", "replaced"}),
    "ready": frozenset({"ready", "running", "waiting", "skipped", "cancelled", "failed", "replaced"}),
    "running": frozenset(
        {"ready", "waiting", "merging", "needs-you", "parked", "done", "skipped", "failed", "gave-up", "cancelled", "replaced"}
    ),
    "expanded": frozenset({"waiting", "merging", "needs-you", "done", "failed", "cancelled", "replaced"}),
    "merging": frozenset({"expanded", "done", "ready", "waiting", "parked", "needs-you", "failed", "cancelled", "replaced"}),
    "needs-you": frozenset(
        {"needs-you", "ready", "waiting", "expanded", "merging", "done", "skipped", "failed", "cancelled", "replaced"}
    ),
    "parked": frozenset({"ready", "waiting", "skipped", "cancelled", "failed", "replaced"}),
    "done": frozenset({"ready", "waiting", "expanded", "replaced"}),
    "skipped": frozenset({"ready", "waiting", "expanded", "replaced"}),
    "failed": frozenset({"ready", "waiting", "expanded", "skipped", "replaced"}),
    "gave-up": frozenset({"ready", "waiting", "skipped", "replaced"}),
    "cancelled": frozenset({"ready", "waiting", "expanded", "skipped", "replaced"}),
    "replaced": frozenset(),
}


def check(entry: Entry, to: str) -> None:
    """Raises Bug with the task's story if the table does not allow the move."""
    if to not in TRANSITIONS[entry.state]:
        raise Bug(f"illegal move {entry.state} -> {to}: {story(entry)}")


def story(entry: Entry) -> str:
    """What is known of a task, in one line, for error messages."""
    parts = [f"task {entry.task.id} is {entry.state}", f"{entry.attempts} attempts", f"{entry.failures} failures"]
    if entry.attempt is not None:
        parts.append(f"attempt {entry.attempt.n} {entry.attempt.stage} on {entry.attempt.agent} since {entry.attempt.started}")
    if entry.cause:
        parts.append(f"last cause {entry.cause}: {entry.detail}")
    return ", ".join(parts)
