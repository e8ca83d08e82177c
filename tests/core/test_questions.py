"""Questions: who is asked, that they go up when nobody answers, that an answer ends them, and what is refused."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core import questions as module
from skep.core.messages import inbox
from skep.core.model import AgentSpec, Task
from skep.core.topology import Shape
from skep.errors import Conflict, Denied, Exhausted, Invalid, NotFound
from tests.core.desk import Desk

#: The bee works under the drone, and the drone under the queen; the guard stands beside the drone.
AGENTS = tuple(
    AgentSpec(name=name, runtime="x", count=1, type="coordinator" if name in ("drone", "guard") else "")
    for name in ("drone", "guard", "bee", "moth")
)
WITHIN = 600


@pytest.fixture
def desk() -> Desk:
    """A bee at work."""
    return desk_of()


def desk_of(kind: Any = "star", **more: Any) -> Desk:
    desk = Desk(*AGENTS)
    desk.tell(inp.ChangePlan(at=0, plan=replace(desk.plan, topology=Shape(kind, **more))))
    desk.submit(Task(id="a", prompt="x", agent="bee"))
    return desk


def ask(desk: Desk, **more: Any) -> Any:
    return desk.tell(desk.report(inp.Escalate, "a", **{"payload": "v1 or v2?", "id": "q", **more}))


def answer(desk: Desk, source: str, to: str = "bee-1", **more: Any) -> None:
    desk.tell(inp.Send(**{"at": 0, "kind": "note", "source": source, "target": to, "payload": "v2", "correlation": "q", **more}))


def waiting(desk: Desk, agent: str) -> list[str]:
    return [message.id for message in inbox(desk.state, agent)]


def test_whoever_is_above_is_asked_and_its_answer_ends_the_question(desk: Desk) -> None:
    assert ask(desk) == module.Escalated("q", "drone-1")
    assert waiting(desk, "drone-1") == ["q"]
    answer(desk, "drone-1")
    assert (waiting(desk, "drone-1"), desk.state.mail.questions) == ([], {})
    assert [message.metadata.correlation for message in inbox(desk.state, "bee-1")] == ["q"]
    desk.tick(10 * WITHIN)
    assert waiting(desk, "you") == []


def test_a_question_that_was_read_and_not_answered_goes_up_to_a_person(desk: Desk) -> None:
    ask(desk)
    desk.tell(inp.Delivered(at=0, ids=("q",), target="drone-1"))
    desk.tick(WITHIN - 10)
    assert waiting(desk, "you") == []
    desk.reload()
    desk.tick(11)
    assert waiting(desk, "you") == ["q^1"]
    (message,) = inbox(desk.state, "you")
    assert (message.source, message.payload, message.expires) == ("bee-1", "v1 or v2?", 0)
    desk.tick(100 * WITHIN)
    assert waiting(desk, "you") == ["q^1"]
    answer(desk, "you", correlation="q^1")
    assert (waiting(desk, "you"), desk.state.mail.questions) == ([], {})


def test_a_question_that_nobody_reads_goes_up_as_well_and_is_dropped_below(desk: Desk) -> None:
    ask(desk)
    desk.tick(WITHIN + 1)
    assert (waiting(desk, "drone-1"), waiting(desk, "you")) == ([], ["q^1"])
    assert desk.state.mail.expired == 1


def test_where_escalation_is_manual_or_nobody_is_above_a_person_is_asked_at_once() -> None:
    for desk in (desk_of("star", escalation="manual"), desk_of("mesh"), desk_of("ring")):
        assert ask(desk).target == "you"
        assert waiting(desk, "you") == ["q"]


def test_the_same_question_again_is_the_same(desk: Desk) -> None:
    assert ask(desk) == ask(desk)
    assert waiting(desk, "drone-1") == ["q"]
    desk.tick(WITHIN + 1)
    assert ask(desk).target == "you"
    assert desk.state.mail.sent == 2


def test_only_who_was_asked_or_a_person_answers(desk: Desk) -> None:
    ask(desk)
    error = desk.refused(inp.Send(at=0, kind="note", source="moth-1", target="bee-1", correlation="q"))
    assert isinstance(error, Denied)
    answer(desk, "drone-1", correlation="another")
    assert list(desk.state.mail.questions) == ["q"]
    answer(desk, "you")
    assert (waiting(desk, "drone-1"), desk.state.mail.questions) == ([], {})


def test_who_was_asked_last_answers_also_where_there_is_no_edge() -> None:
    desk = desk_of("hierarchical")
    above = ask(desk).target
    desk.tick(WITHIN + 1)
    (asked,) = desk.state.mail.questions.values()
    assert (asked.level, asked.target) == (1, "you")
    assert above in ("drone-1", "guard-1")
    answer(desk, "you")
    assert desk.state.mail.questions == {}


def test_a_question_is_not_sent_as_a_message(desk: Desk) -> None:
    error = desk.refused(inp.Send(at=0, kind="question", source="bee-1", target="drone-1"))
    assert isinstance(error, Invalid)


def test_what_comes_from_an_attempt_that_is_over_is_refused(desk: Desk) -> None:
    late = desk.report(inp.Escalate, "a", payload="?")
    sent = inp.Send(at=0, kind="note", source="bee-1", target="drone-1", task="a", n=late.n, nonce=late.nonce)
    desk.tell(sent)
    desk.fail("a")
    for given in (late, replace(sent, id="other")):
        with pytest.raises(Conflict):
            desk.tell(given)


def test_an_agent_that_is_not_declared_asks_nobody(desk: Desk) -> None:
    desk.submit(Task(id="b", run="true"))
    with pytest.raises(NotFound, match="none of the declared agents"):
        desk.tell(desk.report(inp.Escalate, "b", payload="?"))


def test_questions_are_bounded(desk: Desk) -> None:
    with pytest.raises(Exhausted, match="the question is"):
        ask(desk, payload="x" * module.MAX_SIZE)
    with pytest.raises(Invalid, match="without \\^"):
        ask(desk, id="q^1")
    with patch.object(module, "MAX_QUESTIONS", 1):
        ask(desk)
        with pytest.raises(Exhausted, match="no answer yet"):
            ask(desk, id="other")
    assert [type(event) for event in desk.events].count(ev.MessageSent) == 1


def test_a_question_of_an_agent_that_is_no_more_can_be_answered_and_so_ended() -> None:
    desk = Desk(AgentSpec(name="bee", runtime="x", count=0), AgentSpec(name="moth", runtime="x"), at_once=2)
    desk.submit(Task(id="b", prompt="x", agent="bee"), Task(id="a", prompt="x", agent="bee"))
    ask(desk)
    assert desk.attempt("a").agent == "bee-2"
    fewer = replace(desk.plan, limits=replace(desk.plan.limits, agents=1))
    desk.tell(inp.ChangePlan(at=0, plan=fewer, keep=("a", "b")))
    answer(desk, "you", "bee-2")
    assert (desk.state.mail.questions, waiting(desk, "you")) == ({}, [])
