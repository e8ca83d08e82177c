"""What reaches the terminal: text that cannot steer it, marks that it can show, JSON that is safe everywhere."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.interfaces.cli.out import Out
from skep.interfaces.cli.seemly import Seemly
from skep.interfaces.cli.tables import table, width
from skep.interfaces.cli.words import clean, clock, count, duration, one_line

PIECES = st.sampled_from(
    [
        "\x1b[31m",
        "\x1b]52;c;aGk=\x07",
        "\x1b]0;title\x1b\\",
        "\x1bP1$r\x1b\\",
        "\x9b6n",
        "\x1b[6n",
        "\x1b[?1000h",
        "\x1b",
        "\x07",
        "\x1b[2J",
        "\x1b[10;20H",
        "\x1bc",
        "\x1b(0",
        "\x1b[?25l",
        "\x1b[?1049h",
        "\x90q\x9c",
        "\x1b[>c",
        "\x1b[5;10r",
        "text",
        "ü✔漢",
        "\n",
        "\r\n",
        "\t",
        "\u202e",
        "[",
        "]",
        "?",
        ";",
        "1",
        "m",
    ]
)
TEXTS = st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=60)
#: All that may be left of escape sequences on the way to the user's terminal.
SHOWABLE = re.compile("\x1b\\[[0-9;:]*[ABCDEFGHJKLMPSTXdfmr@]|\x1b\\[\\?(?:7|25|1049)[hl]|\x1b[78DEM]|\x1b\\([0B]")


@given(TEXTS)
def test_no_control_character_survives_cleaning_and_cleaning_again_changes_nothing(text: str) -> None:
    cleaned = clean(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", cleaned)
    assert clean(cleaned) == cleaned


def test_an_open_escape_sequence_does_not_hide_what_follows() -> None:
    assert clean("a\x1b]0;never ended\nnext line") == "a0;never ended\nnext line"
    assert clean("a\x1b[31mred\x1b[0m, \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\") == "ared, link"


@given(TEXTS, st.integers(10, 300))
def test_one_line_is_one_line_of_at_most_so_many_characters(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert line.splitlines() in ([], [line])


@given(TEXTS)
def test_what_is_played_back_can_only_colour_move_and_erase(text: str) -> None:
    seemly = Seemly()
    shown = SHOWABLE.sub("", seemly.feed(text) + seemly.end())
    assert not re.search("[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]", shown)


@given(TEXTS, st.data())
def test_playing_back_in_pieces_shows_the_same_as_in_one(text: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(text)))
    whole, pieces = Seemly(), Seemly()
    # A closing newline ends whatever sequence is open, so that nothing is held back.
    assert whole.feed(text + "\n") == pieces.feed(text[:cut]) + pieces.feed(text[cut:] + "\n")


def test_the_other_screen_and_the_scroll_region_are_set_back_at_the_end() -> None:
    seemly = Seemly()
    assert seemly.feed("\x1b[?1049h\x1b[3;9r\x1b[?25lx") == "\x1b[?1049h\x1b[3;9r\x1b[?25lx"
    assert seemly.end() == "\x1b[?1049l\x1b7\x1b[r\x1b8\x1b[0m\x1b[?7h\x1b[?25h"
    assert Seemly().end() == "\x1b[0m\x1b[?7h\x1b[?25h"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0s"),
        (-3, "0.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (372, "6m12s"),
        (7500, "2h05m"),
        (90000, "1d01h"),
    ],
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_counts_and_times_read_well() -> None:
    assert (count(1, "task"), count(1200, "task"), count(2, "try", "tries")) == ("1 task", "1,200 tasks", "2 tries")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", clock(0))


class Screen(io.TextIOWrapper):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def terminal(encoding: str = "utf-8") -> tuple[Screen, io.BytesIO]:
    data = io.BytesIO()
    return Screen(data, encoding=encoding), data


def test_a_locale_without_utf_8_gets_marks_in_ascii() -> None:
    assert Out(terminal("ascii")[0]).mark("done") == "+"
    assert Out(terminal("latin-1")[0]).mark("failed") == "x"
    assert Out(terminal()[0]).mark("done") == "✔"


def test_a_table_fits_its_terminal_and_its_last_column_has_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    rows = [("größe/日本語", "long " * 40), ("e\u0301", "長い値" * 40), ("k", "short\nbut of two lines")]
    for columns, narrowest in ((80, 80), (120, 120), (20, 26)):
        monkeypatch.setenv("COLUMNS", str(columns))
        stream, data = terminal()
        table(("key", "value"), rows, Out(stream))
        lines = data.getvalue().decode().splitlines()
        assert max(map(width, lines)) in (narrowest - 1, narrowest), lines
        assert {
            width(line[: line.index(mark)]) for line, mark in zip(lines, ("value", "long", "長い", "short"), strict=True)
        } == {14}
        assert ("short but of two lines" in lines[3]) == (columns > 20)


def test_what_the_encoding_cannot_say_becomes_a_question_mark() -> None:
    stream, data = terminal("ascii")
    Out(stream).line("na\u00efve")
    assert data.getvalue() == b"na?ve\n"


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "dumb"}, False),
        ({}, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
    ],
)
def test_colour_goes_to_terminals_that_want_it(
    variables: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TERM", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream, data = terminal()
    Out(stream).line(("x", "red"))
    assert data.getvalue() == (b"\x1b[31mx\x1b[0m\n" if coloured else b"x\n")


def test_styled_text_is_cleaned_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream, data = terminal()
    Out(stream).line(("\x1b]0;evil\x07x", "red"), "\x9b2Jy")
    assert data.getvalue() == b"\x1b[31mx\x1b[0my\n"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_json_is_one_line_of_printable_ascii_and_says_the_same(text: str) -> None:
    stream = io.StringIO()
    Out(stream).json({"a": text})
    line = stream.getvalue()
    assert re.fullmatch(r"[ -~]*\n", line)
    assert json.loads(line) == {"a": text}


def test_a_closed_pipe_is_reported_once_and_then_nothing_is_written(tmp_path: Path) -> None:
    class Closed(io.TextIOWrapper):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    told: list[str] = []
    with (tmp_path / "file").open("wb") as file:
        out = Out(Closed(file), on_broken=lambda: told.append("broken"))
        out.line("a")
        out.line("b")
    assert told == ["broken"]
