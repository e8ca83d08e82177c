"""Sums of what a store holds: the same for the same, however it came there, and telling which keys differ."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.errors import Conflict, Unavailable
from skep.memory import Change, Record
from skep.memory.ephemeral import EphemeralShelf, EphemeralStore
from skep.memory.records import digest
from skep.memory.sums import HALF, SummedStore, name_of, split
from tests.contracts.memory import MemoryContract, after, fresh, gone
from tests.memory.homes import SummedHome


class TestSummedStore(MemoryContract):
    home = SummedHome
    may_lack = frozenset({"durable"})


@given(
    st.lists(
        st.tuples(st.sampled_from("mn"), st.sampled_from("abcdef"), st.sampled_from(["write", "delete", "drop"])), max_size=30
    )
)
def test_sums_kept_along_are_those_of_a_store_that_is_looked_through(steps: list[tuple[str, str, str]]) -> None:
    async def run() -> None:
        shelf = EphemeralShelf()
        kept = SummedStore(EphemeralStore(shelf))
        await kept.settle()
        empty = kept.root()
        for namespace, key, what in steps:
            there = await kept.get(namespace, key)
            if what == "drop":
                await kept.drop(namespace)
                await kept.settle()
            else:
                change = fresh(key, namespace=namespace) if there is None else gone(there) if what == "delete" else after(there)
                await kept.commit([change])
        read = SummedStore(EphemeralStore(shelf))
        assert not read.settled
        await read.settle()
        assert sorted(split(read.pairs("n", {}))) == sorted(split(kept.pairs("n", {})))
        assert (read.root(), read.leaves("m"), read.leaves("n")) == (kept.root(), kept.leaves("m"), kept.leaves("n"))
        assert (read.root() == empty) == (not await kept.heads())

    asyncio.run(run())


async def test_a_difference_is_found_by_its_part() -> None:
    one, other = SummedStore(EphemeralStore()), SummedStore(EphemeralStore())
    changes = [fresh(f"k{number}") for number in range(2_000)]
    for store in (one, other):
        await store.settle()
        await store.commit(changes)
    assert one.root() == other.root()
    assert other.pairs("n", one.leaves("n")) == b""
    later = after(changes[7].record)
    await other.commit([later, fresh("new")])
    assert one.root() != other.root()
    told = other.pairs("n", one.leaves("n"))
    assert len(told) < 2_000 * 16 / 50
    differing = one.differing("n", told)
    assert differing[name_of(later.record)].hex() == digest(changes[7].record)[: 2 * HALF]
    assert set(differing.values()) == {bytes.fromhex(digest(changes[7].record))[:HALF], b""}


async def test_copies_of_earlier_states_are_not_summed() -> None:
    store = SummedStore(EphemeralStore())
    await store.settle()
    await store.commit([fresh("k")])
    before = store.root()
    await store.commit([fresh("k", namespace="n@1")])
    assert store.root() == before
    again = SummedStore(EphemeralStore())
    await again.settle()
    assert again.settled


class Doubtful(EphemeralStore):
    """Makes commits and says that it is not known, once told."""

    doubt = False
    made = True

    async def commit(self, changes: Sequence[Change]) -> None:
        if not self.doubt or self.made:
            await super().commit(changes)
        if self.doubt:
            raise Unavailable("outcome unknown")


@pytest.mark.parametrize("made", [True, False])
async def test_a_commit_of_unknown_outcome_is_looked_after(made: bool) -> None:
    below = Doubtful()
    store = SummedStore(below)
    await store.settle()
    first = fresh("k")
    await store.commit([first])
    below.doubt, below.made = True, made
    with pytest.raises(Unavailable):
        await store.commit([after(first.record)])
    assert not store.settled
    await store.settle()
    assert store.settled
    held = await store.get("n", "k")
    assert held is not None
    assert store.state("n", name_of(held)).hex() == digest(held)[: 2 * HALF]


async def test_a_commit_that_was_refused_changes_no_sum() -> None:
    store = SummedStore(EphemeralStore())
    await store.settle()
    await store.commit([fresh("k")])
    before = store.root()
    with pytest.raises(Conflict):
        await store.commit([fresh("k")])
    assert store.root() == before
    assert store.settled


class Slow(EphemeralStore):
    """Lets others go first after it has read a page."""

    def __init__(self, shelf: EphemeralShelf) -> None:
        super().__init__(shelf)
        self.read, self.go = asyncio.Event(), asyncio.Event()

    async def page(self, namespace: str, after: str = "", limit: int = 1000) -> list[Record]:
        found = await super().page(namespace, after, limit)
        self.read.set()
        await self.go.wait()
        return found


async def test_what_is_changed_while_it_is_looked_through_counts() -> None:
    shelf = EphemeralShelf()
    first = fresh("k")
    await EphemeralStore(shelf).commit([first, fresh("other")])
    below = Slow(shelf)
    store = SummedStore(below)
    looking = asyncio.create_task(store.settle())
    await below.read.wait()
    await store.commit([after(first.record)])
    below.go.set()
    await looking
    right = SummedStore(EphemeralStore(shelf))
    await right.settle()
    assert store.root() == right.root()
