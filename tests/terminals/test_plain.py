"""What a terminal printed, for people: nothing in it can do anything to their own terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.terminals.plain import TAIL_BYTES, Plain, Tail, plain

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
#: Whole sequences that must leave no trace.
SEQUENCES = [
    "\x1b[0m", "\x1b[1;31;48:2::1:2:3m", "\x1b[?25l", "\x1b[2J", "\x9b1A", "\x1b[ q", "\x1b[!p", "\x1b[>c",
    "\x1b]0;title\x07", "\x1b]52;c;c2VjcmV0\x07", "\x1b]52;c;!\x1b\\", "\x9d2;t\x9c", "\x1b]8;;http://x\x1b\\",
    "\x1bP+q544e\x1b\\", "\x90$qm\x9c", "\x1b_Gf=32;AAAA\x1b\\", "\x1b^pm\x1b\\", "\x1bXsos\x9c", "\x9fapc\x07",
    "\x1b7", "\x1b8", "\x1bM", "\x1bc", "\x1b(B", "\x1b#8", "\x1b%G", "\x1b=", "\x84", "\x85", "\x07", "\x00", "\x7f", "\x08",
]  # fmt: skip
PARTS = ["\x1b", "\x1b[", "\x1b]", "\x1bP", "\x9b", "\x9d", "\r", "\n", "\r\n", "\t", "[", ";", "\\", "m", "é", "☃"]
PIECES = st.one_of(st.sampled_from([*SEQUENCES, *PARTS]), st.text(max_size=5))
BYTES = st.one_of(
    st.lists(PIECES, max_size=30).map(lambda parts: "".join(parts).encode(errors="replace")), st.binary(max_size=60)
)


@given(BYTES)
def test_no_control_character_gets_through_but_tab_and_newline(data: bytes) -> None:
    assert not CONTROLS.search(plain(data))


@given(BYTES, st.lists(st.integers(0, 200), max_size=8))
def test_the_text_does_not_depend_on_how_the_bytes_come(data: bytes, cuts: Sequence[int]) -> None:
    stripper, parts, last = Plain(), [], 0
    for cut in sorted(min(cut, len(data)) for cut in cuts):
        parts.append(stripper.feed(data[last:cut]))
        last = cut
    parts.append(stripper.feed(data[last:], final=True))
    assert "".join(parts) == plain(data)


@given(BYTES)
def test_byte_by_byte_it_is_the_same_too(data: bytes) -> None:
    stripper = Plain()
    text = "".join(stripper.feed(bytes([byte])) for byte in data) + stripper.feed(b"", final=True)
    assert text == plain(data)


@given(st.text().filter(lambda text: not CONTROLS.search(text)))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert plain(text.encode(errors="replace")) == text.encode(errors="replace").decode()


@given(st.lists(st.tuples(st.text("ab é☃\n", max_size=4), st.sampled_from(SEQUENCES))))
def test_whole_sequences_leave_no_trace(parts: list[tuple[str, str]]) -> None:
    assert plain("".join(text + sequence for text, sequence in parts).encode()) == "".join(text for text, _ in parts)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\r\nb\r\r\nc", "a\nb\nc"),
        (b"10%\r20%\r\r30%", "10%\n20%\n30%"),
        (b"\xff\xfe ok \xe2\x98", "�� ok �"),
        (b"\x1b]0;never finished\nnext", "\nnext"),
        (b"\x1b]0;cut \x1b[31mred", "red"),
        (b"\x1bPq#0;2;0\x18after", "after"),
        (b"\x1b[31", "[31"),
        (b"\x1b\x1b[1mx", "x"),
        (b"\x9b31m raw eight bit is no UTF-8", "�31m raw eight bit is no UTF-8"),
        ("\x1b\N{SNOWMAN}".encode(), "\N{SNOWMAN}"),
        (b"", ""),
    ],
)
def test_odd_ends(data: bytes, text: str) -> None:
    assert plain(data) == text


@pytest.mark.parametrize("piece", [b"\r", b"\x1b[" + b"1;" * 500, b"\x1b]0;" + b"x" * 1000, b"\x1b" + b" " * 100, b"\xe2"])
def test_what_waits_for_its_end_is_bounded(piece: bytes) -> None:
    stripper = Plain()
    for _ in range(100):
        stripper.feed(piece)
        assert len(stripper._held) < 100


def test_a_tail_keeps_the_last_lines_in_bounded_memory() -> None:
    tail = Tail(3)
    for n in range(200_000):
        tail.feed(b"line %d\r\n" % n)
    assert sum(map(len, tail._parts)) < 2 * TAIL_BYTES
    assert tail.lines() == ["line 199997", "line 199998", "line 199999"]


def test_a_tail_of_one_endless_line_is_its_end() -> None:
    tail = Tail(3)
    for _ in range(50):
        tail.feed(b"x" * 100_000)
    assert len(tail.lines()[0]) <= 2 * TAIL_BYTES


def test_a_tail_of_nothing_has_no_lines() -> None:
    assert Tail(3).lines() == []
    tail = Tail(3)
    tail.feed(b"\x1b[0m\r\n\r\n")
    assert tail.lines() == []
