"""Memory as Python calls, by the owner of a workspace and by its guests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import skep
from skep.memory import Filter
from skep.memory.bank import Bank
from skep.memory.draft import Draft
from skep.memory.ephemeral import EphemeralStore
from tests.runtime.actors import actor
from tests.workspace.repository import Repository

Anything: Any = None


async def test_what_one_process_stores_another_finds(repo: Repository, hive: skep.Skep) -> None:
    first = await hive.memory.store("build.command", "make -j2", tags=["build"], metadata={"why": "two cores"})
    assert (first.version, first.trust, first.namespace) == (1, "person", "project")
    code = """
        found = await hive.memory.get("build.command")
        say("owner", hive.owner)
        say("found", [found.value, list(found.tags), found.metadata, found.version])
        await hive.memory.store("build.command", {"cores": 4}, expect=1)
        say("hits", [hit.entry.key for hit in (await hive.memory.search("build.command")).hits])
        try:
            await hive.memory.store("build.command", 1, expect=1)
        except skep.Conflict as error:
            say("conflict", error.message)
        say("gone", (await hive.memory.delete("build.command")).value)
    """
    async with actor(repo.top, code) as guest:
        assert await guest.said("owner") is False
        assert await guest.said("found") == ["make -j2", ["build"], {"why": "two cores"}, 1]
        assert await guest.said("hits") == ["build.command"]
        assert "has version 2, not 1" in await guest.said("conflict")
        assert await guest.said("gone") == {"cores": 4}
        assert await guest.ended() == 0
    with pytest.raises(skep.NotFound, match=r"no 'build\.command' in 'project'"):
        await hive.memory.get("build.command")


async def test_entries_come_page_by_page_and_none_is_left_out(hive: skep.Skep) -> None:
    for number in range(230):
        namespace, tags = ("a", list[str]()) if number % 2 else ("b", ["even"])
        await hive.memory.store(f"k{number:03}", number, namespace=namespace, tags=tags)
    found = [(entry.namespace, entry.key) async for entry in hive.memory.entries()]
    assert found == sorted(found)
    assert len(set(found)) == 230
    assert len(await hive.memory.list(Filter(tags=("even",)), limit=1000)) == 115
    assert len(await hive.memory.list(limit=7)) == 7


async def test_a_page_of_large_values_fits_into_an_answer(hive: skep.Skep) -> None:
    for number in range(400):
        await hive.memory.store(f"k{number:03}", "x" * 65_000)
    first = await hive.memory.list(limit=1000)
    assert 0 < len(first) < 400
    assert [entry.key async for entry in hive.memory.entries()] == [f"k{number:03}" for number in range(400)]


async def test_a_value_too_large_for_its_record_is_whole_when_it_is_asked_for(hive: skep.Skep) -> None:
    large = {"text": "ä" * 5_000_000}
    await hive.memory.store("large", large)
    assert (await hive.memory.get("large")).value == large
    (listed,) = await hive.memory.list()
    assert (listed.value, listed.size > 10_000_000) == (None, True)
    (hit,) = (await hive.memory.search("large")).hits
    assert hit.entry.value is None


async def test_what_is_added_is_added_up(hive: skep.Skep) -> None:
    assert (await hive.memory.add("deploys")).value == 1
    assert (await hive.memory.add("deploys", 2)).value == 3
    await hive.memory.store("word", "x")
    with pytest.raises(skep.Conflict, match="no counter"):
        await hive.memory.add("word")


@pytest.mark.parametrize(
    ("calling", "words"),
    [
        (lambda memory: memory.store(5, 1), ["draft.key", "int", "str"]),
        (lambda memory: memory.store("k", object()), ["value"]),
        (lambda memory: memory.store("k", float("nan")), ["nan"]),
        (lambda memory: memory.store("k", {1, 2}), ["set"]),
        (lambda memory: memory.store("k", b"x"), ["bytes"]),
        (lambda memory: memory.store("k", "\ud800"), ["value"]),
        (lambda memory: memory.store("k", 2**70), ["value"]),
        (lambda memory: memory.store("k\0", 1), ["is no key"]),
        (lambda memory: memory.store("k", 1, tags="ab"), ["tags", "str", "list[str]"]),
        (lambda memory: memory.store("k", 1, kind="old"), ["draft.kind", "'episodic'"]),
        (lambda memory: memory.store("k", 1, namespace="a@b"), ["is no namespace"]),
        (lambda memory: memory.store("k", 1, vector="x"), ["vector", "list[float]"]),
        (lambda memory: memory.store("k", 1, vector=[1.0]), ["has a vector", "'semantic'"]),
        (lambda memory: memory.store("k", 1, metadata=[]), ["metadata", "dict"]),
        (lambda memory: memory.get(None), ["key", "NoneType"]),
        (lambda memory: memory.search(""), ["nothing to search for"]),
        (lambda memory: memory.search("x", limit=0), ["0 hits"]),
        (lambda memory: memory.list(limit=5_000), ["5000 entries"]),
        (lambda memory: memory.settle("x"), ["chosen", "Entry"]),
    ],
)
async def test_what_cannot_be_kept_or_asked_is_refused_by_name(
    hive: skep.Skep, calling: Callable[[Any], Awaitable[Any]], words: list[str]
) -> None:
    with pytest.raises(skep.Invalid) as refused:
        await calling(hive.memory)
    for word in words:
        assert word in str(refused.value)
    assert refused.value.fix
    assert await hive.memory.list() == []


async def beside(hive: skep.Skep, key: str, *values: Any) -> None:
    """Values of a key that other machines wrote at the same time."""
    sessions = hive.door._sessions
    assert sessions is not None
    bank = sessions._parts.bank
    for number, value in enumerate(values):
        other = Bank(EphemeralStore(writer=f"other-{number}"), bank.now)
        await other.store(Draft(namespace="project", key=key, value=value))
        record = await other.record("project", key)
        assert record is not None
        await bank.take_in([record])


async def test_between_values_that_were_written_at_the_same_time_a_person_decides(hive: skep.Skep) -> None:
    await beside(hive, "port", 80, 8080)
    await hive.memory.store("other", 1)
    (conflict,) = await hive.memory.conflicts()
    assert (conflict.key, conflict.siblings) == ("port", 1)
    first, second = await hive.memory.siblings("port")
    assert {first.value, second.value} == {80, 8080}
    assert (await hive.memory.settle(first)).value == first.value
    assert await hive.memory.conflicts() == []
    assert (await hive.memory.get("port")).value == first.value
    with pytest.raises(skep.Conflict, match="no such value"):
        await hive.memory.settle(second)
