"""What goes to a merge, and the intent by which it is merged."""

from __future__ import annotations

from msgspec import Struct


class Candidate(Struct, frozen=True, gc=False):
    """What an attempt made of its task, as it goes to the merge."""

    task: str
    attempt: int
    commit: str


class MergeIntent(Struct, kw_only=True, frozen=True, gc=False):
    """The stack that is being merged, lowest first: everything from which its commits follow, so that they can be built again
    byte for byte."""

    base: str
    at: int
    stack: tuple[Candidate, ...]
