"""A session's memory goes with it: as it was at a checkpoint, into forks and files, and away when it is pruned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import skep
from skep import config
from skep.errors import Invalid, NotFound
from skep.memory import Record
from skep.memory.bank import Bank
from skep.memory.draft import Draft
from skep.memory.ephemeral import EphemeralStore
from skep.memory.records import encode, join
from skep.runtime import pinned
from skep.runtime import requests as rq
from skep.runtime.node import SystemClock
from skep.wiring import assemble
from tests.runtime.ages import ahead
from tests.workspace.repository import Repository

LARGE = "much " * 20_000


async def value(hive: skep.Skep, session: str, key: str) -> Any:
    """What a session remembers, or None."""
    try:
        return (await hive.memory.get(key, namespace=f"session/{session}")).value
    except NotFound:
        return None


async def remembered(hive: skep.Skep, session: str) -> list[Any]:
    """What it remembers under some keys."""
    return [await value(hive, session, key) for key in ("a", "b", "c", "large")]


async def store(hive: skep.Skep, session: str, **values: Any) -> None:
    """Stores all of them."""
    for key, one in values.items():
        await hive.memory.store(key, one, namespace=f"session/{session}")


async def test_a_fork_remembers_what_was_known_at_the_checkpoint(repo: Repository) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        await store(hive, "bench", a=1, b=1, large=LARGE)
        number = await session.checkpoint("before")
        await store(hive, "bench", a=2, c=2, large="less")
        await hive.memory.delete("b", namespace="session/bench")
        fork = await session.fork("before")
        assert fork.name == "bench-1"
        assert await remembered(hive, "bench-1") == [1, 1, None, LARGE]
        await store(hive, "bench-1", a=3)
        await hive.memory.delete("large", namespace="session/bench-1")
    async with skep.open(repo.top) as hive:
        session = await hive.find("bench")
        assert await remembered(hive, "bench-1") == [3, 1, None, None]
        assert await remembered(hive, "bench") == [2, None, 2, "less"]
        # A fork has the checkpoints of what it was forked from; a fork of what is now remembers that.
        again = await (await hive.find("bench-1")).fork(str(number))
        assert await remembered(hive, again.name) == [1, 1, None, LARGE]
        now = await session.fork()
        await store(hive, "bench", a=4)
        assert await remembered(hive, now.name) == [2, None, 2, "less"]
        restored = await session.restore("before")
        assert (await restored.status()).name == "bench"
        view = await restored.status()
        assert await remembered(hive, view.session) == [1, 1, None, LARGE]


async def test_a_file_holds_what_is_remembered_also_at_checkpoints(repo: Repository, tmp_path: Path) -> None:
    file = tmp_path / "bench.skep"
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        await store(hive, "bench", a=1, b=1, large=LARGE)
        await session.checkpoint("before")
        await store(hive, "bench", a=2, c=2, large="less")
        await session.export(file)
        loaded = await hive.load(file)
        assert await remembered(hive, loaded.name) == [2, 1, 2, "less"]
        assert (await hive.memory.get("a", namespace=f"session/{loaded.name}")).trust == "person"
        fork = await loaded.fork("before")
        assert await remembered(hive, fork.name) == [1, 1, None, LARGE]
        await fork.export(file)
    other = Repository(tmp_path / "other")
    other.commit({"unrelated": "file"})
    async with skep.open(other.top) as hive:
        loaded = await hive.load(file)
        assert await remembered(hive, loaded.name) == [1, 1, None, LARGE]
        # Whoever made the file may have written anything into it.
        assert (await hive.memory.get("a", namespace=f"session/{loaded.name}")).trust == "untrusted"


async def test_what_was_pruned_remembers_again_when_it_comes_back(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        await session.submit(skep.Task(id="make", run="true"))
        assert (await session.results(["make"]))[0].ok
        await store(hive, "bench", a=1, large=LARGE)
        await session.checkpoint("before")
        fork = await session.fork("before")
        await store(hive, "bench", a=2)
        await fork.close()
    monkeypatch.setattr(SystemClock, "now", ahead)
    async with skep.open(repo.top) as hive:
        gone = {view.name: view.gone for view in await hive.call(rq.Prune(older="30d"))}
        assert gone["bench"]
        assert await remembered(hive, "bench") == [None] * 4
        if not gone["bench-1"]:
            assert await remembered(hive, "bench-1") == [1, None, None, LARGE]
        restored = await (await hive.restore("bench")).status()
        assert await remembered(hive, restored.session) == [2, None, None, LARGE]
    parts = await assemble(repo.top, config.load(repo.top))
    try:
        left = [name for name in await parts.bank.store_below.heads() if name == "session/bench"]
        assert left == []
    finally:
        await parts.close()


def now() -> int:
    """The time does not matter here."""
    return 1_700_000_000_000


@pytest.mark.parametrize(
    "bad",
    [
        lambda good: [b"x"],
        lambda good: [*good[:-1], b"{"],
        lambda good: [*good[:-1], b'{"base": ["project", 1]}'],
        lambda good: [encode(Record(namespace="project", key="a", clock={"w": 1})), *good],
        lambda good: [encode(Record(namespace="session/s@undo", key="a", clock={"w": 1})), *good],
        lambda good: [encode(Record(namespace="session/s@7", key="a", clock={"w": 1})), *good],
        lambda good: [encode(Record(namespace="session/s", key="a\n", clock={"w": 1})), *good],
    ],
)
async def test_a_file_that_holds_something_else_is_refused(bad: Callable[[list[bytes]], list[bytes]]) -> None:
    bank = Bank(EphemeralStore(), now)
    await bank.pins.pin("session/s", "1")
    await bank.store(Draft(namespace="session/s", key="a", value=1))
    good = [frame async for frame in pinned.packed(bank, "s", set())]
    assert len(good) == 3
    with pytest.raises(Invalid):
        await pinned.unpacked(bank, bad(good), "s", "t", ours=False)
    await bank.forget("session/t")
    await pinned.unpacked(bank, good, "s", "t", ours=False)
    assert (await bank.get("a", namespace="session/t")).trust == "untrusted"
    with pytest.raises(NotFound):
        await bank.get("a", namespace="session/t", at="1")
    await bank.close()


async def test_a_session_that_was_pruned_where_others_have_its_memory_comes_back_from_its_file() -> None:
    bank = Bank(EphemeralStore(), now)
    bank.listeners.append(lambda record: None)
    await bank.store(Draft(namespace="session/s", key="a", value=1))
    await bank.pins.pin("session/s", "1")
    await bank.store(Draft(namespace="session/s", key="a", value=2))
    frames = [frame async for frame in pinned.packed(bank, "s", set())]
    await bank.forget("session/s")
    left = await bank.record("session/s", "a")
    assert left is not None
    assert not left.entries
    await pinned.unpacked(bank, frames, "s", "s", ours=True)
    assert (await bank.get("a", namespace="session/s")).value == 2
    assert (await bank.get("a", namespace="session/s", at="1")).value == 1
    back = await bank.record("session/s", "a")
    assert back is not None
    assert join(left, back) == back
    await bank.close()


async def test_where_there_are_too_many_checkpoints_the_oldest_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skep.memory.pins.MAX_PINS", 2)
    bank = Bank(EphemeralStore(), now)
    for event in (1, 2, 3):
        await pinned.pin(bank, "s", event)
    assert list(await bank.pins.names("session/s")) == ["2", "3"]
    await bank.close()
