"""What is sealed of what memory puts where others can write: parts, each with its length in front."""

from __future__ import annotations


def sealed_text(purpose: str, *parts: bytes | str) -> bytes:
    """A text that no other parts, and none for another purpose, come to."""
    pieces = (part.encode() if isinstance(part, str) else part for part in (purpose, *parts))
    return b"".join(len(piece).to_bytes(8, "big") + piece for piece in pieces)
