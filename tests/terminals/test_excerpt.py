"""What is sent of a recording: all of it, or its beginning and its end with a mark between them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skep.terminals.excerpt import excerpt
from skep.terminals.transcript import Event, Recording

MOST = 64 * 1024
HEADER = {"version": 2, "width": 120, "height": 32}


def recorded(path: Path, *texts: tuple[str, str]) -> Recording:
    """A recording of such outputs (`o`) and marks (`m`)."""
    events = [json.dumps((n / 10, kind, text), ensure_ascii=False) for n, (kind, text) in enumerate(texts, 1)]
    path.write_text("\n".join([json.dumps(HEADER), *events]) + "\n")
    return Recording(path)


def sent(recording: Recording, folder: Path) -> tuple[bytes, list[Event]]:
    """The bytes that are sent, and what a reader finds in them."""
    data = excerpt(recording, MOST)
    (folder / "sent.cast").write_bytes(data)
    assert json.loads(data.splitlines()[0]) == HEADER
    return data, list(Recording(folder / "sent.cast").events())


def test_a_short_recording_is_sent_as_it_is(tmp_path: Path) -> None:
    texts = [("o", "Grüße \x1b[31mrot\x1b[0m 🐝\r\n"), ("m", "7 bytes of output are cut here"), ("o", "end\r\n")]
    recording = recorded(tmp_path / "1.cast", *texts)
    assert sent(recording, tmp_path)[1] == list(recording.events()) == [(0.1, *texts[0]), (0.2, *texts[1]), (0.3, *texts[2])]


def test_nothing_is_sent_of_what_printed_nothing(tmp_path: Path) -> None:
    assert excerpt(Recording(tmp_path / "1.cast"), MOST) == b""


@pytest.mark.parametrize("sign", ["x", "é", "\x1b", "🐝"])
def test_of_a_long_one_beginning_and_end_are_sent_and_the_mark_counts_what_is_not(tmp_path: Path, sign: str) -> None:
    texts = [("o", f"{n} {sign * 100}\r\n") for n in range(5000)]
    recording = recorded(tmp_path / "1.cast", *texts)
    data, events = sent(recording, tmp_path)
    assert MOST * 0.9 < len(data) <= MOST
    (at,) = (index for index, event in enumerate(events) if event[1] == "m")
    left = [text for _, kind, text in events if kind == "o"]
    assert left == [text for _, text in texts[:at]] + [text for _, text in texts[len(texts) - len(left) + at :]]
    assert 0.8 < at / (len(left) - at) < 1.25
    missing = sum(len(text.encode()) for _, text in texts) - sum(len(text.encode()) for text in left)
    assert events[at][2].startswith(f"{missing} bytes of output are cut here")
    assert [event[0] for event in events] == sorted({event[0] for event in events})


def test_what_was_missing_before_is_still_said_to_be(tmp_path: Path) -> None:
    before = ("m", "999 bytes of output are cut here")
    texts = [("o", "a" * 100)] * 2000
    for place in (0, 1000, 2000):
        recording = recorded(tmp_path / "1.cast", *texts[:place], before, *texts[place:])
        marks = [text for _, kind, text in sent(recording, tmp_path)[1] if kind == "m"]
        assert (before[1] in marks, len(marks)) == (True, 2)


@pytest.mark.parametrize("sign", ["x", "\x1b", "🐝"])
def test_beginning_and_end_are_also_there_of_an_output_that_is_too_large_by_itself(tmp_path: Path, sign: str) -> None:
    data, events = sent(recorded(tmp_path / "1.cast", ("o", f"first {sign * MOST} last"), ("o", ".")), tmp_path)
    (at,) = (index for index, event in enumerate(events) if event[1] == "m")
    before, after = ("".join(text for _, _, text in part) for part in (events[:at], events[at + 1 :]))
    assert (before.startswith("first "), after.endswith(" last.")) == (True, True)
    missing = len(sign.encode()) * MOST + len("first  last.") - len(before.encode()) - len(after.encode())
    assert events[at][2].startswith(f"{missing} bytes of output are cut here")
    assert MOST * 0.6 < len(data) <= MOST
    assert [event[0] for event in events] == sorted({event[0] for event in events})
