"""What can be asked of the owner about memory. Whoever asks is a person, who may read and write all of it."""

from __future__ import annotations

from skep.memory import Entry, Filter, Found, Search
from skep.memory.draft import Draft
from skep.runtime.memory_views import ConsolidatedView, StatsView, TakenView, UndoneView, WrittenView
from skep.runtime.request import Request


class StoreMemory(Request[Entry], frozen=True, tag="memory-store"):
    """Keeps a value under a key; durable when it is answered. Raises Conflict if another version than `expect` is there.

    `replicated`: it is answered when the other machines have it, too; Unavailable if one does not get it: it is kept here then.
    """

    draft: Draft
    expect: int | None = None
    replicated: bool = False


class AddMemory(Request[Entry], frozen=True, tag="memory-add"):
    """Adds to a counter, which begins at 0. Raises Conflict for a key that is none."""

    namespace: str
    key: str
    amount: int | float = 1


class GetMemory(Request[Entry], frozen=True, tag="memory-get"):
    """What is kept under a key, whole. Raises NotFound."""

    namespace: str
    key: str


class SearchMemory(Request[Found], frozen=True, tag="memory-search"):
    """What fits a text best; large values are left out."""

    search: Search


class ListMemory(Request[list[Entry]], frozen=True, tag="memory-list"):
    """Entries that a filter lets through, by namespace and key, behind `after`; large values are left out.

    At most `limit`, and fewer where they would be too much for one answer; none = there are no more.
    """

    filter: Filter = Filter()
    after: tuple[str, str] = ("", "")
    limit: int = 100


class DeleteMemory(Request[Entry], frozen=True, tag="memory-delete"):
    """Deletes a key; answers with what was there. Raises NotFound; Conflict if another version than `expect` is there."""

    namespace: str
    key: str
    expect: int | None = None


class MemorySiblings(Request[tuple[Entry, ...]], frozen=True, tag="memory-siblings"):
    """All values of a key: several where they were written at the same time and nobody decided. Raises NotFound."""

    namespace: str
    key: str


class MemoryConflicts(Request[list[Entry]], frozen=True, tag="memory-conflicts"):
    """The keys that have several values, each with the newest of them and how many others there are; at most 1000."""

    namespaces: tuple[str, ...] = ()


class SettleMemory(Request[Entry], frozen=True, tag="memory-settle"):
    """Decides between values of a key: the one of this writer and stamp stays. Raises NotFound; Conflict if it is not there."""

    namespace: str
    key: str
    version: tuple[str, int]


class StatsOfMemory(Request[StatsView], frozen=True, tag="memory-stats"):
    """How memory stands. All of it is read for that."""


class ConsolidateMemory(Request[ConsolidatedView], frozen=True, tag="memory-consolidate"):
    """What says the same becomes one, three episodes of one outcome a fact, what expired goes. `dry`: only tells.

    Raises Unavailable for `propose`: an agent that proposes more.
    """

    namespace: str
    dry: bool = False
    propose: bool = False


class UndoConsolidation(Request[UndoneView], frozen=True, tag="memory-undo"):
    """Takes back what the last consolidation of a namespace merged and learned. Raises NotFound."""

    namespace: str


class ExportMemory(Request[WrittenView], frozen=True, tag="memory-export"):
    """Writes the keys that have an entry which the filter lets through into a file of lines of JSON: whole or absent."""

    path: str
    filter: Filter = Filter()


class ImportMemory(Request[TakenView], frozen=True, tag="memory-import"):
    """Takes a file of lines of JSON in; what was not sealed here is untrusted. `dry`: nothing is changed, only counted."""

    path: str
    dry: bool = False


class BackUpMemory(Request[WrittenView], frozen=True, tag="memory-back-up"):
    """Writes all of memory into one file: whole or absent."""

    path: str


class RestoreMemory(Request[TakenView], frozen=True, tag="memory-restore"):
    """Takes in what a backup holds. `instead`: memory is to hold that and nothing else; otherwise both are joined.

    `trust`: what was sealed elsewhere keeps the trust that it claims. `dry`: nothing is changed, only counted.
    """

    path: str
    dry: bool = False
    instead: bool = False
    trust: bool = False


class SyncMemory(Request[str], frozen=True, tag="memory-sync"):
    """Compares with the other machines now, rather than within half a minute; answers with how replication stands.

    Raises Unavailable if memory is not replicated here.
    """


AboutMemory = (
    StoreMemory
    | AddMemory
    | GetMemory
    | SearchMemory
    | ListMemory
    | DeleteMemory
    | MemorySiblings
    | MemoryConflicts
    | SettleMemory
    | StatsOfMemory
    | SyncMemory
    | ConsolidateMemory
    | UndoConsolidation
    | ExportMemory
    | ImportMemory
    | BackUpMemory
    | RestoreMemory
)
#: Asking twice is like asking once. Storing is not: the second time may replace what somebody else stored in between.
Repeatable = (
    GetMemory
    | SearchMemory
    | ListMemory
    | MemorySiblings
    | MemoryConflicts
    | StatsOfMemory
    | ExportMemory
    | ImportMemory
    | BackUpMemory
    | RestoreMemory
)
