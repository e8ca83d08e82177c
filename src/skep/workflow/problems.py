"""All that is wrong with a file, collected with its places, told in one error."""

from __future__ import annotations

import re
from typing import Protocol

from skep.errors import Invalid

#: With so many the search ends.
MAX_TOLD = 50
#: What would break a line: names that a file gives may hold it.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Place(Protocol):
    """Where something is: line and column, both counted from 1."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...


class Problems:
    """What is wrong with one file so far.

    Args:
        source: the file as the user named it.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._found: set[tuple[int, int, str]] = set()

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, place: Place, message: str) -> None:
        """Notes a problem; the same one at the same place is noted once. Raises Invalid, as `check`, when there are too many."""
        self._found.add((place.line, place.column, _CONTROL.sub(lambda found: repr(found[0])[1:-1], message)))
        if len(self._found) >= MAX_TOLD:
            self.check()

    def check(self) -> None:
        """Raises Invalid with everything noted, one line each, `file:line:column: what`, in the order of the file."""
        if not self._found:
            return
        lines = [f"{self.source}:{line}:{column}: {message}" for line, column, message in sorted(self._found)]
        if len(lines) >= MAX_TOLD:
            lines.append(f"... and perhaps more; only {MAX_TOLD} are told at once")
        raise Invalid("\n".join(lines), "Correct the file; nothing was started. `skep schema` shows what a file may hold.")
