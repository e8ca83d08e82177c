"""What a process knows of the store that it shares with others, and how they know it."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from skep.core.state import State
from skep.store import Handoffs, Inbox, Leases
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
    handoffs: Handoffs | None = None
    serves: bool = False
    leads: bool = False
    invited: bool = False
    say: Callable[[str], None] | None = None


async def take_turn(shared: Shared, chore: str, ttl: int) -> bool:
    """Whether this process, of all that could, does something for the store from now on; another one can when it is gone.

    Args:
        chore: what it is.
        ttl: for how long at most unless it asks again, ms.
    """
    holder = (await shared.leases.held(CHORES)).get(chore)
    if holder is not None and holder.holder not in await shared.leases.held(OWNERS):  # it was killed
        await shared.leases.release(f"{CHORES}/{chore}", holder.holder)
    return await shared.leases.hold(f"{CHORES}/{chore}", shared.owner, ttl)


def opened_with(state: State) -> Opened:
    """What a session began with, as its log has it."""
    return Opened(state.base, state.branch, state.kind, 0)
