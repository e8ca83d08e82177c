"""Messages: who may write to whom, that they wait, come in order, count once, expire, and are bounded."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core import messages as module
from skep.core.messages import inbox, talks
from skep.core.model import AgentSpec, Plan
from skep.core.topology import Shape
from skep.errors import Conflict, Denied, Exhausted, Invalid, NotFound
from tests.core.desk import Desk

CODER = AgentSpec(name="coder", runtime="x", count=5)


def desk_of(kind: Any = "ring") -> Desk:
    """Five agents in a topology."""
    desk = Desk(CODER)
    desk.tell(inp.ChangePlan(at=0, plan=replace(desk.plan, topology=Shape(kind))))
    return desk


def send(desk: Desk, source: str, target: str, **more: Any) -> str:
    sent: str = desk.tell(inp.Send(**{"at": 0, "kind": "note", "source": source, "target": target, "payload": "hello", **more}))
    return sent


def got(desk: Desk, target: str, name: str) -> None:
    desk.tell(inp.Delivered(at=0, ids=(name,), target=target))


def waiting(desk: Desk, agent: str) -> list[str]:
    return [message.id for message in inbox(desk.state, agent)]


def test_a_message_waits_until_somebody_says_that_it_was_delivered() -> None:
    desk = desk_of()
    name = send(desk, "coder-1", "coder-2", priority="high", correlation="t1", ttl=60_000)
    (message,) = inbox(desk.state, "coder-2")
    assert (message.id, message.type, message.source, message.payload) == (name, "note", "coder-1", "hello")
    assert (message.timestamp, message.priority, message.metadata.session) == (desk.at, "high", "desk-1")
    assert (message.metadata.version, message.metadata.correlation, message.metadata.retry) == (1, "t1", 0)
    desk.reload()
    assert waiting(desk, "coder-2") == [name]
    got(desk, "coder-2", name)
    assert waiting(desk, "coder-2") == []


def test_a_message_without_an_edge_is_refused_with_the_reason() -> None:
    desk = desk_of()
    error = desk.refused(inp.Send(at=0, kind="note", source="coder-1", target="coder-3"))
    assert isinstance(error, Denied)
    assert error.message == "'coder-1' may not write to 'coder-3': in a ring 'coder-1' talks to its two neighbours only"
    assert isinstance(desk.refused(inp.Send(at=0, kind="note", source="coder-1", target="nobody")), NotFound)


def test_a_person_may_write_to_everybody_and_everybody_to_a_person() -> None:
    desk = desk_of("star")
    send(desk, "you", "coder-4")
    send(desk, "coder-4", "you")
    assert len(waiting(desk, "coder-4")) == len(waiting(desk, "you")) == 1


def test_the_same_id_again_is_the_same_message() -> None:
    desk = desk_of()
    for _ in range(2):
        assert send(desk, "coder-1", "coder-2", id="x") == "x"
    assert waiting(desk, "coder-2") == ["x"]
    got(desk, "coder-2", "x")
    assert send(desk, "coder-1", "coder-2", id="x") == "x"
    assert waiting(desk, "coder-2") == []


def test_delivered_twice_counts_once() -> None:
    desk = desk_of()
    name = send(desk, "coder-1", "coder-2")
    got(desk, "coder-2", name)
    got(desk, "coder-2", name)
    assert desk.state.mail.delivered == 1
    assert isinstance(desk.refused(inp.Delivered(at=0, ids=("other",), target="coder-2")), NotFound)


def test_each_pair_is_delivered_in_order() -> None:
    desk = desk_of()
    first, second = send(desk, "coder-1", "coder-2"), send(desk, "coder-1", "coder-2")
    other = send(desk, "coder-3", "coder-2")
    assert isinstance(desk.refused(inp.Delivered(at=0, ids=(second,), target="coder-2")), Conflict)
    for name in (other, first, second):
        got(desk, "coder-2", name)


def test_several_are_delivered_at_once_in_order_or_none_of_them() -> None:
    desk = desk_of()
    first, second = send(desk, "coder-1", "coder-2"), send(desk, "coder-1", "coder-2")
    other, third = send(desk, "coder-3", "coder-2"), send(desk, "coder-1", "coder-2")
    for names in ((second, other), (other, first, third)):
        assert isinstance(desk.refused(inp.Delivered(at=0, ids=names, target="coder-2")), Conflict)
    assert isinstance(desk.refused(inp.Delivered(at=0, ids=(first, "none"), target="coder-2")), NotFound)
    assert waiting(desk, "coder-2") == [first, second, other, third]
    desk.tell(inp.Delivered(at=0, ids=(other, second, first, other), target="coder-2"))
    desk.tell(inp.Delivered(at=0, ids=(first, third), target="coder-2"))
    assert waiting(desk, "coder-2") == []
    assert desk.state.mail.delivered == 4


def test_what_lives_too_long_is_dropped_and_counted() -> None:
    desk = desk_of()
    name = send(desk, "coder-1", "coder-2", ttl=5_000)
    send(desk, "coder-1", "coder-2")
    assert desk.wake() == desk.at - 1_000 + 5_000
    desk.reload()
    desk.tick(5)
    assert desk.last(ev.MessageExpired).id == name
    assert (desk.state.mail.expired, desk.state.mail.waiting) == (1, 1)
    got(desk, "coder-2", name)
    assert desk.state.mail.delivered == 0


def test_inboxes_are_bounded() -> None:
    desk = desk_of()
    with patch.object(module, "MAX_INBOX", 2), patch.object(module, "MAX_WAITING", 3):
        for target in ("coder-2", "coder-2", "coder-5"):
            send(desk, "coder-1", target)
        for target in ("coder-2", "coder-5"):
            error = desk.refused(inp.Send(at=0, kind="note", source="coder-1", target=target))
            assert isinstance(error, Exhausted)


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"payload": ["x" * 70_000]}, Exhausted),
        ({"kind": ""}, Invalid),
        ({"id": "x" * 201}, Invalid),
        ({"correlation": "x" * 201}, Invalid),
        ({"ttl": -1}, Invalid),
        ({"ttl": 10**15}, Invalid),
    ],
)
def test_what_is_too_much_is_refused(more: dict[str, Any], kind: type[Exception]) -> None:
    said = {"at": 0, "kind": "note", "source": "you", "target": "coder-1", **more}
    assert isinstance(desk_of().refused(inp.Send(**said)), kind)


def test_a_closed_session_takes_no_messages_and_a_fork_keeps_them() -> None:
    desk = desk_of()
    name = send(desk, "coder-1", "coder-2")
    desk.tell(inp.ForkSession(at=0, session="other", origin="desk-1"))
    assert waiting(desk, "coder-2") == [name]
    desk.tell(inp.Close(at=0))
    assert isinstance(desk.refused(inp.Send(at=0, kind="note", source="you", target="coder-2")), Conflict)


HAPPENING = st.tuples(
    st.sampled_from(["send", "send", "deliver", "again", "tick", "restart"]), st.integers(1, 5), st.integers(1, 5)
)


@settings(max_examples=60)
@given(st.lists(HAPPENING, max_size=40))
def test_every_message_is_delivered_once_in_order_or_expires(happenings: list[tuple[str, int, int]]) -> None:
    """A twin keeps a queue for each pair, and is told what the core was told."""
    desk = desk_of("mesh")
    desk.thorough = False
    twin: dict[tuple[str, str], list[tuple[str, int]]] = {}
    done: list[str] = []
    for what, a, b in happenings:
        source, target = f"coder-{a}", f"coder-{b}"
        if what == "send" and a != b:
            ttl = 3_000 if (a + b) % 3 == 0 else 0
            name = send(desk, source, target, ttl=ttl)
            twin.setdefault((source, target), []).append((name, desk.at + ttl if ttl else 0))
        elif what == "deliver" and (found := inbox(desk.state, target)):
            got(desk, target, found[0].id)
            done.append(found[0].id)
            assert twin[found[0].source, target].pop(0)[0] == found[0].id
        elif what == "again" and done:
            desk.say(inp.Delivered(at=0, ids=(done[-1],), target=target))
        elif what == "tick":
            desk.tick(2)
        elif what == "restart":
            desk.reload()
        for pair, queue in twin.items():
            twin[pair] = [(name, until) for name, until in queue if not until or until > desk.at]
        left = sorted(name for queue in twin.values() for name, _ in queue)
        assert sorted(name for agent in desk.state.mail.inboxes for name in waiting(desk, agent)) == left
    mail = desk.state.mail
    assert mail.sent == mail.delivered + mail.expired + mail.waiting
    assert len(done) == len(set(done)) == mail.delivered


def test_a_session_is_made_for_talk_if_several_agents_are_declared_or_how_they_stand() -> None:
    one, shell = AgentSpec(name="a", runtime="x", count=0), AgentSpec(name="shell", runtime="shell", count=0)
    plan = Plan(name="p")
    assert not talks(plan, [one, shell])
    assert not talks(plan, [])
    assert talks(plan, [one, AgentSpec(name="b", runtime="x", count=1)])
    assert talks(plan, [replace(one, count=2)])
    assert talks(replace(plan, topology=Shape("star")), [one])
