"""Patterns of names, as shells know them: `AWS_*` is every name that begins so."""

from __future__ import annotations

import fnmatch
import re
from functools import lru_cache


@lru_cache(maxsize=512)
def _regex(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, patterns)))


def fits(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a name falls under one of the patterns; upper and lower case differ."""
    return bool(patterns) and _regex(patterns).match(name) is not None
