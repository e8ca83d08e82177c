"""The part of a node that a session may use: what fits is judged against it, what could ever fit against the whole node."""

from __future__ import annotations

from skep.core import inputs as inp
from skep.core.events import NodeGranted
from skep.core.model import AgentSpec, Credit, Resources
from skep.core.placement import explain
from tests.core.desk import ROOM, Desk, run

ALL = Credit(ROOM.cpu, ROOM.memory, ROOM.storage, 1_000)
TWO_CPUS = Resources(cpu=2.0)


def grant(desk: Desk, credit: Credit | None) -> None:
    desk.tell(inp.GrantCredit(at=0, node="here", credit=credit))


def test_nothing_is_placed_beyond_the_credit() -> None:
    desk = Desk()
    grant(desk, Credit(2.0, 8_000, 8_000, 2))
    desk.submit(run("a", resources=TWO_CPUS), run("b", resources=TWO_CPUS), run("c"), run("d"))
    assert desk.running() == ["a", "c"]
    assert explain(desk.state, desk.entry("b").task) is None
    desk.ok("a")
    assert desk.running() == ["c", "b"]


def test_more_credit_lets_go_on_what_waited_for_room() -> None:
    desk = Desk()
    grant(desk, Credit())
    desk.submit(run("a", resources=TWO_CPUS), run("b"))
    assert desk.running() == []
    grant(desk, ALL)
    assert desk.running() == ["a", "b"]


def test_a_credit_smaller_than_what_is_in_use_waits_for_its_return() -> None:
    desk = Desk()
    desk.submit(*(run(name, resources=Resources(cpu=1.0)) for name in ("a", "b", "c", "d", "e")))
    grant(desk, Credit(1.0, 8_000, 8_000, 9))
    assert desk.running() == ["a", "b", "c", "d"]
    desk.ok("a", "b", "c")
    assert desk.running() == ["d"]
    desk.ok("d")
    assert desk.running() == ["e"]


def test_what_the_machine_could_give_is_accepted_however_small_the_credit() -> None:
    desk = Desk(AgentSpec(name="large", runtime="x", strict=True, resources=Resources(cpu=99.0)))
    grant(desk, Credit(1.0, 1, 1, 1))
    desk.submit(run("a", resources=Resources(cpu=ROOM.cpu)))
    error = desk.refused(inp.Submit(at=0, tasks=(run("b", resources=Resources(cpu=ROOM.cpu + 1)),)))
    assert "more than any node has" in error.message
    grant(desk, None)
    assert desk.attempt("a").reserved == Resources(cpu=ROOM.cpu)


def test_only_a_change_of_credit_is_an_event_and_a_new_boot_begins_with_what_it_is_told() -> None:
    desk = Desk()
    grant(desk, None)
    grant(desk, TWO := Credit(2.0, 1, 1, 1))
    grant(desk, TWO)
    assert [event.credit for event in desk.events if isinstance(event, NodeGranted)] == [TWO]
    desk.join(boot="b2")
    assert desk.state.nodes["here"].credit is None
    desk.tell(inp.JoinNode(at=0, node="here", boot="b3", capacity=ROOM, slots=9, credit=Credit()))
    assert desk.state.nodes["here"].credit == Credit()
    desk.reload()
    assert desk.state.nodes["here"].credit == Credit()
    assert "no node 'there'" in desk.refused(inp.GrantCredit(at=0, node="there", credit=None)).message


def test_the_first_that_waits_for_room_is_told_by_priority_and_age() -> None:
    desk = Desk()
    grant(desk, Credit(1.0, 8_000, 8_000, 5))
    assert desk.state.queue.first_without_room("here") is None
    desk.submit(run("a"), run("b", resources=TWO_CPUS), run("c", resources=Resources(cpu=3.0), priority="high"))
    for name, need in (("c", Resources(cpu=3.0)), ("b", TWO_CPUS)):
        found = desk.state.queue.first_without_room("here")
        assert found is not None
        assert (found[0].task.id, found[1]) == (name, need)
        desk.cancel(name)
    assert desk.state.queue.first_without_room("here") is None
