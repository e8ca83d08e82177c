"""What is inferred of a task, and from what."""

from __future__ import annotations

import pytest

from skep.core.model import Task
from skep.workflow import complete
from skep.workflow.infer import FEW, MANY, TYPES


@pytest.mark.parametrize(
    ("task", "kind", "source"),
    [
        (Task(prompt="Write tests for the parser"), "testing", "'tests' in its prompt"),
        (Task(prompt="Fix the failing tests"), "debugging", "'fix' in its prompt"),
        (Task(prompt="Document ${{ needs.plan.outputs.plan }}"), "documentation", "'document' in its prompt"),
        (Task(prompt="Review the change"), "review", "'review' in its prompt"),
        (Task(prompt="Do as it says"), "general", "having `prompt` and no telling word"),
        (Task(prompt="whatever", objective="Audit the login"), "security", "'audit' in its objective"),
        (Task(run="make test"), "testing", "'test' in its run"),
        (Task(run=("ruff", "check", ".")), "validation", "'ruff' in its run"),
        (Task(run="./go.sh"), "command", "having `run` and no telling word"),
        (Task(call="jobs:benchmark_all"), "performance", "'benchmark' in its call"),
        (Task(call="a:b"), "function", "having `call` and no telling word"),
        (Task(prompt="a plan, a test"), "testing", "'test' in its prompt"),
    ],
)
def test_the_type_comes_from_the_words(task: Task, kind: str, source: str) -> None:
    found = complete(task)
    assert (found.type, found.inferred["type"]) == (kind, source)


@pytest.mark.parametrize(
    ("task", "complexity", "source"),
    [
        (Task(run="make"), "low", "the 1 words of its run"),
        (Task(prompt="do it " * FEW), "medium", f"the {2 * FEW} words of its prompt"),
        (Task(prompt="do it " * MANY), "high", f"the {2 * MANY} words of its prompt"),
        (Task(prompt="Migrate it"), "high", "'migrate' in its prompt"),
        (Task(prompt="do it", objective="Rewrite the store"), "high", "'rewrite' in its objective"),
    ],
)
def test_the_complexity_comes_from_length_and_words(task: Task, complexity: str, source: str) -> None:
    found = complete(task)
    assert (found.complexity, found.inferred["complexity"]) == (complexity, source)


def test_only_prompts_that_are_open_to_any_agent_wish_for_capabilities() -> None:
    assert complete(Task(prompt="Review it")).capabilities == ("code-review",)
    assert "capabilities" in complete(Task(prompt="Review it")).inferred
    assert complete(Task(prompt="Review it", agent="judge")).capabilities == ()
    assert complete(Task(prompt="Do it")).capabilities == ()
    assert complete(Task(run="make test")).capabilities == ()
    assert complete(Task(call="a:test")).capabilities == ()


def test_what_is_said_stays_and_is_not_called_inferred() -> None:
    said = Task(prompt="Review it", type="audit", complexity="high", capabilities=("analysis",), mode="none")
    assert complete(said) is said


def test_the_mode_is_filled_in() -> None:
    modes = [complete(task).mode for task in (Task(run="x"), Task(prompt="x"), Task(call="a:b"), Task(run="x", mode="shared"))]
    assert modes == ["isolated", "isolated", "none", "shared"]


def test_completing_twice_changes_nothing() -> None:
    once = complete(Task(prompt="Fix the bug"))
    assert complete(once) is once


def test_long_texts_are_read_only_at_their_beginning() -> None:
    assert complete(Task(prompt="x " * 100_000 + "test")).type == "general"


def test_every_word_is_reachable_as_a_beginning() -> None:
    for name, (_, beginnings) in TYPES.items():
        for word in beginnings:
            assert any(complete(Task(prompt=word)).type == kind for kind in list(TYPES)[: list(TYPES).index(name) + 1])
