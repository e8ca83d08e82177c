"""What attempts ask leave for: judged, answered once, used once, void with the attempt."""

from __future__ import annotations

from typing import Any

import pytest

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.model import AgentSpec, Limits, Plan, Task
from skep.core.rules import Action, ToolRule
from skep.errors import Conflict, Invalid, NotFound
from tests.core.desk import PYTHON, ROOM, SHELL, Desk

CODER = AgentSpec(name="coder", runtime="claude", count=0)


def desk(*rules: ToolRule, own: tuple[ToolRule, ...] = (), answer_within: float = 0.0) -> Desk:
    made = Desk(room=None)
    coder = AgentSpec(name="coder", runtime="claude", count=0, rules=own)
    limits = Limits(agents=4, answer_within=answer_within)
    made.tell(inp.ChangePlan(at=0, plan=Plan(name="desk", limits=limits, agents=(SHELL, PYTHON, coder), rules=rules)))
    made.join(room=ROOM)
    made.submit(Task(id="a", prompt="x"), Task(id="b", prompt="x"))
    for task in ("a", "b"):
        made.spawn(task)
    return made


def ask(at: Desk, task: str = "a", command: str = "npm install zod", key: str = "1", **more: Any) -> Any:
    fields = {"about": command, "arguments": "{}", "digest": f"d {command}", "shape": f"s {command}", "otherwise": "ask"}
    given = {"key": key, "action": Action(tool="Bash", command=command), **fields, **more}
    return at.tell(at.report(inp.Ask, task, **given))


def say(at: Desk, question: str = "a/1", allowed: bool = True, **more: Any) -> None:
    at.tell(inp.Permit(at=0, ask=question, allowed=allowed, by="ann", **more))


def use(at: Desk, task: str = "a", number: int = 1, digest: str = "d npm install zod") -> inp.Use:
    given: inp.Use = at.report(inp.Use, task, number=number, digest=digest)
    return given


def said(at: Desk, task: str = "a") -> list[str]:
    return [asking.said for asking in (at.attempt(task).asks or {}).values()]


def test_what_a_person_allowed_is_used_once_and_by_this_action_alone() -> None:
    at = desk()
    assert ask(at).said == ""
    assert isinstance(at.refused(use(at)), Conflict)
    say(at)
    assert isinstance(at.refused(use(at, digest="another")), Conflict)
    at.tell(use(at))
    assert at.last(ev.ApprovalUsed).digest == "d npm install zod"
    assert isinstance(at.refused(use(at)), Conflict)


def test_the_first_answer_counts() -> None:
    at = desk()
    ask(at)
    say(at, allowed=False, comment="use yarn")
    error = at.refused(inp.Permit(at=0, ask="a/1", allowed=True, by="bob"))
    assert "ann said no: use yarn" in error.message
    assert isinstance(at.refused(use(at)), Conflict)


def test_the_same_question_again_is_the_same_and_gets_its_answer() -> None:
    at = desk()
    assert (ask(at).number, ask(at).number) == (1, 1)
    say(at)
    assert (ask(at).number, ask(at).said) == (1, "")
    at.tell(use(at))
    ask(at)
    assert said(at) == ["used"]
    assert isinstance(at.refused(at.report(inp.Ask, "a", **_other(at))), Conflict)


def _other(at: Desk) -> dict[str, Any]:
    action = Action(tool="Bash", command="rm x")
    return {"key": "1", "action": action, "about": "", "arguments": "", "digest": "other", "shape": "", "otherwise": "ask"}


def test_an_answer_of_an_earlier_attempt_is_none_of_the_next() -> None:
    at = desk()
    ask(at)
    say(at)
    old = use(at)
    at.gone("a")
    at.spawn("a")
    assert at.entry("a").attempts == 2
    assert isinstance(at.refused(old), Conflict)
    assert isinstance(at.refused(use(at)), Conflict)
    assert ask(at).number == 2
    assert isinstance(at.refused(inp.Permit(at=0, ask="a/1", allowed=True)), NotFound)


@pytest.mark.parametrize("end", ["cancel", "ok", "fail", "stop", "restart", "worked"])
def test_what_is_asked_and_what_was_allowed_dies_with_the_attempt(end: str) -> None:
    at = desk()
    ask(at)
    ask(at, key="2", command="other")
    say(at)
    used = use(at)
    if end == "cancel":
        at.cancel("a")
    elif end == "stop":
        at.tell(inp.Pause(at=0, stop=True))
    elif end == "restart":
        at.join(boot="b2")
    elif end == "worked":
        at.tell(at.report(inp.Worked, "a", commit="c"))
    else:
        getattr(at, end)("a")
    assert isinstance(at.refused(used), Conflict)
    assert isinstance(at.refused(inp.Permit(at=0, ask="a/2", allowed=True)), NotFound)


def test_nobody_in_time_is_a_no() -> None:
    at = desk(answer_within=60.0)
    ask(at)
    assert at.wake() == at.at + 60_000
    at.tick(59.0)
    assert said(at) == [""]
    at.tick(2.0)
    assert said(at) == ["no"]
    assert at.last(ev.ApprovalAnswered).comment == "nobody answered in time"
    assert isinstance(at.refused(inp.Permit(at=0, ask="a/1", allowed=True)), Conflict)


def test_an_answer_that_comes_with_the_end_of_its_time_is_too_late() -> None:
    at = desk(answer_within=60.0)
    ask(at)
    (answer,) = at.say(inp.Permit(at=0, ask="a/1", allowed=True), after=60_000)
    assert isinstance(answer, Conflict)
    assert said(at) == ["no"]


def test_always_holds_for_the_same_shape_in_this_session_and_answers_whoever_asks_it_now() -> None:
    at = desk()
    ask(at)
    ask(at, "b")
    ask(at, "b", command="rm x", key="2")
    say(at, always=True)
    assert (said(at), said(at, "b")) == (["yes"], ["yes", ""])
    assert ask(at, key="9").said == "yes"
    assert ask(at, key="10", command="npm install evil").said == ""


def test_always_never_beats_a_rule_that_says_never_and_a_fork_forgets_it() -> None:
    at = desk(ToolRule(do="never", command="rm *"))
    ask(at)
    say(at, always=True)
    assert ask(at, key="2", command="rm x", shape="s npm install zod").said == "no"
    assert at.state.standing
    at.tell(inp.ForkSession(at=0, session="f", origin="desk-1"))
    assert not at.state.standing


def test_rules_of_the_agent_come_before_those_of_the_session() -> None:
    at = desk(ToolRule(do="never", tool="Bash"), own=(ToolRule(do="always", command="npm install *"),))
    assert ask(at).said == "yes"
    refused = ask(at, key="2", command="make")
    assert (refused.said, refused.why) == ("no", "the rule `never tool=Bash`")
    assert at.last(ev.ApprovalAsked).verdict == "no"


def test_who_cannot_wait_for_an_answer_is_refused_what_is_asked() -> None:
    at = desk()
    answer = ask(at, can_ask=False)
    assert answer.said == "no"
    assert "cannot wait" in answer.why


def test_more_questions_than_anybody_can_answer_are_refused() -> None:
    at = desk()
    at.thorough = False
    for number in range(32):
        ask(at, key=f"{number}")
    at.refused(at.report(inp.Ask, "a", **{**_other(at), "key": "x"}))


@pytest.mark.parametrize("name", ["a", "a/", "a/9", "a/x", "/1", "", "nobody/1", "a/99999999999999999999", "a/\u0661"])
def test_what_nobody_asks_cannot_be_answered(name: str) -> None:
    at = desk()
    ask(at)
    assert isinstance(at.refused(inp.Permit(at=0, ask=name, allowed=True)), NotFound)


def test_a_question_is_answered_in_words_by_a_person_and_by_no_rule() -> None:
    at = desk(ToolRule(do="always"))
    assert ask(at, action=Action(tool="question")).said == "", "that everything may be done is no answer"
    for wrong in ({}, {"comment": "  "}, {"comment": "blue", "always": True}):
        assert isinstance(at.refused(inp.Permit(at=0, ask="a/1", allowed=True, by="ann", **wrong)), Invalid)
    say(at, comment="blue")
    assert (at.attempt("a").asks or {})[1].comment == "blue"
    strict = desk(ToolRule(do="never", tool="question"))
    assert ask(strict, action=Action(tool="question")).said == "no"
