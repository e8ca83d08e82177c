"""The bank: what is stored is there, replaced by whom it may be, found by its key, gone when it should be."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from skep.errors import Conflict, Denied, Invalid, NotFound
from skep.memory import Entry, Filter, Search
from skep.memory.bank import PERSON, Bank
from skep.memory.draft import Draft
from skep.memory.ephemeral import EphemeralStore
from skep.memory.records import join
from skep.memory.trust import Author

AGENT = Author(trust="agent", agent="coder-1", session="s-1", task="build")


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.ms


async def store(
    bank: Bank,
    key: str,
    value: object,
    by: Author = PERSON,
    expect: int | None = None,
    **rest: Any,
) -> Entry:
    """As one call."""
    return await bank.store(Draft(key=key, value=value, **{"namespace": "n", **rest}), by, expect)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def bank(time: Time) -> Bank:
    return Bank(EphemeralStore(), time)


async def test_what_is_stored_is_there_with_who_wrote_it_and_when(bank: Bank, time: Time) -> None:
    first = await store(
        bank, "style", {"tabs": False}, namespace="project", by=AGENT, tags=("code",), metadata={"from": "review"}
    )
    time.ms += 5
    second = await store(bank, "style", "spaces", namespace="project", by=AGENT)
    found = await bank.get("style", namespace="project")
    assert found == second
    assert (found.id, found.created, found.updated, found.version) == (first.id, first.created, time.ms, 2)
    assert (found.agent, found.session, found.task, found.trust) == ("coder-1", "s-1", "build", "agent")
    with pytest.raises(NotFound, match="no 'style' in 'other'"):
        await bank.get("style", namespace="other")


async def test_an_agent_does_not_replace_or_delete_what_a_person_wrote(bank: Bank) -> None:
    await store(bank, "rule", "ask first", namespace="project")
    with pytest.raises(Denied, match="written by a person"):
        await store(bank, "rule", "never ask", namespace="project", by=AGENT)
    with pytest.raises(Denied):
        await bank.delete("rule", namespace="project", by=AGENT)
    assert (await bank.get("rule", namespace="project")).value == "ask first"


async def test_who_expects_another_version_changes_nothing(bank: Bank) -> None:
    await store(bank, "k", 1, namespace="n", expect=0)
    with pytest.raises(Conflict, match="has version 1, not 0"):
        await store(bank, "k", 2, namespace="n", expect=0)
    await store(bank, "k", 2, namespace="n", expect=1)
    with pytest.raises(Conflict):
        await bank.delete("k", namespace="n", expect=1)
    assert (await bank.get("k", namespace="n")).value == 2


async def test_what_is_done_to_a_value_that_was_handed_out_or_in_changes_nothing(bank: Bank) -> None:
    value = {"a": [1]}
    made = await store(bank, "k", value)
    value["a"].append(2)
    made.value["b"] = 3
    found = await bank.get("k", namespace="n")
    found.value["a"].append(4)
    assert (await bank.get("k", namespace="n")).value == {"a": [1]}


async def test_what_expires_is_gone_and_its_key_begins_anew(bank: Bank, time: Time) -> None:
    await store(bank, "k", 1, namespace="n", ttl=10, kind="working")
    time.ms += 9_999
    assert (await bank.get("k", namespace="n")).value == 1
    time.ms += 1
    with pytest.raises(NotFound):
        await bank.get("k", namespace="n")
    assert await bank.list() == []
    assert (await store(bank, "k", 2, namespace="n")).version == 1


async def test_a_deleted_key_is_gone_but_leaves_its_clock(bank: Bank) -> None:
    await store(bank, "k", 1, namespace="n")
    assert (await bank.delete("k", namespace="n")).value == 1
    with pytest.raises(NotFound):
        await bank.delete("k", namespace="n")
    record = await bank.record("n", "k")
    assert record is not None
    assert not record.entries
    assert record.clock


async def test_many_writers_of_one_key_all_count(bank: Bank) -> None:
    await asyncio.gather(*(store(bank, "k", number, namespace="n") for number in range(50)))
    assert (await bank.get("k", namespace="n")).version == 50
    await store(bank, "c", 0, namespace="n", rule="counter")
    await asyncio.gather(*(bank.add("c", 1, namespace="n") for _ in range(50)))
    assert (await bank.get("c", namespace="n")).value == 50


async def test_the_answer_to_k5_is_k5(bank: Bank) -> None:
    for number in range(20):
        await store(bank, f"k{number}", f"k5 is not {number}", namespace="n")
    found = await bank.search(Search(text="k5", filter=Filter(namespaces=("n",))))
    assert [(hit.entry.key, hit.why) for hit in found.hits] == [("k5", ("its key",))]
    assert "no index" in found.note


async def test_lists_are_filtered_and_go_on_where_they_ended(bank: Bank) -> None:
    for name in ("b", "a", "ü", "c"):
        await store(bank, name, 1, namespace="n", tags=("x",) if name != "c" else (), by=AGENT if name == "a" else Author())
    assert [entry.key for entry in await bank.list(Filter(tags=("x",)))] == ["a", "b", "ü"]
    assert [entry.key for entry in await bank.list(Filter(trust="person"))] == ["b", "c", "ü"]
    assert [entry.key for entry in await bank.list(after=("n", "a"), limit=2)] == ["b", "c"]


@pytest.mark.parametrize("key", ["", " a", "a\n", "a\0", "\ud800", "x" * 513])
async def test_what_is_no_key_is_refused(bank: Bank, key: str) -> None:
    with pytest.raises(Invalid, match="no key"):
        await store(bank, key, 1, namespace="n")


@pytest.mark.parametrize("value", [float("nan"), {"a": float("inf")}, {1: 2}, object(), "\ud800", 2**70, b"x", {"a"}])
async def test_what_json_does_not_know_is_refused(bank: Bank, value: object) -> None:
    with pytest.raises(Invalid):
        await store(bank, "k", value, namespace="n")
    with pytest.raises(NotFound):
        await bank.get("k", namespace="n")


async def test_a_vector_needs_a_text_or_a_vector(bank: Bank) -> None:
    with pytest.raises(Invalid, match="neither a text nor a vector"):
        await store(bank, "k", {"a": 1}, namespace="n", kind="vector")
    await store(bank, "k", {"a": 1}, namespace="n", kind="vector", vector=struct.pack("<2f", 0.6, 0.8))
    await store(bank, "t", "a text", namespace="n", kind="vector")


async def test_a_counter_that_would_pass_all_numbers_stays_as_it_is(bank: Bank) -> None:
    await bank.add("count", 1e308, namespace="n")
    with pytest.raises(Invalid, match="JSON does not know"):
        await bank.add("count", 1e308, namespace="n")
    assert (await bank.get("count", namespace="n")).value == 1e308


async def test_what_is_written_after_its_record_was_lost_is_new_to_others(time: Time) -> None:
    below = EphemeralStore()
    await store(Bank(below, time), "k", "old")
    others = await below.get("n", "k")
    await below.drop("n")
    time.ms += 1
    await store(Bank(below, time), "k", "new")  # by a process that knows nothing of the first
    mine = await below.get("n", "k")
    assert others is not None
    assert mine is not None
    assert {entry.value for entry in join(others, mine).entries} == {"new"}
