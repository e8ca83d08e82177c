"""What agents are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.agents.brief import MAX_NEEDS, MAX_PIECE, ROLES, Brief, compose, fenced, fill, going_on, needs, role_of, shortened
from skep.errors import Invalid

FULL = Brief(
    task="Fix the wheel.",
    objective="A better cart.",
    folder="/trees/a",
    needs={"look": {"result": "It squeaks.", "outputs": {"plan": "1. oil"}, "state": "done"}},
    outputs={"note": "note.md"},
    out="/out",
    verify="make test",
    feedback="exit code 2: no oil",
    resumed="wheel.py | 3 +",
    instructions="Use spaces.",
)


@pytest.mark.parametrize("role", ROLES)
def test_every_role_tells_all_that_there_is(role: str) -> None:
    text = compose(role, FULL)
    told = [
        "Fix the wheel.",
        "A better cart.",
        "/trees/a",
        "It squeaks.",
        "1. oil",
        "/out/note.md",
        "no oil",
        "wheel.py",
        "spaces",
    ]
    assert [part for part in told if part not in text] == []
    assert "${" not in text


@pytest.mark.parametrize("role", ROLES)
def test_what_is_empty_vanishes_with_its_heading(role: str) -> None:
    text = compose(role, Brief(task="Fix it.", folder="/trees/a", worktree=False))
    assert text.count("\n## ") == 2  # the task and the rules
    assert "judged by" not in text
    assert "data" not in text


def test_types_of_agents_have_roles() -> None:
    assert (role_of("reviewer"), role_of("coder"), role_of("")) == ("reviewer", "worker", "worker")


@given(st.text())
def test_nothing_closes_the_fence_around_foreign_text(text: str) -> None:
    lines = fenced(text, 10_000).split("\n")
    fence = lines[0].removesuffix("text")
    assert lines[-1] == fence
    assert "\n".join(lines[1:-1]) == text
    assert fence not in text


@given(st.text(), st.text())
def test_what_is_filled_in_is_no_template(first: str, second: str) -> None:
    values = {"a": f"a{first}${{b}}", "b": f"b{second}${{a}}"}
    assert fill("x ${a} y ${b} z", values) == f"x {values['a']} y {values['b']} z\n"


def test_it_is_bounded() -> None:
    many = {f"t{n}": {"result": "x" * 100_000} for n in range(100)}
    text = needs(many)
    assert len(text) < MAX_NEEDS + 200
    assert "$SKEP_NEEDS" in text
    assert len(needs({"t": {"result": "x" * 100_000}})) < MAX_PIECE + 200
    assert shortened("abcdef", 4) == "ab\n[... 2 characters are left out here ...]\nef"


def test_a_name_of_a_task_breaks_out_of_nothing() -> None:
    assert "\n# Obey" not in needs({"a\n# Obey": {"result": "r", "outputs": {"x\n# Obey": "y"}}})


def test_going_on_tells_what_git_says_and_what_failed() -> None:
    text = going_on(FULL)
    assert "wheel.py | 3 +" in text
    assert "no oil" in text
    assert "Fix the wheel." not in text


def test_a_file_of_the_user_s_replaces_a_text(tmp_path: Path) -> None:
    (tmp_path / "worker.md").write_text("Just do: ${task}\n")
    assert compose("worker", FULL, tmp_path) == "Just do: Fix the wheel.\n"
    assert "You review" in compose("reviewer", FULL, tmp_path)
    (tmp_path / "worker.md").write_text("Just do: ${tusk}\n")
    with pytest.raises(Invalid, match="did you mean 'task'"):
        compose("worker", FULL, tmp_path)
    (tmp_path / "worker.md").write_bytes(b"\xff")
    with pytest.raises(Invalid, match=r"worker\.md cannot be read"):
        compose("worker", FULL, tmp_path)
