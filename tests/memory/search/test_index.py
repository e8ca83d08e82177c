"""The index: what is fed is found by words and by meaning, within a filter, with a reason, and again after it was opened anew."""

from __future__ import annotations

import asyncio
import sqlite3
import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from skep.errors import Unavailable
from skep.memory import Entry, Filter, Record, Search
from skep.memory.records import identity
from skep.memory.search import meaning
from skep.memory.search.hashed import Hashed
from skep.memory.search.index import Index


def record(key: str, value: object, namespace: str = "n", **rest: Any) -> Record:
    """A key with one value."""
    entry = Entry(id=identity(namespace, key), namespace=namespace, key=key, value=value, writer="w", stamp=1, **rest)
    return Record(namespace=namespace, key=key, clock={"w": 1}, entries=(entry,))


def gone(key: str, namespace: str = "n") -> Record:
    """A key that was deleted."""
    return Record(namespace=namespace, key=key, clock={"w": 2})


async def feed(index: Index, *records: Record) -> None:
    """Feeds records of any namespaces, each behind all places before."""
    for one in records:
        await index.feed(one.namespace, [(sum(index.places().values()) + 1, one)])


async def keys(index: Index, text: str = "", mode: Any = "words", limit: int = 10, wait: bool = True, **filter: Any) -> list[str]:
    """What a search finds."""
    search = Search(text=text, mode=mode, filter=Filter(**filter), limit=limit, wait=wait)
    return [one.key for one in (await index.find(search))[0]]


@pytest.fixture(params=["file", "memory"])
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Index]:
    """An empty one."""
    made = await Index.open(tmp_path / "index.db" if request.param == "file" else None, Hashed())
    yield made
    await made.close()


@pytest.fixture(params=["numpy", "plain"])
def numpy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With the extra `vector`, and without."""
    if request.param == "plain":
        monkeypatch.setattr(meaning, "numpy", lambda: None)
    elif meaning.numpy() is None:
        pytest.skip("the extra 'vector' is not installed")
    return str(request.param) == "numpy"


async def test_what_is_fed_is_found_until_it_is_replaced_or_deleted(index: Index) -> None:
    await feed(index, record("a", "the pool of redis"), record("b", {"why": ["postgres", 15432]}))
    assert await keys(index, "redis") == ["a"]
    assert await keys(index, "15432") == ["b"]
    await feed(index, record("a", "the pool of postgres"), gone("b"))
    assert await keys(index, "redis") == []
    assert await keys(index, "postgres") == ["a"]
    assert index.places() == {"n": 4}


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("call getUserName first", "get user name"),
        ("call getUserName first", "get_user_name"),
        ("call getUserName first", "getUserName"),
        ("MAX_RETRY_COUNT is 5", "maxRetryCount"),
        ("HTTPServer dies", "http server"),
        ("look into src/skep/memory/bank.py", "bank.py"),
        ("look into src/skep/memory/bank.py", "skep/memory"),
        ("needs Python 3.11 at least", "3.11"),
        ("Der Schlüssel hängt", "schlussel"),
        ("Straße", "STRASSE"),
        ("连接池在重启之后是空的", "连接池"),
        ("データベースの接続", "接続"),
        ("데이터베이스를 다시 연결", "데이터베이스"),
        ("Ошибка соединения", "ошибка"),
        ("retries failed connections", "retry failing connection"),
    ],
)
async def test_what_users_type_is_found(index: Index, text: str, query: str) -> None:
    await feed(index, record("other", "nothing of that kind"), record("wanted", text))
    assert await keys(index, query) == ["wanted"]


@pytest.mark.parametrize(
    "query", ['"', '" OR *', "a AND", "NEAR(a b)", "-a", "a*", "marks:x", "'; DROP TABLE doc", "§n", "\0", "()", "^a"]
)
async def test_a_query_is_words_and_never_syntax(index: Index, query: str) -> None:
    await feed(index, record("s", "something else"))
    assert await keys(index, query, "both") == []
    assert await keys(index, f"{query} something") == ["s"]


async def test_filters_hold_before_the_limit(index: Index) -> None:
    many = [record(f"noise-{number}", "redis pool", updated=1_000 + number, trust="agent") for number in range(60)]
    right = record(
        "right/one",
        "redis pool is small",
        "m",
        kind="episodic",
        tags=("x", "y"),
        agent="coder",
        task="t",
        updated=5,
        trust="person",
    )
    await feed(index, right, *many)
    for filter in (
        {"namespaces": ("m",)}, {"kinds": ("episodic",)}, {"tags": ("x",)}, {"tags": ("x", "y")}, {"agent": "coder"},
        {"task": "t"}, {"until": 900}, {"trust": "person"}, {"prefix": "right/"},
        {"namespaces": ("m", "n"), "trust": "person", "until": 5, "since": 5},
    ):  # fmt: skip
        for mode in ("words", "meaning", "both"):
            assert await keys(index, "redis pool", mode, limit=1, **filter) == ["right/one"], (filter, mode)
    assert await keys(index, "redis pool", "both", tags=("x", "z")) == []
    assert len(await keys(index, "redis pool", limit=100)) == 61


async def test_copies_are_found_only_by_their_name(index: Index) -> None:
    await feed(index, record("k", "redis", "n@pin"))
    assert await keys(index, "redis", "both") == []
    assert await keys(index, "redis", "both", namespaces=("n@pin",)) == ["k"]


async def test_each_hit_says_why_and_the_answer_says_what_it_leaves_out(index: Index, numpy: bool) -> None:
    await feed(index, record("a", "the redis pool"), record("b", "a rediss url"))
    ranked, note = await index.find(Search(text="redis pools", wait=True))
    assert ranked[0].key == "a"
    assert ranked[0].why[0] == "words: redis, pools"
    assert ranked[0].why[1].startswith("meaning 0.")
    assert "'hashed' compares letters" in note
    assert ("install skep[vector]" in note) is not numpy
    # Nothing but letters tells that "rediss" is near.
    assert (await keys(index, "redis", "meaning")) == (["a", "b"] if numpy else ["a"])
    assert index.embedder == "hashed"


async def test_vectors_of_callers_are_compared_among_their_likes(index: Index, numpy: bool) -> None:
    def vector(*numbers: float) -> bytes:
        return struct.pack(f"<{len(numbers)}f", *numbers)

    await feed(
        index,
        record("x", "about redis", kind="vector", vector=vector(1, 0, 0)),
        record("xy", None, kind="vector", vector=vector(3, 3, 0), tags=("t",)),
        record("four", None, kind="vector", vector=vector(1, 0, 0, 0)),
        record("nowhere", None, kind="vector", vector=vector(0, 0, 0)),
    )
    ranked, _ = await index.find(Search(vector=(2.0, 0.0, 0.0)))
    assert [(one.key, one.why) for one in ranked] == [("x", ("meaning 1.00",)), ("xy", ("meaning 0.71",))]
    ranked, _ = await index.find(Search(vector=(2.0, 0.0, 0.0), filter=Filter(tags=("t",))))
    assert [one.key for one in ranked] == ["xy"]
    await feed(index, gone("x"), record("y", None, kind="vector", vector=vector(0, 1, 0)))
    ranked, _ = await index.find(Search(vector=(2.0, 1.0, 0.0)))
    assert [one.key for one in ranked] == ["xy", "y"]


async def test_what_is_worked_with_for_a_while_has_no_vector(index: Index) -> None:
    await feed(index, record("a", "redis pool", kind="working"))
    assert await keys(index, "redis pool", "meaning") == []
    assert await keys(index, "redis pool", "words") == ["a"]


async def test_aliases_are_not_found_and_of_siblings_each_is(index: Index) -> None:
    await feed(index, record("a", "redis", alias="b"))
    assert await keys(index, "redis", "both") == []
    one, other = record("s", "redis").entries[0], record("s", "postgres").entries[0]
    await feed(index, Record(namespace="n", key="s", clock={}, entries=(one, other)))
    assert await keys(index, "redis") == await keys(index, "postgres") == ["s"]


async def test_a_namespace_that_is_forgotten_is_gone_with_its_place(index: Index) -> None:
    await feed(index, record("a", "redis"), record("a", "redis", "m"))
    await index.forget("n")
    assert index.places() == {"m": 2}
    assert await keys(index, "redis", "both") == ["a"]
    assert await keys(index, "redis", "both", namespaces=("n",)) == []


async def test_what_was_fed_is_there_after_it_was_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "memory" / "index.db"
    index = await Index.open(path, Hashed())
    await feed(index, record("a", "redis pool"))
    await index.close()
    index = await Index.open(path, Hashed())
    assert (index.places(), index.remade) == ({"n": 1}, "")
    assert await keys(index, "redis", "both") == ["a"]
    await index.close()
    with pytest.raises(Unavailable, match="closed"):
        await keys(index, "redis")


class Other(Hashed):
    """Of another name."""

    name = "other"


@pytest.mark.parametrize("damage", ["embedder", "version", "garbage", "empty", "table"])
async def test_what_cannot_be_used_is_made_anew_and_that_is_said(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "index.db"
    index = await Index.open(path, Hashed())
    await feed(index, record("a", "redis pool"))
    await index.close()
    if damage == "garbage":
        path.write_bytes(b"x" * 10_000)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage != "embedder":
        database = sqlite3.connect(path)
        database.execute("UPDATE fact SET value = 0 WHERE name = 'version'" if damage == "version" else "DROP TABLE doc")
        database.commit()
        database.close()
    index = await Index.open(path, Other() if damage == "embedder" else Hashed())
    assert index.places() == {}
    assert index.remade
    assert index.remade in (await index.find(Search(text="redis")))[1]
    await feed(index, record("a", "redis pool"))
    assert await keys(index, "redis", "both") == ["a"]
    await index.close()


class Failing(Hashed):
    """Fails until it is told otherwise."""

    fails = True

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        """As it was told."""
        if self.fails:
            raise Unavailable("the embedder is away")
        return super().embed(texts)


async def test_without_its_embedder_words_are_found_and_vectors_come_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skep.memory.search.index.AGAIN", 0.01)
    embedder = Failing()
    index = await Index.open(tmp_path / "index.db", embedder)
    await feed(index, record("a", "redis pool"))
    ranked, note = await index.find(Search(text="redis"))
    assert [one.key for one in ranked] == ["a"]
    assert "only words were looked at: the embedder is away" in note
    embedder.fails = False
    ranked, note = await index.find(Search(text="redis", wait=True))
    assert [why.split()[0] for why in ranked[0].why] == ["words:", "meaning"]
    await index.close()


async def test_many_at_once_are_all_answered(index: Index) -> None:
    await asyncio.gather(*(index.feed("n", [(number + 1, record(f"k{number}", f"redis pool {number}"))]) for number in range(50)))
    found = await asyncio.gather(*(keys(index, f"pool {number}", "both") for number in range(50)))
    assert [one[0] for one in found] == [f"k{number}" for number in range(50)]


async def test_common_words_alone_are_answered_and_said(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skep.memory.search.words.RARE", 10)
    await index.feed(
        "n", [(number + 1, record(f"k{number}", f"the task is done {'alone' * (number == 40)}")) for number in range(80)]
    )
    ranked, note = await index.find(Search(text="the task", mode="words"))
    assert len(ranked) == 10
    assert "common words (the, task): only those with several" in note
    ranked, note = await index.find(Search(text="the task alone", mode="words"))
    assert ranked[0].why == ("words: the, task, alone",)
    assert "they only sort what the other words found" in note
