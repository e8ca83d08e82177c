"""A recording, short enough to be sent to other machines: its beginning and its end, and a mark that says what is left out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from skep.terminals.transcript import Event, Recording

#: Bytes of the marks that say what is missing.
MARKS = 1024
#: Characters of output that are kept or left out as a whole.
PIECE = 2048


def excerpt(recording: Recording, most: int) -> bytes:
    """The bytes of a recording's file if they are few enough; otherwise of its beginning and its end, half of them each.

    Args:
        recording: nobody writes to it any more.
        most: bytes.

    Returns:
        what is a recording itself; nothing if nothing was printed.

    Raises:
        OSError: it cannot be read.
    """
    if not recording.exists:
        return b""
    header = recording.header()
    half = (most - len(header) - MARKS) // 2
    beginning, end = list[bytes](), deque[tuple[Event, bytes]]()
    room, held, cut = half, 0, 0
    #: What stands for all that is left out: a mark of this cut, and the last one of those that were there.
    gap: dict[str, Event] = {}
    for event in _pieces(recording.events()):
        line = msgspec.json.encode(event) + b"\n"
        room -= len(line)
        if room >= 0:
            beginning.append(line)
            continue
        end.append((event, line))
        held += len(line)
        while held > half:
            (at, kind, text), line = end.popleft()
            held -= len(line)
            if kind == "o":
                cut += len(text.encode())
                text = f"{cut} bytes of output are cut here: of a long recording other machines get beginning and end"
            gap[kind] = at, "m", text
    marks = (msgspec.json.encode(mark) + b"\n" for mark in sorted(gap.values()))
    return b"".join([header, *beginning, *marks, *(line for _, line in end)])


def _pieces(events: Iterator[Event]) -> Iterator[Event]:
    """The same events, a large output as several small ones: their times still grow, and are the same each time."""
    before = 0.0
    for at, kind, text in events:
        count = max(1, -(-len(text) // PIECE))
        for n in range(1, count):
            yield before + (at - before) * n / count, kind, text[(n - 1) * PIECE : n * PIECE]
        yield at, kind, text[(count - 1) * PIECE :]
        before = at
