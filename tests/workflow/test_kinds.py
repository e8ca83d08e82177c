"""Durations, sizes, moments and the other kinds of values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from skep.workflow.kinds import MAX_DURATION, MAX_SIZE, Duration, Flag, Kind, ListOf, Moment, Number, Size, Text
from skep.workflow.problems import Problems
from skep.workflow.yamltree import compose


def read(kind: Kind, text: str) -> Any:
    problems = Problems("f")
    node = compose(text, problems)
    assert node is not None
    value = kind.read(node, "it", problems)
    assert bool(problems) == (value is UNSET)
    return value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20m", 1200), ("2h", 7200), ("1h30m", 5400), ("1d 2h 3m 4s", 93784), ("90", 90), ("0", 0), ("0.5", 0.5), ("1.5h", 5400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert read(Duration(), text) == seconds


@pytest.mark.parametrize(
    "text", ["''", "-1", "'90'", "'20'", "m", "20 m", "1m1h", "20min", "367d", "1e300", "true", "[1]", "1h-", "٣m", "10:30"]
)
def test_what_is_no_duration(text: str) -> None:
    assert read(Duration(), text) is UNSET


@given(st.integers(0, 99), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_durations_add_up(days: int, hours: int, minutes: int, seconds: int) -> None:
    found = read(Duration(), f"{days}d{hours}h{minutes}m{seconds}s")
    assert found == ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    assert found <= MAX_DURATION


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("512MiB", 512 * 2**20), ("1.5kb", 1500), ("10 KiB", 10240), ("7B", 7), ("1024", 1024), ("1TiB", 2**40)],
)
def test_sizes(text: str, size: int) -> None:
    assert read(Size(), text) == size


@pytest.mark.parametrize("text", ["4G", "4Gi", "-1", "1.5", "GB", "4iB", "9999999TB", "true", "~"])
def test_what_is_no_size(text: str) -> None:
    assert read(Size(), text) is UNSET
    assert MAX_SIZE < 9_999_999 * 10**12


def test_moments() -> None:
    assert read(Moment(), "2h") == 7200
    assert read(Moment(), "90") == 90
    assert read(Moment(), "2030-01-31T18:00Z") == datetime(2030, 1, 31, 18, tzinfo=UTC)
    assert read(Moment(), "2030-01-31T18:00+01:00") == datetime(2030, 1, 31, 17, tzinfo=UTC)
    for text in ("2030-01-31T18:00", "2030-01-31", "soon", "9999-01-01T00:00Z", "1970-01-01T00:00Z", "2030-02-30T00:00Z", "[]"):
        assert read(Moment(), text) is UNSET


def test_text_is_what_was_written() -> None:
    assert [read(Text(), text) for text in ("true", "1.50", "on", "'x y'", "007")] == ["true", "1.50", "on", "x y", "007"]
    assert read(Text(), "~") is UNSET
    assert read(Text(), "' '") is UNSET
    assert read(Text(empty=True), "''") == ""
    assert read(Text(most=3), "four") is UNSET
    assert read(Text(pattern="[a-c]+"), "'abc\n\n'") is UNSET


def test_numbers_and_flags_are_not_taken_for_one_another() -> None:
    assert read(Number(0, 9), "true") is UNSET
    assert read(Number(0, 9), "1.0") is UNSET
    assert read(Number(0, 9, whole=False), "1.5") == 1.5
    assert read(Flag(), "1") is UNSET
    assert read(Flag(), "yes") is UNSET
    assert read(Flag(), "true") is True


def test_lists_hold_each_value_once_and_one_may_stand_alone() -> None:
    assert read(ListOf(Text(), single=True), "a") == ("a",)
    assert read(ListOf(Text()), "a") is UNSET
    assert read(ListOf(Text(), most=2), "[a, b, c]") is UNSET
    assert read(ListOf(Text(), distinct=False), "[a, a]") == ("a", "a")
