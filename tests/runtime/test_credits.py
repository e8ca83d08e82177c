"""Sessions share one machine: never more than it has, fairly, and each gets on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skep.core.inputs import Input
from skep.core.model import Resources
from skep.core.placement import lacks
from skep.core.state import State
from skep.errors import SkepError, Unavailable
from skep.runtime import node
from skep.runtime.credits import Credits
from skep.runtime.loop import Loop
from tests.core.desk import Desk, run

HAS = Resources(cpu=8.0, memory=800, storage=800)
SLOTS = 20


class Bench:
    """One session of a machine: its real state, and what it was sent and has not taken in yet."""

    def __init__(self, name: str, credits: Credits, at_once: int = 99) -> None:
        self.desk = Desk(room=None, at_once=at_once, thorough=False)
        self.name = name
        self.failure: SkepError | None = None
        self.inbox: list[Input] = []
        self.turned: Callable[[], None] = lambda: None
        self.desk.tell(credits.join(cast(Loop, self)))
        self.turned()

    @property
    def state(self) -> State:
        return self.desk.state

    def report(self, given: Input) -> None:
        self.inbox.append(given)

    def take_in(self) -> None:
        """A turn with all that it was sent."""
        sent, self.inbox = self.inbox, []
        self.desk.say(*sent)
        self.turned()

    def submit(self, *needs: Resources | None) -> None:
        self.desk.submit(*(run(resources=need) for need in needs))
        self.turned()

    def end(self, index: int = 0) -> None:
        """One of its running tasks, the oldest by default, ends."""
        running = self.desk.running()
        self.desk.ok(running[index % len(running)])
        self.turned()

    def running(self) -> int:
        return len(self.desk.running())


@pytest.fixture(autouse=True)
def machine() -> Iterator[None]:
    with patch.object(node, "capacity", lambda _: HAS):
        yield


def credits() -> Credits:
    return Credits(Path("/"), node.SystemClock(), node.Here(slots=SLOTS), "", lambda _, work: work())


def settle(*benches: Bench) -> None:
    """Everybody takes in what they were sent, until nobody is sent anything."""
    while any(bench.inbox for bench in benches):
        for bench in benches:
            bench.take_in()


def cpu(count: float) -> Resources:
    return Resources(cpu=count)


def held(bench: Bench) -> list[float]:
    here = bench.state.nodes[node.NAME]
    used = (here.used_cpu, here.used_memory, here.used_storage, here.used_slots)
    if here.credit is None:
        return [HAS.cpu, HAS.memory, HAS.storage, SLOTS]
    may = (here.credit.cpu, here.credit.memory, here.credit.storage, here.credit.slots)
    return [max(pair) for pair in zip(used, may, strict=True)]


def check(*benches: Bench) -> None:
    """No more is granted or in use than there is."""
    total = [sum(column) for column in zip(*map(held, benches), strict=True)]
    has = (HAS.cpu + 1e-6, HAS.memory, HAS.storage, SLOTS)
    assert all(a <= b for a, b in zip(total, has, strict=True)), total


def test_a_session_alone_has_everything_and_its_log_says_nothing_of_credit() -> None:
    one = Bench("one", credits())
    one.submit(*[cpu(1.0)] * 12)
    assert (one.running(), one.inbox) == (8, [])
    assert [type(event).__name__ for event in one.desk.events[:3]] == ["SessionOpened", "NodeJoined", "TasksSubmitted"]


def test_shares_become_equal_as_what_is_in_use_comes_back() -> None:
    shared = credits()
    one, two = Bench("one", shared), Bench("two", shared)
    one.submit(*[cpu(1.0)] * 40)
    two.submit(*[cpu(1.0)] * 40)
    settle(one, two)
    assert (one.running(), two.running()) == (8, 0), "what is in use is not taken back"
    for ended in range(1, 5):
        one.end()
        settle(one, two)
        check(one, two)
        assert (one.running(), two.running()) == (8 - ended, ended)
    one.end()
    two.end()
    settle(one, two)
    assert (one.running(), two.running()) == (4, 4)


def test_who_has_nothing_to_run_gives_back_what_it_does_not_use() -> None:
    shared = credits()
    one, two = Bench("one", shared), Bench("two", shared)
    one.submit(cpu(1.0))
    two.submit(*[cpu(1.0)] * 9)
    settle(one, two)
    assert (one.running(), two.running()) == (1, 7)
    one.end()
    settle(one, two)
    check(one, two)
    assert two.running() == 8


def test_the_credit_is_never_too_small_for_one_task() -> None:
    """Equal shares would be four cpus each, with which the six would wait for ever."""
    shared = credits()
    one, two = Bench("one", shared), Bench("two", shared)
    two.submit(*[cpu(1.0)] * 60)
    settle(one, two)
    one.submit(cpu(6.0))
    settle(one, two)
    (large,) = one.state.entries.values()
    for _ in range(6):
        assert lacks(one.state, large) == "other sessions use the room that it needs"
        two.end()
        settle(one, two)
        check(one, two)
    assert (one.running(), two.running()) == (1, 2)


def test_two_that_do_not_fit_side_by_side_take_turns() -> None:
    shared = credits()
    one, two = Bench("one", shared), Bench("two", shared)
    one.submit(*[cpu(5.0)] * 5)
    two.submit(*[cpu(5.0)] * 4)
    settle(one, two)
    one.end()  # it was alone when this one began
    settle(one, two)
    order = []
    for _ in range(8):
        assert one.running() + two.running() == 1
        busy = one if one.running() else two
        order.append(busy.name)
        busy.end()
        settle(one, two)
    assert order == ["one", "two"] * 4


def test_what_no_share_has_room_for_is_lent() -> None:
    """Three slots of work for two: an equal share of one and a half would leave one idle."""
    shared = credits()
    one, two = Bench("one", shared), Bench("two", shared)
    one.submit(*[cpu(2.5)] * 20)
    two.submit(*[cpu(2.5)] * 20)
    settle(one, two)
    for _ in range(12):
        assert one.running() + two.running() == 3
        (one if one.running() > 1 else two).end()
        settle(one, two)
        check(one, two)


def test_a_session_that_leaves_or_fails_gives_everything_back() -> None:
    shared = credits()
    one, two, three = (Bench(name, shared) for name in ("one", "two", "three"))
    two.submit(*[cpu(1.0)] * 9)
    settle(one, two, three)
    three.submit(*[cpu(1.0)] * 9)
    settle(one, two, three)
    two.failure = Unavailable("the log is gone")
    two.turned()
    settle(one, three)
    assert three.running() == 0, "what it uses may still be running"
    shared.leave("two")
    settle(one, three)
    assert three.running() == 8
    shared.leave("one")
    settle(three)
    assert three.state.nodes[node.NAME].credit is None


def test_nothing_is_granted_when_all_is_closed() -> None:
    shared = credits()
    one, two = Bench("one", shared), Bench("two", shared)
    two.submit(*[cpu(1.0)] * 9)
    settle(one, two)
    one.submit(cpu(8.0))
    shared.close()
    settle(one, two)
    two.end()
    shared.leave("two")
    assert (one.inbox, one.running()) == ([], 0)


_need = st.one_of(
    st.none(),
    st.builds(
        Resources,
        cpu=st.sampled_from([0.0, 0.1, 1 / 3, 1.0, 2.5, 5.0, 8.0]),
        memory=st.sampled_from([0, 1, 300, 799, 800]),
        storage=st.sampled_from([0, 0, 7, 801 // 2]),
    ),
)
_step = st.tuples(st.sampled_from(["submit", "end", "take in"]), st.integers(0, 9), st.lists(_need, min_size=1, max_size=4))


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.integers(1, 4), st.lists(_step, max_size=60))
def test_never_more_than_there_is_and_everything_gets_its_turn(
    count: int, steps: list[tuple[str, int, list[Resources | None]]]
) -> None:
    """Sessions learn of credits whenever they get round to it; what each runs ends in any order."""
    shared = credits()
    benches = [Bench(f"s{n}", shared) for n in range(count)]
    for what, n, needs in steps:
        bench = benches[n % count]
        if what == "submit":
            bench.submit(*needs)
        elif what == "end" and bench.running():
            bench.end(n)
        elif what == "take in":
            bench.take_in()
        check(*benches)
    settle(*benches)
    check(*benches)
    while any(bench.running() for bench in benches):
        for bench in benches:
            if bench.running():
                bench.end()
            settle(*benches)
            check(*benches)
    left = [(bench.name, bench.desk.states()) for bench in benches if bench.state.open_tasks]
    assert not left, "everything has ended, and these still wait"


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from([0.1, 1 / 3, 1.0, 2.5]), min_size=1, max_size=3), st.sampled_from([3.0, 5.0, 8.0]))
def test_nobody_starves_beside_sessions_that_always_have_more(others: list[float], large: float) -> None:
    shared = credits()
    benches = [Bench(f"s{n}", shared) for n in range(len(others))]
    for bench, size in zip(benches, others, strict=True):
        bench.submit(*[cpu(size)] * 300)
    settle(*benches)
    late = Bench("late", shared)
    late.submit(cpu(large))
    settle(late, *benches)
    rounds = 0
    while not late.running():
        rounds += 1
        assert rounds < 100, "it starves"
        for bench in benches:
            if bench.running():
                bench.end()
            settle(late, *benches)
            check(late, *benches)
