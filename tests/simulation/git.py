"""A small git: commits with parents and files, merges of three trees, and one ref that moves by compare-and-swap alone."""

from __future__ import annotations

from hashlib import blake2b

from msgspec import Struct


class Commit(Struct, frozen=True):
    """`tree` maps paths to contents; `known` is the commit itself and all that came before it."""

    oid: str
    tree: dict[str, str]
    known: frozenset[str]


class Git:
    """The repository of one session."""

    def __init__(self) -> None:
        self.commits: dict[str, Commit] = {}
        self.root = self.commit((), {"README": "root"}, "root")
        self.ref = self.root
        #: Every move of the ref: from, to.
        self.moves: list[tuple[str, str]] = []

    def commit(self, parents: tuple[str, ...], tree: dict[str, str], message: str) -> str:
        """Makes a commit; the same arguments give the same name every time."""
        oid = blake2b(repr((parents, sorted(tree.items()), message)).encode(), digest_size=20).hexdigest()
        known = frozenset({oid}).union(*(self.commits[parent].known for parent in parents))
        self.commits[oid] = Commit(oid, tree, known)
        return oid

    def merge(self, ours: str, theirs: str, message: str) -> str | None:
        """A commit with both parents, or None if both changed a file, and differently, since their best common ancestor."""
        common = self.commits[ours].known & self.commits[theirs].known
        before = max((self.commits[oid] for oid in common), key=lambda c: (len(c.known), c.oid)).tree
        mine, other = self.commits[ours].tree, self.commits[theirs].tree
        tree = dict(mine)
        for path in sorted(other):
            if other[path] != before.get(path):
                if mine.get(path) not in (before.get(path), other[path]):
                    return None
                tree[path] = other[path]
        return self.commit((ours, theirs), tree, message)

    def move(self, old: str, new: str) -> bool:
        """Moves the ref if it still stands at `old`."""
        if self.ref != old:
            return False
        self.ref = new
        self.moves.append((old, new))
        return True

    def fork(self, tip: str) -> Git:
        """The same commits, and a ref of its own."""
        other = Git()
        other.commits = dict(self.commits)
        other.ref = tip
        return other

    def contains(self, tip: str, oid: str) -> bool:
        """Whether `oid` is `tip` or came before it."""
        return oid in self.commits[tip].known
