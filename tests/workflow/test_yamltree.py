"""YAML as a tree with places, and its bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.errors import Invalid
from skep.workflow.problems import MAX_TOLD, Problems
from skep.workflow.yamltree import MAX_BYTES, MAX_DEPTH, MAX_NODES, Map, Mark, Node, Scalar, Seq, compose, decode, plain


def tree(text: str) -> Node:
    problems = Problems("f.yaml")
    node = compose(text, problems)
    problems.check()
    assert node is not None
    return node


def refused(text: str) -> str:
    with pytest.raises(Invalid) as caught:
        tree(text)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("12", 12),
        ("-1.5e3", -1500.0),
        ("0755", "0755"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2030-01-31", "2030-01-31"),
        ("1e999", "1e999"),
        (".inf", ".inf"),
        ("1234567890123456789", "1234567890123456789"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_only_what_json_knows_is_more_than_text(text: str, value: object) -> None:
    found = plain(tree(f"a: {text}"))["a"]
    assert (found, type(found)) == (value, type(value))


def test_every_value_and_key_knows_its_place() -> None:
    root = tree('# head\na:\n  - x\n  - é: {y: "z"}\n')
    assert isinstance(root, Map)
    inner = root.entries["a"]
    assert isinstance(inner, Seq)
    second = inner.items[1]
    assert isinstance(second, Map)
    places = [(node.line, node.column) for node in (root.keys["a"], inner.items[0], second.keys["é"], second.entries["é"])]
    assert places == [(2, 1), (3, 5), (4, 5), (4, 8)]


def test_merge_keys_bring_in_what_is_not_said_nearer() -> None:
    text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {<<: [*x, *y], c: 3}\nlone: {c: 4, <<: *y}"
    found = plain(tree(text))
    assert found["z"] == {"a": 1, "b": 1, "c": 3}
    assert found["lone"] == {"b": 2, "c": 4}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * (MAX_DEPTH + 1), f"f.yaml:1:{MAX_DEPTH + 1}: nested more than {MAX_DEPTH} deep"),
        ("a: &a " + "[" * 30 + "]" * 30 + "\nb: " + "[" * 30 + "*a" + "]" * 30, "f.yaml:2:34: nested more than 50 deep"),
        ("[" + "x," * MAX_NODES + "]", "more than 100000 values"),
        ("a: &a [x]\nb: &b [" + "*a," * 1000 + "]\nc: [" + "*b," * 100 + "]", "f.yaml:3:4: more than 100000 values"),
        ("a: &a {k: x}\nb: &b {<<: [" + "*a," * 1000 + "]}\nc: [" + "*b," * 100 + "]", "f.yaml:3:4: more than 100000 values"),
        ("a: &a [1, *a]", "f.yaml:1:11: *a stands inside the value that it stands for"),
        ("a: " + "x" * MAX_BYTES, "f.yaml:1:1: the file is larger than 1048576 bytes"),
        ("a: é\x07", "f.yaml:1:5: the character '\\x07' cannot stand in YAML"),
        ("\ud800", "cannot stand in YAML"),
        ("? [a]\n: b", "f.yaml:1:3: a key must be text"),
        ("? \\n: b", "f.yaml:1:3: a key must be text"),
        ("a: !!binary aGk=", "the tag '!!binary' is not supported"),
        ("a: @b", "f.yaml:1:4: this character cannot begin a text"),
        ("- a\nb: c", "f.yaml:2:1: this does not belong to the list above"),
        ("%YAML 3.0\n---\na", "this is not YAML"),
        (" ", "f.yaml:1:1: the file is empty"),
    ],
)
def test_what_cannot_be_read_says_why_and_where(text: str, says: str) -> None:
    assert says in refused(text)


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert plain(tree("\ufeffa: 1")) == {"a": 1}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("a: é\n".encode() + b"b: caf\xe9", "f.yaml:2:7: the byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("a: b".encode("utf-16"), "f.yaml:1:1: UTF-16; save the file as UTF-8"),
    ],
)
def test_other_encodings_are_named(data: bytes, says: str) -> None:
    problems = Problems("f.yaml")
    assert decode(data, problems) is None
    with pytest.raises(Invalid) as caught:
        problems.check()
    assert caught.value.message == says


def test_the_search_ends_when_enough_is_wrong() -> None:
    said = refused("\n".join(["a: 1"] * 200))
    assert said.count("is here twice") == MAX_TOLD
    assert said.endswith(f"only {MAX_TOLD} are told at once")


def test_one_problem_is_told_once_and_all_in_the_order_of_the_file() -> None:
    problems = Problems("f")
    for line, column, what in ((10, 1, "c"), (2, 9, "b"), (2, 9, "b"), (2, 3, "a")):
        problems.add(Mark(line, column), what)
    with pytest.raises(Invalid) as caught:
        problems.check()
    assert caught.value.message == "f:2:3: a\nf:2:9: b\nf:10:1: c"


text = st.text(alphabet=st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=9)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=20,
)


def written(value: Any) -> str:
    """The value in YAML's flow style, every text in single quotes."""
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(key)}: {written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)


@given(values)
def test_what_is_written_is_what_is_read(value: Any) -> None:
    assert plain(tree(written(value))) == value


@given(values)
def test_a_tree_knows_its_size(value: Any) -> None:
    def size(node: Node) -> int:
        inner: list[Node] = []
        if not isinstance(node, Scalar):
            inner += node.items if isinstance(node, Seq) else node.entries.values()
        keys = len(node.entries) if isinstance(node, Map) else 0
        return 1 + keys + sum(map(size, inner))

    node = tree(written(value))
    assert node.size == size(node)
