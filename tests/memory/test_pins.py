"""What was at a checkpoint stays as it was, and who goes on from there changes only its own: held against a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skep.errors import Conflict, Exhausted, Invalid, NotFound
from skep.memory import Change, Filter, MemoryStore, Record, Search
from skep.memory import pins as module
from skep.memory.bank import Bank
from skep.memory.draft import Draft
from skep.memory.ephemeral import EphemeralShelf, EphemeralStore
from skep.memory.lineage import Lineage, home
from skep.memory.pins import Pins
from skep.memory.records import digest
from skep.memory.search.hashed import Hashed
from skep.memory.search.index import Index
from tests.memory.homes import MarkdownHome, SqliteHome

NAMES, KEYS, PINS = ("n", "m", "f"), ("a", "b", "ü"), ("p", "q")


class Shared(EphemeralStore):
    """As a store that other processes change, too."""

    lacks = frozenset({"durable", "private"})


class Yielding(EphemeralStore):
    """As a store that others use while one waits for it: for longer or shorter, and the answer may come late."""

    random = Random(1)

    async def wait(self) -> None:
        """Lets others go first."""
        for _ in range(self.random.choice((0, 1, 2, 3, 100))):
            await asyncio.sleep(0)

    async def get(self, namespace: str, key: str) -> Record | None:
        """Later."""
        await self.wait()
        found = await super().get(namespace, key)
        await self.wait()
        return found

    async def commit(self, changes: Sequence[Change]) -> None:
        """Later."""
        await self.wait()
        await super().commit(changes)
        await self.wait()

    async def page(self, namespace: str, after: str = "", limit: int = 1000) -> list[Record]:
        """Later."""
        await self.wait()
        return await super().page(namespace, after, limit)


class YieldingShared(Yielding):
    """And others change it."""

    lacks = Shared.lacks


def now() -> int:
    """The time does not matter here."""
    return 1_700_000_000_000


class Model:
    """The same with whole copies: of each namespace what is in it, and what was in it at each pin."""

    def __init__(self) -> None:
        self.there: dict[str, dict[str, int]] = {}
        self.pins: dict[str, dict[str, dict[str, int]]] = {}

    async def check(self, bank: Bank) -> None:
        """Everything that can be read is as it should be, page by page too."""
        for name in NAMES:
            there = self.there.get(name, {})
            assert {entry.key: entry.value for entry in await bank.list(Filter(namespaces=(name,)))} == there
            assert await read(partial(bank.pins.page, name, limit=2)) == there
            for key in KEYS:
                assert await value(bank, name, key) == there.get(key)
            pins = [pin for pin in await bank.pins.names(name) if not pin.startswith(module.USER)]
            assert sorted(pins) == sorted(self.pins.get(name, {}))
            for pin, was in self.pins.get(name, {}).items():
                place = await bank.pins.place(name, pin)
                assert await read(partial(bank.pins.page_at, name, place, limit=2)) == was
                for key in KEYS:
                    assert await value(bank, name, key, pin) == was.get(key)


async def value(bank: Bank, namespace: str, key: str, at: str = "") -> Any:
    """What is there, or None."""
    try:
        return (await bank.get(key, namespace=namespace, at=at)).value
    except NotFound:
        return None


async def read(page: Callable[..., Any]) -> dict[str, int]:
    """All pages as one; their keys go up."""
    found: list[Record] = []
    while records := await page(after=found[-1].key if found else ""):
        found += records
    keys = [record.key.encode() for record in found]
    assert keys == sorted(set(keys))
    return {record.key: record.entries[0].value for record in found if record.entries}


CHANCES = {"store": 6, "delete": 2, "pin": 3, "unpin": 2, "fork": 3, "forget": 1, "reopen": 1}


def drawn(random: Random) -> list[tuple[str, ...]]:
    """Steps that are likely to come to something: lists that Hypothesis draws are mostly short, and seldom go deep."""
    of: dict[str, tuple[tuple[str, ...], ...]] = {
        **dict.fromkeys(("store", "delete"), (NAMES, KEYS)),
        **dict.fromkeys(("pin", "unpin"), (NAMES, PINS)),
        "fork": (NAMES, NAMES, ("", *PINS)),
        "forget": (NAMES,),
        "reopen": (),
    }
    chosen = random.choices(list(CHANCES), list(CHANCES.values()), k=30)
    return [(what, *(random.choice(some) for some in of[what])) for what in chosen]


async def step(bank: Bank, model: Model, number: int, what: str, *of: str) -> None:
    """Does one thing to both."""
    there, kept = model.there.setdefault(of[0], {}), model.pins.setdefault(of[0], {})
    if what == "store":
        await bank.store(Draft(namespace=of[0], key=of[1], value=number))
        there[of[1]] = number
    elif what == "delete" and of[1] in there:
        await bank.delete(of[1], namespace=of[0])
        del there[of[1]]
    elif what == "pin":
        await bank.pins.pin(*of)
        kept.setdefault(of[1], dict(there))
    elif what == "unpin":
        try:
            await bank.pins.unpin(*of)
            del kept[of[1]]
        except NotFound:
            assert of[1] not in kept
    elif what == "fork":
        try:
            await bank.pins.fork(of[0], of[2], of[1])
            model.there[of[1]] = dict(kept[of[2]] if of[2] else there)
        except NotFound:
            assert of[2] not in kept
        except Conflict:  # it was written to, is pinned, or goes on from another one
            heads = await bank.store_below.heads()
            assert of[0] == of[1] or {of[1], home(of[1])} & set(heads)
    elif what == "forget":
        await bank.forget(of[0])
        model.there.pop(of[0])
        model.pins.pop(of[0])


@asynccontextmanager
async def ephemeral(kind: type[EphemeralStore] = EphemeralStore) -> AsyncIterator[Callable[[], Any]]:
    """What opens a store again and again."""
    shelf = EphemeralShelf()

    async def opened() -> MemoryStore:
        return kind(shelf)

    yield opened


async def held_against_a_model(opened: Callable[[], Any], todo: list[tuple[str, ...]]) -> None:
    """Does all of it, and compares after each step."""
    bank, model = Bank(await opened(), now), Model()
    for number, one in enumerate(todo):
        if one == ("reopen",):
            await bank.close()
            bank = Bank(await opened(), now)
        else:
            await step(bank, model, number, *one)
        await model.check(bank)
    for name in NAMES:
        await bank.forget(name)
    left = await bank.store_below.heads()
    assert [name for name in left if not name.endswith("@") or "private" not in bank.store_below.lacks] == [], left
    await bank.close()


@given(st.randoms(use_true_random=False).map(drawn))
@settings(deadline=None, max_examples=200)
@pytest.mark.parametrize("kind", [EphemeralStore, Shared])
def test_whatever_is_pinned_and_forked_stays_as_it_was(kind: type[EphemeralStore], todo: list[tuple[str, ...]]) -> None:
    async def run() -> None:
        async with ephemeral(kind) as opened:
            await held_against_a_model(opened, todo)

    with patch.object(module, "PAGE", 2):
        asyncio.run(run())


def fails(todo: list[tuple[str, ...]]) -> bool:
    """Whether the model sees something."""

    async def run() -> None:
        async with ephemeral() as opened:
            await held_against_a_model(opened, todo)

    try:
        asyncio.run(run())
    except (AssertionError, NotFound, Conflict):
        return True
    return False


async def nothing(*_: object) -> None:
    """Leaves it."""


async def not_below(pins: Pins, namespace: str, place: int, key: str) -> Record | None:
    """Reads as if nothing had been copied."""
    return await pins.read(namespace, key)


PLANTED = {
    "nothing is copied before it changes": ("change", lambda pins, *pairs: plainly(*pairs)),
    "copies are not moved to the pin before": ("_keep", nothing),
    "a namespace goes with what others read of it": ("_stand_alone", nothing),
    "a fork reads what is there now": ("read_at", not_below),
}


async def plainly(*pairs: tuple[Record | None, Record]) -> list[Change]:
    """As if there were no pins."""
    return [Change(made, digest(record)) for record, made in pairs]


@pytest.mark.parametrize("bug", PLANTED)
def test_the_model_sees_what_was_planted(bug: str) -> None:
    name, instead = PLANTED[bug]
    with patch.object(Pins, name, instead):
        assert any(fails(drawn(Random(seed))) for seed in range(300))


@pytest.mark.parametrize("kind", [Yielding, YieldingShared])
async def test_what_changes_while_it_is_pinned_is_before_it_or_after_it(kind: type[EphemeralStore]) -> None:
    shelf = EphemeralShelf()
    bank, other = Bank(kind(shelf), now), Bank(kind(shelf, "there"), now)
    over = asyncio.Event()

    async def write(key: str) -> None:
        number = 0
        through = other if "private" in kind.lacks and key == "b" else bank
        while not over.is_set():
            number += 1
            await through.store(Draft(namespace="n", key=f"{key}1", value=number))
            await through.store(Draft(namespace="n", key=f"{key}2", value=number))

    async def seen(pin: str) -> list[int]:
        return [await value(bank, "n", key, pin) or 0 for key in ("a1", "a2", "b1", "b2")]

    writers = [asyncio.create_task(write(key)) for key in "ab"]
    was = dict[str, list[int]]()
    for number in range(40):
        await bank.pins.pin("n", f"p{number}")
        was[f"p{number}"] = await seen(f"p{number}")
        if number % 3 == 2:
            await bank.pins.unpin("n", f"p{number - 1}")
            del was[f"p{number - 1}"]
    over.set()
    await asyncio.gather(*writers)
    for pin, (a1, a2, b1, b2) in was.items():
        assert await seen(pin) == [a1, a2, b1, b2]
        assert 0 <= a1 - a2 <= 1
        assert 0 <= b1 - b2 <= 1
    assert was["p39"] > was["p0"]
    await bank.close()


async def test_what_is_no_pin_is_refused() -> None:
    bank = Bank(EphemeralStore(), now)
    with pytest.raises(Invalid, match="no key"):
        await bank.pins.pin("n", "a\n")
    with pytest.raises(Invalid, match="no namespace"):
        await bank.pins.pin("n@1", "a")
    with pytest.raises(NotFound, match="has no pin 'a'"):
        await bank.get("k", namespace="n", at="a")
    with pytest.raises(Conflict, match="is there already"):
        await bank.pins.fork("n", "", "n")
    with patch.object(module, "MAX_PINS", 1):
        assert await bank.pins.pin("n", "a") == await bank.pins.pin("n", "a")
        with pytest.raises(Exhausted, match="1 pins"):
            await bank.pins.pin("n", "b")
    await bank.close()


@pytest.mark.parametrize("home", [SqliteHome, MarkdownHome])
async def test_files_keep_pins_as_well(home: type[SqliteHome] | type[MarkdownHome], tmp_path: Path) -> None:
    for seed in range(3):
        (folder := tmp_path / str(seed)).mkdir()
        await held_against_a_model(home(folder).open, drawn(Random(seed)))


async def test_a_search_in_a_fork_finds_what_it_reads_and_says_what_it_leaves_out() -> None:
    bank = Bank(EphemeralStore(), now, finder=await Index.open(None, Hashed()))
    await bank.start()
    await bank.store(Draft(namespace="n", key="a", value="the sea is green"))
    await bank.pins.fork("n", "", "f")
    await bank.store(Draft(namespace="f", key="b", value="the sea is blue"))
    found = await bank.search(Search(text="sea", filter=Filter(namespaces=("f",)), wait=True))
    assert {(hit.entry.namespace, hit.entry.key) for hit in found.hits} == {("f", "a"), ("f", "b")}
    await bank.delete("a", namespace="f")
    await bank.store(Draft(namespace="n", key="c", value="the sea is deep"))
    found = await bank.search(Search(text="sea", filter=Filter(namespaces=("f",)), wait=True))
    assert [hit.entry.key for hit in found.hits] == ["b"]
    assert "what was changed in n since it was forked is found by its key alone" in found.note
    await bank.close()


async def test_a_fork_of_a_pin_that_goes_meanwhile_is_refused() -> None:
    bank = Bank(EphemeralStore(), now)
    await bank.store(Draft(namespace="n", key="k", value=1))
    await bank.pins.pin("n", "p")
    place = bank.pins.place

    async def found(namespace: str, name: str) -> int:
        at = await place(namespace, name)
        await bank.pins.unpin("n", "p")
        return at

    with patch.object(bank.pins, "place", found), pytest.raises(NotFound, match="meanwhile"):
        await bank.pins.fork("n", "p", "m")
    assert await bank.pins.lineage("n") == Lineage()
