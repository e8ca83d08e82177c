"""Fleets: where a task goes, what is recorded of it, how a fleet stands. With the promises that must hold for any fleet."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.apply import replay
from skep.core.decide import decide
from skep.core.fleet import (
    KEEP_ROUTES,
    SYSTEM,
    Fleet,
    FleetFormed,
    FleetHanded,
    FleetRemoved,
    FleetRouted,
    Route,
    Standing,
    Swarm,
    Used,
)
from skep.core.health import WATCHED, Room, allot, health, resize, worst
from skep.core.model import GUEST, LEFT, AgentSpec, Limits, Plan, Resources, Task
from skep.core.routing import factors, fitted, lacks, route, standing
from skep.core.state import State
from skep.errors import Conflict, Invalid, NotFound, SkepError
from skep.store import codec

NAMES = st.sampled_from("abcdef")
LABELS = st.dictionaries(st.sampled_from(["gpu", "zone", "big"]), st.sampled_from(["true", "eu"]), max_size=2)
SPECS = st.lists(
    st.builds(
        AgentSpec,
        name=st.sampled_from(["coder", "judge"]),
        runtime=st.just("claude"),
        capabilities=st.lists(st.sampled_from(["coding", "testing"]), unique=True).map(tuple),
        cost=st.floats(0, 10),
        reliability=st.floats(0, 1),
    ),
    max_size=2,
    unique_by=lambda spec: spec.name,
).map(tuple)


def swarm(name: str = "a", slots: int = 2, **more: Any) -> Swarm:
    return Swarm(name=name, session=f"farm.{name}", slots=slots, **more)


def farm(*swarms: Swarm, **more: Any) -> Fleet:
    return Fleet(name="farm", swarms=swarms, **more)


@st.composite
def swarms(draw: Callable[..., Any]) -> Swarm:
    return swarm(
        draw(NAMES),
        draw(st.integers(1, 8)),
        labels=draw(LABELS),
        agents=draw(SPECS),
        runtimes=draw(st.sampled_from([(), ("shell",), ("claude",)])),
        cpu=draw(st.sampled_from([0.0, 1.0, 2.5])),
        memory=draw(st.sampled_from([0, 1_000])),
    )


FLEETS = st.lists(swarms(), min_size=1, max_size=6, unique_by=lambda one: one.name).map(lambda found: farm(*found))
STANDINGS = st.fixed_dictionaries({}, optional={name: st.builds(
    Standing,
    swarm=st.just(name),
    state=st.sampled_from(["active", "paused", "completed", "failed", "closed"]),
    held=st.integers(0, 8),
    running=st.integers(0, 8),
    waiting=st.integers(0, 50),
    done=st.integers(0, 100),
    failed=st.integers(0, 100),
    led=st.booleans(),
) for name in "abcdef"})  # fmt: skip
TASKS = st.builds(
    Task,
    run=st.just("true"),
    constraints=LABELS,
    resources=st.none() | st.builds(Resources, cpu=st.sampled_from([0.5, 2.0, 3.0]), memory=st.sampled_from([0, 5_000])),
) | st.builds(
    Task,
    prompt=st.just("do it"),
    agent=st.sampled_from(["", "coder", "nobody"]),
    capabilities=st.lists(st.sampled_from(["coding", "testing"]), unique=True).map(tuple),
    constraints=LABELS,
)
ROOMS = st.lists(
    st.builds(
        Room,
        name=NAMES,
        labels=LABELS,
        slots=st.integers(0, 10),
        cpu=st.floats(0, 16),
        memory=st.integers(0, 10_000),
    ),
    max_size=5,
    unique_by=lambda room: room.name,
)


@given(FLEETS, STANDINGS, TASKS)
def test_a_task_goes_to_nobody_who_lacks_what_it_demands_and_every_other_swarm_is_told_why(
    fleet: Fleet, standings: dict[str, Standing], task: Task
) -> None:
    fit = {
        one.name
        for one in fleet.swarms
        if not lacks(one, task) and standings.get(one.name, Standing(swarm=one.name)).state != "closed"
    }
    if not fit:
        with pytest.raises(Invalid) as caught:
            route(fleet, standings, task, "key")
        assert all(f"{one.name}: " in caught.value.message for one in fleet.swarms)
        return
    found = route(fleet, standings, task, "key")
    chosen = next(one for one in fleet.swarms if one.name == found.swarm)
    assert found.swarm in fit
    assert set(found.refused) == {one.name for one in fleet.swarms} - fit
    assert found.task is not None
    assert all(found.task.constraints[name] == value for name, value in chosen.labels.items())
    assert all(one.score <= found.score for one in found.alternatives)
    assert not lacks(chosen, found.task), "what it became still fits"


@given(FLEETS, STANDINGS, TASKS)
def test_the_choice_depends_on_nothing_but_its_arguments(fleet: Fleet, standings: dict[str, Standing], task: Task) -> None:
    def chosen(given: Fleet, order: dict[str, Standing]) -> Route | str:
        try:
            return route(given, order, task, "key")
        except Invalid as error:
            return error.message

    first = chosen(fleet, standings)
    assert first == chosen(fleet, dict(reversed(standings.items())))
    assert msgspec.msgpack.encode(first) == msgspec.msgpack.encode(chosen(fleet, standings))


@given(FLEETS, STANDINGS, TASKS)
def test_every_factor_lies_between_nothing_and_one(fleet: Fleet, standings: dict[str, Standing], task: Task) -> None:
    for one in fleet.swarms:
        if not lacks(one, task):
            values = factors(one, standings.get(one.name, Standing(swarm=one.name)), task)
            assert all(0.0 <= value <= 1.0 for value in values.values()), values


def test_of_equals_the_first_one_named_is_taken() -> None:
    for names in itertools.permutations("abc"):
        assert route(farm(*(swarm(name) for name in names)), {}, Task(run="true"), "k").swarm == names[0]


def test_more_room_wins_and_a_swarm_with_labels_is_kept_for_those_who_ask() -> None:
    now = {name: Standing(swarm=name, state="active", held=2, running=n) for n, name in enumerate("ab")}
    assert route(farm(swarm("b"), swarm("a")), now, Task(run="true"), "k").swarm == "a"
    special = farm(swarm("a", labels={"gpu": "true"}), swarm("b"))
    free = {name: Standing(swarm=name, state="active", held=2) for name in "ab"}
    assert route(special, free, Task(run="true"), "k").swarm == "b"
    assert route(special, free, Task(run="true", constraints={"gpu": "true"}), "k").swarm == "a"


@given(FLEETS, STANDINGS)
def test_one_more_in_the_queue_never_makes_a_swarm_better(fleet: Fleet, standings: dict[str, Standing]) -> None:
    task = Task(run="true")
    for one in fleet.swarms:
        if lacks(one, task):
            continue
        now = standings.get(one.name, Standing(swarm=one.name))
        before, after = (factors(one, given, task) for given in (now, replace(now, waiting=now.waiting + 1)))
        assert all(after[name] <= before[name] for name in before)


def test_the_work_of_a_choice_grows_as_the_swarms_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def counted(one: Swarm, task: Task) -> str:
        nonlocal asked
        asked += 1
        return lacks(one, task)

    monkeypatch.setattr("skep.core.routing.lacks", counted)
    for many in (10, 100, 1_000):
        asked = 0
        route(farm(*(swarm(f"s{n}") for n in range(many))), {}, Task(run="true"), "k")
        assert asked == many


def test_a_task_gets_the_room_of_a_slot_and_keeps_what_it_asked_for() -> None:
    room = swarm(cpu=2.0, memory=100, labels={"gpu": "true"})
    assert fitted(room, Task(run="true")).resources == Resources(2.0, 100)
    asked = fitted(room, Task(run="true", resources=Resources(1.0, 0, 7), constraints={"gpu": "true"}))
    assert (asked.resources, asked.constraints) == (Resources(1.0, 100, 7), {"gpu": "true"})


# What nodes have


@given(FLEETS, ROOMS)
def test_no_slot_of_a_node_is_counted_twice_nor_for_a_swarm_whose_labels_it_lacks(fleet: Fleet, rooms: list[Room]) -> None:
    held = allot(fleet.swarms, rooms)
    assert set(held) == {one.session for one in fleet.swarms}
    assert sum(held.values()) <= sum(room.slots for room in rooms)
    for one in fleet.swarms:
        able = [room for room in rooms if all(room.labels.get(name) == value for name, value in one.labels.items())]
        assert 0 <= held[one.session] <= min(one.slots, sum(room.slots for room in able))
        if one.cpu and all(room.cpu for room in able):
            assert held[one.session] * one.cpu <= sum(room.cpu for room in able) + 1e-6
    if all(room.cpu for room in rooms):
        assert sum(held[one.session] * one.cpu for one in fleet.swarms) <= sum(room.cpu for room in rooms) + 1e-6


@given(FLEETS, ROOMS, st.randoms())
def test_what_nodes_have_does_not_depend_on_their_order(fleet: Fleet, rooms: list[Room], shuffled: Any) -> None:
    other = list(rooms)
    shuffled.shuffle(other)
    assert allot(fleet.swarms, rooms) == allot(fleet.swarms, other)


# Health

NOW = 10_000_000


def stands(held: int, **more: Any) -> dict[str, Standing]:
    return {"a": Standing(swarm="a", state="active", held=held, **more)}


@pytest.mark.parametrize(
    ("held", "state"), [(10, "healthy"), (8, "healthy"), (7, "degraded"), (5, "degraded"), (4, "unhealthy"), (0, "unhealthy")]
)
def test_health_by_the_slots_that_are_held(held: int, state: str) -> None:
    found = health(farm(swarm(slots=10)), stands(held), (), NOW)
    assert (found.state, found.held, found.slots) == (state, held, 10)
    assert bool(found.causes) == (state != "healthy")


def test_health_by_nodes_queue_and_leader_with_every_cause() -> None:
    fleet = farm(swarm(), queue=60.0, nodes=("east",))
    assert health(fleet, stands(2), ("east",), NOW).state == "healthy"
    assert health(fleet, stands(2), (), NOW).causes == ("node east is lost",)
    gone = stands(2, lost={"west": NOW - 5})
    assert health(fleet, gone, ("east",), NOW).causes == ("node west is lost",)
    assert health(fleet, gone, ("east", "west"), NOW).state == "healthy", "it came back"
    assert health(fleet, stands(2, lost={"west": NOW - 25 * 3_600_000}), ("east",), NOW + 25 * 3_600_000).state == "healthy"
    assert health(fleet, stands(2, oldest=NOW - 60_000), ("east",), NOW).state == "healthy"
    late = health(fleet, stands(2, oldest=NOW - 60_001), ("east",), NOW)
    assert (late.state, late.causes) == ("degraded", ("a task of swarm a has waited for 60 s, more than 60 s",))
    alone = health(fleet, stands(2, led=False), (), NOW)
    assert (alone.state, alone.causes) == ("unhealthy", ("node east is lost", "nobody leads swarm a (session farm.a)"))


@pytest.mark.parametrize(("why", "counts"), [("its lease ran out", True), (GUEST, False), (LEFT, False)])
def test_a_node_that_nobody_counted_on_is_not_lost_to_a_fleet(why: str, counts: bool) -> None:
    keeper = Keeper("farm.a")
    keeper.tell(inp.JoinNode(at=2, node="west", boot="b", capacity=Resources(), slots=2))
    keeper.tell(inp.LoseNode(at=3, node="west", why=why))
    now = replace(standing("a", keeper.state, 4, "active"), held=2)
    assert (health(farm(swarm()), {"a": now}, (), 4).causes == ("node west is lost",)) is counts


def test_a_swarm_without_nodes_does_not_hide_behind_the_others() -> None:
    fleet = farm(swarm("a", 9), swarm("b", 1))
    now = {name: Standing(swarm=name, state="active", held=held) for name, held in (("a", 9), ("b", 0))}
    assert health(fleet, now, (), NOW).causes == ("nodes have 0 of 1 slots of swarm b, under 50%",)


def test_all_together_stand_as_the_worst() -> None:
    assert [worst(given) for given in ((), ("healthy",), ("degraded", "healthy"), ("degraded", "unhealthy"))] == [
        "healthy",
        "healthy",
        "degraded",
        "unhealthy",
    ]


# Resizing


def watched(worked: int, running: int = 0) -> Standing:
    return Standing(swarm="a", running=running, used=Used(worked, WATCHED * 2))


def test_what_is_used_below_seven_tenths_is_to_be_smaller_and_the_saving_is_said() -> None:
    size = resize(swarm(slots=10, cpu=2.0, memory=100), Used(0, WATCHED), watched(WATCHED * 2))
    assert (size.used, size.to, size.cpu, size.memory) == (0.2, 3, 14.0, 700)
    assert resize(swarm(slots=10), Used(0, WATCHED), watched(WATCHED * 7)).to == 10
    assert resize(swarm(slots=10), Used(0, WATCHED), watched(WATCHED * 2, running=6)).to == 6, "what runs stays"
    assert resize(swarm(slots=10), Used(0, WATCHED), watched(0)).to == 1


def test_nothing_is_said_of_what_was_watched_for_too_short_a_time() -> None:
    size = resize(swarm(slots=10), Used(0, WATCHED + 1), watched(0))
    assert (size.used, size.to) == (-1.0, 10)


@given(st.integers(1, 100), st.integers(0, 10**9), st.integers(0, 50))
def test_a_size_that_is_recommended_is_well_used_or_the_smallest(slots: int, worked: int, running: int) -> None:
    size = resize(swarm(slots=slots), Used(0, WATCHED), watched(worked, min(running, slots)))
    assert 1 <= size.to <= slots
    if size.to < slots and size.to > max(1, min(running, slots)):
        busy = worked / WATCHED
        assert busy / size.to <= 0.7 + 1e-6
        assert busy / (size.to - 1) > 0.7 - 1e-6


# What is recorded


class Keeper:
    """The session that keeps the fleets."""

    def __init__(self, name: str = SYSTEM) -> None:
        self.state, self.events = State().rebuild(), list[ev.Event]()
        self.tell(inp.OpenSession(at=1, session=name, plan=Plan(name="system", limits=Limits(agents=1))))

    def tell(self, given: inp.Input) -> Any:
        decision = decide(self.state, (given,), given.at, bytes(16))
        self.events += codec.decode(codec.encode(decision.events))
        (answer,) = decision.answers
        again = State()
        replay(again, self.events)
        assert again.digest() == self.state.digest()
        if isinstance(answer, SkepError):
            raise answer
        return answer

    def form(self, fleet: Fleet) -> Any:
        return self.tell(inp.FormFleet(at=2, fleet=fleet, used={}))

    def send(self, key: str, task: Task | None = None, **standings: Standing) -> Route:
        given = inp.RouteTask(at=3, fleet="farm", key=key, task=task or Task(run="true"), standings=standings)
        found: Route = self.tell(given)
        return found

    def told(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.events)


def test_forming_twice_is_forming_once() -> None:
    keeper = Keeper()
    assert keeper.form(farm(swarm())) is True
    assert keeper.form(farm(swarm())) is False
    assert keeper.form(farm(swarm(slots=3))) is True
    assert keeper.told(FleetFormed) == 2


def test_only_the_system_session_keeps_fleets_and_no_two_have_one_session() -> None:
    with pytest.raises(Conflict, match="keeps no fleets"):
        Keeper("else").form(farm(swarm()))
    keeper = Keeper()
    keeper.form(farm(swarm()))
    with pytest.raises(Conflict, match="is a swarm of fleet farm"):
        keeper.form(Fleet(name="other", swarms=(swarm(),)))


@pytest.mark.parametrize(
    ("fleet", "why"),
    [
        (farm(), "has 0 swarms"),
        (farm(swarm(), swarm()), "two swarms"),
        (farm(swarm(slots=0)), "has 0 slots"),
        (farm(swarm(cpu=float("nan"))), "less than nothing"),
        (farm(swarm(memory=-1)), "less than nothing"),
    ],
)
def test_a_fleet_that_makes_no_sense_is_refused(fleet: Fleet, why: str) -> None:
    keeper = Keeper()
    with pytest.raises(Invalid, match=why):
        keeper.form(fleet)
    assert not keeper.state.fleets


def test_the_same_key_is_the_same_submission_whatever_came_meanwhile() -> None:
    keeper = Keeper()
    keeper.form(farm(swarm("a"), swarm("b")))
    first = keeper.send("k")
    full = Standing(swarm="a", state="active", held=2, running=2)
    assert keeper.send("k", a=full) == first
    keeper.tell(inp.HandTask(at=4, fleet="farm", key="k", id="t1"))
    keeper.tell(inp.HandTask(at=4, fleet="farm", key="k", id="t9"))
    assert (keeper.send("k", a=full).id, keeper.send("k").task) == ("t1", None)
    assert (keeper.told(FleetRouted), keeper.told(FleetHanded)) == (1, 1)
    with pytest.raises(NotFound, match="no fleet 'none'"):
        keeper.tell(inp.RouteTask(at=3, fleet="none", key="k", task=Task(run="true"), standings={}))
    for key in ("", "k" * 101):
        with pytest.raises(Invalid, match="key"):
            keeper.send(key)


def test_a_fleet_is_removed_once_nothing_of_it_is_owed_and_can_be_formed_anew() -> None:
    keeper = Keeper()
    keeper.form(farm(swarm("a"), swarm("b")))
    keeper.send("k")
    with pytest.raises(Conflict, match="1 tasks of fleet farm are still to be handed over"):
        keeper.tell(inp.RemoveFleet(at=4, fleet="farm"))
    keeper.tell(inp.HandTask(at=5, fleet="farm", key="k", id="t1"))
    assert keeper.tell(inp.RemoveFleet(at=6, fleet="farm")) == ("farm.a", "farm.b")
    assert not keeper.state.fleets
    assert keeper.told(FleetRemoved) == 1
    for late in (inp.RemoveFleet(at=7, fleet="farm"), inp.HandTask(at=7, fleet="farm", key="k", id="t1")):
        with pytest.raises(NotFound, match="no fleet 'farm'"):
            keeper.tell(late)
    assert keeper.form(farm(swarm("a"))) is True
    assert not keeper.state.fleets["farm"].routes


def test_a_task_that_its_session_refuses_frees_the_key() -> None:
    keeper = Keeper()
    keeper.form(farm(swarm()))
    keeper.send("k")
    keeper.tell(inp.HandTask(at=4, fleet="farm", key="k", refused="no"))
    assert not keeper.state.fleets["farm"].routes
    assert keeper.send("k").id == ""


def test_what_is_remembered_is_bounded_and_what_is_owed_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skep.core.formed.KEEP_ROUTES", 16)
    assert KEEP_ROUTES == 10_000
    keeper = Keeper()
    keeper.form(farm(swarm()))
    keeper.send("owed")
    for number in range(40):
        keeper.send(f"k{number}")
        keeper.tell(inp.HandTask(at=4, fleet="farm", key=f"k{number}", id="t"))
    routes = keeper.state.fleets["farm"].routes
    assert len(routes) <= 16
    assert "owed" in routes
    assert "k39" in routes
    assert "k0" not in routes
