"""Recordings of terminals: asciicast v2 files, bounded, with a marked cut where output was left out.

The file of a recording holds its first `HEAD` bytes. What follows goes to numbered tail files, of which only the last two are
kept, so that 5 GB of output cost 16 MiB of disk; closing puts them behind the head, after a marker that says what is missing.
The times of events grow strictly, so that a reader knows what it has read, wherever that was moved.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

import msgspec

from skep.terminals.plain import Plain

#: Bytes of a recording's beginning, and of each of its two tail files.
HEAD = 8 * 1024 * 1024
TAIL = 4 * 1024 * 1024
#: Output waits at most this long (seconds) and up to this size (bytes) before it is written.
DELAY = 0.05
BUFFER = 64 * 1024
#: Bytes at the end of a recording that `tail` looks at.
LOOK_BACK = 1024 * 1024

#: Seconds since the beginning, `o` for output or `m` for a marker, text.
Event = tuple[float, str, str]

_NAME = re.compile(r"(\d+)(?:-([a-z]+))?\.cast")
_event: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def place(folder: Path, session: str, task: str, n: int, part: str = "") -> Path:
    """The file of an attempt's recording; `part` names what is not the agent itself (`verify`, `merge`)."""
    name = f"{n}-{part}.cast" if part else f"{n}.cast"
    return of_session(folder, session) / hashlib.sha256(task.encode()).hexdigest()[:24] / name


def of_session(folder: Path, session: str) -> Path:
    """The folder of all recordings of a session."""
    return folder / quote(session, safe="").replace(".", "%2E")


def recordings(folder: Path, session: str, task: str) -> list[tuple[int, str]]:
    """The recordings of a task: (attempt, part), oldest attempt first."""
    found = []
    parent = place(folder, session, task, 0).parent
    for path in parent.iterdir() if parent.is_dir() else ():
        if match := _NAME.fullmatch(path.name):
            found.append((int(match[1]), match[2] or ""))
    return sorted(found)


def _tail_path(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.tail{number}")


class Transcript:
    """Records one terminal. Nothing is written before there is output.

    A disk that does not take it stops the recording, not what is recorded: `failed` says so.
    """

    def __init__(self, path: Path, title: str) -> None:
        self.path = path
        self.failed = ""
        self._title = title
        self._began = time.time()
        self._clock = time.monotonic()
        self._at = 0.0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._buffer = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._file: IO[bytes] | None = None
        self._size = 0  # bytes in the file that is open
        self._tails: dict[int, int] = {}  # number of a tail file that is kept -> bytes of output in it
        self._cut = 0  # bytes of output that were thrown away
        self._closed = False

    @classmethod
    def create(cls, folder: Path, session: str, task: str, n: int, part: str = "") -> Transcript:
        """A recording at its place (see `place`)."""
        return cls(place(folder, session, task, n, part), f"{session} {task} {n} {part}".strip())

    def write(self, data: bytes) -> None:
        """Takes output; it is in the file within `DELAY` seconds. After `close` it is dropped."""
        if self._closed:
            return
        self._buffer += data
        if len(self._buffer) >= BUFFER:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY, self.flush)

    def flush(self, final: bool = False) -> None:
        """Writes what waits. `final`: no more comes, so that a character cut short counts as one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        size, text = len(self._buffer), self._decoder.decode(bytes(self._buffer), final)
        self._buffer.clear()
        if text and not self.failed:
            try:
                self._record(text, size)
            except OSError as error:
                self.failed = f"{self.path}: {error.strerror}"

    def close(self) -> None:
        """Writes the rest and puts the tail behind the head."""
        if self._closed:
            return
        self.flush(final=True)
        self._closed = True
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._tails:
            try:
                self._join()
            except OSError as error:
                self.failed = self.failed or f"{self.path}: {error.strerror}"

    def tail(self, lines: int) -> list[str]:
        """The last lines so far, plain."""
        self.flush()
        return Recording(self.path).tail(lines)

    def _line(self, kind: str, text: str) -> bytes:
        self._at = max(round(time.monotonic() - self._clock, 6), round(self._at + 1e-6, 6))
        return msgspec.json.encode((self._at, kind, text)) + b"\n"

    def _record(self, text: str, size: int) -> None:
        line = self._line("o", text)
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._open(self.path)
            header = {"version": 2, "width": 120, "height": 32, "timestamp": int(self._began), "title": self._title}
            line = json.dumps(header).encode() + b"\n" + line
        elif self._size + len(line) > (TAIL if self._tails else HEAD):
            self._turn()
        self._file.write(line)
        self._size += len(line)
        if self._tails:
            self._tails[max(self._tails)] += size

    def _turn(self) -> None:
        """Goes on in another tail file; the last but one is thrown away."""
        assert self._file is not None
        self._file.close()
        number = max(self._tails, default=0) + 1
        self._file = self._open(_tail_path(self.path, number))
        self._tails[number] = self._size = 0
        if number > 2:
            self._cut += self._tails.pop(number - 2)
            _tail_path(self.path, number - 2).unlink(missing_ok=True)

    def _open(self, path: Path) -> IO[bytes]:
        """Opens a file for its owner's eyes only: output may hold secrets."""
        return open(path, "wb", buffering=0, opener=lambda name, flags: os.open(name, flags, 0o600))

    def _join(self) -> None:
        with self.path.open("ab") as file:
            for number in sorted(self._tails):
                path = _tail_path(self.path, number)
                data = path.read_bytes()
                if self._cut:
                    file.write(msgspec.json.encode(_cut_mark(data, self._cut)) + b"\n")
                    self._cut = 0
                file.write(data)
                path.unlink()


def _cut_mark(tail: bytes, size: int, about: str = "") -> Event:
    """The event that stands for what is missing before a tail."""
    first = _parse(tail.partition(b"\n")[0])
    return (round(first[0] - 5e-7, 7) if first else 0.0, "m", f"{about}{size} bytes of output are cut here")


class Recording:
    """A recording, finished or still growing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether anything was printed."""
        return self.path.exists()

    def _files(self) -> dict[int, Path]:
        """Its files, in order, the head as 0. There are tail files only while it grows, or after a crash."""
        prefix = f"{self.path.name}.tail"
        numbers = [path.name[len(prefix) :] for path in self.path.parent.glob(f"{prefix}*")]
        tails = sorted(int(number) for number in numbers if number.isdecimal())
        return {0: self.path} | {number: _tail_path(self.path, number) for number in tails}

    def size(self) -> int:
        """Bytes of it so far."""
        found = 0
        for path in self._files().values():
            with contextlib.suppress(FileNotFoundError):  # nothing was printed, or joined to the head, or thrown away
                found += path.stat().st_size
        return found

    def header(self) -> bytes:
        """Its first line, which is no event."""
        with self.path.open("rb") as file:
            return file.readline()

    def events(self) -> Iterator[Event]:
        """Every event so far; a last line that is not whole yet is left out."""
        return self._fresh({}, -1.0)

    def _fresh(self, offsets: dict[Path, int], after: float) -> Iterator[Event]:
        """Events later than `after`, from where the last reader of `offsets` stopped, which it keeps up to date."""
        for number, path in self._files().items() if self.exists else ():
            try:
                file = path.open("rb")
            except FileNotFoundError:  # joined to the head, or thrown away, meanwhile
                continue
            with file:
                if path not in offsets and number > 1 and _tail_path(self.path, number - 1) not in offsets:
                    yield _cut_mark(file.readline(), (number - 1) * TAIL, "about ")
                file.seek(offsets.get(path, 0))
                while (line := file.readline()).endswith(b"\n"):
                    offsets[path] = file.tell()
                    event = _parse(line)
                    if event is not None and event[0] > after:
                        after = event[0]
                        yield event

    def text(self) -> str:
        """All of it, plain; a cut is named."""
        stripper, parts = Plain(), []
        for _, kind, text in self.events():
            parts.append(stripper.feed(text.encode()) if kind == "o" else f"\n[{text}]\n" if kind == "m" else "")
        return "".join(parts) + stripper.feed(b"", final=True)

    def tail(self, lines: int) -> list[str]:
        """The last lines, plain, without reading it all."""
        data = b""
        for path in reversed(self._files().values() if self.exists else ()):
            try:
                with path.open("rb") as file:
                    file.seek(max(0, path.stat().st_size - LOOK_BACK + len(data)))
                    data = file.read() + data
            except FileNotFoundError:
                continue
            if len(data) >= LOOK_BACK:
                break
        found = [event for line in data.split(b"\n") if (event := _parse(line)) is not None]
        stripper = Plain()
        text = "".join(stripper.feed(text.encode()) for _, kind, text in found if kind == "o")
        text = (text + stripper.feed(b"", final=True)).rstrip()
        return text.split("\n")[-lines:] if text else []

    def search(self, word: str) -> Iterator[tuple[int, str]]:
        """Lines that hold a word, in any case: (line number from 1, line)."""
        for number, line in enumerate(self.text().split("\n"), 1):
            if word.casefold() in line.casefold():
                yield number, line

    async def play(self, speed: float = 1.0, most: float = 2.0) -> AsyncIterator[str]:
        """The output as it was printed, in its own time, `speed` times as fast; pauses are cut to `most` seconds."""
        before = 0.0
        for at, kind, text in self.events():
            await asyncio.sleep(min(max(0.0, at - before), most) / speed)
            before = at
            yield text if kind == "o" else _shown(text)

    async def follow(self, over: asyncio.Event, interval: float = 0.1, after: float = -1.0) -> AsyncIterator[str]:
        """What is there, then what comes, until `over` is set and everything is read. Looks every `interval` seconds.

        Args:
            after: events up to this time (s since its beginning) are left out.
        """
        offsets: dict[Path, int] = {}
        while True:
            last = over.is_set()
            for at, kind, text in self._fresh(offsets, after):
                after = at
                yield text if kind == "o" else _shown(text)
            if last:
                return
            try:
                async with asyncio.timeout(interval):
                    await over.wait()
            except TimeoutError:
                continue


def _shown(mark: str) -> str:
    """A mark among output, in a line of its own."""
    return f"\r\n[{mark}]\r\n"


def _parse(line: bytes) -> Event | None:
    try:
        return _event.decode(line)
    except msgspec.MsgspecError:
        return None
