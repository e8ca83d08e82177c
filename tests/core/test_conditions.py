"""The `if` language: what parses, what does not and how it is said, and what holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.core import conditions
from skep.core.conditions import All, Asked, Compared, Condition, Named, Not, Some, Value, evaluate, parse, paths, show
from skep.core.references import FACETS, Path, walk
from skep.errors import Invalid

KNOWN: dict[str, Any] = {
    "needs": {
        "build": {"state": "done", "result": {"count": 3, "list": [1, 2]}, "outputs": {"x": "yes\n", "empty": "\n"}},
        "lint": {"state": "failed"},
    },
    "inputs": {"count": "3", "deploy": "false", "name": "it's"},
    "item": {"name": "a", "flag": True},
    "success()": True,
    "failure()": False,
}


def lookup(path: Path) -> Any:
    return walk(KNOWN, path)


def holds(text: str) -> bool:
    return evaluate(parse(text), lookup)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "success()",
        "always()",
        "!failure()",
        "needs.build.state == 'done'",
        'needs.lint.state != "done"',
        "needs.build.outputs.x == 'yes'",
        "!needs.build.outputs.empty",
        "needs.build.result.count == 3",
        "needs.build.result.list.1 == 2",
        "inputs.count == 3",
        "inputs.deploy == false",
        "!inputs.deploy",
        "inputs.name == 'it''s'",
        "item.flag == true && item.name == 'a'",
        "needs.nobody.state == null",
        "false || true",
        "true && (false || !false)",
        "false && false || true",
        "-1.5e2 == -150",
    ],
)
def test_these_hold(text: str) -> None:
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "failure()",
        "!always()",
        "needs.build.state == 'Done'",
        "inputs.deploy",
        "inputs.count == 4",
        "1 == true",
        "0 == null",
        "'' == null",
        "true && (true && false)",
        "item.name == 'b' || item.nothing",
    ],
)
def test_these_do_not_hold(text: str) -> None:
    assert not holds(text)


def test_a_condition_silent_about_outcomes_asks_for_success_too() -> None:
    failed = {**KNOWN, "success()": False, "failure()": True}
    ends = {text: evaluate(parse(text), lambda path: walk(failed, path)) for text in ("inputs.count", "inputs.count && always()")}
    assert ends == {"inputs.count": False, "inputs.count && always()": True}
    assert evaluate(parse("needs.lint.state == 'failed'"), lambda path: walk(failed, path))
    assert evaluate(parse("!success()"), lambda path: walk(failed, path))


@pytest.mark.parametrize(
    ("text", "column", "says", "fix"),
    [
        ("a", 1, "nothing is called 'a'", "needs, inputs or item"),
        ("need.x.state", 1, "did you mean 'needs'?", ""),
        ("needs.x", 1, "does not say what of the task", "needs.TASK"),
        ("needs.x.stat", 1, "did you mean 'state'?", ""),
        ("needs.x.state.y", 1, "has no parts", ""),
        ("inputs.a.b", 1, "names no input", ""),
        ("success", 1, "nothing is called 'success'", "Write success() instead."),
        ("true and false", 6, "'and' cannot follow", "Write && instead."),
        ("not true", 1, "nothing is called 'not'", "Write ! instead."),
        ("True", 1, "nothing is called 'True'", "Write true instead."),
        ("item = 3", 6, "'=' means nothing here", "Write == instead."),
        ("true & true", 6, "'&' means nothing", "Write && instead."),
        ("item == ", 9, "expected a value, found the end", ""),
        ("(true", 6, "expected ')', found the end", ""),
        ("true)", 5, "cannot follow", ""),
        ("1 == 1 == 1", 8, "cannot be chained", "parentheses"),
        ("failed()", 1, "no function 'failed'; did you mean 'failure'?", ""),
        ("success(1)", 9, "expected ')', found '1'", ""),
        ("item == 'a", 9, "is not closed", ""),
        ("${{ item }}", 1, "without ${{ }}", ""),
        ("item == 1e999", 9, "too large", ""),
        ("item == 1a", 9, "means nothing", ""),
        ("!" * 40 + "true", 32, "nested more than 30 deep", ""),
        ("(" * 40 + "true", 32, "nested more than 30 deep", ""),
    ],
)
def test_what_is_wrong_is_said_with_its_column(text: str, column: int, says: str, fix: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text)
    assert f", column {column}: " in caught.value.message
    assert says in caught.value.message
    assert fix in caught.value.fix


def test_a_condition_has_a_longest_length() -> None:
    with pytest.raises(Invalid, match="1001 characters"):
        parse("t" * 1001)


def test_paths_are_named_in_the_order_of_the_text() -> None:
    found = paths(parse("!item.b || (needs.x.state == inputs.a && always())"))
    assert found == (("item", "b"), ("needs", "x", "state"), ("inputs", "a"))


names = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_-]{0,6}\Z")
needs_paths = st.one_of(
    st.tuples(st.just("needs"), names, st.sampled_from(FACETS)),
    st.tuples(st.just("needs"), names, st.just("outputs"), names),
)
any_path = st.one_of(
    needs_paths, st.tuples(st.just("inputs"), names), st.lists(names, max_size=3).map(lambda rest: ("item", *rest))
)
literals = st.one_of(
    st.text(max_size=8),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
)
leaves: st.SearchStrategy[Condition] = st.one_of(
    literals.map(Value), any_path.map(Named), st.sampled_from(conditions.FUNCTIONS).map(Asked)
)


def grown(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    parts = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.one_of(
        inner.map(Not), st.builds(Compared, st.sampled_from(("==", "!=")), inner, inner), parts.map(All), parts.map(Some)
    )


trees = st.recursive(leaves, grown, max_leaves=12).filter(lambda tree: len(show(tree)) <= conditions.MAX_LENGTH)


@given(trees)
def test_what_is_shown_parses_to_the_same_condition(tree: Condition) -> None:
    assert repr(parse(show(tree))) == repr(tree)


json = st.recursive(literals, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2), max_leaves=5)


@given(trees, json, st.booleans())
def test_evaluation_always_answers(tree: Condition, value: Any, there: bool) -> None:
    def anything(path: Path) -> Any:
        if not there:
            raise KeyError(path)
        return value

    assert evaluate(tree, anything) in (True, False)


@given(st.text(max_size=40) | st.text(alphabet="()!=&|'\" .-0e1anitemsuc", max_size=40))
def test_any_text_is_a_condition_or_invalid(text: str) -> None:
    try:
        tree = parse(text)
    except Invalid:
        return
    assert repr(parse(show(tree))) == repr(tree)
