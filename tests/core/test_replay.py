"""The log is the truth: whoever takes the same events in, in whatever way, holds the same session."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from skep.core.model import Agent, Entry, Foreach, Node, Resources, Task
from skep.core.settle import MAX_ASSIGNMENTS
from skep.core.state import State
from skep.store import codec
from tests.core.desk import Desk, check_derived, follow, run
from tests.core.test_walks import HAPPENINGS, Walk


def walk(seed: int, steps: int = 60) -> Desk:
    """A random session, the same for the same seed."""
    random, one = Random(seed), Walk()
    one.desk.thorough = False
    pick = random.randrange
    one.go([(random.choice(HAPPENINGS), pick(8), pick(8), pick(1_001)) for _ in range(steps)])
    return one.desk


@pytest.mark.parametrize("seed", range(30))
def test_a_follower_that_is_only_told_what_happened_holds_the_same(seed: int) -> None:
    desk = walk(seed)
    state = follow(desk.events)
    assert state.digest() == desk.state.digest()
    check_derived(state, desk.replayed().rebuild(), desk.at)


@pytest.mark.parametrize("seed", range(10))
def test_a_snapshot_at_any_point_and_what_came_after_give_the_same(seed: int) -> None:
    desk = walk(seed)
    for cut in range(0, len(desk.events), max(1, len(desk.events) // 7)):
        state = State.load(follow(desk.events[:cut]).save()).rebuild()
        rest = codec.decode(codec.encode(desk.events[cut:]))
        live = follow(rest, state)
        assert live.digest() == desk.state.digest()


def test_the_same_inputs_make_the_same_events_in_every_process() -> None:
    """Nothing depends on the order of a set, which differs from process to process."""
    root = Path(__file__).parents[2]
    code = (
        "import hashlib; from tests.core.test_replay import walk; from skep.store import codec\n"
        "print([hashlib.sha256(codec.encode(walk(seed).events)).hexdigest() for seed in range(5)])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1


def test_a_snapshot_keeps_the_order_of_things() -> None:
    desk = Desk(at_once=1)
    names = ("z", "a", "m", "b")
    for name in names:
        desk.submit(run(name), key=name)
    desk.from_snapshot()
    assert tuple(desk.state.entries) == tuple(desk.state.keys) == names


def test_nothing_is_shared_between_two_of_a_kind() -> None:
    one, other = State(), State()
    one.entries["x"] = Entry(task=Task(), seq=1, submitted=0)
    one.counts["done"] = 1
    one.finished.append("x")
    assert (other.entries, other.counts, other.finished) == ({}, {}, [])
    agents = [Agent(id=name, spec="s", node="n", number=1) for name in "ab"]
    agents[0].types["k"] = [1, 0]
    assert agents[1].types == {}
    nodes = [Node(id=name, boot="b", capacity=Resources(), slots=1) for name in "ab"]
    nodes[0].labels["k"] = "v"
    assert nodes[1].labels == {}


def test_a_turn_has_its_bound_and_the_next_one_goes_on() -> None:
    desk = Desk(at_once=5_000, slots=5_000, thorough=False)
    desk.submit(*(run(f"n{n}") for n in range(2 * MAX_ASSIGNMENTS + 10)))
    assert len(desk.running()) == 2 * MAX_ASSIGNMENTS + 10
    assert desk.turns >= 3
    desk.check()


def test_a_session_of_every_feature_is_read_back_whole() -> None:
    desk = Desk(at_once=9, base="c0")
    desk.submit(run("list"), run("each", "list", foreach=Foreach(source="needs.list.result", key="id", max_parallel=1)))
    desk.ok("list", result=[{"id": 1.5}, {"id": True}, {"id": "é/x"}])
    assert desk.entry("each").children == ("each[1.5]", "each[true]", "each[%C3%A9%2Fx]")
    desk.ok("each[1.5]", commit="c1", result=b"\x00")
    desk.merged("m1")
    desk.reload()
    assert desk.entry("each[1.5]").result == b"\x00"
    assert desk.running() == ["each[true]"]
