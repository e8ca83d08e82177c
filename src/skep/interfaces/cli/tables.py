"""Rows of cells, as people see them and as scripts read them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from skep.interfaces.cli.out import Out
from skep.interfaces.cli.words import one_line

#: Columns that a cell has at most, and that the last one of a row has at least, however narrow the terminal.
MOST, LEAST = 60, 12
GAP = "  "


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], out: Out) -> None:
    """Columns on a terminal, of which the last one takes what is left of its width; on a pipe the cells of a row with a tab
    between, without the head."""
    if not out.terminal:
        for row in rows:
            out.line("\t".join(one_line(cell, 100) for cell in row))
        return
    if not rows:
        return
    shown: list[tuple[str, ...]] = [head, *((*(_cut(cell, MOST) for cell in row[:-1]), row[-1]) for row in rows)]
    wide = [max(width(row[n]) for row in shown) for n in range(len(head) - 1)]
    left = max(LEAST, width(head[-1]), out.size[0] - sum(wide) - len(GAP) * len(wide))
    for number, row in enumerate(shown):
        cells = [cell + " " * (room - width(cell)) for cell, room in zip(row[:-1], wide, strict=True)]
        text = GAP.join([*cells, _cut(row[-1], left)]).rstrip()
        out.line((text, "dim" if number == 0 else ""))


def width(text: str) -> int:
    """Columns that a text takes on a terminal: some letters take two, and marks on letters none."""
    if text.isascii():
        return len(text)
    return sum(_columns(sign) for sign in text)


def _columns(sign: str) -> int:
    if unicodedata.category(sign) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def _cut(text: str, room: int) -> str:
    """The text on one line, in so many columns at most."""
    flat = one_line(text, 8 * room)
    if width(flat) <= room:
        return flat
    taken = 0
    for number, sign in enumerate(flat):
        taken += _columns(sign)
        if taken > room - 3:
            return flat[:number] + "..."
    return flat
