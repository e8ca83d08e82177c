"""Records in this process's memory: for tests, and where nothing is to be kept."""

from __future__ import annotations

from collections.abc import Sequence

from skep.errors import Conflict, Unavailable
from skep.memory import Change, Record
from skep.memory.records import decode, digest, encode


class EphemeralShelf:
    """What lies under any number of `EphemeralStore`s, and stays when they go.

    It is namespace -> key -> (place, record as it is written).
    """

    def __init__(self) -> None:
        self.namespaces: dict[str, dict[str, tuple[int, bytes]]] = {}
        self.place = 0


class EphemeralStore:
    """The port `MemoryStore` over an `EphemeralShelf`. Nothing is ever awaited.

    Args:
        writer: its name in vector clocks.
    """

    lacks = frozenset({"durable"})

    def __init__(self, shelf: EphemeralShelf | None = None, writer: str = "here") -> None:
        self._shelf = shelf or EphemeralShelf()
        self.writer = writer
        self._closed = False

    async def get(self, namespace: str, key: str) -> Record | None:
        """See `MemoryStore.get`."""
        self._check_open()
        found = self._shelf.namespaces.get(namespace, {}).get(key)
        return decode(found[1]) if found else None

    async def commit(self, changes: Sequence[Change]) -> None:
        """See `MemoryStore.commit`."""
        self._check_open()
        fresh = []
        for change in changes:
            record, state = change.record, digest(change.record)
            there = digest(await self.get(record.namespace, record.key))
            if there == state:
                continue
            if there != change.expect:
                raise changed(record)
            fresh.append((record.namespace, record.key, encode(record)))
        for namespace, key, data in fresh:
            self._shelf.place += 1
            self._shelf.namespaces.setdefault(namespace, {})[key] = self._shelf.place, data

    async def page(self, namespace: str, after: str = "", limit: int = 1000) -> list[Record]:
        """See `MemoryStore.page`."""
        self._check_open()
        kept = self._shelf.namespaces.get(namespace, {})
        keys = sorted((key for key in kept if key.encode() > after.encode()), key=str.encode)
        return [decode(kept[key][1]) for key in keys[:limit]]

    async def changes(self, namespace: str, after: int = 0, limit: int = 1000) -> list[tuple[int, Record]]:
        """See `MemoryStore.changes`."""
        self._check_open()
        rows = sorted(row for row in self._shelf.namespaces.get(namespace, {}).values() if row[0] > after)
        return [(place, decode(data)) for place, data in rows[:limit]]

    async def heads(self) -> dict[str, int]:
        """See `MemoryStore.heads`."""
        self._check_open()
        return {name: max(place for place, _ in kept.values()) for name, kept in sorted(self._shelf.namespaces.items())}

    async def drop(self, namespace: str) -> None:
        """See `MemoryStore.drop`."""
        self._check_open()
        self._shelf.namespaces.pop(namespace, None)

    async def close(self) -> None:
        """See `MemoryStore.close`."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the memory is closed", fix="Open it again.")


def changed(record: Record) -> Conflict:
    """What to raise when a record is not in place of what its change says."""
    return Conflict(f"'{record.key}' in '{record.namespace}' was changed meanwhile", "Read it, then try again.")
