"""What every `MemoryStore` does. A backend passes when `class TestX(MemoryContract): home = XHome` does."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pytest
from msgspec.structs import replace

from skep.errors import Conflict, Invalid, SkepError, Unavailable
from skep.memory import Change, Entry, MemoryStore, Record
from skep.memory.records import deleted, digest, identity, written

_stamps = count(1_700_000_000_000 << 16)

#: Keys and namespaces that lead somewhere else, or mean something to somebody, where they are not treated as what they are.
ODD = (
    *(
        "../../etc/passwd",
        "a/b",
        "/",
        ".",
        "..",
        "a\\b",
        "CON",
        "*",
        "a?[b]",
        "%s%n",
        "'; DROP TABLE record; --",
        '"',
        "`",
        "{a}",
    ),
    *("#", "---", "a: b", "<!-- -->", "-rf", "~", "$HOME", "a b", "a|b", "a,b", "name@pin", "A", "a"),
    *("ü", "日本語", "e\u0301", "é", "\u202egpj", "🐝" * 100, "x" * 512),
)
#: Values that must come back as they are.
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -(2**63), 2**64 - 1, 0.1, -0.0, 1e308, 5e-324, 1.0),
    *("", " ", "\0", "a\0b\r\n\t\x1b[31m\u2028\ufeff", "```\n````json\n---\n", "é", "e\u0301", "🐝", "\n\n  x  \n"),
    *([], {}, [[], {}, None], {"": {"a": [1, 2.5, "x", False]}, "b": {"": []}}, {"b": 1, "a": 2}),
)


class MemoryHome(Protocol):
    """Where a backend keeps its records. `open` opens what was kept, `close` ends what its stores share."""

    def __init__(self, folder: Path) -> None: ...

    async def open(self) -> MemoryStore: ...

    async def close(self) -> None: ...


def entry(key: str, value: Any = "value", namespace: str = "n", writer: str = "w", **rest: Any) -> Entry:
    """An entry that was never written before."""
    return Entry(
        id=identity(namespace, key), namespace=namespace, key=key, value=value, writer=writer, stamp=next(_stamps), **rest
    )


def fresh(key: str, value: Any = "value", namespace: str = "n") -> Change:
    """The first record of a key."""
    return Change(written(None, entry(key, value, namespace)))


def after(record: Record, value: Any = "later") -> Change:
    """The key written again by somebody who saw the record."""
    return Change(written(record, entry(record.key, value, record.namespace)), digest(record))


def gone(record: Record) -> Change:
    """The key deleted by somebody who saw the record."""
    return Change(deleted(record, "w", next(_stamps)), digest(record))


def typed(value: Any) -> str:
    """A value with its types, which `==` does not tell apart: 1 from 1.0 and True, 0.0 from -0.0. Objects have no order."""
    return json.dumps(value, sort_keys=True)


async def all_changes(store: MemoryStore, namespace: str = "n", limit: int = 1000) -> list[tuple[int, Record]]:
    """From the first to the last, in pages."""
    found: list[tuple[int, Record]] = []
    while page := await store.changes(namespace, found[-1][0] if found else 0, limit):
        assert len(page) <= limit
        found += page
    return found


class MemoryContract:
    """Subclass it with `home`."""

    home: type[MemoryHome]
    #: What the backend may lack, and no more.
    may_lack: frozenset[str] = frozenset()
    #: Whether several can have it open at once, each as a writer of its own.
    shared = False

    @pytest.fixture
    async def place(self, tmp_path: Path) -> AsyncIterator[MemoryHome]:
        place = self.home(tmp_path / "home")
        yield place
        await place.close()

    @pytest.fixture
    async def store(self, place: MemoryHome) -> AsyncIterator[MemoryStore]:
        store = await place.open()
        yield store
        await store.close()

    # What is kept

    async def test_it_lacks_no_more_than_it_says(self, store: MemoryStore) -> None:
        assert store.lacks <= self.may_lack
        assert store.writer

    async def test_what_was_committed_is_read(self, store: MemoryStore) -> None:
        assert await store.get("n", "k") is None
        first = fresh("k")
        await store.commit([first])
        assert await store.get("n", "k") == first.record
        second = after(first.record)
        await store.commit([second])
        assert await store.get("n", "k") == second.record
        assert await store.get("other", "k") is None
        assert await store.get("n", "K") is None

    async def test_everything_of_an_entry_comes_back(self, store: MemoryStore) -> None:
        whole = replace(
            entry("k", {"a": [1, "x"]}, kind="vector", agent="coder-1", session="s", task="t", tags=("b", "a"), trust="person"),
            metadata={"from": ["x", 1]},
            **dict(zip(("version", "created", "updated", "expires", "size"), (7, 1, 2, 3, 99), strict=True)),
            rule="counter",
            counts={"w": (5, 2), "v": (1, 0.5)},
            alias="other",
            vector=bytes(range(8)),
            blob="0" * 64,
        )
        beside = entry("k", "beside", writer="v")
        record = Record(namespace="n", key="k", clock={"v": beside.stamp, "w": whole.stamp}, entries=(beside, whole))
        await store.commit([Change(record)])
        found = await store.get("n", "k")
        assert found == record
        assert digest(found) == digest(record)

    async def test_a_deleted_key_leaves_its_clock(self, store: MemoryStore) -> None:
        first = fresh("k")
        await store.commit([first])
        tombstone = gone(first.record)
        await store.commit([tombstone])
        found = await store.get("n", "k")
        assert found == tombstone.record
        assert found is not None
        assert not found.entries
        assert await store.page("n") == [found]
        await store.commit([after(found, "again")])
        found = await store.get("n", "k")
        assert found is not None
        assert found.entries[0].value == "again"

    async def test_what_is_handed_out_or_in_does_not_change_what_is_kept(self, store: MemoryStore) -> None:
        value = {"a": [1]}
        change = fresh("k", value)
        await store.commit([change])
        value["a"].append(2)
        found = await store.get("n", "k")
        assert found is not None
        found.entries[0].value["a"].append(3)
        again = await store.get("n", "k")
        assert again is not None
        assert again.entries[0].value == {"a": [1]}

    # Compare and set

    @pytest.mark.parametrize("expect", ["", "0" * 32, "x", "stale"])
    async def test_what_is_not_in_place_of_what_it_expects_is_refused(self, store: MemoryStore, expect: str) -> None:
        first = fresh("k")
        await store.commit([first])
        second = after(first.record)
        await store.commit([second])
        with pytest.raises(Conflict, match="'k' in 'n'"):
            await store.commit([replace(after(second.record), expect=digest(first.record) if expect == "stale" else expect)])
        assert await store.get("n", "k") == second.record

    async def test_what_expects_something_where_nothing_is_is_refused(self, store: MemoryStore) -> None:
        with pytest.raises(Conflict, match="'k' in 'n'"):
            await store.commit([after(fresh("k").record)])
        assert await store.get("n", "k") is None
        assert await store.page("n") == []
        assert await store.changes("n") == []

    async def test_a_commit_of_several_is_made_whole(self, store: MemoryStore) -> None:
        first = fresh("a")
        await store.commit([first])
        await store.commit([after(first.record), fresh("b"), fresh("a", namespace="n@1"), fresh("c")])
        assert [record.key for record in await store.page("n")] == ["a", "b", "c"]
        assert [record.key for record in await store.page("n@1")] == ["a"]

    @pytest.mark.parametrize("bad", [0, 1, 2])
    async def test_or_not_at_all(self, store: MemoryStore, bad: int) -> None:
        there = fresh("there")
        await store.commit([there])
        changes = [after(there.record), fresh("b", namespace="n@1")]
        changes.insert(bad, after(fresh("stale").record))
        with pytest.raises(Conflict, match="'stale' in 'n'"):
            await store.commit(changes)
        assert await store.page("n") == [there.record]
        assert await store.page("n@1") == []
        assert [record for _, record in await store.changes("n")] == [there.record]

    async def test_the_same_commit_again_changes_nothing(self, store: MemoryStore) -> None:
        first, other = fresh("k"), fresh("other")
        await store.commit([first, other])
        await store.commit([first])
        await store.commit([other, first])
        second = after(first.record)
        await store.commit([second])
        await store.commit([second])
        assert await store.page("n") == [second.record, other.record]
        assert sorted(record.key for _, record in await all_changes(store)) == ["k", "other"]
        with pytest.raises(Conflict):
            await store.commit([first])

    async def test_a_commit_of_nothing_is_fine(self, store: MemoryStore) -> None:
        await store.commit([])
        assert await store.heads() == {}

    # In which order

    async def test_pages_go_by_the_bytes_of_keys(self, store: MemoryStore) -> None:
        keys = ["b", "a", "aa", "B", "ü", "z", "\uffff", "🐝", "a b", "10", "9", "日"]
        for key in keys:
            await store.commit([fresh(key)])
        await store.commit([fresh("elsewhere", namespace="m")])
        wanted = sorted(keys, key=str.encode)
        assert [record.key for record in await store.page("n")] == wanted
        for limit in (1, 5):
            found: list[str] = []
            while page := await store.page("n", found[-1] if found else "", limit):
                assert len(page) <= limit
                found += [record.key for record in page]
            assert found == wanted
        assert [record.key for record in await store.page("n", "ab")] == [key for key in wanted if key > "ab"]
        assert await store.page("nowhere") == []

    async def test_changes_come_in_the_order_they_were_made_each_key_once(self, store: MemoryStore) -> None:
        there: dict[str, Record] = {}
        order: list[str] = []
        chance = random.Random(5)
        for _ in range(60):
            key = chance.choice("abcdefgh")
            change = after(there[key]) if key in there else fresh(key)
            await store.commit([change])
            there[key] = change.record
            order = [*(one for one in order if one != key), key]
        for limit in (1, 3, 1000):
            found = await all_changes(store, limit=limit)
            assert [record.key for _, record in found] == order
            assert all(record == there[record.key] for _, record in found)
            places = [place for place, _ in found]
            assert places == sorted(set(places))
            assert places[0] > 0

    async def test_heads_name_the_place_of_the_last_change(self, store: MemoryStore) -> None:
        assert await store.heads() == {}
        for namespace in ("m", "n", "m", "n@1"):
            await store.commit([fresh(f"k{next(_stamps)}", namespace=namespace)])
        heads = await store.heads()
        assert list(heads) == ["m", "n", "n@1"]
        for namespace, place in heads.items():
            assert (await all_changes(store, namespace))[-1][0] == place
            assert await store.changes(namespace, place) == []

    async def test_a_namespace_that_was_dropped_is_gone_and_the_others_stay(self, store: MemoryStore) -> None:
        kept = fresh("k", namespace="kept")
        await store.commit([kept])
        for number in range(30):
            await store.commit([fresh(f"k{number}")])
        place = (await store.heads())["n"]
        await store.drop("n")
        await store.drop("n")
        await store.drop("never there")
        assert list(await store.heads()) == ["kept"]
        assert await store.page("n") == []
        assert await store.changes("n") == []
        assert await store.get("n", "k1") is None
        assert await store.get("kept", "k") == kept.record
        await store.commit([fresh("k1")])
        # Whoever knows a place of what was there must not take it for one of what is there now.
        assert [record.key for _, record in await store.changes("n", place)] == ["k1"]

    # Whatever they are

    async def test_odd_keys_are_keys_and_odd_namespaces_namespaces(self, place: MemoryHome, store: MemoryStore) -> None:
        changes = [fresh(key, key) for key in ODD]
        for change in changes:
            await store.commit([change])
        for name in ODD:
            await store.commit([fresh("k", name, namespace=name)])
        assert await store.page("n") == sorted((change.record for change in changes), key=lambda one: one.key.encode())
        assert set(await store.heads()) == {"n", *ODD}
        for name in ODD:
            for found, where in ((await store.get("n", name), name), (await store.get(name, "k"), name)):
                assert found is not None
                assert found.entries[0].value == where
        await store.drop("*")
        assert len(await store.heads()) == len(ODD)

    @pytest.mark.parametrize("value", VALUES, ids=ascii)
    async def test_values_come_back_as_they_are(self, store: MemoryStore, value: Any) -> None:
        change = fresh("k", value)
        await store.commit([change])
        found = await store.get("n", "k")
        assert found is not None
        assert typed(found.entries[0].value) == typed(value)

    async def test_a_large_value_comes_back(self, store: MemoryStore) -> None:
        change = fresh("k", "0123456789`\n" * 1_000_000)
        await store.commit([change, fresh("small")])
        assert await store.get("n", "k") == change.record
        assert len(await store.page("n")) == 2

    @pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}, 2**64, 1j], ids=ascii)
    async def test_what_cannot_be_written_is_refused(self, store: MemoryStore, value: Any) -> None:
        with pytest.raises(Invalid, match="cannot be kept"):
            await store.commit([fresh("good"), fresh("k", value)])
        assert await store.heads() == {}

    @pytest.mark.parametrize("name", ["\ud800", "a\0b", "", "\n"], ids=ascii)
    async def test_names_that_no_bank_lets_through_do_no_harm(self, store: MemoryStore, name: str) -> None:
        for namespace, key in (("n", name), (name, "k")):
            record = Record(namespace=namespace, key=key, clock={"w": next(_stamps)})
            try:
                await store.commit([Change(record)])
                assert await store.get(namespace, key) == record
            except Invalid:
                assert await store.heads() == {}
            assert await store.get("n", "k") is None
        assert all(record.key == name for record in await store.page("n"))

    # Many at once, and one after the other

    async def test_of_many_at_once_none_is_lost(self, place: MemoryHome, store: MemoryStore) -> None:
        stores = [store, await place.open()] if self.shared else [store]
        changes = [fresh(f"k{number}", number) for number in range(200)]
        await asyncio.gather(*(stores[number % len(stores)].commit([change]) for number, change in enumerate(changes)))
        assert await store.page("n") == sorted((change.record for change in changes), key=lambda one: one.key.encode())
        assert len(await all_changes(store, limit=7)) == 200
        for other in stores[1:]:
            await other.close()

    async def test_of_many_at_one_key_one_wins_each_time(self, store: MemoryStore) -> None:
        there: Record | None = None
        for _ in range(5):
            rivals = [after(there, number) if there else fresh("k", number) for number in range(20)]
            answers = await asyncio.gather(*(store.commit([rival]) for rival in rivals), return_exceptions=True)
            won = [rival for rival, answer in zip(rivals, answers, strict=True) if answer is None]
            assert len(won) == 1
            assert sum(isinstance(answer, Conflict) for answer in answers) == 19
            there = won[0].record
            assert await store.get("n", "k") == there

    async def test_rivals_over_several_keys_are_never_mixed(self, store: MemoryStore) -> None:
        keys = ("a", "b", "c")
        rivals = [[fresh(key, number) for key in keys] for number in range(20)]
        await asyncio.gather(*(store.commit(rival) for rival in rivals), return_exceptions=True)
        assert len({record.entries[0].value for record in await store.page("n")}) == 1
        assert len(await store.page("n")) == 3

    async def test_what_was_kept_is_there_when_it_is_opened_again(self, place: MemoryHome) -> None:
        store = await place.open()
        if "durable" in store.lacks:
            await store.close()
            pytest.skip("this store is not durable")
        first = fresh("k", {"deep": [1, {"x": "\0"}]})
        await store.commit([first])
        await store.commit([gone(first.record), fresh("other")])
        await store.commit([fresh("k", namespace="m")])
        before = await store.page("n"), await store.changes("n"), await store.heads(), store.writer
        await store.close()
        store = await place.open()
        again = await store.page("n"), await store.changes("n"), await store.heads(), store.writer
        assert again[:3] == before[:3]
        if not self.shared:
            assert again[3] == before[3]
        await store.drop("n")
        last = before[2]["n"]
        await store.close()
        store = await place.open()
        assert list(await store.heads()) == ["m"]
        await store.commit([fresh("k")])
        assert [record.key for _, record in await store.changes("n", last)] == ["k"]
        await store.close()

    async def test_a_store_that_was_closed_says_so(self, place: MemoryHome) -> None:
        store = await place.open()
        await store.close()
        await store.close()
        for call in _calls(store):
            with pytest.raises(Unavailable, match="closed"):
                await call

    async def test_a_caller_that_goes_away_leaves_it_in_order(self, store: MemoryStore) -> None:
        change = fresh("k")
        asked = asyncio.create_task(store.commit([change]))
        await asyncio.wait([asked], timeout=0)
        asked.cancel()
        await asyncio.wait([asked])
        try:
            await store.commit([change])
        except SkepError as error:
            raise AssertionError(f"the same change again is refused: {error}") from None
        await store.commit([after(change.record)])
        assert len(await all_changes(store)) == 1

    async def test_what_a_caller_that_went_away_wrote_is_there_or_never_will_be(self, store: MemoryStore) -> None:
        if "private" in store.lacks:
            pytest.skip("others change it at any time, so nobody takes what it reads for what stays")
        for number in range(20):
            asked = asyncio.create_task(store.commit([fresh(f"k{number}")]))
            await asyncio.wait([asked], timeout=0)
            asked.cancel()
            await asyncio.wait([asked])
            there = await store.get("n", f"k{number}")
            await store.commit([fresh(f"behind it {number}")])
            assert await store.get("n", f"k{number}") == there


def _calls(store: MemoryStore) -> Iterator[Any]:
    yield store.get("n", "k")
    yield store.commit([fresh("k")])
    yield store.page("n")
    yield store.changes("n")
    yield store.heads()
    yield store.drop("n")
