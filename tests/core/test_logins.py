"""A client that is not logged in: nobody's failure; a person is asked, once for each runtime."""

from __future__ import annotations

from typing import Any

import pytest

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.model import AgentSpec, Task
from skep.errors import Invalid
from tests.core.desk import Desk

CLAUDE, OTHER, CODEX = (
    AgentSpec(name="one", runtime="claude"),
    AgentSpec(name="two", runtime="claude"),
    AgentSpec(name="three", runtime="codex"),
)


def asking(*tasks: Task) -> Desk:
    """These tasks, all stopped by a login that is missing."""
    desk = Desk(CLAUDE, OTHER, CODEX)
    desk.submit(*tasks)
    for task in tasks:
        refused(desk, task.id)
    return desk


def refused(desk: Desk, task: str) -> None:
    """The attempt of a task meets a login that is not taken."""
    desk.tell(desk.report(inp.Ended, task, outcome="interrupted", cause="login", detail="Not logged in", commit="w"))


def prompt(name: str, agent: str, **more: Any) -> Task:
    """A task for one kind of agent."""
    return Task(id=name, prompt="x", agent=agent, **more)


def test_it_asks_and_counts_for_nothing_however_often() -> None:
    desk = asking(prompt("a", "one"))
    for _ in range(10):
        entry = desk.entry("a")
        assert (entry.state, entry.question, entry.cause, entry.detail) == ("needs-you", "login", "login", "Not logged in")
        assert (entry.failures, entry.interruptions, entry.wip) == (0, 0, "w")
        assert desk.running() == []
        desk.answer("a", "approve")
        assert desk.running() == ["a"]
        refused(desk, "a")


def test_who_logged_in_says_so_once_for_all_that_wait_for_the_same_client() -> None:
    desk = asking(prompt("a", "one"), prompt("b", "two"), prompt("c", "three"))
    desk.answer("a", "approve")
    assert desk.running() == ["a", "b"]
    assert desk.entry("c").question == "login"


def test_saying_so_is_no_yes_to_anything_else() -> None:
    desk = asking(prompt("a", "one", approve="after"))
    desk.answer("a", "approve")
    desk.ok("a")
    assert (desk.entry("a").state, desk.entry("a").question) == ("needs-you", "approve")


def test_another_agent_may_do_it_instead() -> None:
    desk = asking(prompt("a", "one"))
    desk.retry("a", agent="three")
    assert (desk.running(), desk.entry("a").agent) == (["a"], "three-1")


def test_agents_of_another_runtime_take_a_task_that_names_none_and_it_is_said() -> None:
    desk = Desk(CLAUDE, OTHER, CODEX)
    desk.submit(Task(id="a", prompt="x"))
    assert desk.attempt("a").agent == "one-1"
    refused(desk, "a")
    entry = desk.entry("a")
    assert (entry.state, desk.attempt("a").agent, entry.failures, entry.interruptions) == ("running", "three-1", 0, 0)
    ended = next(event for event in desk.events if isinstance(event, ev.AttemptEnded))
    assert ended.detail == "Not logged in; agents of another runtime may take it"
    desk.reload()
    refused(desk, "a")
    assert (desk.entry("a").state, desk.entry("a").question) == ("needs-you", "login"), "all of them refused it"
    desk.answer("a", "approve")
    assert desk.attempt("a").agent == "three-1", "this is the login that was asked for"


def test_while_those_of_another_runtime_are_at_work_it_waits_for_them_and_not_for_ever() -> None:
    desk = Desk(CLAUDE, CODEX)
    desk.submit(prompt("b", "three"), Task(id="a", prompt="x"))
    desk.submit(prompt("c", "three"))
    refused(desk, "a")
    assert desk.entry("a").state == "ready"
    desk.tick(3_601.0)
    assert desk.attempt("a").agent == "one-1"


@pytest.mark.parametrize(("answer", "state"), [("reject", "cancelled"), ("skip", "skipped")])
def test_a_person_may_do_without(answer: str, state: str) -> None:
    desk = asking(prompt("a", "one"))
    desk.answer("a", answer)
    assert desk.entry("a").state == state


def test_other_answers_do_not_fit() -> None:
    desk = asking(prompt("a", "one"))
    assert isinstance(desk.refused(inp.Say(at=0, task="a", answer="merge")), Invalid)


def test_a_stop_goes_before_it() -> None:
    desk = Desk(CLAUDE)
    desk.submit(prompt("a", "one"))
    desk.spawn("a")
    desk.tell(inp.Pause(at=0, stop=True, why="Ctrl-C"))
    refused(desk, "a")
    assert desk.entry("a").question == ""
