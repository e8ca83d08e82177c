"""What the events of merges do to a state: the part of `core.apply` that concerns them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skep.core import events as ev
from skep.core.due import merge_key
from skep.core.model import Entry
from skep.core.polls import pass_over
from skep.core.state import State


def _started(s: State, e: ev.MergeStarted) -> None:
    s.intent = e.intent
    if s.live:
        s.due.add(merge_key(e.intent))


def _over(s: State, task: str) -> Entry:
    """The first event about a stack ends its intent; whichever tasks leave the queue, the others are where they were."""
    intent, s.intent = s.intent, None
    if intent is not None and s.live:
        s.due.owed.pop(merge_key(intent), None)
        for candidate in intent.stack:
            # Deadlines may have passed meanwhile: nobody closes what is being merged.
            if s.entries[candidate.task].task.deadline:
                s.due.watch(s.entries[candidate.task])
    s.merge_queue.remove(task)
    return s.entries[task]


def _merged(s: State, e: ev.Merged) -> None:
    entry = _over(s, e.task)
    s.tip = entry.merged = e.commit
    # What was said of its work stays; why an earlier merge of it failed does not.
    entry.cause, entry.detail = "", e.detail or ("" if entry.cause else entry.detail)
    s.move(entry, "done", e.at)


def _failed(s: State, e: ev.MergeFailed) -> None:
    entry = _over(s, e.task)
    entry.cause, entry.detail, entry.feedback, entry.question = e.cause, e.detail, e.feedback, e.question
    entry.conflicts += e.cause == "conflict"
    entry.failures += e.cause in ("verify-failed", "protected")
    entry.wip, entry.until = entry.commit, e.until
    if e.then != "needs-you" and e.resolver is None:
        entry.result, entry.outputs, entry.commit = None, None, ""
    s.move(entry, e.then, e.at)
    if e.resolver is not None:
        entry.children += (e.resolver.id,)
        entry.open_children += 1
        s.add((e.resolver,), e.at, None)
    elif e.then == "expanded":
        pass_over(s, entry, f"{e.cause}: {e.detail}")


def _resolved(s: State, e: ev.ConflictResolved) -> None:
    """The task has the resolution's commit; result and outputs stay its own. Each of its merges has a number of its own."""
    entry, made = s.entries[e.task], s.entries[e.resolver]
    entry.attempts += 1
    entry.base, entry.commit = made.base, made.commit
    entry.cause, entry.detail, entry.feedback, entry.question = "", "", "", e.question
    s.move(entry, e.then, e.at)
    if e.then == "merging":
        s.merge_queue.append(e.task)


APPLY: dict[type, Callable[[State, Any], None]] = {
    ev.MergeStarted: _started,
    ev.Merged: _merged,
    ev.MergeFailed: _failed,
    ev.ConflictResolved: _resolved,
}
