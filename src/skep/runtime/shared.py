"""What a process knows of the store that it shares with others, and how they know it."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from skep.core.state import State
from skep.store import Inbox, Leases
from skep.workspace import Opened

#: Kinds of leases: processes that write sessions, nodes that carry their attempts out, what operators told nodes, and what one of
#: all processes does for the store.
OWNERS, NODES, DRAINS, CHORES = "owner", "node", "drain", "chore"


class Shared(Struct, frozen=True, kw_only=True):
    """A store that several processes work with.

    Args:
        owner: this process; random, another one after each start.
        serves: whether its node carries out attempts of sessions that others write.
        leads: whether it goes on with sessions whose writer is gone.
        invited: it has an invitation for its node, and not the store's key: it reads, and speaks for itself only.
        say: hears, in words for people, what this process waits for.
    """

    inbox: Inbox
    leases: Leases
    owner: str
    serves: bool = False
    leads: bool = False
    invited: bool = False
    say: Callable[[str], None] | None = None


def opened_with(state: State) -> Opened:
    """What a session began with, as its log has it."""
    return Opened(state.base, state.branch, state.kind, 0)
