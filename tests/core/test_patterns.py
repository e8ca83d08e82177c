"""Patterns of names mean what the standard library's say, one at a time."""

from __future__ import annotations

import fnmatch

from hypothesis import given
from hypothesis import strategies as st

from skep.core.patterns import fits

names = st.text("AB_ab[]!*?-.\n", max_size=6)


@given(names, st.lists(names, max_size=4))
def test_a_name_fits_if_one_of_the_patterns_takes_it(name: str, patterns: list[str]) -> None:
    assert fits(name, tuple(patterns)) == any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
