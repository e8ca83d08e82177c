"""What agents and people keep for later and for each other. Ports `MemoryStore` (where it lies) and `Embedder` (what it means).

A key of a namespace has a `Record`: the values written to it that none of its writers has seen replaced. Mostly that is one;
what was written at the same time on two machines stays side by side (`siblings`) until somebody or a rule decides. A record
without values is what is left of a key that was deleted: it has to outlive every copy of what it was.

`clocks` and `records` are pure, `bank` is what the rest of Skep calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

#: working: for a while; episodic: what happened; semantic: what is known; vector: found by meaning, by a vector of its own.
Kind = Literal["working", "episodic", "semantic", "vector"]
KINDS: tuple[Kind, ...] = ("working", "episodic", "semantic", "vector")
#: How far a value is to be trusted, least first: from elsewhere or edited by hand; by an agent; by a person; seen by Skep itself.
Trust = Literal["untrusted", "agent", "person", "observed"]
TRUSTS: tuple[Trust, ...] = ("untrusted", "agent", "person", "observed")
#: What happens to values that were written at the same time: stay side by side; the last of those trusted most counts; lists are
#: united; numbers that were added are added up. Any other name is a rule that was registered with the bank.
RULES = ("siblings", "last", "union", "counter")


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One value of a key.

    `id`: of namespace and key, the same for all its versions. `value`: whatever JSON knows; None where it lies in a blob.
    `agent`, `session`, `task`: who wrote it, empty = a person. `version`: how often the key was written, as far as its writer
    knew. `created`, `updated`, `expires`: wall-clock ms, 0 = never. `rule`: one of `RULES`, or a registered one. `writer`,
    `stamp`: which store wrote it, and when by that store's hybrid clock (`clocks`): together they name this very value.
    `counts`: of a counter, writer -> (stamp, what it added). `alias`: the key that has what was here. `vector`: float32,
    little-endian, given by the caller. `blob`: digest of a value that is too large to stand here, of `size` bytes.
    `siblings`: how many other values the key has; it is told, never kept.
    """

    id: str
    namespace: str
    key: str
    value: Any = None
    kind: Kind = "semantic"
    agent: str = ""
    session: str = ""
    task: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    trust: Trust = "untrusted"
    version: int = 1
    created: int = 0
    updated: int = 0
    expires: int = 0
    rule: str = "siblings"
    writer: str = ""
    stamp: int = 0
    counts: dict[str, tuple[int, float]] = {}
    alias: str = ""
    vector: bytes = b""
    blob: str = ""
    size: int = 0
    siblings: int = 0


class Record(Struct, frozen=True, kw_only=True, gc=False):
    """All of a key. `clock`: its vector clock, writer -> the last stamp of that writer that this has seen. `entries`: the values
    that nobody replaced, by writer and stamp; none = the key was deleted."""

    namespace: str
    key: str
    clock: dict[str, int]
    entries: tuple[Entry, ...] = ()


class Change(Struct, frozen=True, gc=False):
    """A record that is to be kept, in place of one whose `records.digest` is `expect`; empty = in place of nothing."""

    record: Record
    expect: str = ""


class Filter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which entries are meant; what is empty does not narrow.

    `namespaces`: in these. `kinds`: of these. `tags`: with all of these. `agent`, `task`: written by it, for it. `since`,
    `until`: by when it was updated, wall-clock ms. `trust`: at least. `prefix`: of the key.
    """

    namespaces: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    tags: tuple[str, ...] = ()
    agent: str = ""
    task: str = ""
    since: int = 0
    until: int = 0
    trust: Trust = "untrusted"
    prefix: str = ""


class Search(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is looked for. `vector`: by this instead of the text's meaning. `wait`: until what was stored before can be found."""

    text: str = ""
    mode: Literal["words", "meaning", "both"] = "both"
    filter: Filter = Filter()
    limit: int = 10
    wait: bool = False
    vector: tuple[float, ...] = ()


class Ranked(Struct, frozen=True):
    """What an index found: a key, how good it is (of this one answer, best first), and why it was found, in words."""

    namespace: str
    key: str
    score: float
    why: tuple[str, ...]


class Hit(Struct, frozen=True, kw_only=True):
    """An entry that was found, how good it is among its likes, and why it was found."""

    entry: Entry
    score: float
    why: tuple[str, ...]


class Found(Struct, frozen=True, kw_only=True):
    """What a search came to. `embedder`: whose idea of meaning was used; empty = none was. `note`: what the answer leaves out.
    `behind`: changes that could not be found yet."""

    hits: list[Hit]
    embedder: str = ""
    note: str = ""
    behind: int = 0


class MemoryStore(Protocol):
    """Where records lie. What `commit` kept is durable when it returns, whole or not at all; reads give what was last kept.

    A commit is of one namespace, or of copies of it (`name@...`, see `bank`). Every method raises `skep.errors.Unavailable` when
    the store does not answer; a commit that raises it may have been made. Where nobody else changes it, a commit whose caller was
    cancelled is over when that ends, made or not: what is read from then on stays.
    """

    #: What this backend cannot do: "durable" (survive its process), "private" (others change it, so nothing of it is cached).
    lacks: frozenset[str]
    #: Who writes here, as vector clocks name it: random for each store that is one machine's own.
    writer: str

    async def get(self, namespace: str, key: str) -> Record | None:
        """A key's record, or None if it never had one. Where the store is shared: as it is now, at its primary."""

    async def commit(self, changes: Sequence[Change]) -> None:
        """Keeps all of these records or none.

        Raises Conflict, naming the key, if one of them is not in place of what its change says. The same change once more, whose
        record is there already, is fine: it was ours.
        """

    async def page(self, namespace: str, after: str = "", limit: int = 1000) -> list[Record]:
        """At most `limit` records of a namespace behind key `after`, in the order of the keys' UTF-8; deleted ones too."""

    async def changes(self, namespace: str, after: int = 0, limit: int = 1000) -> list[tuple[int, Record]]:
        """Records that were changed behind place `after`, each once, at its last change, oldest first, with that place."""

    async def heads(self) -> dict[str, int]:
        """All namespaces that have records, by name, each with the place of its last change."""

    async def drop(self, namespace: str) -> None:
        """Forgets a namespace, deleted keys included; nothing there is fine."""

    async def close(self) -> None:
        """Flushes and closes. After it the store can be opened elsewhere."""


class Embedder(Protocol):
    """Makes vectors of texts, so that what means much the same lies close."""

    #: As answers name it; another name makes all vectors anew.
    name: str
    #: Length of its vectors.
    size: int
    #: Whether closeness is meaning, rather than common letters: what is merged because it is close depends on it.
    real: bool

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        """Vectors of length one, float32, little-endian, in the order of the texts. Called in a thread; it may take its time."""


class Finder(Protocol):
    """An index of records, made of what a store tells and no more than a cache of it: what is lost is made anew."""

    #: The embedder that it uses, as answers name it.
    embedder: str
    #: That embedder, if it knows meaning rather than letters.
    knows: Embedder | None

    def places(self) -> dict[str, int]:
        """Namespaces, each with the place of the last change that can be found."""

    async def feed(self, namespace: str, changes: Sequence[tuple[int, Record]]) -> None:
        """Takes changes in, in the order of their places; what was known of those keys before is forgotten."""

    async def find(self, search: Search) -> tuple[list[Ranked], str]:
        """At most `search.limit` keys, best first, of entries that the filter lets through; and what the answer leaves out.

        Keys of several namespaces are found where the filter names several, or none. Expired entries may be among them.
        """

    async def forget(self, namespace: str) -> None:
        """Knows nothing of a namespace any more, its place included."""

    async def close(self) -> None:
        """Keeps what is known, if it is kept at all."""
