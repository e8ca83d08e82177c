"""What the screen, `status` and the report say of a session."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.core.model import TaskState
from skep.core.people import QUESTIONS
from skep.interfaces.cli import asks, picture
from skep.interfaces.cli.exits import exit_code
from skep.interfaces.cli.report import report
from skep.interfaces.cli.words import MARKS, Line
from skep.runtime.views import SHOWN, SessionView, TaskView
from tests.interfaces.cli.views import NOW, STATES, TASKS, task, view


def mark(state: str) -> str:
    return MARKS[state][0]


def text(lines: list[Line]) -> str:
    return "\n".join("".join(part for part, _ in line) for line in lines)


def shown(found: SessionView, most: int = 20, width: int = 100, **said: str) -> str:
    return text(picture.task_lines(found, mark, NOW, most, width, said))


@given(TASKS, st.integers(5, 40), st.integers(20, 200))
def test_the_lines_fit_the_window_and_account_for_every_task(tasks: list[TaskView], most: int, width: int) -> None:
    lines = picture.task_lines(view(*tasks), mark, NOW, most, width)
    together = sum(1 for state in picture.TOGETHER if any(one.state == state for one in tasks))
    assert len(lines) <= max(most, together + 1)
    apart = [one for one in tasks if one.state in picture.ORDER]
    begun = sum(1 for line in lines if len(line) > 2)
    hidden = sum(int(word) for word in text(lines[-1:]).replace(",", "").split() if word.isdecimal()) if begun < len(apart) else 0
    assert begun + hidden >= len(apart)


@given(TASKS)
def test_no_line_can_break_or_steer_the_terminal(tasks: list[TaskView]) -> None:
    for line in [*picture.task_lines(view(*tasks), mark, NOW, 99), *report(view(*tasks), mark, NOW)]:
        assert all("\n" not in part and "\x1b" not in part for part, _ in line)


def test_every_state_of_a_task_has_a_mark_and_a_place() -> None:
    shown = {SHOWN.get(state, state) for state in get_args(TaskState)}
    assert set(MARKS) == shown
    assert set(STATES) == {*picture.ORDER, *picture.TOGETHER} == shown - {"replaced"}


def test_the_screen_says_of_each_task_what_matters() -> None:
    found = shown(
        view(
            task("plan", "done"),
            task("api", "needs-you", question="approve", agent="c-1"),
            task("store", "parked", until=0, cause="limit", detail="rate limit"),
            task("limit", "running", stage="working"),
            task("cli", "running", attempts=2, most=3, cause="verify-failed", detail="test_flag failed"),
            task("wire", "waiting", waits=("api", "store")),
            task("lost", "failed", cause="exit", detail="exit code 3: boom"),
        ),
        limit="edit src/limit.ts",
    ).splitlines()
    assert found[0] == "✔ plan"
    assert found[1].split("  ")[0] == "! api"
    assert "NEEDS YOU: is its result good?  skep approve api  |  skep reject api" in found[1]
    assert found[2].endswith("failed after 1 try: exit code 3: boom")
    assert found[3].endswith("waits: limit: rate limit")
    assert found[4].endswith("1m40s  edit src/limit.ts")
    assert found[5].endswith("try 2/3: verify-failed: test_flag failed")
    assert found[6].endswith("waits: api, store")


def test_a_conflict_that_an_agent_resolves_is_said_in_words() -> None:
    found = shown(view(task("api", "running", stage="resolving", cause="conflict", detail="conflicts in a.txt", attempts=1)))
    assert found.rstrip().endswith("resolving a conflict")


def test_many_tasks_are_cut_and_counted() -> None:
    tasks = [task(f"t{n}", "running") for n in range(5)] + [task(f"w{n}", "waiting") for n in range(1500)]
    lines = shown(view(*tasks), most=4).splitlines()
    assert len(lines) == 4
    assert lines[-1] == "  ... 2 more running, 1,500 more waiting"
    done = shown(view(*(task(f"task-{n}", "done") for n in range(50))), width=40)
    assert done == "✔ task-0 task-1 task-2 ... 47 more"


def test_the_header_says_progress_time_commits_and_confinement() -> None:
    found = view(
        *(task(f"d{n}", "done", merged="abc") for n in range(4)),
        task("r", "running"),
        task("w", "waiting"),
        branch="main",
        base="b",
        confinement="unconfined",
    )
    line = text([picture.header(found, NOW)])
    assert line == "f-1  4/6 done  1m40s, ~5.0s left  main+4 commits  unconfined"
    assert text([picture.header(found, NOW, since=NOW - 3_000)]).split("  ")[2].startswith("3.0s")


def test_the_clock_of_a_session_stands_still_while_it_is_paused_and_when_it_is_over() -> None:
    paused = view(task("a", "ready"), state="paused", why="stopped", worked=42_000, resumed=0)
    assert "  42s  " in text([picture.header(paused, NOW)])
    over = view(task("a", "done"), state="completed")
    assert "  10s  " in text([picture.header(over, NOW)])


@pytest.mark.parametrize(
    "found",
    [
        view(task("a", "done"), task("b", "running")),
        view(*(task(f"d{n}", "done") for n in range(5)), task("n", "needs-you")),
        view(*(task(f"d{n}", "done") for n in range(5)), task("n", "ready"), state="paused", resumed=0),
        view(*(task(f"d{n}", "done") for n in range(5))),
        view(*(task(f"d{n}", "done") for n in range(5)), task("n", "ready"), idle="nobody carries it out"),
    ],
)
def test_time_left_is_not_guessed_without_ground(found: SessionView) -> None:
    assert picture.time_left(found, NOW) == 0.0


def test_every_question_of_the_core_has_words_and_commands_that_fit_its_answers() -> None:
    assert set(asks.ASKED) == set(QUESTIONS)
    for question, fitting in QUESTIONS.items():
        for line in asks.answers(question, "a b"):
            assert "'a b'" in line
            command, said = line.split()[1], line.rpartition("=")[2]
            if command in ("candidates", "plan", "retry"):
                continue  # it shows what there is to choose from, or sends the task round again instead of an answer
            if "--choose" in line:
                said = "choose"
            elif command in ("approve", "reject", "deny"):
                said = "approve" if command == "approve" else "reject"
            assert said in fitting, line


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (view(task("a", "done"), state="completed"), 0),
        (view(task("a", "done"), task("b", "failed", cause="exit"), state="failed"), 1),
        (view(task("a", "skipped", cause="needs"), state="closed"), 1),
        (view(task("a", "skipped", cause="condition"), state="closed"), 0),
        (view(task("a", "cancelled", cause="cancelled"), state="closed"), 1),
        (view(task("a", "ready"), state="paused", limit=True), 3),
        (view(task("a", "failed", cause="limit"), state="failed"), 3),
        (view(task("a", "needs-you"), task("b", "failed", cause="limit")), 4),
        (view(task("a", "needs-you"), state="paused", limit=True), 4),
        (view(task("a", "needs-you"), task("b", "failed"), state="paused"), 130),
        (view(task("a", "waiting")), 1),
    ],
)
def test_of_several_exit_codes_the_one_that_asks_most_wins(found: SessionView, code: int) -> None:
    assert exit_code(found) == code


def test_an_interrupted_command_ends_with_130_unless_all_was_done() -> None:
    assert exit_code(view(task("a", "failed"), state="failed"), interrupted=True) == 130
    assert exit_code(view(task("a", "done"), state="completed"), interrupted=True) == 0


def test_the_report_lists_each_task_counts_causes_and_says_what_is_next() -> None:
    found = view(
        task("a", "done", merged="0123456789abcdef"),
        task("b", "failed", cause="verify-failed", detail="make test: 2 failed", attempts=3),
        task("c", "skipped", cause="needs", detail="b is failed"),
        state="failed",
        base="x",
        tip="y",
    )
    lines = text(report(found, mark, NOW)).splitlines()
    assert lines[1].split() == ["✔", "a", "shell-1", "1", "try", "10s", "merged", "0123456789"]
    assert lines[2].endswith("failed: verify-failed: make test: 2 failed")
    assert "3 tries" in lines[2]
    assert "not done: 1 needs, 1 verify-failed" in lines
    assert [line[6:].split("  ")[0] for line in lines[5:]] == [
        "skep logs b",
        "skep retry b",
        "skep diff -s f-1",
        "skep merge f-1",
    ]


def test_the_report_of_a_large_session_is_bounded() -> None:
    tasks = [*(task(f"d{n}", "done") for n in range(9_000)), *(task(f"w{n}", "waiting") for n in range(900)), task("f", "failed")]
    lines = text(report(view(*tasks), mark, NOW)).splitlines()
    assert len(lines) < 20
    assert any("... 900 not begun" in line for line in lines)
    assert any("... 9,000 more" in line for line in lines)


def test_a_word_is_not_said_twice() -> None:
    assert picture.reason("replaced", "the plan was changed") == "the plan was changed"
