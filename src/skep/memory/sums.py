"""What a store holds, in sums that tell at once whether two machines hold the same, and which keys differ if not.

Of each record eight bytes of its key's id and eight of its digest are kept in memory, by namespace and by the id's first byte;
a sum is the exclusive or of hashes of those, so that a change costs two hashes, in whatever order changes are made. Copies of
earlier states (`name@...`) are each machine's own and not summed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from skep.errors import Conflict
from skep.memory import Change, MemoryStore, Record
from skep.memory.limits import COPY
from skep.memory.records import digest, identity

#: Bytes of an id or of a digest; of both of them.
HALF, PAIR = 8, 16


class Leaf:
    """The pairs of id and digest whose ids begin with one byte."""

    def __init__(self) -> None:
        self.pairs = bytearray()
        self.sum = 0

    def place(self, name: bytes) -> int:
        """Where the pair of an id begins; -1 if there is none."""
        at = self.pairs.find(name)
        while at >= 0 and at % PAIR:
            at = self.pairs.find(name, at + 1)
        return at

    def put(self, name: bytes, state: bytes) -> None:
        """The state of an id, in place of the one that it had."""
        at = self.place(name)
        if at < 0:
            at = len(self.pairs)
        else:
            self.sum ^= _hashed(self.pairs[at : at + PAIR])
        self.pairs[at : at + PAIR] = name + state
        self.sum ^= _hashed(name + state)


class SummedStore:
    """The port `MemoryStore` over another one, of which it keeps the sums. All changes must go through it.

    Args:
        store: the one below; nobody but this process changes it.
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.lacks, self.writer = store.lacks, store.writer
        self._leaves: dict[str, dict[int, Leaf]] = {}
        self._totals: dict[str, int] = {}
        self._root = 0
        #: Keys of which it is not known whether the last commit was made.
        self._unsure: set[tuple[str, str]] = set()
        #: Namespaces that are to be looked through; None = all of them.
        self._unread: set[str] | None = None
        #: Keys that were changed since the page was asked for that is being looked through.
        self._touched: set[tuple[str, str]] = set()

    # The port

    async def get(self, namespace: str, key: str) -> Record | None:
        """See `MemoryStore.get`."""
        return await self._store.get(namespace, key)

    async def commit(self, changes: Sequence[Change]) -> None:
        """See `MemoryStore.commit`."""
        records = [change.record for change in changes if COPY not in change.record.namespace]
        try:
            await self._store.commit(changes)
        except Conflict:
            raise
        except BaseException:
            self._unsure.update((record.namespace, record.key) for record in records)
            raise
        for record in records:
            self._touched.add((record.namespace, record.key))
            self._put(record)

    async def page(self, namespace: str, after: str = "", limit: int = 1000) -> list[Record]:
        """See `MemoryStore.page`."""
        return await self._store.page(namespace, after, limit)

    async def changes(self, namespace: str, after: int = 0, limit: int = 1000) -> list[tuple[int, Record]]:
        """See `MemoryStore.changes`."""
        return await self._store.changes(namespace, after, limit)

    async def heads(self) -> dict[str, int]:
        """See `MemoryStore.heads`."""
        return await self._store.heads()

    async def drop(self, namespace: str) -> None:
        """See `MemoryStore.drop`."""
        await self._store.drop(namespace)
        self._lose(namespace)
        if self._unread is not None:
            self._unread.add(namespace)  # somebody may write to it again while it goes

    async def close(self) -> None:
        """See `MemoryStore.close`."""
        await self._store.close()

    # Sums

    async def settle(self) -> None:
        """Looks through what is not known yet: all, the first time. Raises what the store raises; then it is not known yet."""
        if self._unread is None:
            self._unread = set(await self._store.heads())
        for namespace in sorted(self._unread):
            if COPY not in namespace:
                self._lose(namespace)
                await self._look_through(namespace)
            self._unread.discard(namespace)
        for namespace, key in list(self._unsure):
            self._touched.discard((namespace, key))
            record = await self._store.get(namespace, key)
            self._unsure.discard((namespace, key))
            if record is not None and (namespace, key) not in self._touched:
                self._put(record)

    @property
    def settled(self) -> bool:
        """Whether the sums are of all that is there."""
        return self._unread == set() and not self._unsure

    def sums(self) -> dict[str, int]:
        """Namespaces, each with the sum of all that is in it."""
        return dict(self._totals)

    def root(self) -> bytes:
        """One sum of all of it."""
        return self._root.to_bytes(HALF, "big")

    def leaves(self, namespace: str) -> dict[int, int]:
        """The sums of a namespace's parts, by the first byte of their ids."""
        return {part: leaf.sum for part, leaf in self._leaves.get(namespace, {}).items()}

    def pairs(self, namespace: str, but: Mapping[int, int]) -> bytes:
        """Ids and digests of all parts of a namespace whose sum is not the one of `but`, one after the other."""
        parts = self._leaves.get(namespace, {})
        return b"".join(leaf.pairs for part, leaf in sorted(parts.items()) if leaf.sum != but.get(part))

    def differing(self, namespace: str, pairs: bytes) -> dict[bytes, bytes]:
        """The ids among pairs whose digest here is another one, each with the one that is here; empty = there is none."""
        found: dict[bytes, bytes] = {}
        for name, state in split(pairs):
            here = self.state(namespace, name)
            if here != state:
                found[name] = here
        return found

    def state(self, namespace: str, name: bytes) -> bytes:
        """The digest that belongs to an id; empty if there is none."""
        leaf = self._leaves.get(namespace, {}).get(name[0])
        at = leaf.place(name) if leaf is not None else -1
        return bytes(leaf.pairs[at + HALF : at + PAIR]) if leaf is not None and at >= 0 else b""

    async def _look_through(self, namespace: str) -> None:
        after = ""
        while True:
            self._touched.clear()
            page = await self._store.page(namespace, after)
            for record in page:
                if (namespace, record.key) not in self._touched:  # else it is known better already
                    self._put(record)
            if not page:
                return
            after = page[-1].key

    def _put(self, record: Record) -> None:
        name, namespace = name_of(record), record.namespace
        leaf = self._leaves.setdefault(namespace, {}).setdefault(name[0], Leaf())
        before = leaf.sum
        leaf.put(name, bytes.fromhex(digest(record))[:HALF])
        self._add(namespace, before ^ leaf.sum)

    def _lose(self, namespace: str) -> None:
        """Nothing is known of a namespace any more."""
        self._leaves.pop(namespace, None)
        self._add(namespace, self._totals.get(namespace, 0))
        self._totals.pop(namespace, None)

    def _add(self, namespace: str, changed: int) -> None:
        """Changes the sum of a namespace, and with it that of all."""
        before = self._totals.get(namespace, 0)
        self._totals[namespace] = after = before ^ changed
        self._root ^= _named(namespace, before) ^ _named(namespace, after)


def name_of(record: Record) -> bytes:
    """The id by which sums know a record."""
    return bytes.fromhex(identity(record.namespace, record.key))[:HALF]


def split(pairs: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each id with its digest."""
    for at in range(0, len(pairs) - PAIR + 1, PAIR):
        yield pairs[at : at + HALF], pairs[at + HALF : at + PAIR]


def _hashed(data: bytes | bytearray) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=HALF).digest(), "big")


def _named(namespace: str, total: int) -> int:
    """What a namespace adds to the sum of all; nothing adds nothing."""
    return _hashed(namespace.encode() + b"\0" + total.to_bytes(HALF, "big")) if total else 0
