"""A record as a text: back as it was, nothing of it means anything to Markdown, and no text does harm."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.errors import Invalid
from skep.memory import Record
from skep.memory.readable import parse, render
from skep.memory.records import written
from tests.contracts.memory import ODD, VALUES, entry
from tests.memory.shapes import records

#: A line of a text outside a value: all that Markdown could take for something of its own is between backticks.
PLAIN = re.compile(r"# .*|## Value|Deleted\.|- [a-z]+: (`+)[^\n]*\1|")
#: Every sign of ASCII that could mean something in a heading, with nothing before it that takes its meaning away.
LIVE = re.compile(r"(?<!\\)(?:\\\\)*[!-/:-@\[\]^-`{-~]")


@given(records())
def test_a_record_comes_back_from_its_text(record: Record) -> None:
    found = parse(render(record))
    assert found == record
    for one, other in zip(found.entries, record.entries, strict=True):
        assert json.dumps([one.value, one.metadata], sort_keys=True) == json.dumps([other.value, other.metadata], sort_keys=True)
    assert render(found) == render(record)


@given(records())
def test_nothing_in_a_text_is_markdown_that_skep_did_not_write(record: Record) -> None:
    fence = ""
    for line in render(record).split("\n"):
        assert line.isprintable()
        if fence:
            assert "`" * len(fence) not in line or line == fence
            fence = "" if line == fence else fence
        elif line.endswith("json") and line.startswith("```"):
            fence = line.removesuffix("json")
        else:
            assert PLAIN.fullmatch(line), line
            if line.startswith("# "):
                assert not LIVE.search(line[2:].replace('""', "")), line
            elif item := re.fullmatch(r"- [a-z]+: (`+)(.*)\1", line):
                assert item[1] not in re.findall("`+", item[2])
    assert not fence


@given(st.text())
def test_any_text_is_a_record_or_invalid(text: str) -> None:
    with pytest.raises(Invalid, match="line"):
        parse(text)


@given(records(), st.data())
def test_a_text_that_was_spoiled_is_a_record_or_invalid(record: Record, data: st.DataObject) -> None:
    text = render(record)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    into = data.draw(
        st.text(max_size=5) | st.sampled_from(["`", "\n", "- ", "\n- stamp: `1`", "1e999", "NaN", "[" * 100, "9" * 5000])
    )
    try:
        found = parse(text[:start] + into + text[end:])
    except Invalid:
        return
    assert parse(render(found)) == found


@pytest.mark.parametrize("key", ODD)
def test_odd_keys_and_values_come_back(key: str) -> None:
    for value in VALUES:
        record = written(None, entry(key, value, namespace=key, tags=(key[:64],), metadata={key: key}))
        assert parse(render(record)) == record


@pytest.mark.parametrize(
    "value",
    [
        "9" * 5000,
        "[" * 100_000,
        "1e999",
        "NaN",
        "Infinity",
        '"\\ud800"',
        "{1: 2}",
        "",
        "'x'",
        "[1,]",
        '{"__proto__": 1}x',
        "!!python/x",
    ],
)
def test_what_is_no_value_is_refused(value: str) -> None:
    text = render(written(None, entry("k", "HERE")))
    with pytest.raises(Invalid, match=r"line \d+: this is no JSON"):
        parse(text.replace('"HERE"', value))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("# k", "# other", "heading is not its key"),
        ("# k", "", "no heading"),
        ("## Value", "## Something", "means nothing"),
        ("- kind: `", "- sort: `", "no 'sort'"),
        ('`"semantic"`', '`"gossip"`', "Invalid enum"),
        ("- kind: ", "- key: `1`\n- kind: ", "does not belong here"),
        ("- kind: ", "- trust: `1`\n- kind: ", "means nothing"),
        ("## Value", "Deleted.\n\n## Value", "means nothing"),
        ("```json", "```", "begins with"),
        ("\n```\n", "\n", "has no end"),
        ('"2023-11-14T22:13:20.000Z"', '"yesterday"', "no time"),
        ('"2023-11-14T22:13:20.000Z"', '"2023-13-45T22:13:20.000Z"', "no time"),
    ],
)
def test_what_cannot_be_read_says_where_and_why(old: str, new: str, why: str) -> None:
    text = render(written(None, entry("k", "x", updated=1_700_000_000_000)))
    assert old in text
    with pytest.raises(Invalid, match=rf"line \d+: .*{why}"):
        parse(text.replace(old, new, 1))


def test_editors_may_change_spaces() -> None:
    record = written(None, entry("k", {"a": ["x", 1]}, tags=("x",)))
    text = render(record)
    assert parse("\ufeff" + text.replace("\n", "\r\n")) == record
    assert parse(text.replace("\n\n", "\n\n\n") + "\n\n") == record


def test_a_change_is_a_small_difference() -> None:
    first = written(None, entry("k", {"a": 1, "b": [1, 2, 3]}, tags=("x",)))
    second = written(first, entry("k", {"a": 1, "b": [1, 2, 4]}, tags=("x",)))
    old, new = render(first).split("\n"), render(second).split("\n")
    assert len(old) == len(new)
    assert sum(one != other for one, other in zip(old, new, strict=True)) == 3  # clock, stamp, value
