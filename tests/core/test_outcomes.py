"""How tasks that need others follow from how those ended: conditions, skipping, and what counts as a failure."""

from __future__ import annotations

from itertools import product

import pytest

from skep.core import inputs as inp
from skep.core.model import Output
from tests.core.desk import Desk, run

ENDS = ("done", "failed", "skipped", "left out", "cancelled", "gave-up")


def ended(how: str) -> Desk:
    """A desk whose task `a` ended this way, while `ok` is done and `late` runs."""
    desk = Desk(at_once=9)
    desk.submit(run("ok"), run("late"))
    desk.ok("ok")
    if how == "skipped":
        desk.submit(run("bad"), run("a", "bad"))
        desk.fail("bad")
    elif how == "left out":
        desk.submit(run("a", "ok", condition="failure()"))
    else:
        desk.submit(run("a"))
        if how == "done":
            desk.ok("a", result="r")
        elif how == "failed":
            desk.fail("a")
        elif how == "cancelled":
            desk.cancel("a")
            desk.gone("a")
        else:
            for _ in range(5):
                desk.gone("a")
    assert desk.entry("a").state == {"left out": "skipped"}.get(how, how)
    return desk


def expect(how: str, condition: str) -> str:
    good, bad = how == "done", how not in ("done", "left out")
    runs = {
        "": good,
        "success()": good,
        "failure()": bad,
        "always()": True,
        "!success()": not good,
        "inputs.x == 'y'": False,
        "inputs.x != 'y'": good,
        "always() && inputs.x == 'y'": False,
        "needs.a.state == 'done'": good,
        "needs.a.state != 'done'": not good,
    }[condition]
    return "running" if runs else "skipped"


CONDITIONS = (
    *("", "success()", "failure()", "always()", "!success()", "inputs.x == 'y'", "inputs.x != 'y'"),
    *("always() && inputs.x == 'y'", "needs.a.state == 'done'", "needs.a.state != 'done'"),
)


@pytest.mark.parametrize(("how", "condition"), list(product(ENDS, CONDITIONS)))
def test_what_follows_from_how_a_need_ended(how: str, condition: str) -> None:
    """The same whether it ended before the task came or after, and after a restart."""
    desk = ended(how)
    desk.submit(run("x", "ok", "a", condition=condition), run("y", "a", "late", condition=condition))
    assert desk.entry("x").state == expect(how, condition)
    early = not condition or condition.startswith("inputs")
    if how != "done" and early:
        assert desk.entry("y").state == "skipped", "nothing that is still to come can change it"
    else:
        assert desk.entry("y").state == "waiting"
    desk.reload()
    desk.ok("late")
    assert desk.entry("y").state == expect(how, condition)


def test_what_an_if_left_out_is_nobodys_failure_however_far_down() -> None:
    desk = Desk()
    desk.submit(
        run("a"), run("b", "a", condition="failure()"), run("c", "b"), run("d", "c"), run("e", "d", condition="failure()")
    )
    desk.ok("a")
    assert desk.states() == {"a": "done", "b": "skipped", "c": "skipped", "d": "skipped", "e": "skipped"}
    assert {desk.entry(name).cause for name in "bcde"} == {"condition"}
    assert desk.entry("c").detail == "b is skipped"


def test_what_is_skipped_for_want_of_something_says_of_what() -> None:
    desk = Desk()
    desk.submit(
        run("a"), run("b", "a", condition="failure()"), run("x"), run("c", "b", "x"), run("d", "c", condition="failure()")
    )
    desk.ok("a")
    desk.fail("x")
    assert (desk.entry("c").cause, desk.entry("c").detail) == ("condition", "b is skipped")
    desk.submit(run("e", "b", "x"), run("f", "e", condition="failure()"))
    assert (desk.entry("e").cause, desk.entry("e").detail) == ("needs", "x is failed")
    assert desk.entry("f").state == "running"


def test_results_and_outputs_can_be_asked_for() -> None:
    desk = Desk(at_once=9)
    desk.submit(run("a"), run("b", "a", condition="needs.a.result.n == 1"), run("c", "a", condition="needs.a.outputs.x == 'yes'"))
    desk.submit(run("d", "a", condition="needs.a.exit_code == 3"), run("e", "a", condition="needs.nobody.result == 1"))
    desk.ok("a", result={"n": 1}, exit_code=3, outputs={"x": Output(digest="d", size=1, text="yes\n")})
    assert {name: desk.entry(name).state for name in "bcde"} == {"b": "running", "c": "running", "d": "running", "e": "skipped"}


def test_inputs_are_those_of_the_plan() -> None:
    desk = Desk()
    desk.submit(run("a", condition="inputs.deploy == 'yes'"))
    assert desk.entry("a").state == "skipped"
    assert desk.entry("a").detail == "if: inputs.deploy == 'yes'"


def test_a_task_is_ready_in_the_append_in_which_its_last_need_ended() -> None:
    desk = Desk(at_once=9)
    desk.submit(*(run(f"n{n}") for n in range(5)), run("x", *(f"n{n}" for n in range(5))))
    for n in range(4):
        desk.ok(f"n{n}")
        assert desk.entry("x").state == "waiting"
    desk.say(desk.report(inp.Ended, "n4", outcome="ok"))
    assert desk.entry("x").state == "running"


def test_a_need_that_fails_late_skips_at_once_and_only_once() -> None:
    desk = Desk(at_once=9)
    desk.submit(run("a"), run("b"), run("x", "a", "b"))
    desk.fail("a")
    assert desk.entry("x").state == "skipped"
    desk.fail("b")
    desk.reload()
    assert desk.entry("x").detail == "a is failed"
