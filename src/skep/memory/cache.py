"""Records that were read or written lately, as many as fit into so many bytes; the one not asked for longest goes first.

They lie here as they are written: what somebody does to a value that was handed out changes nothing.
"""

from __future__ import annotations

from skep.memory import Record
from skep.memory.records import decode, encode

#: Bytes that a record takes besides what it is written as, about: names and a place in a dictionary, seen with sys.getsizeof.
BESIDE = 350


class Cache:
    """Read and written through by whoever has it.

    Args:
        bound: bytes of all that is in it; 0 = nothing is ever in it.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._records: dict[tuple[str, str], bytes] = {}
        #: Bytes that are in it.
        self.size = 0

    def get(self, namespace: str, key: str) -> Record | None:
        """The record, if it is in it."""
        name = namespace, key
        found = self._records.pop(name, None)
        if found is None:
            return None
        self._records[name] = found  # the last in line again
        return decode(found)

    def put(self, record: Record) -> None:
        """Keeps a record in place of the one of that key."""
        if not self._bound:
            return
        name = record.namespace, record.key
        self.drop(*name)
        data = encode(record)
        if len(data) + BESIDE > self._bound:
            return
        self._records[name] = data
        self.size += len(data) + BESIDE
        while self.size > self._bound:
            self.drop(*next(iter(self._records)))

    def drop(self, namespace: str, key: str) -> None:
        """Forgets a key."""
        found = self._records.pop((namespace, key), None)
        if found is not None:
            self.size -= len(found) + BESIDE

    def clear(self, namespace: str) -> None:
        """Forgets a namespace."""
        for name in [name for name in self._records if name[0] == namespace]:
            self.drop(*name)
