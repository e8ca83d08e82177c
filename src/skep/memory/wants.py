"""Whether an entry is one of those that a filter means. One judgement, for lists and for what an index found."""

from __future__ import annotations

from skep.memory import Entry, Filter
from skep.memory.trust import rank


def matches(entry: Entry, wanted: Filter) -> bool:
    """Whether the filter lets it through."""
    return (
        (not wanted.namespaces or entry.namespace in wanted.namespaces)
        and (not wanted.kinds or entry.kind in wanted.kinds)
        and all(tag in entry.tags for tag in wanted.tags)
        and (not wanted.agent or entry.agent == wanted.agent)
        and (not wanted.task or entry.task == wanted.task)
        and entry.updated >= wanted.since
        and (not wanted.until or entry.updated <= wanted.until)
        and rank(entry.trust) >= rank(wanted.trust)
        and entry.key.startswith(wanted.prefix)
    )
