"""A session as it stands, and the few moves its events are made of. `core.apply` is the only caller that changes it."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from skep.core import resources, transitions
from skep.core.clocks import Meter
from skep.core.due import Due
from skep.core.envelope import Mail
from skep.core.fleet import Formed
from skep.core.intent import MergeIntent
from skep.core.model import TERMINAL, Agent, AgentSpec, Cost, Entry, Node, Plan, Task, TaskState
from skep.core.phase import Phase
from skep.core.queue import Queue
from skep.core.senders import Senders

#: Finished tasks that stay in the live state; older ones leave for the archive, so many at a time.
KEEP_FINISHED = 10_000
LEAVE_TOGETHER = 64
#: Idempotency keys of submissions, and ids of the tasks behind them, that are remembered; the oldest eighth is forgotten at once.
KEEP_KEYS = 262_144


def needs_judgement(task: Task) -> bool:
    """Whether more than the success of its needs decides if a task may run."""
    return bool(task.condition or made_of_others(task) or task.approve == "before" or task.gate)


def made_of_others(task: Task) -> bool:
    """Whether other tasks do its work: its items, or its candidates."""
    return task.foreach is not None or bool(task.candidates)


class State(Struct, kw_only=True, dict=True):
    """The live state of one session. Make one with `State()` or `State.load`, then `apply` events.

    The fields are what a snapshot holds. `due` (what is owed) and `queue` (what may be placed) are derived; while `live` is
    False (during a replay) they are not kept, and `rebuild` makes them anew.
    """

    session: str = ""
    origin: str = ""
    seq: int = 0
    at: int = 0
    counter: int = 0
    opened: int = 0
    plan: Plan = Plan(name="")
    base: str = ""
    tip: str = ""
    landed: str = ""
    kind: str = "none"
    branch: str = ""
    paused: bool = False
    why: str = ""
    closed: bool = False
    resumed: int = 0
    worked: int = 0
    idle: int = 0
    entries: dict[str, Entry] = {}
    keys: dict[str, tuple[str, ...]] = {}
    keyed: int = 0
    specs: dict[str, AgentSpec] = {}
    agents: dict[str, Agent] = {}
    nodes: dict[str, Node] = {}
    locks: dict[str, list[str]] = {}
    merge_queue: list[str] = []
    intent: MergeIntent | None = None
    finished: list[str] = []
    counts: dict[str, int] = {}
    marks: dict[str, int] = {}
    running: int = 0
    mail: Mail = field(default_factory=Mail)
    cost: Cost = field(default_factory=Cost)
    costs: dict[str, Cost] = {}
    #: What agents of each kind have cost.
    kinds: dict[str, Cost] = {}
    #: How long agents of each kind have worked.
    clocks: dict[str, Meter] = {}
    held: float = 0.0
    #: Shape of an action -> in words: what a person allowed for the rest of the session.
    standing: dict[str, str] = {}
    proposed: int = 0
    #: By name, in their order; also those of a plan that was changed since.
    phases: dict[str, Phase] = {}
    senders: Senders = field(default_factory=Senders)
    #: By name; only in the session that keeps them.
    fleets: dict[str, Formed] = {}

    def __post_init__(self) -> None:
        self.live = False
        #: Whether finished tasks that leave are handed on: of a live state, and of one that follows another's turns.
        self.hands_on = False
        #: Finished tasks that left the live state and were not taken by the runtime yet.
        self.leaving: list[Entry] = []
        self.due: Due
        self._queue: Queue | None = None

    @property
    def queue(self) -> Queue:
        """The ready tasks in order. Of a state that is not live it is derived each time."""
        return self._queue or Queue(self)

    @queue.setter
    def queue(self, queue: Queue) -> None:
        self._queue = queue

    def rebuild(self) -> State:
        """Derives `due` and `queue` from the bare state; from now on `apply` keeps them."""
        self.live = self.hands_on = True
        self.due = Due(self)
        self.queue = Queue(self)
        return self

    def followed(self) -> State:
        """Only replays what is decided elsewhere: nothing is derived, and finished tasks are handed on as they leave."""
        self.hands_on = True
        return self

    def save(self) -> bytes:
        """The state as a snapshot."""
        return _encoder.encode(self)

    @staticmethod
    def load(blob: bytes) -> State:
        """The state of a snapshot; not live yet. Raises msgspec.DecodeError if it is none."""
        return _decoder.decode(blob)

    def digest(self) -> str:
        """A hash of everything but the derived: equal logs give equal digests."""
        return blake2b(self.save(), digest_size=16).hexdigest()

    @property
    def limit(self) -> int:
        """Attempts that may be under way at once."""
        return self.plan.limits.agents

    @property
    def time_limit_at(self) -> int:
        """When the session's time is used up (ms), or 0 for never. Time while paused does not count."""
        if not self.plan.limits.time or self.paused or self.closed:
            return 0
        return 0 if self.idle else self.resumed + int(self.plan.limits.time * 1000) - self.worked

    def at_work(self, at: int) -> int:
        """Milliseconds that count against the time limit: not those while it was paused, nor while it had nothing to do."""
        return self.worked + (0 if self.paused else (self.idle or at) - self.resumed)

    def busy(self, at: int) -> None:
        """There is something to do again: the time since there was nothing does not count."""
        if self.idle:
            self.resumed += at - self.idle
            self.idle = 0

    def stacked(self, task: str) -> bool:
        """Whether a task's commit is being merged right now: nobody ends it meanwhile."""
        return self.intent is not None and any(candidate.task == task for candidate in self.intent.stack)

    @property
    def open_tasks(self) -> int:
        """Tasks that are not in a terminal state."""
        return self.counter - sum(self.counts.get(state, 0) for state in TERMINAL)

    def move(self, entry: Entry, to: TaskState, at: int) -> None:
        """Changes a task's state by the table, and tells whoever depends on it. Raises Bug on an illegal move."""
        transitions.check(entry, to)
        before, entry.state, entry.since = entry.state, to, at
        if before in TERMINAL:
            self.counts[before] -= 1
        if to in TERMINAL:
            self.counts[to] = self.counts.get(to, 0) + 1
            if before not in TERMINAL:
                self._finished(entry, at)
            if self.plan.limits.time and not self.open_tasks:
                self.idle = at
        elif before in TERMINAL:
            self.busy(at)
            self._reopened(entry, at)
        if not self.live:
            return
        if before == "ready" and to != "running":
            self.queue.withdraw(entry)
        if to == "ready":
            if entry.attempt is None:
                self.queue.push(entry)
            if entry.avoids:
                self.due.watch(entry)
        elif to == "parked":
            self.due.watch(entry)
        elif to == "waiting":
            self.due.pending[entry.task.id] = None

    def _finished(self, entry: Entry, at: int) -> None:
        """A task is terminal: its dependents and its foreach hear of it, and old ones may leave."""
        entry.ended = at
        done = entry.state == "done"
        for name in entry.dependents or ():
            dependent = self.entries.get(name)
            if dependent is None:
                continue
            dependent.unmet -= 1
            if dependent.state != "waiting" or (done and dependent.unmet):
                continue
            if done and not needs_judgement(dependent.task) and not self.failed_needs(dependent):
                self.move(dependent, "ready", at)
            elif self.live:
                self.due.pending[name] = None
        parent = self.entries.get(entry.task.parent) if entry.task.parent else None
        if parent is not None:
            parent.open_children -= 1
            if self.live and (not done or not parent.open_children or parent.task.candidates or parent.task.gate):
                self.due.pending[entry.task.parent] = None
        self.finished.append(entry.task.id)
        if len(self.finished) >= KEEP_FINISHED + LEAVE_TOGETHER:
            self._let_leave()

    def _reopened(self, entry: Entry, at: int) -> None:
        """A finished task goes round again: what needs it and did not start yet waits for it."""
        for name in entry.dependents or ():
            dependent = self.entries.get(name)
            if dependent is not None:
                dependent.unmet += 1
                dependent.outdated = dependent.attempts > 0
                if dependent.state in ("ready", "parked"):
                    self.move(dependent, "waiting", at)
        parent = self.entries.get(entry.task.parent) if entry.task.parent else None
        if parent is not None:
            parent.open_children += 1

    def failed_needs(self, entry: Entry) -> bool:
        """Whether anything the task needs is in another state than done."""
        return any(self.fate(entry, need) != "done" for need in entry.task.needs)

    def fate(self, entry: Entry, need: str) -> TaskState:
        """The state of something that a task needs, also when it left the live state."""
        other = self.entries.get(need)
        return other.state if other is not None else (entry.fates or {}).get(need, "done")

    def _let_leave(self) -> None:
        """The oldest finished tasks leave for the archive; those that may not yet are looked at again in a later round."""
        # Twice as many looks as tasks that finished since: the list shrinks back as soon as its oldest may go.
        oldest = self.finished[: 2 * LEAVE_TOGETHER]
        del self.finished[: 2 * LEAVE_TOGETHER]
        for name in dict.fromkeys(oldest):
            entry = self.entries.get(name)
            if entry is None or entry.state not in TERMINAL:
                continue
            if entry.state == "done" and not (entry.dependents or entry.children or entry.task.parent or entry.attempt):
                self._leave(entry)  # most tasks by far
            elif entry.task.parent not in self.entries and all(map(self._may_leave, leaving := self._with_items(entry))):
                for one in leaving:
                    self._leave(one)
            else:
                self.finished.append(name)

    def _with_items(self, entry: Entry) -> list[Entry]:
        """A task leaves together with its items or candidates: sent round again it needs them, and they need its bounds."""
        return [entry, *(self.entries[name] for name in entry.children if name in self.entries)]

    def _may_leave(self, entry: Entry) -> bool:
        # Dead letters can be sent round again, and the ids of replaced tasks can be had again. A candidate that failed is no
        # dead letter: it leaves when its task does.
        parent = self.entries.get(entry.task.parent) if entry.task.parent else None
        rival = parent is not None and bool(parent.task.candidates)
        if entry.state == "replaced" or (entry.state in ("failed", "gave-up") and not rival) or entry.task.gate:
            return False
        if entry.state not in TERMINAL or entry.attempt is not None:
            return False
        # A dead letter that is sent round again takes with it what was skipped for want of it.
        if entry.state in ("skipped", "cancelled") and any(
            need in self.entries and self.entries[need].state != "done" for need in entry.task.needs
        ):
            return False
        if entry.dependents:
            entry.dependents = [name for name in entry.dependents if name in self.entries]
        return all(self.entries[name].state in ("done", "skipped", "cancelled", "replaced") for name in entry.dependents or ())

    def _leave(self, entry: Entry) -> None:
        del self.entries[entry.task.id]
        for name in entry.dependents or ():
            dependent = self.entries[name]
            if entry.state != "done":
                dependent.fates = {**(dependent.fates or {}), entry.task.id: entry.state}
        if self.hands_on:
            self.leaving.append(entry)

    def add(self, tasks: Iterable[Task], at: int, fates: dict[str, TaskState] | None) -> None:
        """New tasks, which may need each other in any order. Those are ready that nothing but done needs decides."""
        self.busy(at)
        fresh: list[Entry] = []
        for task in tasks:
            self.counter += 1
            entry = Entry(task=task, seq=self.counter, submitted=at)
            former = self.entries.get(task.id)
            if former is not None:
                self._succeed(entry, former)
            self.entries[task.id] = entry
            fresh.append(entry)
            if task.gate:
                self.phases.pop(task.phase, None)
                self.phases[task.phase] = Phase(gate=task.id)
        for entry in fresh:
            task = entry.task
            clean = not task.needs or self._link(entry, fates)
            if clean and entry.unmet == 0 and not needs_judgement(task):
                entry.state = "ready"
                if self.live:
                    self.queue.push(entry)
            elif self.live:
                self.due.pending[task.id] = None
            if self.live and task.deadline:
                self.due.watch(entry)
        self._join(fresh)

    def _join(self, fresh: list[Entry]) -> None:
        """The gate of a phase waits also for what joins the phase later, except for what its tasks are made of."""
        joining: dict[str, list[Entry]] = {}
        for entry in fresh:
            if entry.task.phase and not (entry.task.gate or entry.task.parent) and entry.task.phase in self.phases:
                joining.setdefault(self.phases[entry.task.phase].gate, []).append(entry)
        for name, entries in joining.items():
            gate = self.entries[name]
            known = frozenset(gate.task.needs)
            late = [entry for entry in entries if entry.task.id not in known]
            gate.task = replace(gate.task, needs=(*gate.task.needs, *(entry.task.id for entry in late)))
            gate.unmet += len(late)
            for entry in late:
                entry.dependents = [*(entry.dependents or ()), name]

    def _succeed(self, entry: Entry, former: Entry) -> None:
        """A task takes the id of one that was replaced: attempts and questions count on, so that none is named as another was."""
        entry.attempts, entry.attempt, entry.asked = former.attempts, former.attempt, former.asked
        for need in former.task.needs:
            other = self.entries.get(need)
            if other is not None and other.dependents is not None and former.task.id in other.dependents:
                other.dependents.remove(former.task.id)

    def _link(self, entry: Entry, fates: dict[str, TaskState] | None) -> bool:
        """Ties a new task to what it needs. Returns whether nothing of it has failed already."""
        clean = True
        for need in entry.task.needs:
            other = self.entries.get(need)
            if other is None:
                fate = (fates or {}).get(need, "done")
                if fate != "done":
                    entry.fates = {**(entry.fates or {}), need: fate}
                    clean = False
                continue
            if other.dependents is None:
                other.dependents = []
            other.dependents.append(entry.task.id)
            if other.state not in TERMINAL:
                entry.unmet += 1
            elif other.state != "done":
                clean = False
        return clean

    def release(self, entry: Entry) -> None:
        """No process of the attempt is left: everything it held returns."""
        attempt = entry.attempt
        assert attempt is not None
        entry.attempt = None
        self.running -= 1
        self.held = self.held - attempt.held if self.running else 0.0
        agent = self.agents[attempt.agent]
        agent.load -= 1
        agent.held = agent.held - attempt.held if agent.load else 0.0
        resources.give_back(self.nodes[attempt.node], attempt.reserved)
        for name in attempt.locks:
            holders = self.locks[name]
            holders.remove(entry.task.id)
            if not holders:
                del self.locks[name]
        if not self.live:
            return
        self.queue.give_slot(attempt.slot)
        self.queue.changed(agent)
        self.queue.freed(agent, attempt.node)
        for name in attempt.locks:
            self.queue.unlocked(name)
        if entry.state == "ready":
            self.queue.push(entry)

    def unowe(self, entry: Entry) -> None:
        """The current command of the attempt is not owed any more."""
        attempt = entry.attempt
        assert attempt is not None
        kind = "end" if attempt.stage == "ending" else "verify" if attempt.stage == "verifying" else "start"
        self.due.owed.pop((kind, entry.task.id, attempt.n), None)

    def staff(self) -> None:
        """Makes the agents that the specs and nodes allow. Who was there keeps its record; who may be no more gets no task."""
        for spec in self.specs.values() if self.nodes else ():
            first = next(iter(self.nodes))
            for number in range(1, (spec.count or self.limit) + 1):
                name = f"{spec.name}-{number}"
                if name not in self.agents:
                    self.agents[name] = Agent(id=name, spec=spec.name, node=first, number=number)
        for agent in self.agents.values():
            kind = self.specs.get(agent.spec)
            agent.max_load = kind.max_load if kind is not None and agent.number <= (kind.count or self.limit) else 0
        if self.live:
            self.queue = Queue(self)

    def remember(self, key: str, tasks: tuple[str, ...]) -> None:
        """Keeps what a submission was answered."""
        self.keys[key] = tasks
        self.keyed += 1 + len(tasks)
        if self.keyed > KEEP_KEYS:
            for old in list(self.keys)[:-1]:
                if self.keyed <= KEEP_KEYS * 7 // 8:
                    break
                self.keyed -= 1 + len(self.keys.pop(old))


def pack(entry: Entry) -> bytes:
    """A task as it goes to the archive."""
    return _encoder.encode(entry)


def unpack(blob: bytes) -> Entry:
    """A task from the archive."""
    return _entry_decoder.decode(blob)


_encoder = msgspec.msgpack.Encoder()
_entry_decoder = msgspec.msgpack.Decoder(Entry)
_decoder = msgspec.msgpack.Decoder(State)
