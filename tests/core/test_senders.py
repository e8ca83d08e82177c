"""The counts of senders: what was decided is never taken for new, however many others came in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.core import senders
from skep.core.senders import Senders

#: Processes with the key, and of two nodes that were invited.
WHO = ("a", "b", "c", "east/d", "east/e", "east/f", "west/g")
#: Who sends letters, one after the other.
SENT = st.lists(st.sampled_from(WHO), max_size=40)


@given(SENT, st.integers(1, 4), st.integers(1, 2), st.integers(0, 1))
def test_what_was_decided_is_never_new_again(sent: list[str], kept: int, of_node: int, nodes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(senders, "MAX_SENDERS", kept)
        patch.setattr(senders, "MAX_OF_NODE", of_node)
        patch.setattr(senders, "MAX_NODES", nodes)
        counts, numbers, decided = Senders(), dict.fromkeys(WHO, 0), list[tuple[str, int, int]]()
        for seq, sender in enumerate(sent, 1):
            # A letter is written before the event that tells that it was decided.
            assert not counts.too_old(sender, seq - 1)
            assert counts.last(sender) in (0, numbers[sender])
            numbers[sender] += 1
            decided.append((sender, numbers[sender], seq - 1))
            saved = Senders(dict(counts.heard), counts.floor, dict(counts.floors))
            for each in (counts, saved):
                each.take(((sender, numbers[sender]),), seq)
            assert (counts, [*counts.heard], [*counts.floors]) == (saved, [*saved.heard], [*saved.floors])
            assert len(counts.heard) <= kept
            for one, number, looked in decided:
                assert number <= counts.last(one) or counts.too_old(one, looked)


def test_a_node_that_makes_up_senders_pushes_out_its_own_alone() -> None:
    counts = Senders()
    counts.take((("boss", 1), ("west/a", 1), ("east/first", 1)), 1)
    for seq in range(2, 1_000):
        counts.take(((f"east/{seq}", 1),), seq)
    assert len(counts.heard) == 2 + senders.MAX_OF_NODE
    assert (counts.last("boss"), counts.last("west/a"), counts.last("east/first")) == (1, 1, 0)
    assert counts.too_old("east/first", 1)
    assert not counts.too_old("another", 0)
    assert not counts.too_old("west/another", 0)


def test_a_sender_that_still_speaks_is_not_forgotten() -> None:
    counts = Senders()
    for seq in range(1, 3 * senders.MAX_SENDERS):
        counts.take(((f"s{seq}", 1), ("busy", seq)), seq)
    assert counts.last("busy") == 3 * senders.MAX_SENDERS - 1
    assert counts.last("s1") == 0
    assert counts.floor
