"""Votes and messages under crashes and repetitions, judged from outside; and that the checker sees what is planted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from skep.core import apply as applying
from skep.core import consensus, topology
from skep.core import events as ev
from skep.core.state import State
from tests.simulation.decisions import Small
from tests.simulation.planted import Bug, swap, swapped
from tests.simulation.world import Violated

SEEDS = 120
_count, _blocks, _sent = consensus.count, consensus._blocks, applying._APPLY[ev.MessageSent]


def _twice(ballot: consensus.Ballot) -> list[tuple[tuple[str, ...], int]]:
    """The first elector's vote counts twice."""
    blocks = _blocks(ballot)
    return [blocks[0], *blocks]


def _of_those_that_came(ballot: consensus.Ballot, votes: Mapping[str, str], at: int, closed: bool = False) -> Any:
    """A quorum of the votes that arrived."""
    result = _count(ballot, votes, at, closed)
    came = tuple(elector for elector in ballot.electors if votes.get(elector))
    return result if result is None or not came else _count(replace(ballot, electors=came), votes, at, True)


@contextmanager
def _own_counts() -> Iterator[None]:
    """Who made it votes for it."""
    said = consensus._said

    def own(ballot: consensus.Ballot, votes: Mapping[str, str], elector: str, closed: bool) -> str | None:
        return said(replace(ballot, own={}), votes, elector, closed)

    admit = consensus.admit
    with (
        swapped(consensus, "_said", own),
        swapped(consensus, "admit", lambda ballot, *rest: admit(replace(ballot, own={}), *rest)),
    ):
        yield


def _forgets(state: State, event: ev.MessageSent) -> None:
    """A message is known only to the owner that took it."""
    if state.live:
        _sent(state, event)


PLANTED: dict[str, tuple[Callable[[Small], None], Bug]] = {
    "two votes of one elector counted": (Small.vote, swap(consensus, "_blocks", _twice)),
    "a quorum of the votes that arrived": (Small.vote, swap(consensus, "count", _of_those_that_came)),
    "a vote for one's own counted": (Small.vote, _own_counts),
    "a message over a missing edge": (Small.talk, swap(topology, "send", lambda *ends: None)),
    "a message lost in a crash": (Small.talk, swap(applying._APPLY, ev.MessageSent, _forgets)),
}


@pytest.mark.parametrize("way", [Small.vote, Small.talk], ids=["votes", "messages"])
def test_every_seed_keeps_what_is_promised(way: Callable[[Small], None]) -> None:
    for seed in range(SEEDS):
        way(Small(seed))


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    way, bug = PLANTED[name]
    with bug():
        assert any(broken(way, seed) for seed in range(SEEDS)), f"{SEEDS} seeds did not find it"


def broken(way: Callable[[Small], None], seed: int) -> bool:
    """Whether the seed shows it, by an objection or by what cannot be applied."""
    small = Small(seed)
    try:
        way(small)
    except (Violated, KeyError):
        return True
    return False
