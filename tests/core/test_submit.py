"""What is accepted, and that everything else is refused before anything happens, with what to do about it."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core import intake
from skep.core import state as state_module
from skep.core import submit as submit_module
from skep.core.decide import decide
from skep.core.model import AgentSpec, Foreach, Resources, Retries, Task
from skep.core.state import State
from skep.errors import Conflict, Exhausted, Invalid, SkepError
from tests.core.desk import Desk, run

CODER = AgentSpec(name="coder", runtime="x", capabilities=("coding",))
DEEP: list[Any] = []
for _ in range(5_000):
    DEEP = [DEEP]


def spec(**more: Any) -> Task:
    return Task(**{"id": "new", "run": "true", **more})


REFUSED: list[tuple[Task, type[SkepError], str]] = [
    (spec(needs=("nobody",)), Invalid, "needs 'nobody', which does not exist"),
    (spec(needs=("a", "a")), Invalid, "names one of its needs twice"),
    (spec(needs=("new",)), Invalid, "in a circle: new -> new"),
    (spec(needs=tuple(f"n{n}" for n in range(1_001))), Invalid, "needs 1001 tasks, more than 1000"),
    (spec(id="a"), Conflict, "there is a task 'a' already"),
    (spec(id="t7"), Invalid, "'t7' cannot be a task's id"),
    (spec(id="x" * 201), Invalid, "cannot be a task's id"),
    (spec(id="a\nb"), Invalid, "cannot be a task's id"),
    (spec(id="a\x9bb"), Invalid, "cannot be a task's id"),
    (spec(id=" a"), Invalid, "cannot be a task's id"),
    (spec(id="each[x]"), Invalid, "cannot be a task's id"),
    (Task(id="new"), Invalid, "exactly one of run, call, prompt"),
    (spec(call="m:f"), Invalid, "exactly one of run, call, prompt"),
    (spec(prompt="x"), Invalid, "exactly one of run, call, prompt"),
    (spec(run=""), Invalid, "runs nothing"),
    (spec(run=()), Invalid, "runs nothing"),
    (spec(run=("",)), Invalid, "runs nothing"),
    (spec(run=None, prompt="x", agent="nobody"), Invalid, "no agent is called 'nobody'"),
    (spec(run=None, prompt="x", capabilities=("flying",)), Invalid, "lacks one of flying"),
    (spec(resources=Resources(cpu=99.0)), Invalid, "more than any node has"),
    (spec(resources=Resources(memory=99_000)), Invalid, "more than any node has"),
    (spec(resources=Resources(cpu=-1.0)), Invalid, "resources.cpu is -1.0"),
    (spec(resources=Resources(memory=-1)), Invalid, "resources.memory is -1"),
    (spec(resources=Resources(cpu=float("nan"))), Invalid, "resources.cpu is nan"),
    (spec(constraints={"os": "plan9"}), Invalid, "no node carries the labels os=plan9"),
    (spec(timeout=-1.0), Invalid, "timeout is -1.0"),
    (spec(timeout=float("inf")), Invalid, "timeout is inf"),
    (spec(deadline=-5), Invalid, "deadline is -5"),
    (spec(retries=-1), Invalid, "retries is -1"),
    (spec(retries=Retries(max=1, backoff=float("nan"))), Invalid, "retries.backoff is nan"),
    (spec(foreach=Foreach(source="needs.a.result", max_parallel=-1)), Invalid, "foreach.max_parallel is -1"),
    (spec(foreach=Foreach(source="needs.a.result", max_items=10_001)), Invalid, "max_items is more than 10000"),
    (spec(foreach=Foreach(source="the list")), Invalid, "task 'new': 'the list' is not a path"),
    (spec(condition="success("), Invalid, "task 'new': condition 'success('"),
    (spec(locks=("",)), Invalid, "cannot be a lock"),
    (spec(locks=("\0worktree",)), Invalid, "cannot be a lock"),
    (spec(parent="a"), Invalid, "says that another task made it"),
    (spec(item=1), Invalid, "says that another task made it"),
    (spec(args={"x": object()}), Invalid, "cannot be kept in the log"),
    (spec(args={"x": 2**70}), Invalid, "cannot be kept in the log"),
    (spec(args={"x": DEEP}), Invalid, "cannot be kept in the log"),
    (spec(objective="\ud800"), Invalid, "cannot be kept in the log"),
    (spec(priority="urgent"), Invalid, "cannot be kept in the log"),
    (spec(merge="perhaps"), Invalid, "cannot be kept in the log"),
    (spec(needs="abc"), Invalid, "cannot be kept in the log"),
    (spec(run=7), Invalid, "cannot be kept in the log"),
    (spec(resources=Resources(memory=2**70)), Invalid, "cannot be kept in the log"),
]


@pytest.mark.parametrize(("task", "kind", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_what_can_never_work_is_refused_and_changes_nothing(task: Task, kind: type[SkepError], message: str) -> None:
    desk = Desk(CODER)
    desk.submit(run("a"))
    for tasks in ((task,), (run("good"), task), (task, run("good"))):
        error = desk.refused(inp.Submit(at=0, tasks=tasks, key="k"))
        assert isinstance(error, kind)
        assert message in error.message
        assert error.fix
    desk.submit(run("good"), key="k")


@pytest.mark.parametrize(
    ("needs", "circle"),
    [
        ({"x": ("y",), "y": ("x",)}, {"x -> y -> x", "y -> x -> y"}),
        ({"x": ("z",), "y": ("x",), "z": ("y", "a")}, {"x -> z -> y -> x", "z -> y -> x -> z", "y -> x -> z -> y"}),
    ],
)
def test_a_circle_is_spelled_out(needs: dict[str, tuple[str, ...]], circle: set[str]) -> None:
    desk = Desk()
    desk.submit(run("a"))
    error = desk.refused(inp.Submit(at=0, tasks=tuple(run(name, *others) for name, others in needs.items())))
    assert error.message.removeprefix("tasks need each other in a circle: ") in circle


def test_needs_may_come_later_in_the_same_submission() -> None:
    desk = Desk()
    desk.submit(run("c", "b", "a"), run("b", "a"), run("a"))
    assert desk.running() == ["a"]
    desk.ok("a", "b", "c")
    assert set(desk.states().values()) == {"done"}


def test_tasks_without_an_id_are_numbered_with_all_the_others() -> None:
    desk = Desk()
    assert desk.submit(run(), run("named"), run()) == ("t1", "named", "t3")
    assert desk.submit(run(), run("other", "t1")) == ("t4", "other")


def test_two_tasks_of_one_submission_cannot_share_an_id() -> None:
    assert isinstance(Desk().refused(inp.Submit(at=0, tasks=(run("x"), run("x")))), Conflict)


def test_the_same_key_again_is_the_same_submission() -> None:
    desk = Desk()
    first = desk.submit(run(), run("x"), key="k")
    count = len(desk.events)
    assert desk.submit(run(), run("x"), key="k") == first == ("t1", "x")
    assert desk.submit(run("quite", "different"), key="k") == first
    assert len(desk.events) == count
    desk.reload()
    assert desk.submit(run(), key="k") == first
    assert desk.submit(run(), key="l") == ("t3",)


def test_a_submission_of_nothing_is_nothing() -> None:
    desk = Desk()
    count = len(desk.events)
    assert desk.submit(key="k") == ()
    assert len(desk.events) == count


def test_keys_are_remembered_up_to_a_bound_and_the_oldest_go_first() -> None:
    with patch.object(state_module, "KEEP_KEYS", 64):
        desk = Desk()
        for n in range(100):
            desk.submit(run(), run(), run(), key=f"k{n}")
            assert desk.state.keyed == sum(1 + len(ids) for ids in desk.state.keys.values()) <= 64
        kept = list(desk.state.keys)
        assert kept == [f"k{n}" for n in range(100 - len(kept), 100)]
        assert len(kept) >= 13
        desk.from_snapshot()
        desk.submit(run(), key="new")
        assert list(desk.state.keys) == [*kept, "new"][-len(desk.state.keys) :]
        desk.check()


def test_one_large_submission_is_remembered_even_above_the_bound() -> None:
    with patch.object(state_module, "KEEP_KEYS", 4):
        desk = Desk()
        desk.submit(run(), key="a")
        ids = desk.submit(*(run() for _ in range(9)), key="b")
        assert desk.submit(run(), key="b") == ids


def test_a_key_has_a_length() -> None:
    assert isinstance(Desk().refused(inp.Submit(at=0, tasks=(run(),), key="k" * 201)), Invalid)


def test_there_are_limits_to_how_many() -> None:
    with patch.object(submit_module, "MAX_TASKS", 2), patch.object(submit_module, "MAX_OPEN", 3):
        desk = Desk()
        assert "3 tasks in one submission" in desk.refused(inp.Submit(at=0, tasks=(run(), run(), run()))).message
        desk.submit(run(), run())
        error = desk.refused(inp.Submit(at=0, tasks=(run(), run())))
        assert isinstance(error, Exhausted)
        desk.ok("t1")
        desk.submit(run(), run())


def test_what_left_for_the_archive_is_known_by_what_the_caller_says() -> None:
    desk = Desk(CODER)
    asks = run("z", "bad", condition="needs.bad.state == 'skipped'")
    desk.submit(run("x", "good"), run("y", "bad"), asks, known={"good": "done", "bad": "skipped"})
    assert desk.states() == {"x": "running", "y": "skipped", "z": "running"}
    desk.submit(run("w", "good", condition="needs.good.state == 'done'"), known={"good": "done"})
    assert desk.entry("w").state == "running"
    error = desk.refused(inp.Submit(at=0, tasks=(run("v", "good"),), known={"good": "running"}))
    assert "does not exist" in error.message


def test_the_id_of_an_archived_task_is_taken() -> None:
    error = Desk().refused(inp.Submit(at=0, tasks=(run("old"),), known={"old": "done"}))
    assert isinstance(error, Conflict)


def test_a_closed_session_accepts_nothing() -> None:
    desk = Desk()
    desk.tell(inp.Close(at=0))
    assert isinstance(desk.refused(inp.Submit(at=0, tasks=(run(),))), Conflict)


def test_numbers_are_taken_in_as_what_they_are() -> None:
    """`timeout=5` is 5.0 after a replay; it must be so before."""
    desk = Desk()
    desk.submit(run("a", timeout=5, resources=Resources(cpu=1), retries=Retries(max=1, backoff=2)))
    task = desk.entry("a").task
    assert [type(number) for number in (task.timeout, task.retries.backoff)] == [float, float]  # type: ignore[union-attr]  # a struct
    desk.fail("a")
    desk.check()


def test_words_that_equal_a_default_are_written_as_it() -> None:
    desk = Desk()
    desk.submit(run("a", priority="".join(("nor", "mal")), merge="".join(("au", "to"))))
    desk.check()


def test_what_cannot_be_kept_is_refused_from_everybody() -> None:
    desk = Desk()
    desk.submit(run("a"))
    for given in (
        inp.Cancel(at=0, tasks=("a",), by="\ud800"),
        inp.Pause(at=0, why="\udcff"),
        inp.Mark(at=0, name="\udcff"),
        inp.DeclareAgents(at=0, specs=(AgentSpec(name="x", runtime="x", options={"x": object()}),)),
        inp.Retry(at=0, task="a", comment="\udcff"),
    ):
        assert "cannot be kept in the log" in desk.refused(given).message


def test_before_a_session_is_open_nothing_else_is_heard() -> None:
    state = State().rebuild()
    decision = decide(state, [inp.Submit(at=0, tasks=(run(),)), inp.Tick(at=0), inp.Pause(at=0)], 1, bytes(16))
    assert not decision.events
    assert all(isinstance(answer, Conflict) for answer in decision.answers)


def test_a_session_is_opened_once() -> None:
    desk = Desk()
    assert isinstance(desk.refused(inp.OpenSession(at=0, session="other", plan=desk.plan)), Conflict)


def test_time_does_not_go_back() -> None:
    desk = Desk()
    desk.submit(run("a"))
    last = desk.events[-1].at
    decision = decide(desk.state, [inp.Mark(at=0, name="m")], 5, bytes(16))
    assert [event.at for event in decision.events] == [last]


def test_checkpoints_have_names() -> None:
    desk = Desk()
    assert desk.tell(inp.Mark(at=0, name="m")) == desk.state.seq == desk.state.marks["m"]
    for name in ("", "x" * 101, "m"):
        assert desk.refused(inp.Mark(at=0, name=name)).message
    assert isinstance(desk.last(ev.SessionMarked), ev.SessionMarked)


def test_nobody_says_too_much() -> None:
    desk = Desk()
    desk.submit(run("a"))
    assert "comment is 40000 characters long" in desk.refused(inp.Retry(at=0, task="a", comment="x" * 40_000)).message
    assert "why is 40000" in desk.refused(inp.Pause(at=0, why="x" * 40_000)).message
    with patch.object(intake, "MAX_INPUT", 1_000):
        error = desk.refused(inp.Submit(at=0, tasks=(run("b", objective="x" * 1_000),)))
        assert isinstance(error, Exhausted)
