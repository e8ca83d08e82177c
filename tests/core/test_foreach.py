"""A foreach: one task per item of a list that an earlier task made."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

from skep.core import inputs as inp
from skep.core import settle
from skep.core.model import Entry, Foreach, Output, Task
from skep.core.turn import Turn
from skep.errors import Conflict
from tests.core.desk import Desk, run


def each(*needs: str, source: str = "needs.list.result", **more: Any) -> Task:
    task = {name: more.pop(name) for name in ("retries", "condition", "approve", "locks", "deadline", "merge") if name in more}
    return run("each", *(needs or ("list",)), foreach=Foreach(source=source, **more), **task)


def expanded(result: Any, **more: Any) -> Desk:
    """A desk with a list that is done, a foreach over it, and a task after it."""
    desk = Desk(at_once=9, base="c0")
    desk.submit(run("list"), each(**more), run("after", "each"))
    desk.ok("list", result=result)
    return desk


def test_there_is_a_task_per_item_and_the_foreach_is_done_when_all_are() -> None:
    desk = expanded(["a", "b"])
    assert desk.states() == {
        "list": "done", "each": "expanded", "after": "waiting", "each[a]": "running", "each[b]": "running"
    }  # fmt: skip
    child = desk.entry("each[a]").task
    assert (child.item, child.parent, child.foreach, child.needs, child.run) == ("a", "each", None, ("list",), "true")
    desk.ok("each[b]")
    desk.reload()
    assert desk.entry("each").state == "expanded"
    desk.ok("each[a]")
    assert (desk.entry("each").state, desk.entry("after").state) == ("done", "running")


@pytest.mark.parametrize("nothing", [[], "", "\n", "[]"])
def test_no_items_are_done_at_once(nothing: Any) -> None:
    desk = expanded(nothing)
    assert (desk.entry("each").state, desk.entry("each").children) == ("done", ())
    desk.retry("each")
    assert desk.entry("each").state == "done"


def test_items_come_from_an_output_too() -> None:
    desk = Desk(at_once=9)
    desk.submit(run("list"), each(source="needs.list.outputs.names", key="id"))
    desk.ok("list", outputs={"names": Output(digest="d", size=9, text='[{"id": "x y"}, {"id": 7}]')})
    assert desk.entry("each").children == ("each[x%20y]", "each[7]")


@pytest.mark.parametrize(
    ("result", "more", "why"),
    [
        (None, {}, "needs.list.result is not a list"),
        (7, {}, "is not a list"),
        ({"a": 1}, {}, "is not a list"),
        ("[1, ", {}, "looks like a JSON list and is none"),
        (["a", "a"], {}, "the key 'a', as one before it"),
        ([{"x": 1}], {"key": "id"}, "no field 'id'"),
        ([""], {}, "is no text and no number"),
        (["a", "b", "c"], {"max_items": 2}, "3 items, more than max_items: 2"),
        ([], {"source": "needs.list.outputs.names"}, "needs.list.outputs.names is not there"),
        ([], {"source": "needs.other.result"}, "needs.other.result is not there"),
    ],
)
def test_a_list_that_is_none_fails_the_foreach(result: Any, more: dict[str, Any], why: str) -> None:
    desk = expanded(result, **more)
    assert (desk.entry("each").state, desk.entry("each").cause) == ("failed", "error")
    assert why in desk.entry("each").detail
    assert desk.entry("after").state == "skipped"
    desk.retry("each")
    assert desk.entry("each").state == "failed"
    desk.retry("list")
    desk.ok("list", result=["a"])
    desk.retry("each")
    if not more:
        assert desk.entry("each").state == "expanded"


def test_the_first_failed_item_cancels_the_others() -> None:
    desk = expanded(["a", "b", "c"])
    desk.ok("each[a]")
    desk.fail("each[b]")
    assert desk.states()["each[c]"] == "cancelled"
    entry = desk.entry("each")
    assert (entry.state, entry.cause, entry.detail) == ("failed", "needs", "2 of 3 items failed: each[b], each[c]")
    assert desk.entry("each[c]").detail == "each[b] failed and fail_fast is set"


def test_an_item_that_is_being_merged_is_let_through() -> None:
    desk = expanded(["a", "b", "c"])
    desk.ok("each[a]", commit="c1")
    desk.fail("each[b]")
    assert desk.states()["each"] == "expanded"
    desk.merged("m1")
    assert (desk.states()["each[a]"], desk.states()["each"]) == ("done", "failed")


def test_without_fail_fast_the_others_go_on() -> None:
    desk = expanded(["a", "b", "c"], fail_fast=False)
    desk.fail("each[b]")
    assert desk.running() == ["each[a]", "each[c]"]
    desk.ok("each[a]", "each[c]")
    assert desk.entry("each").detail == "1 of 3 items failed: each[b]"


def test_items_have_the_tries_of_their_foreach() -> None:
    desk = expanded(["a"], retries=1)
    desk.fail("each[a]")
    assert desk.running() == ["each[a]"]
    desk.ok("each[a]")
    assert desk.entry("each").state == "done"


@pytest.mark.parametrize("fail_fast", [True, False])
@pytest.mark.parametrize("who", ["each", "each[b]"])
def test_a_failed_foreach_or_its_item_goes_round_again_without_what_is_done(who: str, fail_fast: bool) -> None:
    desk = expanded(["a", "b", "c"], fail_fast=fail_fast)
    desk.ok("each[a]")
    if not fail_fast:
        desk.ok("each[c]")
    desk.fail("each[b]")
    if fail_fast:
        desk.gone("each[c]")
    desk.retry(who)
    assert desk.states()["each"] == "expanded"
    assert desk.states()["after"] == "waiting"
    assert desk.running() == (["each[b]", "each[c]"] if fail_fast else ["each[b]"])
    desk.reload()
    desk.ok(*desk.running())
    assert (desk.states()["each"], desk.states()["after"]) == ("done", "running")
    assert desk.entry("each[a]").attempts == 1


def test_an_item_that_is_retried_while_others_go_on_counts() -> None:
    desk = expanded(["a", "b"], fail_fast=False)
    desk.fail("each[a]")
    desk.retry("each[a]")
    desk.ok("each[b]")
    assert desk.states()["each"] == "expanded"
    desk.ok("each[a]")
    assert desk.states()["each"] == "done"


def test_a_done_item_of_a_done_foreach_goes_round_again() -> None:
    desk = expanded(["a", "b"])
    desk.ok("each[a]", "each[b]")
    desk.retry("each[a]", comment="no")
    assert (desk.states()["each"], desk.running()) == ("expanded", ["after", "each[a]"])
    desk.fail("each[a]")
    assert desk.states()["each"] == "failed"


def test_retrying_a_foreach_that_goes_on_is_refused() -> None:
    assert isinstance(expanded(["a"]).refused(inp.Retry(at=0, task="each")), Conflict)


def test_items_fall_with_their_foreach() -> None:
    desk = expanded(["a", "b"])
    desk.ok("each[a]")
    assert set(desk.cancel("each")) == {"each", "each[b]", "after"}
    assert desk.states() == {
        "list": "done", "each": "cancelled", "after": "cancelled", "each[a]": "done", "each[b]": "cancelled"
    }  # fmt: skip
    desk.gone("each[b]")
    desk.retry("each")
    assert desk.running() == ["each[b]"]
    desk.ok("each[b]")
    assert desk.running() == ["after"]


def test_items_of_a_cancelled_foreach_stay_cancelled_when_what_they_need_goes_round_again() -> None:
    desk = expanded(["a", "b"], max_parallel=1)
    desk.cancel("each")
    desk.gone("each[a]")
    desk.retry("list")
    desk.ok("list", result=["a", "b"])
    assert {desk.states()[name] for name in ("each", "each[a]", "each[b]")} == {"cancelled"}
    desk.retry("each")
    assert desk.running() == ["each[a]"]


def test_a_foreach_that_fell_with_what_it_needs_comes_back_with_its_items() -> None:
    desk = expanded(["a", "b"], max_parallel=1)
    desk.retry("list")
    desk.cancel("list")
    desk.gone("list", "each[a]")
    desk.retry("list")
    assert (desk.states()["each"], desk.running()) == ("expanded", ["list"])
    desk.ok("list", result=["a", "b"])
    assert desk.running() == ["each[a]"]


def test_a_cancelled_item_alone_makes_its_foreach_incomplete_but_cancels_nobody() -> None:
    desk = expanded(["a", "b"])
    desk.cancel("each[a]")
    assert desk.running() == ["each[b]"]
    desk.ok("each[b]")
    assert desk.entry("each").detail == "1 of 2 items failed: each[a]"


def test_what_is_done_already_does_not_fall_with_the_foreach_it_belongs_to() -> None:
    desk = expanded(["a", "b"])
    desk.submit(run("x", "each[a]"))
    desk.ok("each[a]")
    desk.cancel("each")
    assert desk.states()["x"] == "running"


def test_a_foreach_that_always_runs_runs_its_items_although_a_need_failed() -> None:
    desk = Desk(at_once=9)
    desk.submit(run("list"), run("bad"), each("list", "bad", condition="always()"))
    desk.ok("list", result=["a"])
    desk.fail("bad")
    assert desk.running() == ["each[a]"]
    desk.ok("each[a]")
    assert desk.states()["each"] == "done"


def test_a_foreach_whose_condition_is_false_is_skipped_whole() -> None:
    desk = expanded(["a"], condition="failure()")
    assert desk.states() == {"list": "done", "each": "skipped", "after": "skipped"}


def test_approval_before_is_for_all_items_and_after_for_each() -> None:
    desk = expanded(["a", "b"], approve="before")
    assert desk.states()["each"] == "needs-you"
    desk.answer("each", "approve")
    assert desk.running() == ["each[a]", "each[b]"]
    desk = expanded(["a", "b"], approve="after")
    desk.ok("each[a]", "each[b]")
    assert desk.states()["each[a]"] == "needs-you"
    desk.answer("each[a]", "approve")
    assert desk.states()["each"] == "expanded"
    desk.answer("each[b]", "approve")
    assert desk.states()["each"] == "done"


def test_the_deadline_of_a_foreach_is_that_of_its_items() -> None:
    desk = expanded(["a", "b"], deadline=1_030_000)
    desk.ok("each[a]")
    desk.tick(60.0)
    assert desk.states() == {
        "list": "done", "each": "failed", "after": "skipped", "each[a]": "done", "each[b]": "failed"
    }  # fmt: skip
    assert desk.entry("each").cause == "deadline"


def test_results_of_items_can_be_asked_for_by_their_keys() -> None:
    desk = Desk(at_once=9)
    desk.submit(run("list"), each(), run("if", "each", condition="needs.each.outputs.a.x == 'yes'"))
    desk.ok("list", result=["a", "b"])
    desk.ok("each[a]", outputs={"x": Output(digest="d", size=4, text="yes\n")})
    desk.ok("each[b]")
    assert desk.states()["if"] == "running"


def test_a_foreach_over_a_foreach_takes_what_it_finds() -> None:
    desk = expanded(["a", "b"])
    desk.submit(run("more", "each[a]", foreach=Foreach(source="needs.list.result")))
    desk.ok("each[a]")
    assert desk.running() == ["each[b]", "more[a]", "more[b]"]


def test_many_items_end_one_by_one_without_a_look_at_all_of_them_each_time() -> None:
    desk = Desk(at_once=9, thorough=False)
    desk.submit(run("list"), each(fail_fast=False, max_items=10_000))
    desk.ok("list", result=list(range(3_000)))
    gather, looks = settle.gather, 0

    def count(turn: Turn, entry: Entry) -> None:
        nonlocal looks
        looks += 1
        gather(turn, entry)

    with patch.object(settle, "gather", count):
        for n in range(3_000):
            desk.ok(f"each[{n}]")
    assert desk.entry("each").state == "done"
    assert looks == 1
