"""Recordings: whole, bounded, readable while they grow and after a crash."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skep.terminals import transcript
from skep.terminals.native import Native
from skep.terminals.transcript import Recording, Transcript, place, recordings
from tests.contracts.terminal import profile
from tests.terminals.processes import gone


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording with a head of 2,000 bytes and tails of 1,000."""
    monkeypatch.setattr(transcript, "HEAD", 2_000)
    monkeypatch.setattr(transcript, "TAIL", 1_000)
    monkeypatch.setattr(transcript, "BUFFER", 1)


@pytest.fixture
def recorder(tmp_path: Path) -> Transcript:
    return Transcript.create(tmp_path, "s-1", "each[a/b]", 2)


def outputs(path: Path) -> str:
    return "".join(text for _, kind, text in Recording(path).events() if kind == "o")


async def test_a_recording_is_an_asciicast_that_says_what_was_printed_and_when(recorder: Transcript) -> None:
    recorder.write(b"\x1b[31mred\x1b[0m\r\n")
    recorder.flush()
    recorder.write("☃\n".encode())
    recorder.close()
    lines = [json.loads(line) for line in recorder.path.read_text().splitlines()]
    assert lines[0]["version"] == 2
    assert (lines[0]["width"], lines[0]["height"], lines[0]["title"]) == (120, 32, "s-1 each[a/b] 2")
    assert [line[1:] for line in lines[1:]] == [["o", "\x1b[31mred\x1b[0m\r\n"], ["o", "☃\n"]]
    assert 0 < lines[1][0] < lines[2][0] < 60
    assert stat.S_IMODE(recorder.path.stat().st_mode) == 0o600


def test_names_of_sessions_and_tasks_never_leave_the_folder(tmp_path: Path) -> None:
    for session, task in [("../../etc", "../x"), ("a/b", "."), ("..", "\0"), ("s", "t" * 5_000)]:
        path = place(tmp_path, session, task, 1)
        assert path.resolve().is_relative_to(tmp_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert place(tmp_path, "s", "a", 1) != place(tmp_path, "s", "b", 1)


async def test_recordings_of_a_task_are_listed_by_attempt_and_part(tmp_path: Path) -> None:
    for n, part in [(10, ""), (2, ""), (2, "verify")]:
        recorder = Transcript.create(tmp_path, "s", "t", n, part)
        recorder.write(b"x")
        recorder.close()
    assert recordings(tmp_path, "s", "t") == [(2, ""), (2, "verify"), (10, "")]
    assert recordings(tmp_path, "s", "other") == []


async def test_without_output_there_is_no_file(recorder: Transcript) -> None:
    recorder.close()
    recording = Recording(recorder.path)
    assert not recording.exists
    assert (recording.text(), recording.tail(3), list(recording.search("x"))) == ("", [], [])


@settings(max_examples=50)
@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=6))
async def test_split_characters_are_whole_and_what_is_no_text_is_replaced(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int]
) -> None:
    recorder = Transcript(tmp_path_factory.mktemp("cast") / "1.cast", "")
    last = 0
    for cut in [*sorted(cuts), len(data)]:
        recorder.write(data[last : max(cut, last)])
        recorder.flush()
        last = max(cut, last)
    recorder.close()
    assert outputs(recorder.path) == data.decode(errors="replace")


async def test_output_is_in_the_file_soon_without_anybody_asking(recorder: Transcript) -> None:
    written = asyncio.Event()
    flush = recorder.flush

    def flushed(final: bool = False) -> None:
        flush(final)
        written.set()

    recorder.flush = flushed  # type: ignore[method-assign]  # only to see that it is called
    recorder.write(b"a")
    recorder.write(b"b")
    assert not recorder.path.exists()
    await written.wait()
    assert outputs(recorder.path) == "ab"
    recorder.close()


async def test_small_pieces_are_written_together(recorder: Transcript) -> None:
    for _ in range(100_000):
        recorder.write(b"x")
    recorder.close()
    assert len(list(Recording(recorder.path).events())) <= 3
    assert outputs(recorder.path) == "x" * 100_000


async def test_what_comes_after_the_end_is_dropped(recorder: Transcript) -> None:
    recorder.write(b"in time")
    recorder.close()
    recorder.write(b"late")
    recorder.close()
    assert outputs(recorder.path) == "in time"


@pytest.mark.usefixtures("small")
async def test_a_recording_that_is_too_long_keeps_both_ends_and_says_how_much_is_missing(recorder: Transcript) -> None:
    said = [b"line %05d\n" % n for n in range(1_000)]
    for line in said:
        recorder.write(line)
    recorder.close()
    events = list(Recording(recorder.path).events())
    assert [at for at, _, _ in events] == sorted({at for at, _, _ in events})
    marks = [text for _, kind, text in events if kind == "m"]
    kept = "".join(text for _, kind, text in events if kind == "o")
    assert marks == [f"{11 * 1_000 - len(kept)} bytes of output are cut here"]
    text = Recording(recorder.path).text()
    assert text.startswith("line 00000\nline 00001\n")
    assert text.endswith("line 00998\nline 00999\n")
    assert f"\n[{marks[0]}]\n" in text
    assert recorder.path.stat().st_size < 2_000 + 2 * 1_000 + 200
    assert sorted(path.name for path in recorder.path.parent.iterdir()) == ["2.cast"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("lines", [10, 60, 80, 100])
async def test_a_recording_up_to_its_bounds_has_no_cut(recorder: Transcript, lines: int) -> None:
    said = [b"line %05d\n" % n for n in range(lines)]
    for line in said:
        recorder.write(line)
    recorder.close()
    assert Recording(recorder.path).text() == b"".join(said).decode()


@pytest.mark.usefixtures("small")
async def test_after_a_crash_the_pieces_are_read_as_one_with_the_cut_named(recorder: Transcript) -> None:
    for n in range(1_000):
        recorder.write(b"line %05d\n" % n)
    recording = Recording(recorder.path)
    text = recording.text()
    assert text.startswith("line 00000\n")
    assert text.endswith("line 00999\n")
    assert "\n[about " in text
    assert recording.tail(2) == ["line 00998", "line 00999"]
    with recorder.path.open("ab") as file:
        file.write(b'[1.0,"o","torn')
    assert recording.tail(1) == ["line 00999"]
    recorder.close()


@pytest.mark.usefixtures("small")
async def test_whoever_follows_gets_everything_once_also_across_the_turns_and_the_end(recorder: Transcript) -> None:
    over, got = asyncio.Event(), []
    more = asyncio.Event()

    async def follow() -> None:
        async for text in Recording(recorder.path).follow(over, interval=0.001):
            got.append(text)
            more.set()

    following = asyncio.ensure_future(follow())
    for n in range(400):
        recorder.write(b"line %05d\n" % n)
        if n % 8 == 7:
            while f"line {n:05}\n" not in got[-8:]:
                more.clear()
                await more.wait()
    recorder.write(b"end\n")
    recorder.close()
    over.set()
    await following
    assert got == [*(f"line {n:05}\n" for n in range(400)), "end\n"]


async def test_following_reads_every_line_once_however_often_it_looks(
    recorder: Transcript, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    parse = transcript._parse

    def counted(line: bytes) -> transcript.Event | None:
        read.append(line)
        return parse(line)

    monkeypatch.setattr(transcript, "_parse", counted)
    over = asyncio.Event()
    following = Recording(recorder.path).follow(over, interval=0.001)
    for n in range(20):
        recorder.write(b"line %d\n" % n)
        recorder.flush()
        assert await anext(following) == f"line {n}\n"
    over.set()
    assert [text async for text in following] == []
    recorder.close()
    assert len(read) == 1 + 20  # the header, and each line


async def test_following_waits_for_a_recording_that_is_not_there_yet(recorder: Transcript) -> None:
    over = asyncio.Event()
    following = Recording(recorder.path).follow(over, interval=0.001)
    first = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    recorder.write(b"hello")
    recorder.flush()
    assert await first == "hello"
    over.set()
    assert [text async for text in following] == []
    recorder.close()


async def test_lines_with_a_word_are_found_whatever_their_colour(recorder: Transcript) -> None:
    recorder.write(b"one\r\n\x1b[31mEr\x1b[1mror\x1b[0m: two\r\nthree error\r\n")
    recorder.close()
    assert list(Recording(recorder.path).search("ERROR")) == [(2, "Error: two"), (3, "three error")]


async def test_the_last_lines_come_from_the_end_of_a_long_recording(recorder: Transcript) -> None:
    for n in range(200_000):
        recorder.write(b"line %d\r\n" % n)
    assert recorder.tail(2) == ["line 199998", "line 199999"]
    recorder.close()
    assert Recording(recorder.path).tail(1) == ["line 199999"]


async def test_it_plays_in_its_own_time_but_for_long_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "1.cast"
    events = [[0.5, "o", "a"], [1.5, "o", "b"], [1.6, "m", "cut"], [100.0, "o", "c"]]
    path.write_text("\n".join(json.dumps(line) for line in [{"version": 2}, *events]) + "\n")
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))

    monkeypatch.setattr("asyncio.sleep", sleep)
    assert [text async for text in Recording(path).play(speed=2.0)] == ["a", "b", "\r\n[cut]\r\n", "c"]
    assert slept == [0.25, 0.5, 0.05, 1.0]


async def test_a_disk_that_is_full_stops_the_recording_only(recorder: Transcript, tmp_path: Path) -> None:
    recorder.path.parent.mkdir(parents=True)
    recorder.path.symlink_to("/dev/full")
    recorder.write(b"x" * 100_000)
    assert "No space left on device" in recorder.failed
    recorder.write(b"y" * 100_000)
    recorder.close()


async def test_a_folder_that_cannot_be_made_stops_the_recording_only(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    recorder = Transcript.create(tmp_path / "file", "s", "t", 1)
    recorder.write(b"x" * 100_000)
    recorder.close()
    assert "Not a directory" in recorder.failed


async def test_200_megabytes_in_one_line_of_no_text_cost_bounded_memory_and_disk(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from skep.terminals.transcript import Transcript\n"
        "from skep.terminals.plain import Tail\n"
        "async def main():\n"
        "    recorder, tail = Transcript(Path(sys.argv[1]), ''), Tail(50)\n"
        "    piece = (b'\\xff\\x1b[31m' + b'x' * 8000) * 8\n"
        "    for _ in range(3200):\n"
        "        recorder.write(piece)\n"
        "        tail.feed(piece)\n"
        "    recorder.close()\n"
        "    assert not recorder.failed\n"
        "asyncio.run(main())\n"
        # Not ru_maxrss: that begins with what the process weighed that started this one.
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    path = tmp_path / "1.cast"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(path), stdout=asyncio.subprocess.PIPE)
    kilobytes = int((await process.communicate())[0])
    assert kilobytes < 80_000
    assert path.stat().st_size < 17 * 1024 * 1024
    marks = [text for _, kind, text in Recording(path).events() if kind == "m"]
    assert len(marks) == 1
    assert int(marks[0].split()[0]) > 150_000_000
    assert await gone(process.pid)


async def test_a_terminal_that_prints_without_end_is_recorded_within_bounds(tmp_path: Path) -> None:
    recorder = Transcript(tmp_path / "1.cast", "")
    native = Native()
    try:
        what = profile("head -c 30000000 /dev/zero | tr '\\0' x", tty=False)
        terminal = await native.create(what, recorder.write)
        terminal.release()
        assert (await terminal.wait()).code == 0
        await terminal.end()
    finally:
        await native.close()
    recorder.close()
    kept = outputs(recorder.path)
    mark = next(text for _, kind, text in Recording(recorder.path).events() if kind == "m")
    assert len(kept) + int(mark.split()[0]) == 30_000_000
    assert os.listdir(tmp_path) == ["1.cast"]
