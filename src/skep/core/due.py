"""What is owed to the world. Kept incrementally by `State.apply`; equals `full`, the recomputation from the bare state."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from skep.core import budgets
from skep.core.commands import EndAttempt, Merge, Owed, Stacked, StartAttempt, VerifyAttempt
from skep.core.envelope import Message
from skep.core.intent import MergeIntent
from skep.core.model import TERMINAL, Entry
from skep.core.rules import waiting

if TYPE_CHECKING:
    from skep.core.state import State

#: Times that are remembered for nothing, at least, before they are looked through.
MAX_STALE = 4_096
#: Kind of command, task, attempt: what a performer keys its work in hand by, together with the nonce.
Key = tuple[str, str, int]


class Due:
    """The keys of all that is owed, and the times at which something must be looked at. Derived, never saved."""

    def __init__(self, state: State) -> None:
        self.owed: dict[Key, None] = dict.fromkeys(full(state))
        self.fresh: list[Key] = list(self.owed)
        self.state = state
        self.timers: list[tuple[int, int, str]] = []
        #: When messages expire, of which target, which.
        self.mail: list[tuple[int, str, str]] = []
        for inbox in state.mail.inboxes.values():
            for message in inbox.values():
                self.post(message)
        for asked in state.mail.questions.values():
            if asked.until and asked.id not in state.mail.inboxes.get(asked.target, {}):
                heappush(self.mail, (asked.until, asked.target, asked.id))
        self.most_timers = MAX_STALE
        #: Waiting tasks of which a need became known: the core looks at them before anything else.
        self.pending: dict[str, None] = {}
        for entry in state.entries.values():
            self.watch(entry)
            if looked_at(entry):
                self.pending[entry.task.id] = None

    def add(self, key: Key) -> None:
        """Something new is owed."""
        self.owed[key] = None
        self.fresh.append(key)

    def watch(self, entry: Entry) -> None:
        """Remembers the times that matter to a task."""
        for time in times(entry):
            heappush(self.timers, (time, entry.seq, entry.task.id))
        if len(self.timers) > self.most_timers:
            # Most are of tasks that are over by now.
            entries = self.state.entries.values()
            self.timers = sorted((time, entry.seq, entry.task.id) for entry in entries for time in times(entry))
            self.most_timers = max(MAX_STALE, 2 * len(self.timers))

    def post(self, message: Message) -> None:
        """Remembers when a message expires, if it does."""
        if message.expires:
            heappush(self.mail, (message.expires, message.target, message.id))

    def stale(self, at: int) -> list[tuple[str, str]]:
        """Target and id of messages whose time is over, unless they were delivered; each is told once."""
        found: list[tuple[str, str]] = []
        while self.mail and self.mail[0][0] <= at:
            _, target, name = heappop(self.mail)
            found.append((target, name))
        return found

    def elapsed(self, at: int) -> list[str]:
        """Tasks whose time has come; each is told once."""
        tasks: list[str] = []
        while self.timers and self.timers[0][0] <= at:
            tasks.append(heappop(self.timers)[2])
        return tasks


def times(entry: Entry) -> list[int]:
    """Wall-clock ms at which something is to be decided about a task."""
    found = [entry.until] if entry.state == "parked" else []
    if entry.state == "ready" and entry.avoids:
        found += entry.avoids.values()
    if entry.state == "expanded" and entry.poll is not None and entry.poll.until and entry.poll.result is None:
        found.append(entry.poll.until)
    if entry.task.deadline and entry.state not in TERMINAL:
        found.append(entry.task.deadline)
    if end := budgets.ends(entry):
        found.append(end)
    if entry.attempt is not None and entry.attempt.asks:
        found += [asking.until for asking in waiting(entry.attempt.asks)]
    return found


def looked_at(entry: Entry) -> bool:
    """Whether a waiting task, or one whose items or candidates became known, may have something to be decided."""
    if entry.state == "expanded":
        return entry.open_children == 0 or bool(entry.task.candidates) or entry.task.gate
    return entry.state == "waiting"


def attempt_key(entry: Entry) -> Key | None:
    """What is owed for a task's attempt."""
    attempt = entry.attempt
    if attempt is None:
        return None
    kind = "end" if attempt.stage == "ending" else "verify" if attempt.stage == "verifying" else "start"
    return (kind, entry.task.id, attempt.n)


def full(state: State) -> list[Key]:
    """Everything that is owed, computed from the state alone."""
    keys = [key for entry in state.entries.values() if (key := attempt_key(entry)) is not None]
    if state.intent is not None:
        keys.append(merge_key(state.intent))
    return keys


def merge_key(intent: MergeIntent) -> Key:
    """What is owed for a stack: known by what lies at its bottom."""
    return ("merge", intent.stack[0].task, intent.stack[0].attempt)


def command(state: State, key: Key) -> Owed | None:
    """The command for a key, or None if it is not owed any more."""
    kind, task_id, n = key
    entry = state.entries.get(task_id)
    if entry is None:
        return None
    if kind == "merge":
        intent = state.intent
        if intent is None or merge_key(intent) != key:
            return None
        tasks = tuple(_stacked(state, state.entries[candidate.task]) for candidate in intent.stack)
        return Merge(intent, tasks, state.plan.verify, state.plan.setup)
    attempt = entry.attempt
    if attempt is None or attempt.n != n or attempt_key(entry) != key:
        return None
    if kind == "end":
        return EndAttempt(entry.task, n, attempt.nonce, attempt.node, attempt.base, attempt.ending)
    if kind == "verify":
        return VerifyAttempt(entry.task, n, attempt.nonce, attempt.node, attempt.slot, attempt.commit)
    spec = state.agents[attempt.agent].spec
    return StartAttempt(
        entry.task,
        n,
        attempt.nonce,
        attempt.agent,
        spec,
        attempt.node,
        attempt.slot,
        attempt.base,
        entry.feedback,
        entry.base,
        conversation_of(entry, spec),
        budgets.cap(state, entry),
    )


def _stacked(state: State, entry: Entry) -> Stacked:
    task, made = entry.task, state.entries.get(entry.children[-1]) if entry.children else None
    resolves = (
        (entry.base, made.task.resolves) if made is not None and made.task.resolves and made.commit == entry.commit else None
    )
    return Stacked(task.objective or task.id, task.protect, resolves)


def conversation_of(entry: Entry, spec: str) -> str:
    """The client's thread that an attempt by this kind of agent goes on in, or nothing."""
    return entry.conversation if entry.talking and entry.talker == spec else ""


def next_wake(state: State) -> int:
    """Wall-clock ms at which a Tick is due, or 0."""
    timers = state.due.timers
    times = [timers[0][0]] if timers else []
    times += [state.due.mail[0][0]] if state.due.mail else []
    times += [time for time in (state.time_limit_at, budgets.kinds_end(state)) if time]
    return min(times, default=0)
