"""Phases: what a gate waits for, what opens it, what it shuts, and what happens when something goes round again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.model import AgentSpec, Foreach, Output, Proposal, Task, Vote
from skep.core.phase import MAX_PHASES, channel_of, linked
from skep.errors import Conflict, Exhausted, Invalid, NotFound
from tests.core.desk import Desk, run

JUDGE = AgentSpec(name="judge", runtime="x", count=3)


def gate(phase: str, **more: Any) -> Task:
    return Task(id=f"gate:{phase}", phase=phase, gate=True, merge="never", **more)


def two(*, base: str = "", **first: Any) -> Desk:
    """A desk with the phases one (a, b) and two (c); more is said of the gate of the first."""
    desk = Desk(JUDGE, at_once=9, base=base)
    desk.submit(
        run("a", phase="one"), run("b", phase="one"), gate("one", **first), run("c", phase="two"), gate("two"), run("free")
    )
    return desk


def stand(desk: Desk) -> dict[str, str]:
    return {name: phase.state for name, phase in desk.state.phases.items()}


def test_a_phase_opens_when_everything_of_the_one_before_is_done() -> None:
    desk = two()
    assert desk.running() == ["a", "b", "free"]
    assert stand(desk) == {"one": "open", "two": "waiting"}
    desk.ok("a")
    assert desk.entry("c").state == "waiting"
    desk.ok("b")
    assert desk.entry("gate:one").state == "done"
    assert desk.running() == ["free", "c"]
    assert stand(desk) == {"one": "passed", "two": "open"}
    desk.ok("c", "free")
    assert stand(desk) == {"one": "passed", "two": "passed"}
    told = [event for event in desk.events if isinstance(event, ev.PhaseOpened | ev.PhaseEnded)]
    assert [(type(event).__name__, event.phase) for event in told] == [
        ("PhaseOpened", "one"),
        ("PhaseEnded", "one"),
        ("PhaseOpened", "two"),
        ("PhaseEnded", "two"),
    ]
    assert desk.last(ev.PhaseOpened).channel == channel_of("two") == "phase:two:coordination"


def test_nothing_of_a_later_phase_starts_whatever_its_condition_says() -> None:
    desk = Desk()
    desk.submit(run("a", phase="one"), gate("one"), run("c", phase="two", condition="always()"), gate("two"))
    desk.fail("a")
    assert desk.states() == {"a": "failed", "gate:one": "skipped", "c": "skipped", "gate:two": "skipped"}
    assert desk.entry("c").detail == "the gate of phase one was not passed: a is failed"
    assert stand(desk) == {"one": "failed", "two": "closed"}
    assert desk.state.phases["two"].why == "the gate of phase one was not passed: a is failed"


def test_what_an_if_left_out_is_in_nobodys_way() -> None:
    desk = Desk()
    desk.submit(
        run("a", phase="one"), run("b", "a", phase="one", condition="failure()"), gate("one"), run("c", phase="two"), gate("two")
    )
    desk.ok("a")
    assert desk.entry("b").state == "skipped"
    assert desk.running() == ["c"]


def test_a_gate_with_a_command_starts_from_what_its_phase_merged() -> None:
    desk = two(base="root", run="make test")
    desk.ok("a", commit="c1")
    desk.ok("b", commit="c2")
    desk.merged("m1")
    assert desk.entry("gate:one").state == "waiting"
    desk.merged("m2")
    assert desk.running() == ["free", "gate:one"]
    assert desk.attempt("gate:one").base == "m2"
    desk.ok("gate:one")
    assert "c" in desk.running()
    assert desk.state.phases["two"].base == "m2"


def test_a_gate_that_failed_shuts_what_follows_until_it_is_retried() -> None:
    desk = two(run="make test")
    desk.ok("a", "b")
    desk.fail("gate:one", detail="make: *** [test] Error 1")
    assert desk.entry("c").state == "skipped"
    assert desk.entry("c").detail == "the gate of phase one was not passed: make: *** [test] Error 1"
    assert stand(desk) == {"one": "failed", "two": "closed"}
    desk.reload()
    desk.retry("gate:one")
    assert desk.states()["c"] == "waiting"
    assert stand(desk) == {"one": "open", "two": "waiting"}
    desk.ok("gate:one")
    assert "c" in desk.running()


def test_a_gate_is_not_retried_before_what_failed_in_its_phase_is() -> None:
    desk = two()
    desk.fail("a")
    error = desk.refused(inp.Retry(at=0, task="gate:one"))
    assert isinstance(error, Conflict)
    assert "Retry 'a'" in error.fix
    desk.retry("a")
    assert stand(desk) == {"one": "open", "two": "waiting"}
    desk.ok("a", "b")
    assert "c" in desk.running()


def test_a_person_opens_a_gate_or_shuts_it() -> None:
    desk = two(approve="after")
    desk.ok("a", "b")
    assert (desk.entry("gate:one").state, desk.entry("gate:one").question) == ("needs-you", "gate")
    desk.answer("gate:one", "reject", comment="not yet")
    assert (desk.entry("gate:one").state, desk.entry("gate:one").cause) == ("failed", "rejected")
    assert desk.entry("c").detail == "the gate of phase one was not passed: not yet"
    desk.retry("gate:one")
    desk.answer("gate:one", "approve")
    assert "c" in desk.running()


def test_a_persons_yes_comes_after_the_command() -> None:
    desk = two(run="make test", approve="after")
    desk.ok("a", "b")
    desk.ok("gate:one")
    assert desk.entry("gate:one").question == "gate"
    desk.answer("gate:one", "approve")
    assert desk.entry("gate:one").state == "done"


def voted(desk: Desk, *votes: str, ballot: str = "") -> None:
    for number, choice in enumerate(votes, 1):
        said = msgspec.json.encode({"vote": choice or None, "reason": f"reason {number}"}).decode()
        name = f"gate:one[judge-{number}{ballot}]"
        if desk.entry(name).state == "running":
            desk.ok(name, outputs={"vote": Output(digest="d", size=len(said), text=said)})


@pytest.mark.parametrize(
    ("votes", "state", "detail"),
    [
        (("pass", "pass"), "done", "2 of 3 for pass"),
        (("stop", "pass", "stop"), "failed", "2 of 3 for stop; reason 1; reason 3"),
        (("pass", "stop", ""), "needs-you", "no decision: pass 1, stop 1, 1 abstained of 3, 2/3 needed"),
    ],
)
def test_a_gate_is_voted_on(votes: tuple[str, ...], state: str, detail: str) -> None:
    desk = two(vote=Vote(by="judge"))
    desk.ok("a", "b")
    assert desk.entry("gate:one").state == "expanded"
    desk.reload()
    voted(desk, *votes)
    assert (desk.entry("gate:one").state, desk.entry("gate:one").detail) == (state, detail)
    assert ("c" in desk.running()) == (state == "done")


def test_a_gate_that_was_voted_down_is_voted_on_again() -> None:
    desk = two(vote=Vote(by="judge", otherwise="fail"))
    desk.ok("a", "b")
    voted(desk, "stop", "stop")
    desk.gone("gate:one[judge-3]")
    desk.retry("gate:one")
    voted(desk, "pass", "", "", ballot=".2")
    assert (desk.entry("gate:one").state, desk.entry("gate:one").cause) == ("failed", "undecided")
    desk.retry("gate:one")
    voted(desk, "pass", "pass", ballot=".3")
    assert "c" in desk.running()


def test_a_vote_that_takes_too_long_is_counted_as_it_stands() -> None:
    desk = two(vote=Vote(by="judge", timeout=60.0, otherwise="fail"))
    desk.ok("a", "b")
    voted(desk, "pass")
    desk.tick(61)
    assert desk.entry("gate:one").cause == "undecided"


def test_a_task_that_goes_round_again_takes_the_gates_behind_it_along() -> None:
    desk = two()
    desk.ok("a", "b")
    assert "c" in desk.running()
    desk.retry("a")
    assert desk.states()["gate:one"] == "waiting"
    assert stand(desk) == {"one": "open", "two": "waiting"}
    desk.fail("c")
    desk.retry("c")
    assert desk.states()["c"] == "waiting", "its gate is to be passed anew"
    desk.ok("a")
    assert "c" in desk.running()


def test_what_joins_a_phase_later_is_waited_for() -> None:
    desk = two()
    desk.ok("a")
    desk.submit(run("late", phase="one"))
    desk.ok("b")
    assert desk.states()["gate:one"] == "waiting"
    desk.reload()
    desk.ok("late")
    assert "c" in desk.running()
    assert isinstance(desk.refused(inp.Submit(at=0, tasks=(run("later", phase="one"),))), Conflict)
    desk.submit(run("d", phase="two"))
    assert "gate:one" in desk.entry("d").task.needs


def test_a_phase_cannot_wait_for_what_comes_after_it() -> None:
    desk = two()
    desk.submit(run("d", "c"))
    error = desk.refused(inp.Submit(at=0, tasks=(run("e", "d", phase="one"),)))
    assert "needs what comes after it" in str(error)
    desk.refused(inp.Submit(at=0, tasks=(run("f", "c"), run("e", "f", phase="one"))))
    desk.submit(run("e", "d", phase="two"))


def test_what_is_needed_to_pass_a_failed_gate_can_join_its_phase() -> None:
    desk = two(run="make test")
    desk.ok("a", "b")
    desk.fail("gate:one")
    desk.submit(run("mend", phase="one"))
    desk.retry("gate:one")
    assert desk.states()["gate:one"] == "waiting"
    desk.ok("mend")
    desk.ok("gate:one")
    assert "c" in desk.running()


def test_what_a_task_proposes_belongs_to_its_phase() -> None:
    desk = two()
    desk.ok("a", proposal=Proposal(tasks=(Task(id="a-more", run="x", needs=("a",)),)))
    desk.ok("b")
    desk.answer("a", "approve")
    assert desk.entry("a-more").task.phase == "one"
    assert desk.states()["gate:one"] == "waiting"
    desk.ok("a-more")
    assert "c" in desk.running()
    desk = two()
    desk.ok("a", proposal=Proposal(tasks=(run("x", phase="mine"), gate("mine"))))
    assert "phases are for a plan" in desk.last(ev.TaskProposed).refused


def test_a_plan_brings_its_phases() -> None:
    desk = Desk()
    desk.submit(run("plan", plans=True))
    proposal = Proposal(tasks=(run("x", phase="one"), gate("one"), run("y", phase="two"), gate("two")))
    assert proposal.amount == 2, "gates are no work"
    desk.ok("plan", proposal=proposal)
    desk.answer("plan", "approve")
    assert desk.running() == ["x"]
    desk.ok("x")
    assert desk.running() == ["y"]


def test_items_and_candidates_are_of_their_tasks_phase() -> None:
    desk = Desk()
    foreach = Foreach(source="needs.a.outputs.list")
    desk.submit(
        run("a", phase="one"), run("each", "a", phase="one", foreach=foreach), gate("one"), run("c", phase="two"), gate("two")
    )
    desk.ok("a", outputs={"list": Output(digest="d", size=5, text='["x"]')})
    desk.ok("each[x]")
    assert desk.running() == ["c"]


def test_a_cancelled_task_shuts_its_gate() -> None:
    desk = two()
    desk.cancel("a")
    assert desk.states() | {"b": "", "free": ""} == {
        "a": "cancelled", "b": "", "gate:one": "cancelled", "c": "cancelled", "gate:two": "cancelled", "free": ""
    }  # fmt: skip
    assert stand(desk) == {"one": "failed", "two": "closed"}


def test_a_fork_judges_what_was_not_decided() -> None:
    desk = two(vote=Vote(by="judge"))
    desk.ok("a", "b")
    voted(desk, "pass")
    desk.tell(inp.ForkSession(at=0, session="desk-2", origin="desk-1"))
    desk.join("b2")
    voted(desk, "stop", "stop", ballot=".2")
    assert desk.entry("gate:one").state == "failed"


def test_another_plan_brings_other_phases() -> None:
    desk = two()
    desk.ok("a", "b")
    tasks = linked((run("a", phase="one"), run("b", phase="one"), gate("one"), run("d", phase="last"), gate("last")), {})
    plan = msgspec.structs.replace(desk.plan, tasks=tasks)
    desk.tell(inp.ChangePlan(at=0, plan=plan, keep=("a", "b", "gate:one")))
    assert stand(desk)["one"] == "passed"
    assert stand(desk)["last"] == "open"
    assert desk.running() == ["d"]


@pytest.mark.parametrize(
    ("tasks", "kind", "words"),
    [
        ((run("x", phase="nowhere"),), NotFound, "there is no phase 'nowhere'"),
        ((Task(id="g", phase="new", gate=True, merge="never"),), Invalid, "Call it 'gate:new'"),
        ((Task(id="gate:new", phase="new", gate=True),), Invalid, "does more than a gate does"),
        ((gate("new", prompt="x"),), Invalid, "does more than a gate does"),
        ((gate("new", run="x", vote=Vote(by="judge")),), Invalid, "both a command and a vote"),
        ((gate("new", vote=Vote(by="nobody")),), Invalid, "no agent is called 'nobody'"),
        ((gate("one"),), Conflict, "there is a task 'gate:one' already"),
        (tuple(gate(f"p{n}") for n in range(MAX_PHASES)), Exhausted, "phases, more than 50"),
    ],
)
def test_what_is_no_gate_or_no_phase_is_refused(tasks: tuple[Task, ...], kind: type, words: str) -> None:
    error = two().refused(inp.Submit(at=0, tasks=tasks))
    assert isinstance(error, kind)
    assert words in str(error)


def test_linking_twice_changes_nothing() -> None:
    tasks = linked((run("a", phase="one"), gate("one"), run("b", "a", phase="two"), gate("two")), {})
    assert [task.needs for task in tasks] == [(), ("a",), ("a", "gate:one"), ("b", "gate:one")]
    assert linked(tasks, {}) == tasks
