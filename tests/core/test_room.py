"""A task that finds no room is passed by smaller ones for a while, then room is kept for it: it never starves."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skep.core import inputs as inp
from skep.core import queue as queue_module
from skep.core.model import Priority, Resources
from skep.core.placement import explain, lacks
from skep.core.queue import PATIENCE
from tests.core.desk import ROOM, Desk, run

MINUTE = PATIENCE / 1_000


def cpu(count: float) -> Resources:
    return Resources(cpu=count)


def crowded(large: float = 3.0, priority: Priority = "normal") -> Desk:
    """Four small tasks run, and a large one has waited for room for a minute."""
    desk = Desk(at_once=99)
    desk.submit(*(run(f"s{n}", resources=cpu(1.0)) for n in range(4)))
    desk.submit(run("large", resources=cpu(large), priority=priority))
    desk.tick(MINUTE)
    desk.submit(run("more", resources=cpu(1.0), priority=priority))
    desk.ok("s0")
    return desk


def test_smaller_ones_pass_for_a_minute_and_then_the_room_is_kept() -> None:
    desk = Desk(at_once=99)
    desk.submit(*(run(f"s{n}", resources=cpu(1.0)) for n in range(4)))
    desk.submit(run("large", resources=cpu(3.0)), run("early", resources=cpu(1.0)))
    desk.ok("s0")
    assert "early" in desk.running(), "nothing is gained by leaving room idle at once"
    desk.tick(MINUTE)
    desk.submit(run("late", resources=cpu(1.0)))
    for done in ("s1", "s2", "s3"):
        assert desk.entry("large").state == "ready"
        desk.ok(done)
        assert desk.entry("late").state == "ready"
    assert desk.running() == ["early", "large"]
    desk.ok("early")
    assert desk.running() == ["large", "late"]


def test_what_takes_nothing_of_that_room_goes_on() -> None:
    desk = crowded()
    desk.submit(run("free"), run("other", resources=Resources(memory=5)), run("urgent", resources=cpu(1.0), priority="high"))
    assert {"free", "other", "urgent"} <= set(desk.running())
    assert desk.entry("more").state == "ready"


def test_what_is_left_beside_that_room_can_be_had() -> None:
    desk = Desk(at_once=99)
    desk.submit(run("s", resources=Resources(cpu=1.0, memory=6_000)))
    desk.submit(run("large", resources=Resources(cpu=1.0, memory=5_000)))
    desk.tick(MINUTE)
    desk.submit(run("wakes", resources=cpu(0.5)))
    desk.ok("wakes")
    desk.submit(run("beside", resources=Resources(cpu=2.0)), run("takes", resources=Resources(cpu=0.5, memory=1)))
    assert desk.running() == ["s", "beside"]
    desk.ok("s")
    assert desk.running() == ["beside", "large", "takes"]


def test_it_is_said_who_goes_first() -> None:
    desk = crowded()
    assert lacks(desk.state, desk.entry("more")) == "large goes first: it waits for that room for more than a minute"
    assert lacks(desk.state, desk.entry("large")) == "what runs leaves no room for it"
    assert explain(desk.state, desk.entry("more").task) is None
    desk.tell(inp.GrantCredit(at=0, node="here", credit=None))


def test_room_is_kept_no_longer_for_what_is_cancelled() -> None:
    desk = crowded()
    desk.cancel("large")
    assert "more" in desk.running()


def test_what_comes_before_takes_over_the_claim_and_it_goes_back() -> None:
    desk = crowded(priority="low")
    desk.submit(run("first", resources=cpu(4.0), priority="high"))
    desk.tick(MINUTE)
    desk.ok("s1", "s2", "s3")
    assert desk.running() == ["first"]
    desk.ok("first")
    assert desk.running() == ["large", "more"]


def test_a_claim_goes_elsewhere_when_its_node_is_lost() -> None:
    desk = Desk(at_once=8, thorough=False)
    desk.join(node="there")
    desk.submit(*(run(f"s{n}", resources=cpu(2.0)) for n in range(4)), run("large", resources=cpu(4.0)))
    desk.tick(MINUTE)
    there = [name for name in desk.running() if desk.attempt(name).node == "there"]
    desk.ok(next(name for name in desk.running() if name not in there))
    desk.submit(run("more", resources=cpu(1.0)))
    assert lacks(desk.state, desk.entry("more")).startswith("large goes first")
    desk.tell(inp.LoseNode(at=0, node="here"))
    assert [name for name in desk.running() if name not in there] == [], "what ran there is over: nobody else could say so"
    for name in there:
        desk.ok(name)
        assert desk.entry("more").state == "ready"
    (older,) = desk.running()  # what was interrupted is older
    desk.ok(older)
    assert desk.attempt("large").node == "there"


#: Cpu, memory, priority, and which of the running ends.
Sizes = list[tuple[float, int, Priority, int]]
_small = st.tuples(
    st.sampled_from([0.0, 0.3, 1.0, 2.0, 3.0]), st.integers(0, 4_000), st.sampled_from(["low", "normal"]), st.integers(0, 9)
)


def waited(sizes: Sizes, large: Resources) -> int:
    """Seconds until a large task runs beside others that keep coming; one ends every second, the oldest every other."""
    desk = Desk(at_once=8, thorough=False)
    desk.submit(*(run(f"n{n}", resources=Resources(cpu=0.5, memory=1_000)) for n in range(8)))
    desk.submit(run("large", resources=large))
    seconds, limit = 0, int(MINUTE) + 40
    while desk.entry("large").state != "running" and seconds < limit:
        size, memory, priority, pick = sizes[seconds % len(sizes)]
        desk.submit(run(f"m{seconds}", resources=Resources(cpu=size, memory=memory), priority=priority))
        if running := desk.running():
            desk.tell(desk.report(inp.Ended, running[seconds % 2 * pick % len(running)], outcome="ok"), after=0)
        seconds += 1
    desk.check()
    return seconds


_large = st.builds(Resources, cpu=st.sampled_from([2.0, 4.0]), memory=st.sampled_from([0, 5_000, ROOM.memory]))


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(_small, min_size=1, max_size=12), _large)
def test_nothing_waits_longer_than_a_minute_and_what_runs(sizes: Sizes, large: Resources) -> None:
    assert waited(sizes, large) <= MINUTE + 18


def test_without_that_rule_it_would_starve() -> None:
    """The bug planted: the tests above see it."""
    starving: Callable[..., None] = lambda *_: None  # noqa: E731 - a function of nothing
    with patch.object(queue_module.Queue, "_keep_room", starving):
        assert waited([(1.0, 0, "normal", 0)], cpu(4.0)) == MINUTE + 40


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(_small, min_size=1, max_size=25), st.integers(0, 3))
def test_everything_runs_in_the_end_however_impatient_all_are(sizes: Sizes, at_once: int) -> None:
    with patch.object(queue_module, "PATIENCE", 0):
        desk = Desk(at_once=3 + at_once)
        for number, (size, memory, priority, _) in enumerate(sizes):
            desk.submit(run(f"n{number}", resources=Resources(cpu=size, memory=memory), priority=priority))
        for *_, pick in sizes:
            running = desk.running()
            desk.ok(running[pick % len(running)])
        assert not desk.state.open_tasks
