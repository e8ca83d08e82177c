"""Anything may be said to the core, in any order: a state machine on `decide` and `apply` alone, with no loop and no store.

The chronicle reads its events as it reads the simulator's logs; every state is checked the long way round; a state that was
saved, and one that was replayed, is the state. Failures that Hypothesis shrinks here become stories in `tests/stories`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.apply import apply, replay
from skep.core.decide import decide
from skep.core.model import AgentSpec, Entry, Foreach, Limits, Output, Plan, Resources, Retries, Task
from skep.core.people import QUESTIONS
from skep.core.state import State
from skep.errors import Bug, SkepError
from tests.simulation.chronicle import Chronicle
from tests.simulation.invariants import broken
from tests.simulation.planted import PLANTED

BEGIN = 1_700_000_000_000
PLAN = Plan(
    name="m",
    limits=Limits(agents=3),
    agents=(
        AgentSpec(name="shell", runtime="shell", count=2),
        AgentSpec(name="coder", runtime="claude", max_load=2, capabilities=("code",)),
        AgentSpec(name="heavy", runtime="codex", strict=True, resources=Resources(cpu=3.0)),
    ),
)
#: Rounds in which everything must be over once nobody interferes any more.
ROUNDS = 400

numbers = st.integers(0, 1_000)
conditions = st.sampled_from(["", "", "always()", "failure()", "success()"])
retries = st.sampled_from([0, 1, Retries(max=2, backoff=2.0), Retries(max=1, start="last")])
bounds = st.fixed_dictionaries(
    {},
    optional={
        "condition": conditions,
        "retries": retries,
        "locks": st.sampled_from([("a",), ("b",), ("a", "b")]),
        "mode": st.just("shared"),
        "resources": st.sampled_from([Resources(cpu=1.5), Resources(cpu=4.0, memory=1 << 30)]),
        "priority": st.sampled_from(["low", "high"]),
        "approve": st.sampled_from(["before", "after"]),
        "merge": st.sampled_from(["ask", "never"]),
        "on_conflict": st.just("ask"),
        "recovery": st.just("ask"),
        "deadline": st.integers(BEGIN, BEGIN + 100_000),
        "verify": st.just("check"),
        "prompt": st.just("do it"),
    },
)


class Core(RuleBasedStateMachine):
    """One session, spoken to by everybody at once."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State().rebuild()
        self.objections: list[str] = []
        self.chronicle = Chronicle(self.objections.append, lambda event: None)
        self.chronicle.acquired(1)
        self.now = BEGIN
        self.turns = 0
        self.boots = 0
        self.made = 0
        self.commits = 0

    def tell(self, *given: inp.Input) -> list[Any]:
        """One turn. What is refused changed nothing, and says why."""
        self.turns += 1
        decision = decide(self.state, given, self.now, self.turns.to_bytes(16, "big"))
        if decision.events:
            self.chronicle.appended(1, self.state.seq - len(decision.events) + 1, self.turns.to_bytes(16, "big"), decision.events)
        for answer in decision.answers:
            assert not isinstance(answer, SkepError) or answer.message
        assert not decision.more
        return decision.answers

    @initialize()
    def open(self) -> None:
        self.tell(inp.OpenSession(at=0, session="m-1", plan=PLAN, base="root", kind="git"))
        self.join()

    @rule()
    def join(self) -> None:
        """The owner comes back after a crash."""
        self.boots += 1
        capacity = Resources(cpu=4.0, memory=8 << 30, storage=1 << 40)
        self.tell(inp.JoinNode(at=0, node="here", boot=f"boot-{self.boots}", capacity=capacity, slots=3))

    @rule()
    def lose(self) -> None:
        self.tell(inp.LoseNode(at=0, node="here"))
        self.join()

    @rule(given=st.lists(st.tuples(bounds, st.lists(numbers, max_size=3)), min_size=1, max_size=4))
    def submit(self, given: list[tuple[dict[str, Any], list[int]]]) -> None:
        tasks: list[Task] = []
        for fields, needs in given:
            known = [*self.state.entries, *(task.id for task in tasks)]
            names = tuple(dict.fromkeys(known[number % len(known)] for number in needs)) if known else ()
            self.made += 1
            tasks.append(Task(id=f"a{self.made}", needs=names, run=None if "prompt" in fields else "work", **fields))
        self.tell(inp.Submit(at=0, tasks=tuple(tasks), key=f"k{self.made}"))
        self.tell(inp.Submit(at=0, tasks=tuple(tasks), key=f"k{self.made}"))

    @rule(fields=bounds, count=st.integers(0, 3), most=st.integers(0, 2), fast=st.booleans())
    def repeat(self, fields: dict[str, Any], count: int, most: int, fast: bool) -> None:
        """A list, and a task for each item of it."""
        self.made += 1
        source = f"a{self.made}"
        maker = Task(id=source, run="list", outputs={"list": "list"}, metadata={"items": count})
        foreach = Foreach(source=f"needs.{source}.outputs.list", max_parallel=most, fail_fast=fast)
        run = None if "prompt" in fields else "work"
        each = Task(id=f"{source}-each", needs=(source,), foreach=foreach, run=run, **fields)
        self.tell(inp.Submit(at=0, tasks=(each, maker)))

    def attempted(self, number: int) -> Entry | None:
        """One of the tasks that have an attempt."""
        held = [entry for entry in self.state.entries.values() if entry.attempt is not None]
        return held[number % len(held)] if held else None

    def named(self, entry: Entry) -> dict[str, Any]:
        assert entry.attempt is not None
        return {"at": 0, "task": entry.task.id, "n": entry.attempt.n, "nonce": entry.attempt.nonce}

    @rule(number=numbers)
    def spawned(self, number: int) -> None:
        entry = self.attempted(number)
        if entry is not None:
            self.tell(inp.Spawned(**self.named(entry), pid=7, born=7))

    @rule(number=numbers, works=st.booleans())
    def worked(self, number: int, works: bool) -> None:
        entry = self.attempted(number)
        if entry is not None and entry.attempt is not None and entry.attempt.stage == "working":
            self.tell(inp.Worked(**self.named(entry), commit=self.commit() if works else entry.base))

    def commit(self) -> str:
        self.commits += 1
        return f"commit-{self.commits}"

    @rule(number=numbers, ok=st.booleans(), works=st.booleans(), gone=st.booleans(), twice=st.booleans())
    def ended(self, number: int, ok: bool, works: bool, gone: bool, twice: bool) -> None:
        entry = self.attempted(number)
        if entry is None:
            return
        listed = msgspec.json.encode([f"i{n}" for n in range(entry.task.metadata.get("items", 0))]).decode()
        outputs = {name: Output("0" * 64, len(listed), listed) for name in entry.task.outputs}
        told = inp.Ended(
            **self.named(entry),
            outcome="ok" if ok else "failed",
            cause="" if ok else "exit",
            commit=self.commit() if works else "",
            outputs=outputs,
            gone=gone,
        )
        self.tell(*[told] * (1 + twice))

    @rule(number=numbers, until=st.sampled_from([0, 5_000]), cause=st.sampled_from(["interrupted", "infrastructure"]))
    def interrupted(self, number: int, until: int, cause: Literal["interrupted", "infrastructure"]) -> None:
        entry = self.attempted(number)
        if entry is not None:
            parked = self.now + until if until else 0
            self.tell(inp.Ended(**self.named(entry), outcome="interrupted", cause=cause, until=parked))

    @rule(number=numbers)
    def gone(self, number: int) -> None:
        entry = self.attempted(number)
        if entry is not None and entry.attempt is not None and entry.attempt.stage == "ending":
            self.tell(inp.Gone(**self.named(entry), wip=self.commit()))

    @rule(number=numbers, n=st.integers(0, 4))
    def stale(self, number: int, n: int) -> None:
        """A report of an attempt that is not the current one."""
        names = list(self.state.entries)
        if names:
            before = self.state.digest()
            name = names[number % len(names)]
            (answer,) = self.tell(inp.Ended(at=0, task=name, n=n, nonce="f" * 32, outcome="ok"))
            assert isinstance(answer, SkepError)
            assert self.state.digest() == before

    @precondition(lambda self: self.state.intent is not None)
    @rule(how=st.sampled_from(["", "", "conflict", "verify-failed", "infrastructure"]), landed=st.integers(0, 5))
    def merged(self, how: Any, landed: int) -> None:
        intent = self.state.intent
        assert intent is not None
        most = len(intent.stack) - bool(how)
        commits = tuple(self.commit() for _ in range(min(most, landed if how else max(1, landed))))
        self.tell(inp.MergeEnded(at=0, intent=intent, commits=commits, cause=how, detail="no" if how else ""))

    @rule(some=st.lists(numbers, min_size=1, max_size=2), subtree=st.booleans())
    def cancel(self, some: list[int], subtree: bool) -> None:
        names = list(self.state.entries)
        if names:
            self.tell(inp.Cancel(at=0, tasks=tuple({names[number % len(names)]: None for number in some}), subtree=subtree))

    @rule(number=numbers)
    def retry(self, number: int) -> None:
        names = list(self.state.entries)
        if names:
            self.tell(inp.Retry(at=0, task=names[number % len(names)], comment="again"))

    @rule(number=numbers, said=numbers)
    def answer(self, number: int, said: int) -> None:
        asking = [entry for entry in self.state.entries.values() if entry.state == "needs-you"]
        if asking:
            entry = asking[number % len(asking)]
            fitting: Any = QUESTIONS[entry.question]
            (answer,) = self.tell(inp.Say(at=0, task=entry.task.id, answer=fitting[said % len(fitting)]))
            assert not isinstance(answer, SkepError)

    @rule(stop=st.booleans())
    def pause(self, stop: bool) -> None:
        self.tell(inp.Pause(at=0, stop=stop))

    @rule()
    def resume(self) -> None:
        self.tell(inp.Resume(at=0))

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: int) -> None:
        self.now += seconds * 1_000
        self.tell(inp.Tick(at=0))

    @rule(numbers=st.lists(numbers, max_size=3))
    def change(self, numbers: list[int]) -> None:
        """Another version of the plan; some tasks are replaced by nothing."""
        live = [name for name, entry in self.state.entries.items() if entry.state != "replaced"]
        dropped = {live[number % len(live)] for number in numbers} if live else set()
        keep = tuple(name for name in live if name not in dropped)
        self.tell(inp.ChangePlan(at=0, plan=PLAN, keep=keep))

    @rule()
    def reload(self) -> None:
        """Another process goes on from a snapshot; one that read the whole log would do the same."""
        loaded = State.load(self.state.save())
        replayed = State()
        replay(replayed, self.chronicle.events)
        assert replayed.digest() == loaded.digest() == self.state.digest()
        self.state = loaded.rebuild()
        self.tell()

    @rule()
    def fork(self) -> None:
        """The log goes on as another session's: nothing of what was under way is left."""
        event = ev.SessionForked(self.state.at, f"fork-{self.turns}", self.state.session, self.state.seq)
        apply(self.state, event)
        self.turns += 1
        self.chronicle.appended(1, self.state.seq, self.turns.to_bytes(16, "big"), [event])
        assert not self.state.running
        assert not self.state.locks
        self.join()

    @invariant()
    def holds(self) -> None:
        """No rule is broken, in the state or in its story."""
        assert broken(self.state, settled=True) == []
        assert self.objections == []

    def teardown(self) -> None:
        """Left alone, with everything going well and every question answered, all of it ends."""
        for _ in range(ROUNDS):
            if not self.state.open_tasks and not self.state.due.owed:
                break
            self.round()
        assert not self.state.open_tasks, [(name, entry.state) for name, entry in self.state.entries.items()]
        assert not self.state.due.owed
        self.holds()
        super().teardown()

    def round(self) -> None:
        """Whatever is owed is done, and whatever is asked is answered."""
        self.now += 60_000
        self.tell(inp.Resume(at=0))
        for entry in list(self.state.entries.values()):
            if entry.attempt is not None and entry.attempt.stage == "ending":
                self.tell(inp.Gone(**self.named(entry)))
            elif entry.attempt is not None:
                self.tell(inp.Ended(**self.named(entry), outcome="ok", commit=self.commit()))
            elif entry.state == "needs-you":
                said: Any = next(said for said in QUESTIONS[entry.question] if said != "reject")
                self.tell(inp.Say(at=0, task=entry.task.id, answer=said))
        if self.state.intent is not None:
            intent = self.state.intent
            self.tell(inp.MergeEnded(at=0, intent=intent, commits=tuple(self.commit() for _ in intent.stack)))


TestCore = Core.TestCase
TestCore.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

#: Planted bugs that lie in the core alone, and which the machine must see.
SEEN = (
    "a slot given back twice",
    "two merges at once",
    "double completion",
    "what is owed never taken back",
    "what is owed not derived after a recovery",
    "retries without a limit",
    "parked tasks start early",
    "a fork keeps attempts",
)


@pytest.mark.parametrize("name", SEEN)
def test_the_machine_sees_planted_bugs(name: str) -> None:
    looking = settings(
        max_examples=500,
        stateful_step_count=40,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    with PLANTED[name].bug(), pytest.raises((AssertionError, Bug)):
        run_state_machine_as_test(Core, settings=looking)
