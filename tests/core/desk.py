"""A session without a loop and without a store: what is said is decided at once, and everything the core promises is checked.

After every turn the live state is compared with what its events, written and read again, replay to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from skep.core import budgets, resources
from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.apply import apply, replay
from skep.core.commands import Owed
from skep.core.decide import decide
from skep.core.due import command, full, next_wake
from skep.core.intent import MergeIntent
from skep.core.model import TERMINAL, AgentSpec, Attempt, Cause, Entry, Limits, Node, Plan, Resources, Task
from skep.core.placement import explain
from skep.core.state import State, needs_judgement
from skep.core.terms import Placement
from skep.errors import SkepError
from skep.store import codec

SHELL = AgentSpec(name="shell", runtime="shell", count=0)
PYTHON = AgentSpec(name="python", runtime="python", count=0)
REPORTS = (inp.Spawned, inp.Spoke, inp.Spent, inp.Ask, inp.Use, inp.Worked, inp.Ended, inp.Gone, inp.MergeEnded)
ROOM = Resources(cpu=4.0, memory=8_000, storage=8_000)


def run(name: str = "", *needs: str, **more: Any) -> Task:
    """A shell task that needs others."""
    return Task(id=name, run="true", needs=needs, **more)


class Desk:
    """One session, told things in order, each at its own time (a second apart unless said otherwise).

    Args:
        agents: further kinds of agents beside shell and python.
        at_once: attempts under way at once.
        room: of its one node, `here`; None = no node joins.
        thorough: whether everything is checked after every turn.
    """

    def __init__(
        self,
        *agents: AgentSpec,
        at_once: int = 4,
        room: Resources | None = ROOM,
        slots: int = 1_000,
        time: float = 0.0,
        placement: Placement = Placement(),  # noqa: B008 - frozen
        base: str = "",
        thorough: bool = True,
    ) -> None:
        self.state = State().rebuild()
        self.events: list[ev.Event] = []
        self.archive: dict[str, Entry] = {}
        self.cleanup: list[Callable[[], object]] = []
        self.at = 1_000_000
        self.turns = 0
        self.thorough = thorough
        self.plan = Plan(
            name="desk", limits=Limits(agents=at_once, time=time), agents=(SHELL, PYTHON, *agents), placement=placement
        )
        self.tell(inp.OpenSession(at=0, session="desk-1", plan=self.plan, base=base, kind="git" if base else "none"))
        if room is not None:
            self.join(room=room, slots=slots)

    def close(self) -> None:
        """Undoes what was patched for it."""
        while self.cleanup:
            self.cleanup.pop()()

    # Saying things

    def say(self, *inputs: inp.Input, after: int = 1_000, hands: bool = True) -> list[Any]:
        """One batch; returns its answers, errors included. Turns go on until nothing is left to assign."""
        self.at += after
        answers: list[Any] = []
        more = True
        while more:
            self.turns += 1
            decision = decide(self.state, inputs, self.at, self.turns.to_bytes(16, "big"), hands)
            self.events += decision.events
            self.archive |= {entry.task.id: entry for entry in self.state.leaving}
            self.state.leaving = []
            answers += decision.answers
            more, inputs = decision.more, ()
            assert decision.events or not more, "it would go on for ever"
        if self.thorough:
            self.check(settled=hands)
        return answers

    def tell(self, given: inp.Input, after: int = 1_000) -> Any:
        """One input; returns its answer or raises the error."""
        (answer,) = self.say(given, after=after)
        if isinstance(answer, SkepError):
            raise answer
        return answer

    def refused(self, given: inp.Input) -> SkepError:
        """The error an input is refused with. It must leave everything as it is, and say what to do."""
        self.say(after=0)
        before, count = self.state.digest(), len(self.events)
        (answer,) = self.say(given, after=0)
        assert isinstance(answer, SkepError), f"was not refused: {answer!r}"
        assert len(self.events) == count
        assert self.state.digest() == before
        assert answer.message
        assert answer.fix or isinstance(given, REPORTS)
        return answer

    def join(self, boot: str = "b1", node: str = "here", room: Resources = ROOM, slots: int = 1_000, **labels: str) -> None:
        self.tell(inp.JoinNode(at=0, node=node, boot=boot, capacity=room, slots=slots, labels=labels))

    def submit(self, *tasks: Task, **more: Any) -> tuple[str, ...]:
        ids: tuple[str, ...] = self.tell(inp.Submit(at=0, tasks=tasks, **more))
        return ids

    def tick(self, seconds: float = 1.0) -> None:
        """Time passes."""
        self.tell(inp.Tick(at=0), after=int(seconds * 1_000))

    # What attempts report

    def report(self, kind: type[Any], task: str, **more: Any) -> Any:
        """A report of the task's current attempt, in words of the kind."""
        attempt = self.attempt(task)
        return kind(at=0, task=task, n=attempt.n, nonce=attempt.nonce, **more)

    def ok(self, *tasks: str, **more: Any) -> None:
        for task in tasks:
            self.tell(self.report(inp.Ended, task, outcome="ok", **more))

    def fail(self, task: str, cause: Cause = "exit", **more: Any) -> None:
        self.tell(self.report(inp.Ended, task, outcome="failed", cause=cause, **more))

    def interrupt(self, task: str, **more: Any) -> None:
        self.tell(self.report(inp.Ended, task, outcome="interrupted", **more))

    def gone(self, *tasks: str, wip: str = "") -> None:
        for task in tasks:
            self.tell(self.report(inp.Gone, task, wip=wip))

    def spawn(self, task: str, pid: int = 42) -> None:
        self.tell(self.report(inp.Spawned, task, pid=pid, born=7))

    def intent(self) -> MergeIntent:
        assert self.state.intent is not None, "nothing is being merged"
        return self.state.intent

    def stack(self) -> list[str]:
        """Tasks that are being merged, lowest first."""
        return [candidate.task for candidate in self.intent().stack]

    def merged(self, *commits: str, **more: Any) -> None:
        """The lowest of the stack, as these commits; what more is said is of the one above them."""
        self.tell(inp.MergeEnded(at=0, intent=self.intent(), commits=commits, **more))

    def unmerged(self, cause: Cause = "conflict", **more: Any) -> None:
        """The lowest of the stack is not merged."""
        self.merged(cause=cause, **{"detail": "it does not", **more})

    # What people say

    def cancel(self, *tasks: str, **more: Any) -> Any:
        return self.tell(inp.Cancel(at=0, tasks=tasks, **more))

    def retry(self, task: str, **more: Any) -> None:
        self.tell(inp.Retry(at=0, task=task, **more))

    def answer(self, task: str, answer: Any, **more: Any) -> None:
        self.tell(inp.Say(at=0, task=task, answer=answer, **more))

    # Looking

    def entry(self, task: str) -> Entry:
        return self.state.entries[task]

    def attempt(self, task: str) -> Attempt:
        attempt = self.entry(task).attempt
        assert attempt is not None, f"task {task} has no attempt"
        return attempt

    def states(self) -> dict[str, str]:
        return {name: entry.state for name, entry in self.state.entries.items()}

    def running(self) -> list[str]:
        """Tasks with an attempt that nobody ended, in the order in which they were assigned."""
        found = [e for e in self.state.entries.values() if e.state == "running"]
        order = {event.task: n for n, event in enumerate(self.events) if isinstance(event, ev.TaskAssigned)}
        return sorted((e.task.id for e in found), key=order.__getitem__)

    def last(self, kind: type[Any]) -> Any:
        """The last event of a kind."""
        return next(event for event in reversed(self.events) if isinstance(event, kind))

    def owed(self) -> list[Owed]:
        found = [command(self.state, key) for key in self.state.due.owed]
        assert None not in found
        return [one for one in found if one is not None]

    def wake(self) -> int:
        return next_wake(self.state)

    # Checking

    def replayed(self) -> State:
        """What the log of this session would give back."""
        blobs = [codec.encode(self.events[start : start + 50]) for start in range(0, len(self.events), 50)]
        state = State()
        replay(state, [event for blob in blobs for event in codec.decode(blob)])
        return state

    def check(self, settled: bool = True) -> None:
        """Raises AssertionError if anything the core promises of every state does not hold of this one."""
        state = self.state
        again = self.replayed()
        if again.digest() != state.digest():
            assert msgspec.to_builtins(again) == msgspec.to_builtins(state)
            assert again.save() == state.save(), "equal values, written differently"
        half = State.load(State.load(state.save()).save())
        assert half.digest() == state.digest(), "a snapshot of a snapshot is another one"
        check_books(state)
        check_graph(state)
        check_derived(state, again.rebuild(), self.at)
        if settled:
            check_settled(state)

    def reload(self) -> None:
        """The owner dies and another one reads the log."""
        self.state = self.replayed().rebuild()
        self.check(settled=False)

    def from_snapshot(self) -> None:
        """Another owner reads a snapshot."""
        self.state = State.load(self.state.save()).rebuild()


def follow(events: Iterable[ev.Event], state: State | None = None) -> State:
    """A live state that is only ever given events, the way a follower keeps one."""
    state = state if state is not None else State().rebuild()
    for event in events:
        apply(state, event)
    return state


def check_books(state: State) -> None:
    """Cpu, memory, slots, loads, locks and counts are those of the attempts and tasks that there are."""
    attempts = [(entry.task.id, entry.attempt) for entry in state.entries.values() if entry.attempt is not None]
    assert state.running == len(attempts) <= max(state.limit, state.running)
    slots = [attempt.slot for _, attempt in attempts]
    assert len(slots) == len(set(slots)), f"a slot is used twice: {slots}"
    for agent in state.agents.values():
        load = sum(attempt.agent == agent.id for _, attempt in attempts)
        assert agent.load == load, f"{agent.id} carries {load}, its books say {agent.load}"
    ticking = Counter(state.agents[attempt.agent].spec for _, attempt in attempts if attempt.since)
    assert ticking == {kind: meter.running for kind, meter in state.clocks.items() if meter.running}, "a clock runs for nobody"
    for node in state.nodes.values():
        check_node(node, [attempt.reserved for _, attempt in attempts if attempt.node == node.id])
    locks: dict[str, list[str]] = {}
    for name, attempt in attempts:
        for lock in attempt.locks:
            locks.setdefault(lock, []).append(name)
    assert {name: sorted(held) for name, held in state.locks.items()} == {name: sorted(held) for name, held in locks.items()}
    for name in locks:
        most = [n for entry in state.entries.values() for lock, n in resources.locks_of(state, entry).items() if lock == name]
        # Without any, an attempt of a task that was replaced holds it until its processes are gone.
        assert len(locks[name]) <= max(most, default=1), f"{locks[name]} hold {name} at once"
    live: dict[str, int] = {}
    for entry in state.entries.values():
        if entry.state in TERMINAL:
            live[entry.state] = live.get(entry.state, 0) + 1
    assert all(state.counts.get(kind, 0) >= count for kind, count in live.items()), (state.counts, live)
    assert state.open_tasks == sum(entry.state not in TERMINAL for entry in state.entries.values())


def check_node(node: Node, reserved: list[Resources | None]) -> None:
    """A node's books."""
    booked = [need for need in reserved if need is not None]
    assert node.used_slots == len(reserved)
    assert abs(node.used_cpu - sum(need.cpu for need in booked)) < 1e-6
    assert node.used_memory == sum(need.memory for need in booked)
    assert node.used_storage == sum(need.storage for need in booked)
    has = node.capacity
    assert node.used_cpu <= has.cpu + 1e-6
    assert (node.used_memory <= has.memory, node.used_storage <= has.storage, node.used_slots <= node.slots) == (True,) * 3


def check_graph(state: State) -> None:
    """Every count of needs and items is what there is; the merge queue holds what is being merged."""
    for entry in state.entries.values():
        name = entry.task.id
        if entry.state != "replaced":
            unmet = [need for need in entry.task.needs if need in state.entries and state.entries[need].state not in TERMINAL]
            assert entry.unmet == len(unmet), f"{name} waits for {unmet}, it counts {entry.unmet}"
            for need in entry.task.needs:
                if need in state.entries:
                    assert (state.entries[need].dependents or []).count(name) == 1
        assert entry.state != "ready" or not entry.unmet, f"{name} is ready and waits for something"
        if entry.children:
            going = [child for child in entry.children if child in state.entries and state.entries[child].state not in TERMINAL]
            assert entry.open_children == len(going), f"{name} has {going} open, it counts {entry.open_children}"
        assert (entry.state == "needs-you") == bool(entry.question), f"{name} is {entry.state} and asks {entry.question!r}"
        if entry.state in ("running", "needs-you", "merging", "parked", "expanded"):
            assert entry.state != "running" or entry.attempt is not None
        elif entry.attempt is not None:
            assert entry.attempt.stage == "ending", f"{name} is {entry.state} with an attempt that is {entry.attempt.stage}"
    merging = {name for name, entry in state.entries.items() if entry.state == "merging"}
    assert sorted(state.merge_queue) == sorted(merging)
    stack = [candidate.task for candidate in state.intent.stack] if state.intent is not None else []
    assert state.merge_queue[: len(stack)] == stack


def check_derived(state: State, again: State, now: int) -> None:
    """What is owed and what is queued is what it would be after a restart."""
    assert set(state.due.owed) == set(full(state)) == set(again.due.owed)
    assert (
        ready_in(again)
        == ready_in(state)
        == sorted(name for name, entry in state.entries.items() if entry.state == "ready" and entry.attempt is None)
    )
    assert state.queue.slot == again.queue.slot
    times = {(at, name) for at, _, name in again.due.timers if at > now}
    assert times <= {(at, name) for at, _, name in state.due.timers}, "a time is watched after a restart only"


def ready_in(state: State) -> list[str]:
    """The tasks that a queue holds, each once."""
    found = set()
    for bucket in state.queue.buckets.values():
        names = [item[2] for item in bucket.tasks if item[3] is None]
        names += [item[2] for lane in bucket.lanes.values() for item in lane.tasks]
        for name in names:
            entry = state.entries.get(name)
            if entry is not None and entry.state == "ready" and entry.attempt is None:
                found.add(name)
    return sorted(found)


def check_settled(state: State) -> None:
    """Nothing stays undecided, and nothing unassigned that fits."""
    assert not state.due.pending
    for entry in state.entries.values():
        if entry.state == "waiting":
            clean = entry.unmet == 0 and (not state.failed_needs(entry) or needs_judgement(entry.task))
            assert not clean, f"{entry.task.id} waits for nothing"
    if state.intent is None and not state.paused:
        assert not state.merge_queue
    if state.paused or state.closed or state.running >= state.limit:
        return
    order = sorted(
        (entry for entry in state.entries.values() if entry.state == "ready" and entry.attempt is None), key=lambda e: e.seq
    )
    for entry in order:
        wants = resources.locks_of(state, entry)
        held = [lock for lock, most in wants.items() if len(state.locks.get(lock, ())) >= most]
        others = [e for e in order if e is not entry and len(resources.locks_of(state, e)) > 1]
        claimed = any(set(wants) & set(resources.locks_of(state, other)) for other in others)
        if not held and not claimed:
            found = explain(state, entry.task)
            spec = state.specs[state.agents[found.target].spec] if found is not None else None
            if spec is not None and state.held and budgets.reserve(state, entry, spec) is None:
                return  # the money is with those at work
            assert found is None, f"{entry.task.id} is not assigned, and {found.target} could have it"
