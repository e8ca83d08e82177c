"""Rows of cells, as people see them and as scripts read them."""

from __future__ import annotations

from collections.abc import Sequence

from skep.interfaces.cli.out import Out
from skep.interfaces.cli.words import one_line


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], out: Out) -> None:
    """Columns on a terminal; on a pipe the cells of a row with a tab between, without the head."""
    if not out.terminal:
        for row in rows:
            out.line("\t".join(one_line(cell, 100) for cell in row))
        return
    shown = [tuple(one_line(cell, 60) for cell in row) for row in rows]
    if not shown:
        return
    wide = [max(len(row[n]) for row in [head, *shown]) for n in range(len(head))]
    for number, row in enumerate([head, *shown]):
        text = "  ".join(f"{cell:{width}}" for cell, width in zip(row, wide, strict=True)).rstrip()
        out.line((text, "dim" if number == 0 else ""))
