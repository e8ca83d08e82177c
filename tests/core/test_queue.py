"""Who is next: priority, then age, among those that fit; locks without starvation; and nothing is looked at for nothing."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skep.core import inputs as inp
from skep.core import placement, resources
from skep.core import queue as queue_module
from skep.core.model import PRIORITY_RANK, AgentSpec, Credit, Entry, Foreach, Priority, Resources, Task
from skep.core.queue import Bucket, Queue
from skep.core.state import State
from tests.core.desk import Desk, run

ONE = AgentSpec(name="one", runtime="x")
TWO = AgentSpec(name="two", runtime="x", count=2)


def spied(desk: Desk) -> list[str]:
    """Every look at a task from now on, by its id."""
    looks: list[str] = []
    choose = Queue._choose

    def look(self: Queue, bucket: Bucket, entry: Entry) -> Any:
        looks.append(entry.task.id)
        return choose(self, bucket, entry)

    patcher = patch.object(Queue, "_choose", look)
    patcher.start()
    desk.cleanup.append(patcher.stop)
    return looks


# Order


def test_the_higher_priority_goes_first_and_then_the_older() -> None:
    desk = Desk(at_once=1)
    desk.submit(run("first"))
    desk.submit(*(run(f"{p}{n}", priority=p) for n in (1, 2) for p in ("low", "critical", "normal", "high")))
    order = []
    while desk.running():
        order += desk.running()
        desk.ok(order[-1])
    assert order == ["first", "critical1", "critical2", "high1", "high2", "normal1", "normal2", "low1", "low2"]


def test_order_holds_across_classes() -> None:
    desk = Desk(ONE, at_once=1)
    desk.submit(run("a"))
    desk.submit(Task(id="b", prompt="x"), run("c"), Task(id="d", call="m:f"), run("e", priority="high"))
    order = []
    while desk.running():
        order += desk.running()
        desk.ok(order[-1])
    assert order == ["a", "e", "b", "c", "d"]


def test_a_retried_task_keeps_its_age() -> None:
    desk = Desk(at_once=1)
    desk.submit(run("a", retries=1), run("b"))
    desk.fail("a")
    assert desk.running() == ["a"]


def test_what_does_not_fit_does_not_hold_up_what_does() -> None:
    desk = Desk()
    desk.submit(run("a", resources=Resources(cpu=3.0)))
    desk.submit(
        run("wide", resources=Resources(cpu=2.0), priority="critical"), run("thin", resources=Resources(cpu=1.0)), run("b")
    )
    assert desk.running() == ["a", "thin", "b"]
    desk.ok("a")
    assert desk.running() == ["thin", "b", "wide"]


def test_a_new_task_of_higher_priority_overtakes_those_that_wait() -> None:
    desk = Desk(at_once=1)
    desk.submit(run("a"), run("b"))
    desk.submit(run("c", priority="high"))
    desk.ok("a")
    assert desk.running() == ["c"]


def test_tasks_that_were_cancelled_while_they_waited_are_passed_over() -> None:
    desk = Desk(at_once=1)
    desk.submit(*(run(name) for name in "abcd"))
    desk.cancel("b", "c")
    desk.ok("a")
    assert desk.running() == ["d"]


def test_a_task_that_goes_to_another_agent_is_not_found_where_it_stood_before() -> None:
    desk = Desk(ONE, TWO, at_once=9)
    desk.submit(*(Task(id=name, prompt="x", agent="one") for name in "ab"))
    desk.cancel("b")
    desk.retry("b", agent="two")
    assert desk.entry("b").agent == "two-1"
    desk.ok("a")
    assert desk.entry("b").attempts == 1


# Looks


def test_a_blocked_class_is_looked_at_again_only_when_an_agent_of_its_own_comes_back() -> None:
    desk = Desk(ONE, TWO, at_once=9)
    looks = spied(desk)
    desk.submit(*(Task(id=f"one{n}", prompt="x", agent="one") for n in range(9)))
    desk.submit(run("sh"), Task(id="p", prompt="x", agent="two"))
    assert looks == ["one0", "one1", "sh", "p"]
    desk.submit(Task(id="one9", prompt="x", agent="one", priority="critical"))
    desk.ok("sh", "p")
    desk.tick()
    assert looks == ["one0", "one1", "sh", "p"], "nothing that it waits for changed"
    desk.ok("one0")
    assert looks[4:] == ["one9", "one1"]
    desk.close()


def test_a_class_that_waits_for_room_is_looked_at_when_room_comes_back() -> None:
    desk = Desk(TWO, at_once=9)
    looks = spied(desk)
    desk.submit(run("wide", resources=Resources(cpu=4.0)), run("also", resources=Resources(cpu=4.0)))
    assert looks == ["wide", "also"]
    desk.submit(Task(id="p", prompt="x"))
    desk.tick()
    assert looks == ["wide", "also", "p"]
    desk.ok("wide")
    assert looks == ["wide", "also", "p", "also"]
    desk.close()


def test_at_the_limit_nobody_is_looked_at() -> None:
    desk = Desk(at_once=1)
    looks = spied(desk)
    desk.submit(*(run(f"n{n}") for n in range(50)))
    assert looks == ["n0"]
    desk.ok("n0")
    assert looks == ["n0", "n1"]
    desk.close()


def test_many_blocked_classes_cost_nothing_when_somebody_elses_agent_comes_back() -> None:
    desk = Desk(ONE, TWO, at_once=99, thorough=False)
    desk.submit(*(Task(id=f"n{n}", prompt="x", agent="one", type=f"k{n}") for n in range(200)))
    desk.submit(Task(id="p", prompt="x", agent="two"))
    looks = spied(desk)
    desk.ok("p")
    assert looks == []
    desk.ok("n0")
    assert len(looks) == 199
    desk.close()


def test_an_assignment_costs_the_same_however_many_agents_there_are() -> None:
    desk = Desk(AgentSpec(name="many", runtime="x", count=300), at_once=300, thorough=False)
    desk.submit(*(Task(id=f"n{n}", prompt="x", type=f"k{n % 3}") for n in range(400)))
    scored = 0
    factors = placement.factors

    def count(*given: Any) -> dict[str, float]:
        nonlocal scored
        scored += 1
        return factors(*given)

    with patch.object(placement, "factors", count):
        for n in range(100):
            desk.ok(f"n{n}")
    assert len(desk.running()) == 300
    # Each of the three classes looks at the agents that changed since it was last asked: one that ended, one that was assigned.
    assert scored <= 3 * 2 * 100


# Locks


def test_a_lock_has_one_holder_and_goes_on_in_order() -> None:
    desk = Desk()
    desk.submit(run("a", locks=("db",)), run("d"))
    desk.submit(run("b", locks=("db",)), run("c", locks=("db",), priority="high"))
    assert desk.running() == ["a", "d"]
    desk.ok("a")
    assert desk.running() == ["d", "c"]
    desk.ok("c")
    assert desk.running() == ["d", "b"]


def test_a_lock_is_held_until_the_processes_are_gone() -> None:
    desk = Desk()
    desk.submit(run("a", locks=("db",)), run("b", locks=("db",)))
    desk.cancel("a")
    assert desk.running() == []
    desk.gone("a")
    assert desk.running() == ["b"]


def test_a_merge_does_not_hold_the_lock() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a", locks=("db",)), run("b", locks=("db",)))
    desk.ok("a", commit="c1")
    assert desk.running() == ["b"]


def test_shared_tasks_take_turns_in_the_sessions_worktree() -> None:
    desk = Desk()
    desk.submit(run("a", mode="shared"), run("b", mode="shared", locks=("db",)), run("c", locks=("db",)))
    assert desk.running() == ["a"], "c is younger than b and wants what b waits for"
    desk.ok("a")
    assert desk.running() == ["b"]
    desk.ok("b")
    assert desk.running() == ["c"]


def test_several_locks_are_taken_all_at_once_or_not_at_all() -> None:
    desk = Desk()
    desk.submit(run("a", locks=("x",)), run("ab", locks=("x", "y")), run("c", locks=("z",)))
    assert desk.running() == ["a", "c"]
    assert desk.state.locks == {"x": ["a"], "z": ["c"]}
    desk.ok("a")
    assert desk.state.locks == {"z": ["c"], "x": ["ab"], "y": ["ab"]}


def test_who_waits_for_several_locks_is_not_overtaken_for_ever() -> None:
    desk = Desk(at_once=9)
    desk.submit(run("x0", locks=("x",)), run("y0", locks=("y",)))
    desk.submit(run("both", locks=("x", "y")))
    desk.submit(*(run(f"{lock}{n}", locks=(lock,)) for n in range(1, 5) for lock in "xy"))
    assert desk.running() == ["x0", "y0"]
    desk.ok("x0")
    assert desk.running() == ["y0"], "x is kept for the older one"
    desk.ok("y0")
    assert desk.running() == ["both"]
    desk.ok("both")
    assert desk.running() == ["x1", "y1"]


def test_a_higher_priority_does_overtake_who_waits_for_several_locks() -> None:
    desk = Desk(at_once=9)
    desk.submit(run("y0", locks=("y",)), run("both", locks=("x", "y")), run("x1", locks=("x",)))
    assert desk.running() == ["y0"]
    desk.submit(run("x2", locks=("x",), priority="high"))
    assert desk.running() == ["y0", "x2"]


def test_when_who_waits_for_several_locks_is_cancelled_the_others_go_on() -> None:
    desk = Desk(at_once=9)
    desk.submit(run("y0", locks=("y",)), run("both", locks=("x", "y")), run("x1", locks=("x",)))
    assert desk.running() == ["y0"]
    desk.cancel("both")
    assert desk.running() == ["y0", "x1"]


def test_locks_that_cross_do_not_lock_up() -> None:
    desk = Desk(at_once=9)
    pairs = ("xy", "yz", "zx", "xz", "zy", "yx")
    desk.submit(*(run(f"{pair}{n}", locks=tuple(pair)) for n in range(4) for pair in pairs))
    order = []
    while running := desk.running():
        order.append(running[0])
        desk.ok(running[0])
    assert len(order) == 24
    assert set(desk.states().values()) == {"done"}


def test_a_thousand_tasks_of_one_lock_are_not_shuffled_at_each_release() -> None:
    desk = Desk(thorough=False)
    desk.submit(*(run(f"n{n}", locks=("db",)) for n in range(1_000)))
    looks = 0
    wanting = Queue._wanting

    def count(self: Queue, lane: Any) -> str:
        nonlocal looks
        looks += 1
        return wanting(self, lane)

    with patch.object(Queue, "_wanting", count):
        for n in range(200):
            desk.ok(f"n{n}")
    assert looks <= 2 * 200
    assert desk.running() == ["n200"]


def test_items_of_a_foreach_run_so_many_at_a_time() -> None:
    desk = Desk(at_once=9)
    foreach = Foreach(source="needs.list.result", max_parallel=2)
    desk.submit(run("list"), run("each", "list", foreach=foreach), run("other", "list"))
    desk.ok("list", result=["a", "b", "c", "d"])
    assert desk.running() == ["other", "each[a]", "each[b]"]
    desk.ok("each[b]")
    assert desk.running() == ["other", "each[a]", "each[c]"]
    desk.ok("each[a]")
    desk.reload()
    desk.ok("each[c]", "each[d]")
    assert desk.entry("each").state == "done"


# Incremental and rebuilt


def drain(state: State) -> dict[str, tuple[str, float]]:
    """Everything the queue would place now, in order, if agents and locks stayed as they are."""
    found: dict[str, tuple[str, float]] = {}
    while (placed := state.queue.place()) is not None:
        found.setdefault(placed.entry.task.id, (placed.agent.id, placed.score))
    return found


_step = st.tuples(
    st.sampled_from(["submit", "submit", "ok", "fail", "cancel", "retry", "pause", "resume", "grant"]), st.integers(0, 9)
)
_PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high", "critical")


def varied(name: str, n: int) -> Task:
    """A task of one of many kinds."""
    locks = ((), (), ("x",), ("y",), ("x", "y"), ("y", "x", "z"))[n % 6]
    asked = (None, None, None, Resources(cpu=1.5), Resources(cpu=3.0))[n % 5]
    if n % 4 == 1:
        return Task(id=name, prompt="x", agent=("one", "two", "")[n % 3], locks=locks, priority=_PRIORITIES[n % 4])
    return Task(
        id=name, run="true", resources=asked, locks=locks, priority=_PRIORITIES[n % 3], mode="shared" if n % 7 == 0 else ""
    )


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(st.lists(_step, min_size=5, max_size=50))
def test_the_queue_kept_is_the_queue_rebuilt(steps: list[tuple[str, int]]) -> None:
    """Fed with the same events, one kept and one rebuilt from nothing place the same tasks on the same agents."""
    desk = Desk(ONE, TWO, at_once=5)
    for count, (what, n) in enumerate(steps):
        names = list(desk.state.entries)
        running = desk.running()
        if what == "submit":
            desk.submit(*(varied(f"n{count}.{i}", n + 3 * i) for i in range(3)))
        elif what == "pause":
            desk.tell(inp.Pause(at=0, stop=not desk.state.open_tasks))
        elif what == "resume":
            desk.tell(inp.Resume(at=0))
        elif what == "grant":
            desk.tell(inp.GrantCredit(at=0, node="here", credit=Credit(n / 2, 8_000, 8_000, n) if n else None))
        elif what in ("ok", "fail") and running:
            desk.ok(running[n % len(running)]) if what == "ok" else desk.fail(running[n % len(running)])
        elif what in ("cancel", "retry") and names:
            name = names[n % len(names)]
            desk.say(inp.Cancel(at=0, tasks=(name,)) if what == "cancel" else inp.Retry(at=0, task=name))
    again = desk.replayed().rebuild()
    assert again.queue.slot == desk.state.queue.slot
    assert list(drain(again).items()) == list(drain(desk.state).items())


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=40))
def test_what_is_assigned_goes_before_everything_that_fits(steps: list[tuple[int, int]]) -> None:
    """At each assignment no task that goes before could have had an agent, room and its locks."""
    desk = Desk(ONE, TWO, at_once=3, thorough=False)
    desk.submit(*(varied(f"s{i}", n) for i, (n, _) in enumerate(steps)))
    for _, n in steps:
        running = desk.running()
        if not running:
            break
        before = {name: entry for name, entry in desk.state.entries.items() if entry.state == "ready"}
        desk.ok(running[n % len(running)])
        taken = [name for name in before if desk.entry(name).state == "running"]
        for name in taken:
            for other in before.values():
                if other.state == "ready" and goes_before(other, desk.entry(name)):
                    assert not could_have_gone(desk.state, other, desk.entry(name)), f"{name} overtook {other.task.id}"
    desk.check()


def goes_before(one: Entry, other: Entry) -> bool:
    mine, its = (-PRIORITY_RANK[entry.task.priority] for entry in (one, other))
    return (mine, one.seq) < (its, other.seq)


def could_have_gone(state: State, one: Entry, instead: Entry) -> bool:
    """Whether the task could have had the very place that another one got."""
    attempt = instead.attempt
    assert attempt is not None
    agent, node = state.agents[attempt.agent], state.nodes[attempt.node]
    if one.task.agent not in ("", agent.spec) or (one.task.prompt is None) != (instead.task.prompt is None):
        return False
    resources.give_back(node, attempt.reserved)
    fits = resources.fits(node, resources.reservation(one.task.resources, state.specs[agent.spec], node))
    resources.take(node, attempt.reserved)
    wanted = set(resources.locks_of(state, one))
    held = {name for name, holders in state.locks.items() if set(holders) != {instead.task.id}}
    older = {
        lock
        for entry in state.entries.values()
        if entry.state == "ready" and goes_before(entry, one) and len(resources.locks_of(state, entry)) > 1
        for lock in resources.locks_of(state, entry)
    }
    return fits and not wanted & (held | older)


# Bounds


def test_what_is_kept_to_find_the_next_task_does_not_grow_with_what_has_been() -> None:
    desk = Desk(ONE, at_once=1, thorough=False)
    desk.submit(run("n0"), run("low", priority="low"))
    for n in range(3_000):
        desk.submit(run(f"n{n + 1}", priority="high"))
        desk.ok(f"n{n}")
    queue = desk.state.queue
    assert len(queue.heads) < 1_100
    assert len(queue.journal) < 2_000
    assert sum(len(rank.agents) for bucket in queue.buckets.values() for rank in bucket.ranks) < 2_000


def test_classes_that_are_over_are_forgotten() -> None:
    desk = Desk(thorough=False)
    with patch.object(queue_module, "MAX_IDLE_BUCKETS", 8):
        desk.state.rebuild()
        for n in range(100):
            desk.submit(run(f"n{n}", type=f"kind{n}", locks=(f"lock{n}",)))
            desk.ok(f"n{n}")
    assert len(desk.state.queue.buckets) <= 9
    assert not any(bucket.lanes for bucket in desk.state.queue.buckets.values())
    desk.check()


def test_a_class_that_was_forgotten_while_blocked_comes_back() -> None:
    desk = Desk(ONE, at_once=99, thorough=False)
    with patch.object(queue_module, "MAX_IDLE_BUCKETS", 2):
        desk.state.rebuild()
        desk.submit(Task(id="a", prompt="x"), Task(id="b", prompt="x"))
        desk.cancel("b")
        desk.submit(*(run(f"n{n}", type=f"k{n}") for n in range(10)))
        desk.submit(Task(id="c", prompt="x"))
        desk.ok("a")
        assert desk.entry("c").state == "running"
    desk.check()
