"""Glob patterns of paths, as users of git know them: `*` within a folder, `**` across them, a folder means all that is in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache


@lru_cache(maxsize=512)
def _regex(pattern: str) -> re.Pattern[str]:
    parts: list[str] = []
    for piece in re.split(r"(\*\*/|\*\*|\*|\?)", pattern.strip("/")):
        parts.append({"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(piece, re.escape(piece)))
    return re.compile("".join(parts) + "(?:/.*)?", re.DOTALL)


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path, relative and with forward slashes, falls under one of the patterns."""
    return any(_regex(pattern).fullmatch(path) for pattern in patterns)
