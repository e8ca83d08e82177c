"""An append as it lies in the stream of a log."""

from __future__ import annotations

from typing import Any

from skep.store import Append


def entry(row: Any) -> Append:
    """What an entry of the stream says. Whatever damage did to it: what is missing is empty, what is no number is 0."""
    place, fields = row
    said = dict(zip(fields[::2], fields[1::2], strict=False))
    return Append(
        number(said.get(b"first")),
        number(place.partition(b"-")[0]),
        number(said.get(b"epoch")),
        said.get(b"batch", b""),
        said.get(b"blob", b""),
        said.get(b"hash", b""),
        said.get(b"sign", b""),
    )


def number(text: bytes | None) -> int:
    """A number as it was written; 0 for what is none."""
    return int(text) if text and len(text) < 20 and text.isdigit() else 0
