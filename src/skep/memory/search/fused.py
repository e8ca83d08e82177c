"""One order out of two: reciprocal rank fusion, which asks of each list only in which order it has what it found."""

from __future__ import annotations

from collections.abc import Sequence

#: Keeps the first of one list from outweighing what both lists have near their tops.
EVEN = 60


def fused(lists: Sequence[Sequence[int]]) -> list[tuple[int, float]]:
    """All that is in any of the lists, best first, scored from 0 to 1: 1 is the first of all of them."""
    scores: dict[int, float] = {}
    for ids in lists:
        for at, id in enumerate(ids):
            scores[id] = scores.get(id, 0.0) + (EVEN + 1) / (EVEN + 1 + at) / len(lists)
    return sorted(scores.items(), key=lambda one: (one[1], one[0]), reverse=True)
