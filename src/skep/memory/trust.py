"""How far what is remembered is to be trusted, and who may replace what."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from skep.errors import Denied
from skep.memory import TRUSTS, Entry, Trust

_BY = {"agent": "written by an agent", "person": "written by a person", "observed": "recorded by Skep itself"}


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


def check_may_replace(entries: Iterable[Entry], by: Author) -> None:
    """Raises Denied if one of the values is trusted more than whoever wants to replace or delete it."""
    for entry in entries:
        if rank(entry.trust) > rank(by.trust):
            raise Denied(f"'{entry.key}' in '{entry.namespace}' was {_BY[entry.trust]}: not yours to change", "Use another key.")
