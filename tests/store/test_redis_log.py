"""Logs on Redis: the contract on each engine, and what only a server can do wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skep.errors import Conflict, Denied, NotFound, Unavailable
from skep.redis.connect import Link
from skep.store import Head, Taken, chain
from skep.store.redis.keys import of_session
from skep.store.redis.log import PAGE, RedisLog
from skep.store.redis.script import load
from skep.store.ring import HiveRing
from tests import servers
from tests.contracts.log import LogContract, Pen, fresh_batch, new_session
from tests.store.redis_homes import KEY, ClusterHome, RedisHome, ValkeyHome
from tests.wire import Wire


class TestOnRedis(LogContract):
    home = RedisHome
    may_lack = frozenset()


class TestOnValkey(LogContract):
    home = ValkeyHome
    may_lack = frozenset()


class TestOnCluster(LogContract):
    home = ClusterHome
    may_lack = frozenset()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return ValkeyHome(tmp_path).url


@pytest.fixture
async def log(url: str) -> AsyncIterator[RedisLog]:
    log = await RedisLog.open(Link(url, {}), HiveRing(KEY))
    yield log
    await log.close()


@pytest.fixture
async def lossy(url: str) -> AsyncIterator[Wire]:
    async with Wire(servers.valkey_server().port) as lossy:
        yield lossy


# Replies that are lost


async def test_calls_whose_reply_is_lost_are_done_once(lossy: Wire) -> None:
    log = await RedisLog.open(Link(lossy.url, {}), HiveRing(KEY))
    lossy.lose(load("create").sha.encode())
    await log.create("s", 1)
    lossy.lose(load("log", "acquire").sha.encode())
    head = await log.acquire("s", owner="me", after=0)
    assert head.epoch == 1
    lossy.lose(load("letters", "log", "append").sha.encode())
    head = await log.append("s", 1, 0, fresh_batch(), 3, b"once", archive=[("t", b"entry")])
    assert lossy.lost == 3
    assert [row.blob for row in await log.read("s")] == [b"once"]
    assert await log.verify("s") == head
    assert (await log.sessions())[0].owner == "me"
    await log.close()


async def test_an_append_of_unknown_outcome_is_repeated_with_its_batch(log: RedisLog) -> None:
    pen = await new_session(log)
    batch = fresh_batch()
    lost = await RedisLog.open(Link(servers.valkey_server().url, {}), HiveRing(KEY))  # the same owner, whose reply never came
    head = await lost.append("s", 1, 0, batch, 2, b"once")
    await lost.close()
    assert await log.append("s", 1, 0, batch, 2, b"once") == head
    pen.head = head
    assert (await pen.write()).seq == 5


async def test_a_server_that_is_killed_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    server = servers.Server(servers.redis_binary())
    log = await RedisLog.open(Link(server.url, {}), HiveRing(KEY))
    pen = await new_session(log)
    known: list[Head] = []
    begun = asyncio.Event()

    async def write() -> None:
        while True:
            known.append(await pen.write())
            begun.set()

    writing = asyncio.create_task(write())
    await begun.wait()
    await asyncio.to_thread(server.kill)
    with pytest.raises(Unavailable, match="does not answer"):
        await writing
    server.start()
    assert (await log.verify("s")).seq in (known[-1].seq, known[-1].seq + 3)
    await pen.take()
    assert (await pen.write()).epoch == 2
    await log.close()
    server.remove()


# Several processes


async def test_of_two_that_follow_the_same_owner_one_gets_the_session(log: RedisLog, url: str) -> None:
    await log.create("s", 1)
    others = [await RedisLog.open(Link(url, {}), HiveRing(KEY)) for _ in range(5)]
    got = await asyncio.gather(*(each.acquire("s", str(n), after=0) for n, each in enumerate(others)), return_exceptions=True)
    assert [each.epoch for each in got if isinstance(each, Head)] == [1]
    assert sum(isinstance(each, Conflict) for each in got) == 4
    owner = next(n for n, each in enumerate(got) if isinstance(each, Head))
    assert [row.owner for row in await log.sessions()] == [str(owner)]
    for each in others:
        await each.close()


async def test_all_who_take_a_session_at_once_get_epochs_of_their_own(log: RedisLog, url: str) -> None:
    await log.create("s", 1)
    others = [await RedisLog.open(Link(url, {}), HiveRing(KEY)) for _ in range(5)]
    heads = await asyncio.gather(*(each.acquire("s") for each in others))
    assert sorted(head.epoch for head in heads) == [1, 2, 3, 4, 5]
    for head, each in zip(heads, others, strict=True):
        write = each.append("s", head.epoch, 0, fresh_batch(), 1, b"%d" % head.epoch)
        if head.epoch == 5:
            await write
        else:
            with pytest.raises(Conflict, match="another owner"):
                await write
        await each.close()
    assert [row.blob for row in await log.read("s")] == [b"5"]


async def test_a_store_that_went_back_to_an_older_state_is_not_written_to(log: RedisLog) -> None:
    pen = await new_session(log)
    home = ValkeyHome.__new__(ValkeyHome)
    home.url = servers.valkey_server().url
    await pen.write(b"one")
    with home.client() as client:
        kept = [client.dump(of_session("s", part)) or b"" for part in ("head", "log")]
        await pen.write(b"two")
        for part, value in zip(("head", "log"), kept, strict=True):
            client.restore(of_session("s", part), 0, value, replace=True)
    with pytest.raises(Conflict, match="ends at event 3, not at 6"):
        await pen.write(b"three")
    assert [row.blob for row in await log.read("s")] == [b"one"]


async def test_who_has_another_key_is_told_so_at_once(log: RedisLog, url: str) -> None:
    link = Link(url, {})
    with pytest.raises(Denied, match="another key") as caught:
        await RedisLog.open(link, HiveRing(b"x" * 32))
    assert "[store] key" in caught.value.fix
    await link.close()


async def test_appends_are_pushed_whole_unless_they_are_large(log: RedisLog) -> None:
    pen = await new_session(log)
    connection = await log._link.connection()
    await connection.send_command("SUBSCRIBE", of_session("s", "log"))
    assert (await connection.read_response())[0] == b"subscribe"
    await pen.write(b"\n small")
    await pen.write(b"x" * 65_537)
    heard = [(await connection.read_response())[2] for _ in range(2)]
    small = (await log.read("s"))[0]
    rest = small.batch + small.hash + small.sign + small.blob
    assert heard == [b"1 3 1 64 %d\n" % len(rest) + rest, b""]
    await connection.disconnect()


# Bounds


async def test_a_log_is_read_in_slices_whose_size_is_bounded(log: RedisLog) -> None:
    pen = await new_session(log)
    for n in range(5):
        await pen.write(b"%d" % n * 2**20 * 3)
    assert [row.blob[:1] for row in await log.read("s")] == [b"0", b"1", b"2", b"3", b"4"]
    assert len(await log.read("s", after=1, limit=3)) == 3
    assert await log.verify("s") == pen.head


async def test_a_large_snapshot_comes_back_whole(log: RedisLog) -> None:
    pen = await new_session(log)
    await pen.write()
    state = bytes(range(256)) * 40_000
    await log.snapshot("s", 3, state)
    assert await log.latest("s") == (3, state)


async def test_thousands_of_archived_tasks_are_kept_and_listed(log: RedisLog) -> None:
    pen = await new_session(log)
    tasks = {f"t{n:05}": b"%d" % n for n in range(2 * PAGE + 500)}
    await pen.write(archive=list(tasks.items()))
    assert [entry async for entry in log.archive("s")] == list(tasks.items())
    assert await log.archived("s", list(tasks)) == tasks


async def test_nothing_of_a_dropped_session_is_left_in_the_server(log: RedisLog) -> None:
    pen = await new_session(log, "ü {x}:%")
    head = await pen.write(archive=[("t", b"entry")])
    await log.snapshot("ü {x}:%", head.seq, b"state")
    await log.drop("ü {x}:%")
    assert sorted(servers.valkey_server().tell("KEYS", "*")) == [b"skep:awake:{skep:sessions}", b"skep:key"]
    assert await log.sessions() == await log.awake() == []


async def test_a_letter_that_is_taken_must_be_there(log: RedisLog) -> None:
    pen = await new_session(log)
    with pytest.raises(Conflict, match="decided before"):
        await log.append("s", 1, 0, fresh_batch(), 1, b"blob", taken=[Taken("1-0", "a", 1, b"answer")])
    assert await log.read("s") == []
    assert (await pen.write()).seq == 3


async def test_a_session_that_was_made_halfway_is_not_listed_and_can_be_made(log: RedisLog) -> None:
    servers.valkey_server().tell("ZADD", "skep:sessions", 1, "half")
    assert await log.sessions() == []
    with pytest.raises(NotFound):
        await log.read("half")
    await log.create("half", 1)
    assert [row.head for row in await log.sessions()] == [chain.EMPTY]


async def test_another_process_goes_on_where_this_one_was(log: RedisLog, url: str) -> None:
    pen = await new_session(log)
    await pen.write(b"one")
    other = await RedisLog.open(Link(url, {}), HiveRing(KEY))
    heir = await Pen(other, "s").take()
    await heir.write(b"two")
    assert [row.blob for row in await log.read("s")] == [b"one", b"two"]
    await other.close()


async def test_in_a_store_of_before_nobody_rests(log: RedisLog) -> None:
    for name in ("a", "b", "c"):
        await new_session(log, name)
    servers.valkey_server().tell("DEL", "skep:awake:{skep:sessions}")
    assert len(await log.awake()) == 3
    await Pen(log, "b").take()
    assert len(await log.awake()) == 3
    await log.rest("b")
    assert [row.session for row in await log.awake()] == ["a", "c"]
