"""One turn of the core: a batch of inputs, decided on the live state, with the events that came of it."""

from __future__ import annotations

from hashlib import blake2b

from skep.core.apply import apply
from skep.core.events import Event
from skep.core.model import TERMINAL, Attempt, Entry
from skep.core.state import State
from skep.errors import Conflict, NotFound


class Turn:
    """Collects events while applying them, so that what is decided next sees what was decided before.

    Args:
        state: live.
        at: wall-clock ms of the turn.
        salt: 16 random bytes, from which the nonces of attempts are derived.
    """

    __slots__ = ("at", "events", "salt", "state")

    def __init__(self, state: State, at: int, salt: bytes) -> None:
        self.state = state
        self.at = at
        self.salt = salt
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        """Decides: from here on it has happened."""
        apply(self.state, event)
        self.events.append(event)

    def nonce(self, task: str, n: int) -> str:
        """The random name of an attempt, 32 hex digits."""
        return blake2b(f"{n}/{task}".encode(), key=self.salt, digest_size=16).hexdigest()

    def entry(self, task: str) -> Entry:
        """A task of the live state. Raises NotFound."""
        entry = self.state.entries.get(task)
        if entry is None:
            raise NotFound(
                f"no task '{task}' in session {self.state.session}",
                "`skep status` lists them; what finished long ago is in the archive, to be looked at only.",
            )
        return entry

    def fenced(self, task: str, n: int, nonce: str) -> tuple[Entry, Attempt]:
        """The attempt that a report speaks of. Raises Conflict if it is not the current one: the report comes too late."""
        entry = self.state.entries.get(task)
        attempt = entry.attempt if entry is not None else None
        if entry is None or attempt is None or attempt.n != n or attempt.nonce != nonce:
            raise Conflict(f"attempt {n} of task '{task}' is not the current one; its report is refused")
        return entry, attempt

    def at_work(self, task: str, n: int, nonce: str) -> tuple[Entry, Attempt]:
        """As `fenced`, and the attempt's agent is at work. Raises Conflict."""
        entry, attempt = self.fenced(task, n, nonce)
        if entry.state != "running" or attempt.stage not in ("starting", "working"):
            raise Conflict(f"attempt {n} of task '{task}' is over")
        return entry, attempt


def is_open(entry: Entry) -> bool:
    """Whether anything is still to happen to the task."""
    return entry.state not in TERMINAL
