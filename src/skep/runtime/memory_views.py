"""What of memory callers see besides its entries: how much there is, what came in, what was written out."""

from __future__ import annotations

from msgspec import Struct

from skep.memory import Kind


class ShelfView(Struct, frozen=True, kw_only=True):
    """How many entries of a kind a namespace has, and their bytes as they are kept, large values included."""

    namespace: str
    kind: Kind
    entries: int
    bytes: int


class StatsView(Struct, frozen=True, kw_only=True):
    """How memory stands.

    `store`, `embedder`: by the names of the settings. `shelves`: by namespace and kind. `deleted`: keys of which it is only known
    that they were deleted. `conflicts`: keys that have several values. `cached`, `cache`: bytes of entries in memory, and of how
    many there may be. `behind`: changes that cannot be found by words and meaning yet; `trouble`: why they are not brought in.
    `replication`: how other machines come to have what is stored here. `unreadable`: files of keys that somebody edited and that
    cannot be read since, the first few, each with why; their keys are as they were before.
    """

    store: str
    embedder: str
    shelves: list[ShelfView]
    deleted: int = 0
    conflicts: int = 0
    cached: int = 0
    cache: int = 0
    behind: int = 0
    trouble: str = ""
    replication: str = ""
    unreadable: dict[str, str] = {}


class WrittenView(Struct, frozen=True, kw_only=True):
    """A file that memory was written to: its path, bytes, and how many keys of how many namespaces are in it.

    `lost`: keys whose large values had been lost before; they are not in it.
    """

    path: str
    bytes: int
    keys: int
    namespaces: int
    lost: tuple[str, ...] = ()


class TakenView(Struct, frozen=True, kw_only=True):
    """What came in from a file, or (`dry`) would.

    `keys`: in the file. `new`: were not here. `changed`: have become something else, or have one more value now. `same`: were
    here already. `kept`: stay as they are here, because they were replaced or deleted since, or are trusted more. `ours`: whether
    what is in the file was sealed here, so that it keeps its trust; otherwise it is `untrusted`. `notes`: what else is to be
    known.
    """

    path: str
    keys: int = 0
    new: int = 0
    changed: int = 0
    same: int = 0
    kept: int = 0
    ours: bool = False
    dry: bool = False
    notes: tuple[str, ...] = ()


class StepView(Struct, frozen=True, kw_only=True):
    """One thing that a consolidation does: `what` (merge, fact, expire), with these keys (of a merge first the one that stays, to
    which the others lead then), and why, in words."""

    what: str
    keys: tuple[str, ...]
    why: str


class ConsolidatedView(Struct, frozen=True, kw_only=True):
    """What a consolidation did, or (`dry`) would.

    `merged`, `learned`, `expired`: keys that became others, facts that were made of episodes, keys whose values were over.
    `steps`: the first of them. `left`: keys that were changed meanwhile, and stay as they are. `notes`: what was not looked at.
    """

    namespace: str
    dry: bool
    merged: int = 0
    learned: int = 0
    expired: int = 0
    steps: list[StepView] = []
    left: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class UndoneView(Struct, frozen=True, kw_only=True):
    """What undoing a consolidation came to. `back`: keys as they were; `left`: keys that were changed since, and stay so."""

    namespace: str
    back: tuple[str, ...]
    left: tuple[str, ...]
