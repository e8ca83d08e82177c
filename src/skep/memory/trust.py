"""How far what is remembered is to be trusted, and who may replace what."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from skep.errors import Denied
from skep.memory import TRUSTS, Entry, Trust
from skep.memory.limits import RUN

_BY = {"agent": "written by an agent", "person": "written by a person", "observed": "recorded by Skep itself"}

#: In the metadata of what a consolidation merged: how far the most trusted of it was.
HIGHEST = "highest"


class Author(Struct, frozen=True, kw_only=True):
    """Who writes: a person, unless an agent is named. `trust`: of what it writes, whatever it says about it."""

    trust: Trust = "person"
    agent: str = ""
    session: str = ""
    task: str = ""


def rank(trust: Trust) -> int:
    """The higher, the more it is trusted."""
    return TRUSTS.index(trust)


def lowest(trusts: Iterable[Trust]) -> Trust:
    """Of what was made of several: it is no better than the worst of them."""
    return min(trusts, key=rank, default="untrusted")


def highest(entry: Entry) -> Trust:
    """How far the most trusted is trusted of those that a value was merged of; of any other value its own trust."""
    merged: Trust | None = entry.metadata.get(HIGHEST) if RUN in entry.metadata else None
    return max(entry.trust, merged, key=rank) if merged in TRUSTS else entry.trust


def check_may_replace(entries: Iterable[Entry], by: Author) -> None:
    """Raises Denied if one of the values is trusted more than whoever wants to replace or delete it, or was before a merge."""
    for entry in entries:
        if rank(trust := highest(entry)) > rank(by.trust):
            raise Denied(f"'{entry.key}' in '{entry.namespace}' was {_BY[trust]}: not yours to change", "Use another key.")
