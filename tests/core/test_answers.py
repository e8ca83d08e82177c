"""Every question a task may ask, every answer to it, and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from skep.core import inputs as inp
from skep.core.commands import Merge, StartAttempt
from skep.core.model import AgentSpec, Proposal, Task, Vote
from skep.core.people import QUESTIONS
from skep.errors import Conflict, Invalid, NotFound
from tests.core.desk import Desk, run


def asking(question: str) -> Desk:
    """A desk whose task `a` asks this."""
    desk = Desk(base="c0")
    match question:
        case "approve before":
            desk.submit(run("a", approve="before"), run("b", "a"))
        case "approve":
            desk.submit(run("a", approve="after"), run("b", "a"))
            desk.ok("a", commit="c1")
        case "merge":
            desk.submit(run("a", merge="ask"), run("b", "a"))
            desk.ok("a", commit="c1")
        case "conflict":
            desk.submit(run("a", on_conflict="ask"), run("b", "a"))
            desk.ok("a", commit="c1")
            desk.unmerged()
        case "rerun":
            desk.submit(run("a", recovery="ask"), run("b", "a"))
            desk.spawn("a")
            desk.gone("a")
        case "login":
            desk.submit(run("a"), run("b", "a"))
            desk.tell(desk.report(inp.Ended, "a", outcome="interrupted", cause="login", detail="Not logged in"))
        case "held":
            desk.submit(run("a"), run("b", "a"))
            desk.spawn("a")
            desk.tell(inp.Interrupt(at=0, task="a"))
            desk.gone("a")
        case "vote":
            desk = Desk(AgentSpec(name="judge", runtime="x", count=2), base="c0")
            desk.submit(run("a", candidates=("", ""), vote=Vote(by="judge")), run("b", "a"))
            desk.ok("a[1]", commit="c1")
            desk.ok("a[2]", commit="c2")
            desk.fail("a[judge-1]")
            desk.fail("a[judge-2]")
        case "gate":
            desk.submit(run("a", phase="one"), Task(id="gate:one", gate=True, phase="one", approve="after", merge="never"))
            desk.submit(run("b", "a", phase="two"), Task(id="gate:two", gate=True, phase="two", merge="never"))
            desk.ok("a")
        case "plan" | "proposal":
            desk.submit(run("a", plans=question == "plan"), run("b", "a"))
            desk.ok("a", commit="c1", proposal=Proposal(tasks=(Task(id="c", run="c"),)))
    assert (desk.entry(who(question)).state, desk.entry(who(question)).question) == ("needs-you", question)
    return desk


def who(question: str) -> str:
    """Who asks this."""
    return "gate:one" if question == "gate" else "a"


FOLLOWS = {
    ("approve before", "approve"): ("running", "waiting"),
    ("approve before", "reject"): ("cancelled", "skipped"),
    ("approve", "approve"): ("merging", "waiting"),
    ("approve", "reject"): ("running", "waiting"),
    ("gate", "approve"): ("done", "running"),
    ("gate", "reject"): ("failed", "skipped"),
    ("merge", "approve"): ("merging", "waiting"),
    ("merge", "merge"): ("merging", "waiting"),
    ("merge", "reject"): ("running", "waiting"),
    ("merge", "skip"): ("skipped", "skipped"),
    ("conflict", "rerun"): ("running", "waiting"),
    ("conflict", "reject"): ("running", "waiting"),
    ("conflict", "skip"): ("skipped", "skipped"),
    ("conflict", "merge"): ("merging", "waiting"),
    ("rerun", "rerun"): ("running", "waiting"),
    ("rerun", "skip"): ("skipped", "skipped"),
    ("held", "approve"): ("running", "waiting"),
    ("held", "rerun"): ("running", "waiting"),
    ("held", "reject"): ("cancelled", "skipped"),
    ("held", "skip"): ("skipped", "skipped"),
    ("login", "approve"): ("running", "waiting"),
    ("login", "rerun"): ("running", "waiting"),
    ("login", "reject"): ("cancelled", "skipped"),
    ("login", "skip"): ("skipped", "skipped"),
    ("vote", "choose"): ("merging", "waiting"),
    ("vote", "reject"): ("expanded", "waiting"),
    ("vote", "skip"): ("skipped", "skipped"),
    ("plan", "approve"): ("merging", "waiting"),
    ("plan", "reject"): ("running", "waiting"),
    ("plan", "skip"): ("cancelled", "skipped"),
    ("proposal", "approve"): ("merging", "waiting"),
    ("proposal", "reject"): ("running", "waiting"),
    ("proposal", "skip"): ("merging", "waiting"),
}


def test_every_question_and_answer_is_tested() -> None:
    assert set(FOLLOWS) == {(question, answer) for question, answers in QUESTIONS.items() for answer in answers}


@pytest.mark.parametrize(("question", "answer"), FOLLOWS)
def test_what_follows_from_an_answer(question: str, answer: str) -> None:
    desk = asking(question)
    desk.reload()
    desk.answer(who(question), answer, comment="words", choice="2")
    assert (desk.entry(who(question)).state, desk.entry("b").state) == FOLLOWS[question, answer]
    assert desk.entry(who(question)).question == ""
    if desk.entry(who(question)).state in ("running", "expanded"):
        start = next(owed for owed in desk.owed() if isinstance(owed, StartAttempt))
        assert start.feedback == "words"


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("answer", ["approve", "reject", "rerun", "skip", "merge", "choose", "perhaps"])
def test_an_answer_to_another_question_is_refused(question: str, answer: Any) -> None:
    if answer not in QUESTIONS[question]:
        error = asking(question).refused(inp.Say(at=0, task=who(question), answer=answer))
        assert isinstance(error, Invalid)
        assert all(word in error.fix for word in QUESTIONS[question])


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_asks_can_be_cancelled_retried_and_closed(question: str) -> None:
    desk = asking(question)
    desk.cancel(who(question))
    assert (desk.entry(who(question)).state, desk.entry("b").state) == ("cancelled", "cancelled")
    desk = asking(question)
    desk.retry(who(question))
    after = {"approve before": "needs-you", "gate": "needs-you", "vote": "expanded"}.get(question, "running")
    assert (desk.entry(who(question)).state, desk.entry("b").state) == (after, "waiting")
    desk = asking(question)
    desk.tell(inp.Close(at=0))
    assert (desk.entry(who(question)).state, desk.entry("b").state) == ("cancelled", "cancelled")


def test_who_asks_nothing_gets_no_answer() -> None:
    desk = Desk()
    desk.submit(run("a"))
    assert isinstance(desk.refused(inp.Say(at=0, task="a", answer="approve")), Conflict)
    assert isinstance(desk.refused(inp.Say(at=0, task="nobody", answer="approve")), NotFound)


def test_an_answer_without_words_leaves_what_the_task_was_told_before() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a", on_conflict="ask", objective="the title"), run("b"))
    desk.ok("a", commit="c1")
    (merge,) = (owed for owed in desk.owed() if isinstance(owed, Merge))
    assert [task.title for task in merge.tasks] == ["the title"]
    desk.unmerged(feedback="both changed x")
    desk.answer("a", "rerun")
    assert {owed.task.id: owed.feedback for owed in desk.owed() if isinstance(owed, StartAttempt)} == {
        "a": "both changed x",
        "b": "",
    }
    desk.ok("b", commit="c2")
    (merge,) = (owed for owed in desk.owed() if isinstance(owed, Merge))
    assert [task.title for task in merge.tasks] == ["b"]


def test_the_same_answer_twice_counts_once() -> None:
    desk = asking("approve")
    desk.answer("a", "approve")
    assert isinstance(desk.refused(inp.Say(at=0, task="a", answer="approve")), Conflict)


def test_approved_after_means_approved_each_time() -> None:
    desk = asking("approve")
    desk.answer("a", "reject", comment="no")
    desk.ok("a", commit="c2")
    assert desk.entry("a").question == "approve"
    desk.answer("a", "approve")
    desk.merged("m1")
    assert desk.entry("a").merged == "m1"


def test_approval_of_a_result_without_changes_is_its_end() -> None:
    desk = Desk(base="c0")
    desk.submit(run("a", approve="after"), run("b", approve="after", merge="never"))
    desk.ok("a")
    desk.ok("b", commit="c1")
    desk.answer("a", "approve")
    desk.answer("b", "approve")
    assert desk.states() == {"a": "done", "b": "done"}


def test_an_answer_that_would_run_a_task_waits_for_a_need_that_goes_round_again() -> None:
    desk = Desk()
    desk.submit(run("n"), run("a", "n", recovery="ask"), run("p", "n", approve="before"))
    desk.ok("n")
    desk.spawn("a")
    desk.gone("a")
    desk.retry("n")
    desk.answer("a", "rerun")
    desk.answer("p", "approve")
    assert desk.states() == {"n": "running", "a": "waiting", "p": "waiting"}
    desk.ok("n")
    assert desk.states() == {"n": "done", "a": "running", "p": "running"}
