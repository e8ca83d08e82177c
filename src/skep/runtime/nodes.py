"""The nodes of a shared store, as an operator sees them, and what an operator tells them."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Literal, get_args

import msgspec
from msgspec import Struct

from skep.errors import Invalid, NotFound
from skep.runtime.shared import DRAINS, NODES
from skep.store import Lease, Leases

#: How long a node is told to drain that does not come to it, ms.
TOLD = 24 * 3_600_000

Word = Literal["drain", "leave"]
#: What proves to a node that somebody who holds the key of the hive wrote a text (`Log.seal_to`).
Seal = Callable[[str, bytes], bytes]


class Note(Struct):
    """What stands on a lease for people and other processes."""

    host: str
    pid: int
    node: str = ""
    labels: dict[str, str] = {}
    slots: int = 0
    leads: bool = False
    #: Sessions written here in which something goes on again: how many there were, and the last of them.
    calls: int = 0
    called: tuple[str, ...] = ()
    #: Sessions that it carries attempts out for, and attempts under way.
    sessions: int = 0
    running: int = 0
    #: Whether it carries out attempts of sessions that others write, and what it gives to all of them: cores, bytes.
    serves: bool = False
    cpu: float = 0.0
    memory: int = 0
    #: See `runtime.node.place`.
    place: str = ""


class NodeView(Struct, frozen=True, kw_only=True):
    """A node: where it is, what it takes, what it has to do, and what it was told (drain, leave, or nothing)."""

    name: str
    host: str
    pid: int
    labels: dict[str, str]
    slots: int
    leads: bool
    sessions: int
    running: int
    told: str


async def listed(leases: Leases, seal: Seal) -> list[NodeView]:
    """The nodes that are there, by name."""
    told = await leases.held(DRAINS)
    nodes = sorted((await leases.held(NODES)).items())
    return [_view(name, lease, order_to(name, lease.holder, told.get(name), seal)) for name, lease in nodes]


async def tell(leases: Leases, seal: Seal, name: str, word: Word) -> None:
    """Tells a node to take nothing more and to leave when it is done, or to leave at once.

    Args:
        seal: for that node alone, with the key of the hive: it heeds nobody else.

    Raises:
        NotFound: it is not there.
        Invalid: it works only for sessions that were begun there.
    """
    known = await leases.held(NODES)
    if name not in known:
        raise NotFound(f"there is no node '{name}'", f"There are: {', '.join(sorted(known)) or 'none'}.")
    if not read_note(known[name]).serves:
        fix = "End it there, with Ctrl-C; or `skep stop` the session: what is done is kept."
        raise Invalid(f"'{name}' is a process that carries out its own sessions, and serves no others", fix)
    before = (await leases.held(DRAINS)).get(name)
    if before is not None:
        await leases.release(f"{DRAINS}/{name}", before.holder)
    holder = known[name].holder
    await leases.hold(f"{DRAINS}/{name}", holder, TOLD, f"{word} {_sealed(seal, name, holder, word)}")


def order_to(name: str, holder: str, told: Lease | None, seal: Seal) -> Word | Literal[""]:
    """What the process `holder`, which is the node `name`, was told by somebody with the key; "" if nothing was.

    The seal names the process: an order to one that is gone says nothing to whoever has its name now.
    """
    if told is None or told.holder != holder:
        return ""
    said, _, sealed = told.note.partition(" ")
    word: Word
    for word in get_args(Word):
        if said == word and hmac.compare_digest(sealed.encode(), _sealed(seal, name, holder, word).encode()):
            return word
    return ""


def _sealed(seal: Seal, name: str, holder: str, word: Word) -> str:
    return seal(name, b"order to a node\0" + "\0".join((name, holder, word)).encode("utf-8", "surrogatepass")).hex()


def _view(name: str, lease: Lease, word: str) -> NodeView:
    note = read_note(lease)
    return NodeView(
        name=name,
        host=note.host,
        pid=note.pid,
        labels=note.labels,
        slots=note.slots,
        leads=note.leads,
        sessions=note.sessions,
        running=note.running,
        told=word,
    )


def read_note(lease: Lease) -> Note:
    """What stands on a lease; nothing much if a later Skep wrote it, or somebody else: it carries no seal."""
    try:
        return msgspec.json.decode(lease.note, type=Note)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return Note("?", 0)
