"""Old finished tasks leave the live state, and nobody notices: counts, needs, retries, items, keys."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from skep.core import inputs as inp
from skep.core import state as state_module
from skep.core.model import Foreach
from skep.core.state import pack, unpack
from skep.errors import Conflict, NotFound
from tests.core.desk import Desk, run


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with patch.object(state_module, "KEEP_FINISHED", 3), patch.object(state_module, "LEAVE_TOGETHER", 2):
        yield


def pass_by(desk: Desk, count: int = 12) -> None:
    """Other tasks come and go, so that whatever may leave does."""
    for _ in range(count):
        desk.ok(*desk.submit(run()))


def test_done_tasks_leave_oldest_first_and_stay_counted() -> None:
    desk = Desk()
    for n in range(20):
        desk.submit(run(f"n{n}"))
        desk.ok(f"n{n}", result=n)
        assert len(desk.state.finished) <= 5
        assert desk.state.counts == {"done": n + 1}
        assert desk.state.open_tasks == 0
    assert list(desk.archive) == [f"n{n}" for n in range(len(desk.archive))]
    assert len(desk.archive) + len(desk.state.entries) == 20
    entry = desk.archive["n0"]
    assert (entry.state, entry.result) == ("done", 0)
    assert unpack(pack(entry)) == entry


def test_what_an_open_task_needs_stays() -> None:
    desk = Desk()
    desk.submit(run("a"), run("wait"), run("b", "a", "wait", condition="needs.a.result == 'x'"))
    desk.ok("a", result="x")
    pass_by(desk)
    assert "a" in desk.state.entries
    desk.ok("wait")
    assert desk.entry("b").state == "running"
    desk.ok("b")
    pass_by(desk)
    assert {"a", "b", "wait"} <= set(desk.archive)


def test_dead_letters_stay_with_what_they_need_and_what_was_skipped_for_want_of_them() -> None:
    desk = Desk()
    desk.submit(run("a"), run("b", "a"), run("c", "b"), run("d", "c"))
    desk.ok("a", result="x")
    desk.fail("b")
    pass_by(desk, 30)
    assert {"a", "b", "c", "d"} <= set(desk.state.entries)
    desk.retry("b")
    desk.ok("b", "c", "d")
    pass_by(desk, 30)
    assert {"a", "b", "c", "d"} <= set(desk.archive)
    assert desk.state.counts["skipped"] == desk.state.counts["failed"] == 0


def test_cancelled_tasks_leave_with_all_that_fell() -> None:
    desk = Desk()
    desk.submit(run("a"), run("b", "a"), run("c", "b"))
    desk.cancel("a")
    pass_by(desk)
    assert "a" in desk.state.entries, "its processes are not gone"
    desk.gone("a")
    pass_by(desk, 20)
    assert {"a", "b", "c"} <= set(desk.archive)


def test_a_task_whose_needs_left_can_be_retried_and_knows_how_they_ended() -> None:
    desk = Desk()
    desk.submit(run("no", condition="failure()"), run("a"), run("b", "no", "a", condition="needs.no.state == 'skipped'"))
    desk.ok("a")
    desk.submit(run("hold"))
    desk.ok("b")
    desk.submit(run("late", "b", "hold"))
    pass_by(desk, 20)
    assert {"no", "a"} <= set(desk.archive)
    desk.retry("b")
    assert desk.entry("b").state == "running", "the one that was skipped is remembered as skipped"
    assert desk.entry("b").fates == {"no": "skipped"}


def test_a_done_need_of_a_finished_task_may_leave_before_it() -> None:
    desk = Desk()
    desk.submit(run("a"), run("b", "a"), run("hold"), run("c", "b", "hold"))
    desk.ok("a", "b")
    pass_by(desk)
    assert "a" in desk.archive
    assert "b" in desk.state.entries
    desk.retry("b")
    assert desk.entry("b").state == "running"


def test_what_is_retried_finds_dependents_gone() -> None:
    desk = Desk()
    desk.submit(run("a"), run("x", "a"))
    desk.fail("a")
    desk.submit(run("b", "a", condition="always()"))
    desk.ok("b")
    pass_by(desk, 20)
    assert "b" in desk.archive
    desk.retry("a")
    desk.ok("a")
    assert desk.entry("x").state == "running"


def test_the_archived_is_out_of_reach() -> None:
    desk = Desk()
    desk.ok(*desk.submit(run("a")))
    pass_by(desk)
    assert "a" in desk.archive
    for given in (inp.Retry(at=0, task="a"), inp.Cancel(at=0, tasks=("a",)), inp.Say(at=0, task="a", answer="approve")):
        error = desk.refused(given)
        assert isinstance(error, NotFound)
        assert "archive" in error.fix
    assert isinstance(desk.refused(inp.Submit(at=0, tasks=(run("a"),), known={"a": "done"})), Conflict)


def test_items_stay_until_their_foreach_is_over_and_then_leave() -> None:
    desk = Desk(at_once=9)
    desk.submit(run("list"), run("each", "list", foreach=Foreach(source="needs.list.result")), run("after", "each"))
    desk.ok("list", result=["a", "b", "c"])
    desk.ok("each[a]", "each[b]")
    pass_by(desk, 20)
    assert {"each[a]", "each[b]"} <= set(desk.state.entries)
    desk.ok("each[c]")
    desk.ok("after")
    pass_by(desk, 20)
    assert {"each", "each[a]", "each[b]", "each[c]"} <= set(desk.archive)


def test_a_failed_foreach_keeps_its_items() -> None:
    desk = Desk(at_once=9)
    desk.submit(run("list"), run("each", "list", foreach=Foreach(source="needs.list.result", fail_fast=False)))
    desk.ok("list", result=["a", "b"])
    desk.ok("each[a]")
    desk.fail("each[b]")
    pass_by(desk, 20)
    desk.retry("each")
    assert desk.running() == ["each[b]"]
    desk.ok("each[b]")
    assert desk.entry("each").state == "done"


def test_a_cancelled_foreach_and_its_items_leave_together_or_not_at_all() -> None:
    desk = Desk(at_once=9)
    desk.submit(run("list"), run("each", "list", foreach=Foreach(source="needs.list.result", max_parallel=1)))
    desk.ok("list", result=["a", "b"])
    desk.submit(run("hold"), run("late", "list", "hold"), run("after-a", "each[a]", "hold"))
    desk.ok("each[a]")
    desk.cancel("each")
    desk.gone("each[b]")
    for _ in range(20):
        pass_by(desk, 1)
        assert {"each", "each[a]", "each[b]"} <= set(desk.state.entries), "an item is still needed"
    desk.retry("each[b]")
    assert (desk.entry("each").state, desk.attempt("each[b]").locks) == ("expanded", ("\0foreach each",))
    desk.ok("each[b]", "hold", "late", "after-a")
    for _ in range(20):
        pass_by(desk, 1)
        there = {"each", "each[a]", "each[b]"} & set(desk.state.entries)
        assert len(there) in (0, 3)
    assert not there


def test_candidates_leave_with_their_task_also_those_that_failed() -> None:
    desk = Desk(at_once=9)
    desk.submit(run("best", candidates=("shell", "shell")))
    desk.fail("best[1]")
    desk.ok("best[2]")
    assert desk.entry("best").state == "done"
    pass_by(desk, 20)
    assert {"best", "best[1]", "best[2]"} <= set(desk.archive)


def test_nothing_leaves_twice_however_often_it_finishes() -> None:
    desk = Desk()
    desk.submit(run("a"), run("hold"), run("b", "a", "hold"))
    for _ in range(10):
        desk.ok("a")
        desk.retry("a")
    desk.ok("a")
    assert len(desk.state.finished) <= 5
    desk.ok("hold", "b")
    pass_by(desk, 20)
    assert list(desk.archive).count("a") == 1


def test_a_need_of_thousands_forgets_those_that_left() -> None:
    desk = Desk(thorough=False)
    desk.submit(run("a"), run("hold"), run("last", "a", "hold"))
    desk.ok("a")
    for n in range(100):
        desk.submit(run(f"n{n}", "a"))
        desk.ok(f"n{n}")
    assert len(desk.entry("a").dependents or ()) < 20
    desk.check()


def test_a_replay_without_a_snapshot_and_one_from_it_have_the_same_live_state() -> None:
    desk = Desk()
    for n in range(10):
        desk.submit(run(f"n{n}", *([f"n{n - 1}"] if n else [])))
        desk.ok(f"n{n}")
        desk.from_snapshot()
    assert desk.replayed().digest() == desk.state.digest()


def test_what_left_is_handed_over_once_and_not_again_after_a_restart() -> None:
    desk = Desk()
    for n in range(10):
        desk.submit(run(f"n{n}"))
        desk.ok(f"n{n}")
    assert desk.replayed().leaving == []
    assert desk.replayed().rebuild().leaving == []
