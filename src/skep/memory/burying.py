"""Deletes all of a namespace that other machines have, too: dropped, it would come back from them when they compare."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from skep.memory import Change, MemoryStore, Record
from skep.memory.records import deleted, digest

#: Records that are deleted in one commit.
PAGE = 500


async def buried(store: MemoryStore, namespace: str, dot: Callable[[Record | None], tuple[str, int]]) -> AsyncIterator[Record]:
    """Deletes what a namespace has itself while nobody changes it; the records as they are then, each after it was kept.

    Args:
        dot: the writer and the stamp of what is written in place of a record.
    """
    after = ""
    while page := await store.page(namespace, after, PAGE):
        pairs = [(record, deleted(record, *dot(record))) for record in page if record.entries]
        await store.commit([Change(made, digest(record)) for record, made in pairs])
        for _, made in pairs:
            yield made
        after = page[-1].key
