"""Machines whose relay loses, repeats, delays and forgets, that crash and whose clocks are wrong, lose nothing that was stored
and keep nothing that was deleted. Bugs that are planted are found by the same worlds.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from skep.memory import Change, Record
from skep.memory import bank as banks
from skep.memory.bank import Bank
from skep.memory.clocks import merge
from skep.memory.ephemeral import EphemeralStore
from skep.memory.records import decode, join
from skep.memory.replicate import Replication
from tests.memory.replicated import WatchedStore, broken
from tests.simulation.planted import Bug, swap
from tests.torture.amounts import LONG

#: Worlds of a test, and how many tests there are of them; worlds in which a planted bug has to be found.
WORLDS, TESTS, FOUND = 20, 150 if os.environ.get(LONG) == "1" else 5, 60

_take_in, _fetch_records, _commit = Bank._take_in, Replication._fetch_records, EphemeralStore.commit


@pytest.mark.parametrize("part", range(TESTS))
def test_nothing_is_lost_and_nothing_comes_back(part: int) -> None:
    for seed in range(part * WORLDS, (part + 1) * WORLDS):
        assert (seed, broken(seed)) == (seed, "")


def last_wins(a: Record, b: Record) -> Record:
    """Of two copies the newer value stays."""
    both = join(a, b)
    return replace(both, entries=both.entries and (max(both.entries, key=lambda one: (one.stamp, one.writer)),))


def forgets_deletions(a: Record, b: Record) -> Record:
    """What was deleted says nothing to what was not."""
    return join(a, b) if a.entries and b.entries else replace(a, clock=merge(a.clock, b.clock), entries=a.entries or b.entries)


async def compares_never(replication: Replication) -> None:
    """What was not told is never found."""
    await asyncio.Event().wait()


async def fetches_newer(replication: Replication, node: str, namespace: str, names: Sequence[bytes]) -> None:
    """Of what another one has only what is newer is taken in."""
    anything: Any = replication
    right = replication._right

    def newer(kept: Any) -> list[Record]:
        below: Any = replication._store._store
        states = below._shelf.namespaces.get(namespace, {})
        there = {key: newest(data) for key, (_, data) in states.items()}
        return [one for one in right(kept) if max(one.clock.values()) > there.get(one.key, 0)]

    anything._right = newer
    try:
        await _fetch_records(replication, node, namespace, names)
    finally:
        anything._right = right


def newest(data: bytes) -> int:
    """The newest stamp of a record that is kept."""
    return max(decode(data).clock.values())


async def drops_deleted(store: WatchedStore, changes: Sequence[Change]) -> None:
    """Of what was deleted nothing is kept."""
    await _commit(store, changes)
    for change in changes:
        if not change.record.entries:
            store._shelf.namespaces[change.record.namespace].pop(change.record.key, None)


PLANTED: dict[str, Bug] = {
    "of what was written at the same time the last stays": swap(banks, "join", last_wins),
    "a deletion does not hold against an older copy": swap(banks, "join", forgets_deletions),
    "a deletion is not kept": swap(EphemeralStore, "commit", drops_deleted),
    "machines do not compare": swap(Replication, "_compare", compares_never),
    "only what is newer is taken in when they compare": swap(Replication, "_fetch_records", fetches_newer),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    with PLANTED[name]():
        assert any(broken(seed) for seed in range(FOUND)), f"{FOUND} worlds did not show it"
