"""Topologies: who talks to whom, who hands work to whom, who is asked, and that votes fit them."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skep.core import consensus
from skep.core.topology import (
    PERSON,
    RULES,
    Kind,
    Shape,
    Topology,
    asks,
    check_rule,
    draw,
    may_delegate,
    neighbours,
    refusal,
    seats,
    send,
)
from skep.errors import Denied, Invalid


def agents(count: int) -> tuple[str, ...]:
    return tuple(f"a{n}" for n in range(count))


def drawn(kind: Kind, count: int, depth: int = 3) -> Topology:
    return draw(Shape(kind, depth), agents(count))


def test_up_to_seven_are_a_mesh_and_more_a_hierarchy() -> None:
    assert [draw(Shape(), agents(count)).kind for count in (0, 1, 7, 8, 100)] == [
        *("mesh", "mesh", "mesh"),
        *("hierarchical", "hierarchical"),
    ]
    assert draw(Shape("ring"), agents(100)).kind == "ring"


def test_in_a_mesh_everyone_talks_to_everyone() -> None:
    mesh = drawn("mesh", 4)
    assert all(neighbours(mesh, one) == tuple(other for other in agents(4) if other != one) for one in agents(4))


def test_in_a_ring_everyone_has_two_neighbours() -> None:
    ring = drawn("ring", 5)
    assert neighbours(ring, "a0") == ("a1", "a4")
    assert neighbours(drawn("ring", 2), "a0") == ("a1",)
    assert refusal(ring, "a0", "a2") == "in a ring 'a0' talks to its two neighbours only"


def test_in_a_star_the_centre_mediates() -> None:
    star = draw(Shape("star"), agents(4), ("a2",))
    assert neighbours(star, "a2") == ("a0", "a1", "a3")
    assert neighbours(star, "a0") == ("a2",)
    assert refusal(star, "a0", "a1") == "in a star 'a0' talks to the centre, 'a2', only"


def test_in_a_hierarchy_talk_goes_up_down_and_between_coordinators() -> None:
    tree = draw(Shape("hierarchical"), agents(8), ("a0", "a1"))
    assert neighbours(tree, "a0") == ("a1", "a2", "a4", "a6")
    assert neighbours(tree, "a2") == ("a0",)
    assert refusal(tree, "a2", "a3") == "in a hierarchy 'a2' talks to those above and below it: through 'a0'"


def test_work_is_handed_down_as_many_levels_as_may_be() -> None:
    deep = drawn("hierarchical", 100)
    worker = "a99"
    middle = deep.above[worker]
    top = deep.above[middle]
    assert (deep.level[worker], deep.level[middle], deep.level[top]) == (0, 1, 2)
    assert may_delegate(deep, top, worker)
    assert not may_delegate(drawn("hierarchical", 100, depth=1), top, worker)
    assert not may_delegate(deep, worker, middle)
    assert may_delegate(drawn("mesh", 3), "a0", "a1")
    assert not may_delegate(drawn("ring", 5), "a0", "a2")


def test_what_is_not_decided_goes_up_or_to_a_person() -> None:
    tree = drawn("hierarchical", 8)
    assert asks(tree, "a7") == "a0"
    assert asks(tree, "a0") == PERSON
    assert asks(draw(Shape("hierarchical", escalation="manual"), agents(8)), "a7") == PERSON


def test_a_person_may_always_be_written_to_and_write() -> None:
    star = drawn("star", 4)
    assert refusal(star, PERSON, "a3") == refusal(star, "a3", PERSON) == ""


def test_a_missing_edge_is_refused_with_the_reason() -> None:
    with pytest.raises(Denied, match=r"'a0' may not write to 'a2': in a ring") as refused:
        send(drawn("ring", 5), "a0", "a2")
    assert "`topology`" in refused.value.fix
    assert refusal(drawn("mesh", 2), "a0", "b") == "'b' is no agent of this session"
    assert refusal(drawn("mesh", 2), "a0", "a0") == "'a0' would write to itself"


def test_each_kind_decides_by_its_own_rules() -> None:
    assert set(RULES) == set(get_args(Kind))
    check_rule("mesh", "weighted")
    with pytest.raises(Invalid, match="a star topology does not decide by rule quorum"):
        check_rule("star", "quorum")


@pytest.mark.parametrize("shape", [Shape(depth=0), Shape("mesh", depth=-1)])
def test_a_depth_of_nothing_is_refused(shape: Shape) -> None:
    with pytest.raises(Invalid, match="levels down"):
        draw(shape, agents(2))


def test_nobody_stands_in_two_places() -> None:
    with pytest.raises(Invalid, match="twice"):
        draw(Shape(), ("a", "a"))


@st.composite
def topologies(draw_: st.DrawFn) -> Topology:
    """Any topology of up to 150 agents."""
    everybody = agents(draw_(st.integers(1, 150)))
    leading = draw_(st.lists(st.sampled_from(everybody), max_size=12, unique=True))
    return draw(Shape(draw_(st.sampled_from(["", *get_args(Kind)])), draw_(st.integers(1, 4))), everybody, leading)


@settings(max_examples=60)
@given(topologies())
def test_every_edge_goes_both_ways_and_everybody_can_be_reached(one: Topology) -> None:
    reached, left = {"a0"}, ["a0"]
    while left:
        agent = left.pop()
        for other in neighbours(one, agent):
            assert not refusal(one, other, agent)
            if other not in reached:
                reached.add(other)
                left.append(other)
    assert reached == set(one.place)


@settings(max_examples=60)
@given(topologies())
def test_whoever_is_above_is_a_level_higher_and_the_way_up_ends(one: Topology) -> None:
    for agent, higher in one.above.items():
        assert one.level[higher] > one.level[agent]
        assert may_delegate(one, higher, agent)
        assert not may_delegate(one, agent, higher)


@settings(max_examples=60)
@given(topologies(), st.data())
def test_a_ballot_among_any_of_them_can_be_counted(one: Topology, data: st.DataObject) -> None:
    some = st.lists(st.sampled_from(list(one.place)), min_size=1, unique=True)
    electors = tuple(one.place) if one.kind == "star" else tuple(data.draw(some))
    for rule in RULES[one.kind]:
        ballot = consensus.Ballot(id="b", electors=electors, options=("X", "Y"), rule=rule, **seats(one, electors))
        consensus.check(ballot)
        result = consensus.count(ballot, dict.fromkeys(electors, "X"), 0)
        assert result is not None
        assert result.choice == "X"
