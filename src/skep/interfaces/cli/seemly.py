"""Terminal output that may be shown on the user's terminal: colours, cursor and erasing pass, everything else is left out.

What an agent prints must not set the clipboard or the title, ask the terminal for answers that would be typed into the user's
shell, or switch on modes that outlive it.
"""

from __future__ import annotations

import re

_CSI = re.compile("(?:\x1b\\[|\x9b)([0-?]*)([ -/]*)([@-~])")
_TOKEN = re.compile(
    "(?P<string>(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]{0,4096}(?:\x07|\x1b\\\\|\x9c))"
    "|(?P<csi>(?:\x1b\\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~])"
    "|(?P<plain>\x1b(?:[78DEM]|\\([0B]))"
    "|(?P<other>\x1b[ -/]{0,8}[0-~]?)"
    "|(?P<control>[\x00-\x07\x0b-\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f])"
)
#: An escape sequence that the end of the text cuts.
_OPEN = re.compile(
    "(?:(?:\x1b\\[|\x9b)[0-?]{0,64}[ -/]{0,8}|\x1b[ -/]{0,8}"
    "|(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]{0,4096}\x1b?)\\Z"
)
#: Characters at the end of a piece among which an open sequence is looked for.
HELD = 4_200
_MOVES = frozenset("ABCDEFGHJKLMPSTXdfmr@")
#: Modes that may be set, because `end` sets them back: line wrap, cursor, the other screen.
_MODES = frozenset({"?7", "?25", "?1049"})


class Seemly:
    """Filters output that comes in pieces."""

    def __init__(self) -> None:
        self._rest = ""
        self._other_screen = False
        self._region = False

    def feed(self, text: str) -> str:
        """What may be shown of the next piece."""
        text, self._rest = self._rest + text, ""
        if cut := _OPEN.search(text, max(0, len(text) - HELD)):
            text, self._rest = text[: cut.start()], text[cut.start() :]
        return _TOKEN.sub(self._judge, text)

    def _judge(self, found: re.Match[str]) -> str:
        if found["plain"]:
            return found[0]
        if not found["csi"]:
            return ""
        match = _CSI.fullmatch(found[0])
        assert match is not None
        arguments, between, final = match.groups()
        if between:
            return ""
        if final in _MOVES and not arguments.strip("0123456789;:"):
            self._region = self._region or final == "r"
            return f"\x1b[{arguments}{final}"
        if final in "hl" and arguments in _MODES:
            if arguments == "?1049":
                self._other_screen = final == "h"
            return f"\x1b[{arguments}{final}"
        return ""

    def end(self) -> str:
        """Sets everything back that may have been changed, and leaves the cursor where it is."""
        self._rest = ""
        screen = "\x1b[?1049l" if self._other_screen else ""
        region = "\x1b7\x1b[r\x1b8" if self._region else ""
        return f"{screen}{region}\x1b[0m\x1b[?7h\x1b[?25h"
