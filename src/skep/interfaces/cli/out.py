"""Standard output: what it can show, and the only ways to write to it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Callable
from typing import Any, TextIO

from skep.interfaces.cli.words import MARKS, STYLES, Line, clean

#: Version of everything that `--json` prints.
VERSION = 1
_NOT_ASCII = re.compile(r"[^\x20-\x7e]")


class Out:
    """A stream for people or scripts. Whatever passes through `line` cannot steer the terminal.

    Args:
        stream: text stream; standard output if None.
        on_broken: called once when nobody reads any more (a closed pipe, a closed terminal); without it, that raises.
    """

    def __init__(self, stream: TextIO | None = None, on_broken: Callable[[], None] | None = None) -> None:
        self.stream = stream or sys.stdout
        self.on_broken = on_broken
        self.broken = False
        self.terminal = self.stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
        self.colour = self.terminal and not os.environ.get("NO_COLOR")
        self.unicode = self._shows("".join(mark for mark, _ in MARKS.values()))

    def _shows(self, text: str) -> bool:
        try:
            text.encode(self.stream.encoding or "ascii")
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines of the terminal."""
        found = shutil.get_terminal_size((80, 24))
        return found.columns, found.lines

    def mark(self, state: str) -> str:
        """The mark of a task's state."""
        return MARKS[state][0 if self.unicode else 1]

    def line(self, *parts: str | tuple[str, str]) -> None:
        """Writes parts, each a text or (text, style), as one or more lines."""
        pieces = []
        for part in parts:
            text, style = (part, "") if isinstance(part, str) else part
            text = clean(text)
            pieces.append(f"\x1b[{STYLES[style]}m{text}\x1b[0m" if style and text and self.colour else text)
        self.write("".join(pieces).rstrip(" ") + "\n")

    def lines(self, lines: list[Line]) -> None:
        """Writes lines."""
        for parts in lines:
            self.line(*parts)

    def json(self, value: Any) -> None:
        """Writes one JSON document on one line, in ASCII, so that every terminal and locale is safe with it."""
        import msgspec

        self.write(_NOT_ASCII.sub(_escaped, msgspec.json.encode(value).decode()) + "\n")

    def write(self, text: str) -> None:
        """Writes text as it is, and flushes."""
        if self.broken:
            return
        try:
            self.stream.write(text)
            self.stream.flush()
        except UnicodeEncodeError:
            encoding = self.stream.encoding or "ascii"
            self.write(text.encode(encoding, "replace").decode(encoding))
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            silence(self.stream)
            self.broken = True
            if self.on_broken is None:
                raise BrokenPipeError(errno.EPIPE, "nobody reads the output") from None
            self.on_broken()


def silence(stream: TextIO) -> None:
    """Sends what is still in the stream's buffer nowhere, so that the end of Python does not stumble over it."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def document(**fields: Any) -> dict[str, Any]:
    """What a command prints with `--json`: the fields, and the version of their form."""
    return {"version": VERSION, **fields}


def _escaped(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
