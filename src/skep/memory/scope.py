"""Which namespaces somebody may read and write. One judgement for all ways to the bank; people may all.

A session has a namespace of its own, `session/NAME`, which it reads and writes. It reads `project`, which is the workspace's.
Everything else is granted, by name, or by how names begin: `session/*`.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from skep.errors import Denied
from skep.memory.limits import COPY

#: The workspace's own namespace: whoever may use the bank reads it.
PROJECT = "project"
#: What the names of namespaces of sessions begin with, and what stands at the end of a grant that means all that begin so.
SESSION, ALL = "session/", "*"
_GRANT = "`memory:` of the workflow file grants it; see the manual's page on the memory bank."


def namespace_of(session: str) -> str:
    """The namespace of a session's own. Signs that mean something in a namespace are written as `%40` and such."""
    return SESSION + session.replace("%", "%25").replace(COPY, "%40")


class Scope(Struct, frozen=True):
    """What one who asks may read and write.

    Args:
        own: the namespace of its session.
        read, write: what is granted on top; what may be written may be read.
    """

    own: str
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()

    def may_read(self, namespace: str) -> bool:
        """Whether it may read there."""
        return namespace == PROJECT or self.may_write(namespace) or _among(namespace, self.read)

    def may_write(self, namespace: str) -> bool:
        """Whether it may write there."""
        return namespace == self.own or _among(namespace, self.write)

    def check_read(self, namespace: str) -> None:
        """Raises Denied if it may not read there."""
        if not self.may_read(namespace):
            raise Denied(
                f"namespace '{namespace[:80]}' is not yours to read",
                f"You read {_named(self.own, PROJECT, *self.read, *self.write)}. {_GRANT}",
            )

    def check_write(self, namespace: str) -> None:
        """Raises Denied if it may not write there."""
        if not self.may_write(namespace):
            raise Denied(
                f"namespace '{namespace[:80]}' is not yours to write", f"You write {_named(self.own, *self.write)}. {_GRANT}"
            )

    def readable(self, there: Iterable[str]) -> tuple[str, ...]:
        """Of the namespaces that there are, those that it may read: its own first, then the workspace's, then by name."""
        found = {name for name in there if self.may_read(name)}
        return tuple(sorted(found, key=lambda name: (name != self.own, name != PROJECT, name)))

    @property
    def shared(self) -> str:
        """Where it writes what others are to find: the first namespace that it was granted by its whole name, or its own."""
        return next((name for name in self.write if not name.endswith(ALL)), self.own)


def _among(namespace: str, granted: Iterable[str]) -> bool:
    return COPY not in namespace and any(
        namespace.startswith(one[:-1]) if one.endswith(ALL) else namespace == one for one in granted
    )


def _named(*namespaces: str) -> str:
    return ", ".join(dict.fromkeys(namespaces))
