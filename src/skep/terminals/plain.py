"""What a terminal printed, as plain text: no escape sequence, no control character but tab and newline gets through.

Sequences are recognised as ECMA-48 defines them: CSI; the string sequences (OSC, DCS, APC, PM, SOS); other escapes; the 8-bit
C1 controls. Splitting the input anywhere gives the same text.
"""

from __future__ import annotations

import codecs
import re
from collections import deque

_TEXT = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f]+")
_RETURNS = re.compile(r"\r+\n?")
_CSI = re.compile(r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]")
_CSI_PART = re.compile(r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}\Z")
_ESCAPE = re.compile(r"\x1b[ -/]{0,8}[0-OQ-WYZ\\`-~]")
_ESCAPE_PART = re.compile(r"\x1b[ -/]{0,8}\Z")
_STRING = re.compile(r"\x1b[PX\]^_]|[\x90\x98\x9d-\x9f]")
#: The end of a string sequence. Another escape ends it too, as in real terminals; a newline does as well, so that a sequence that
#: was never finished does not swallow the rest.
_STRING_END = re.compile(r"[\x07\x18\x1a\x9c]|(?=[\x1b\n])")
#: Bytes of output that `Tail` keeps.
TAIL_BYTES = 256 * 1024


class Plain:
    """Turns output into plain text as it comes. Bytes that are no UTF-8 become replacement characters."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._in_string = False

    def feed(self, data: bytes, final: bool = False) -> str:
        """The plain text of the next bytes; what may be the beginning of a sequence waits for more, unless `final`."""
        text = self._held + self._decoder.decode(data, final)
        self._held = ""
        parts: list[str] = []
        at, end = 0, len(text)
        while at < end:
            if self._in_string:
                found = _STRING_END.search(text, at)
                self._in_string = found is None
                at = found.end() if found else end
            elif found := _TEXT.match(text, at):
                parts.append(found[0])
                at = found.end()
            elif length := self._control(text, at, parts, final):
                at += length
            else:
                self._held = "\r" if text[at] == "\r" else text[at:]  # so it stays short
                break
        return "".join(parts)

    def _control(self, text: str, at: int, parts: list[str], final: bool) -> int:
        """Deals with the control character at `at`; returns how many characters that took, 0 if more must come first."""
        if found := _RETURNS.match(text, at):
            if found.end() == len(text) and not found[0].endswith("\n") and not final:
                return 0
            parts.append("\n")
        elif found := _STRING.match(text, at):
            self._in_string = True
        elif not (found := _CSI.match(text, at) or _ESCAPE.match(text, at)):
            part = _CSI_PART.match(text, at) or _ESCAPE_PART.match(text, at)
            return 0 if part and not final else 1
        return found.end() - at


def plain(data: bytes) -> str:
    """Output, whole, as plain text."""
    return Plain().feed(data, final=True)


class Tail:
    """The last lines of an output, in bounded memory.

    Args:
        most: lines to keep.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: deque[bytes] = deque()
        self._size = 0

    def feed(self, data: bytes) -> None:
        """More output."""
        self._parts.append(data[-TAIL_BYTES:])
        self._size += len(self._parts[-1])
        while self._size - len(self._parts[0]) >= TAIL_BYTES:
            self._size -= len(self._parts.popleft())

    def lines(self) -> list[str]:
        """The last lines, plain, without blank ones at the end."""
        text = plain(b"".join(self._parts)).rstrip()
        return text.split("\n")[-self._most :] if text else []
