"""`${{ path }}` in prompts, and the items of a foreach."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skep.core.model import Foreach
from skep.core.references import MAX_KEY, MAX_RENDERED, Path, child_id, find, items, parse_path, render, walk
from skep.errors import Invalid

KNOWN = {
    "needs": {"plan": {"outputs": {"plan": "do ${{ item }}"}, "result": {"n": [1, {"a": None}]}}},
    "inputs": {"issue": "412"},
    "item": {"name": "x"},
}


def lookup(path: Path) -> Any:
    return walk(KNOWN, path)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("", ""),
        ("no names", "no names"),
        ("fix ${{ inputs.issue }}!", "fix 412!"),
        ("${{inputs.issue}}${{ item.name }}", "412x"),
        ("${{ item }} ${{ needs.plan.result.n }}", '{"name":"x"} [1,{"a":null}]'),
        ("${{ needs.plan.result.n.1.a }}", "null"),
        ("${{ needs.plan.outputs }}", '{"plan":"do ${{ item }}"}'),
        ("what is put in stays: ${{ needs.plan.outputs.plan }}", "what is put in stays: do ${{ item }}"),
        ("$${{ literal }} $$ ${HOME} {{ x }}", "${{ literal }} $$ ${HOME} {{ x }}"),
    ],
)
def test_names_are_looked_up_and_nothing_else_happens(text: str, rendered: str) -> None:
    assert render(text, lookup) == rendered


@pytest.mark.parametrize("path", ["needs.other.state", "item.age", "item.name.first", "needs.plan.result.n.7", "inputs.none"])
def test_a_name_that_is_not_there_is_an_error(path: str) -> None:
    with pytest.raises(Invalid, match="is not there"):
        render(f"${{{{ {path} }}}}", lookup)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("one\n${{ item.name\n}}", "line 2: '${{' is not closed"),
        ("${{ }}", "line 1: '' is not a path"),
        ("${{ item.name || 3 }}", "is not a path"),
        ("${{ input.issue }}", "did you mean 'inputs'?"),
        ("${{ needs.plan.output.x }}", "did you mean 'outputs'?"),
    ],
)
def test_a_malformed_reference_names_its_line(text: str, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        find(text)
    assert says in caught.value.message


def test_a_prompt_cannot_grow_without_end() -> None:
    with pytest.raises(Invalid, match="longer than"):
        render("${{ item }}" * 3, lambda path: "x" * (MAX_RENDERED // 2))


@given(st.text(), st.text())
def test_text_around_a_reference_stays_as_it_is(before: str, after: str) -> None:
    before, after = before.replace("$", ""), after.replace("$", "")
    assert render(f"{before}${{{{ item }}}}{after}", lambda path: "X") == f"{before}X{after}"


@given(st.text(alphabet="${} \nitem.name", max_size=40))
def test_any_text_renders_or_is_invalid(text: str) -> None:
    with contextlib.suppress(Invalid):
        assert isinstance(render(text, lookup), str)


def each(key: str = "", most: int = 100) -> Foreach:
    return Foreach(source="needs.plan.outputs.list", key=key, max_items=most)


@pytest.mark.parametrize(
    ("value", "key", "expected"),
    [
        (["a", "b"], "", [("a", "a"), ("b", "b")]),
        ('["a", 7, true]', "", [("a", "a"), ("7", 7), ("true", True)]),
        (" a b \n\nc\n", "", [("a%20b", "a b"), ("c", "c")]),
        ([{"n": "x"}, {"n": 2}], "n", [("x", {"n": "x"}), ("2", {"n": 2})]),
        ([{"n": "x"}, [1]], "", [("0", {"n": "x"}), ("1", [1])]),
        (["src/a.py", "é", "[x]", "%"], "", [("src%2Fa.py", "src/a.py"), ("%C3%A9", "é"), ("%5Bx%5D", "[x]"), ("%25", "%")]),
        ("", "", []),
        ([], "", []),
    ],
)
def test_items_get_keys_that_name_their_tasks(value: Any, key: str, expected: list[tuple[str, Any]]) -> None:
    assert items(value, each(key)) == expected


@pytest.mark.parametrize(
    ("value", "key", "says"),
    [
        ({"a": 1}, "", "is not a list"),
        (None, "", "is not a list"),
        ("[1,", "", "looks like a JSON list and is none"),
        ("[" * 100_000, "", "looks like a JSON list and is none"),
        (["a", "b", "a"], "", "item number 3 has the key 'a', as one before it"),
        (["1", 1], "", "item number 2 has the key '1'"),
        ([{"n": 1}], "name", "item number 1 has no field 'name'"),
        (["x"], "name", "item number 1 has no field 'name'"),
        ([{"n": None}], "n", "is no text and no number"),
        (["ok", ""], "", "the key of item number 2"),
        (list(range(101)), "", "has 101 items, more than max_items: 100"),
    ],
)
def test_a_list_that_cannot_be_used_says_which_item(value: Any, key: str, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        items(value, each(key))
    assert says in caught.value.message


@given(st.lists(st.text(min_size=1) | st.integers() | st.floats(allow_nan=False, allow_infinity=False), max_size=20))
def test_keys_are_short_plain_and_apart(value: list[str | int | float]) -> None:
    assume(len({str(one) for one in value}) == len(value))
    found = items(value, each())
    keys = [key for key, _ in found]
    assert len(set(keys)) == len(value)
    for key in keys:
        assert 0 < len(key) <= MAX_KEY
        assert key.isascii()
        assert not set(key) & set("[]/ \n'\"")
    assert items(value, each()) == found


def test_long_keys_stay_apart() -> None:
    (one, _), (two, _) = items(["x" * 500 + "1", "x" * 500 + "2"], each())
    assert one != two
    assert len(child_id("each", one)) == len("each[]") + MAX_KEY


@pytest.mark.parametrize("text", ["", ".", "needs", "item.", "a b", "item..x", "9.x", "item." + "x" * 2000])
def test_these_are_no_paths(text: str) -> None:
    with pytest.raises(Invalid):
        parse_path(text)
