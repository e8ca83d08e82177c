"""What is so in a world of several processes, known from outside of all of them, and compared with what the log says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from msgspec import Struct

from skep.core import events as ev
from skep.core.apply import replay
from skep.core.commands import StartAttempt
from skep.core.model import TERMINAL
from skep.core.state import State
from skep.store import codec
from skep.store.ephemeral import EphemeralSession


class Tried(Struct):
    """An attempt as the log tells of it. `void`: its node was given up."""

    nonce: str
    node: str
    boot: str
    void: bool = False
    open: bool = True


class Ledger:
    """The account of one session, from what is committed and from what processes did."""

    def __init__(self) -> None:
        self.objections: list[str] = []
        self.state = State()
        #: What a state has for a digest after this event.
        self.digests: dict[int, str] = {}
        self.kinds: Counter[str] = Counter()
        #: Marks of submissions -> how often they were decided, and which tasks came of them.
        self.decided: Counter[str] = Counter()
        self.made: dict[str, tuple[str, ...]] = {}
        #: Nodes that still work for the session although nothing keeps them from noticing that they were given up.
        self.at_work: Callable[[str, str], bool] = lambda node, boot: False
        self._hashes: list[bytes] = []
        self._holders: dict[int, str] = {}
        self._tried: dict[tuple[str, int], Tried] = {}
        self._boots: dict[str, str] = {}
        self._needs: dict[str, tuple[str, ...]] = {}
        self._done: Counter[str] = Counter()
        self._performed: dict[str, str] = {}
        self._reported: set[tuple[str, int, str]] = set()

    def check(self, holds: bool, message: str) -> None:
        """Objects unless it holds."""
        if not holds:
            self.objections.append(message)

    # What processes did

    def acquired(self, owner: str, before: int, known: int) -> None:
        """Somebody becomes the writer after epoch `before`, and knew of epoch `known`."""
        stranger = before > known and self._holders.get(before) != owner
        self.check(not stranger, f"{owner} takes the session from {self._holders.get(before)}, of whom it did not know")
        self._holders[before + 1] = owner

    def begun(self, node: str, boots: Sequence[str], command: StartAttempt) -> None:
        """A node whose process joined with these boots begins to carry an attempt out."""
        task, n, nonce = command.task.id, command.n, command.nonce
        tried = self._tried.get((task, n))
        assigned = tried is not None and (tried.nonce, tried.node) == (nonce, node)
        self.check(assigned, f"{node} performs attempt {n} of {task}, which the log does not give it")
        self.check(self._performed.setdefault(nonce, node) == node, f"attempt {n} of {task} runs on two nodes")
        own = tried is None or tried.boot.rpartition("-")[2] in boots
        self.check(own, f"{node} performs attempt {n} of {task}, which the log gives to its former boot")
        early = [need for need in command.task.needs if not self._done[need]]
        self.check(not early, f"{task} begins before {early}")

    def reported(self, command: StartAttempt) -> None:
        """An attempt came to its end and says so."""
        self._reported.add((command.task.id, command.n, command.nonce))

    # What is committed

    def watch(self, sessions: dict[str, EphemeralSession]) -> None:
        """Looks at what was committed since the last look: it only grows."""
        log = [append for kept in sessions.values() for append in kept.log]
        seen = len(self._hashes)
        kept = len(log) >= seen and (not seen or log[seen - 1].hash == self._hashes[-1])
        self.check(kept, f"{seen} appends were committed, and the log holds {len(log)} or others")
        for append in log[seen:]:
            self._hashes.append(append.hash)
            events = codec.decode(append.blob)
            replay(self.state, events)
            self.state.leaving.clear()
            self.digests[append.last] = self.state.digest()
            for event in events:
                self.kinds[type(event).__name__] += 1
                handler = getattr(self, "_on_" + type(event).__name__, None)
                if handler is not None:
                    handler(event)
            self._no_attempt_of_the_lost()

    def follows(self, name: str, seq: int, digest: str) -> None:
        """Somebody who follows knows the session up to this event."""
        if seq:
            self.check(self.digests.get(seq) == digest, f"{name} has another state after event {seq} than the log gives")

    def unfinished(self) -> list[str]:
        """Tasks that are not over."""
        return [name for name, entry in self.state.entries.items() if entry.state not in TERMINAL]

    def _on_TasksSubmitted(self, event: ev.TasksSubmitted) -> None:
        for task in event.tasks:
            self._needs[task.id] = task.needs
        mark = event.tasks[0].objective
        self.decided[mark] += 1
        self.made[mark] = tuple(task.id for task in event.tasks)
        self.check(self.decided[mark] == 1, f"{mark} was submitted once and decided {self.decided[mark]} times")

    def _on_NodeJoined(self, event: ev.NodeJoined) -> None:
        if self._boots.get(event.node) != event.boot:
            self._give_up(event.node)
        self._boots[event.node] = event.boot

    def _on_NodeLost(self, event: ev.NodeLost) -> None:
        self._give_up(event.node)
        boot, self._boots[event.node] = self._boots.get(event.node, ""), ""
        self.check(not self.at_work(event.node, boot), f"{event.node} is given up, and it still works")

    def _give_up(self, node: str) -> None:
        for tried in self._tried.values():
            if tried.open and tried.node == node:
                tried.void = True

    def _no_attempt_of_the_lost(self) -> None:
        left = [name for name, tried in self._tried.items() if tried.open and tried.void and not self._boots[tried.node]]
        self.check(not left, f"attempts {left} are under way on nodes that are given up")

    def _on_TaskAssigned(self, event: ev.TaskAssigned) -> None:
        boot = self._boots.get(event.node, "")
        self.check(bool(boot), f"{event.task} is given to {event.node}, which is not there")
        early = [need for need in self._needs[event.task] if not self._done[need]]
        self.check(not early, f"{event.task} is assigned before {early} are done")
        self._tried[event.task, event.n] = Tried(event.nonce, event.node, boot)

    def _on_AttemptEnded(self, event: ev.AttemptEnded) -> None:
        tried = self._tried[event.task, event.n]
        self.check(tried.open, f"attempt {event.n} of {event.task} ends twice")
        tried.open = not event.gone
        if event.outcome == "interrupted":
            return
        name = (event.task, event.n, tried.nonce)
        self.check(name in self._reported, f"attempt {event.n} of {event.task} is {event.outcome}, which nobody reported")
        self.check(not tried.void, f"attempt {event.n} of {event.task} counts although its node was given up")
        if event.outcome == "ok":
            self._done[event.task] += 1
            self.check(event.result == tried.nonce, f"{event.task} has the result of another attempt")
            self.check(self._done[event.task] == 1, f"{event.task} has {self._done[event.task]} results")

    def _on_AttemptGone(self, event: ev.AttemptGone) -> None:
        self._tried[event.task, event.n].open = False
