"""What to raise for a key that is not there."""

from __future__ import annotations

from skep.errors import NotFound


def missing(namespace: str, key: str) -> NotFound:
    """Names the key, shortened."""
    return NotFound(f"there is no '{key[:200]}' in '{namespace[:80]}'", "`skep memory list` shows what there is.")
