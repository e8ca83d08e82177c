"""Scripts touch no key that they did not declare: a Cluster that moves a slot can look out for declared keys only."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from importlib.resources import files
from typing import Any

import msgspec
import pytest
import redis
from redis.crc import key_slot

from skep.errors import Unavailable
from skep.memory import Change
from skep.memory.records import written
from skep.memory.redis import RedisStore
from skep.memory.redis import load as load_memory
from skep.memory.redis_relay import RedisRelay
from skep.redis.connect import Link
from skep.redis.listen import Channels
from skep.store import Answer
from skep.store.redis.blobs import RedisBlobs
from skep.store.redis.facts import gather
from skep.store.redis.inbox import RedisInbox
from skep.store.redis.keys import of_session
from skep.store.redis.leases import RedisLeases
from skep.store.redis.log import RedisLog
from skep.store.redis.script import load
from tests import servers
from tests.contracts.inbox import decide, fill, take
from tests.contracts.log import fresh_batch, new_session
from tests.contracts.memory import entry
from tests.memory.redis_homes import SEAL
from tests.servers import Cluster, Server
from tests.store.redis_homes import RING

#: What several scripts share; these are none by themselves.
SHARED = {"letters", "log", "lease"}
Ways = Callable[[str], Link]
_WORDS = re.compile(rb'"((?:[^"\\]|\\.)*)"')


def known() -> dict[str, str]:
    """The scripts by what the server calls them."""
    names = {file.name.removesuffix(".lua") for file in files("skep.store.redis").joinpath("scripts").iterdir()}
    before: list[tuple[str, ...]] = [(), ("log",), ("letters",), ("letters", "log"), ("lease",)]
    stores = {load(*first, name).sha: name for name in names - SHARED for first in before}
    memory = {file.name.removesuffix(".lua") for file in files("skep.memory").joinpath("scripts").iterdir()}
    return stores | {load_memory(name).sha: f"memory {name}" for name in memory}


class Seen:
    """What a server says that it was told."""

    def __init__(self, server: Server) -> None:
        self.server = server
        #: Scripts that ran; keys that one touched and did not declare.
        self.ran: set[str] = set()
        self.undeclared: set[tuple[str, str]] = set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """All that it is told within."""
        client = redis.Redis(port=self.server.port, protocol=2)
        with client.monitor() as monitor:  # type: ignore[no-untyped-call]  # redis-py's
            yield
            self.server.tell("ECHO", "the end of it")
            self._read(monitor.connection)
        client.close()

    def _read(self, connection: Any) -> None:
        named, sure, script = known(), set[str](), ""
        while True:
            line = connection.read_response(disable_decoding=True)
            words = [word.decode("latin-1") for word in _WORDS.findall(line)]
            if words[0] == "ECHO":
                return
            if words[0] in ("EVALSHA", "EVAL"):
                sha = words[1] if words[0] == "EVALSHA" else ""
                script = named.get(sha, script)  # an EVAL follows the EVALSHA that was not known
                sure = set(words[3 : 3 + int(words[2])])
            elif b"[0 lua]" in line:
                self.ran.add(script)
                self.undeclared |= {(script, key) for key in self._keys(words) if key not in sure}

    def _keys(self, words: list[str]) -> set[str]:
        with self.server.client() as client:
            try:
                return {str(key) for key in client.command_getkeys(*words)}
            except redis.exceptions.ResponseError:  # it has none
                return set()


async def use(link: Link, replicas: int) -> None:
    """Does all that the store can do."""
    session, log = "s", await RedisLog.open(link, RING, replicas, 10_000)
    inbox = RedisInbox(link, Channels(link), RING, replicas, 10_000)
    pen = await new_session(log)
    for sender in ("a", "b"):
        await fill(inbox, b"1", b"2", sender=sender)
    waiting = {letter.sender: letter for letter in await inbox.letters(session) if letter.number == 1}
    await decide(pen, *map(take, waiting.values()))
    await inbox.settle(session, pen.head.epoch, [take(letter) for letter in await inbox.letters(session)])
    assert [len(await inbox.answers(session, sender)) for sender in waiting] == [2, 2]
    await pen.write(b"events", archive=[("task", b"entry")])
    heir = await log.acquire(session)
    again = RedisLog(link, RING, replicas, 10_000)
    for _ in range(2):  # the second time it is there, and only confirmed
        await again.append(session, heir.epoch, heir.seq, b"b" * 16, 1, b"once")
    await log.snapshot(session, heir.seq + 1, b"state" * 10)
    await log.annotate(session, "note")
    await log.verify(session)
    await log.rest(session)
    await inbox.forget(session, "b")
    await log.drop(session)
    leases = RedisLeases(link)
    await leases.hold("node/a", "me", 10_000)
    await leases.held("node")
    await leases.release("node/a", "me")
    blobs = RedisBlobs(link, lambda: 1000, replicas=replicas)
    for data in (b"small", b"large" * 2**20):
        digest = await blobs.put(data)
        await blobs.unpin(digest)
    assert await blobs.sweep(frozenset(), 2000) == 2


async def remember(link: Link, replicas: int) -> None:
    """Does all that memory can do."""
    store, relay = RedisStore(link, SEAL, "here", replicas), RedisRelay(link, bound=10)
    record = written(None, entry("k"))
    copy = msgspec.structs.replace(record, namespace=f"{record.namespace}@1", entries=())
    for _ in range(2):  # the second time it is there, and only confirmed
        await store.commit([Change(record), Change(copy)])
    assert await store.get(record.namespace, "k") == record
    assert len(await store.page(record.namespace)) == len(await store.changes(record.namespace)) == 1
    await store.heads()
    await store.drop(record.namespace)
    for number in (1, 2):  # the first makes room for the second
        assert (await relay.tell(b"x" * 8))[1] == number
    assert len((await relay.heard(0)).entries) == 1
    assert await relay.post("node", b"said") == {"node": b"said"}
    await relay.leave("node")


async def test_no_script_touches_a_key_that_it_did_not_declare(links: Ways) -> None:
    server = servers.replicated().primary
    seen = Seen(server)
    for replicas in (0, 1):
        server.tell("FLUSHALL")
        server.tell("SCRIPT", "FLUSH")
        link = links(server.url)
        with seen.watched():
            await use(link, replicas)
            await remember(link, replicas)
            if replicas:
                await gather(link.address, {}, replicas)
    assert seen.undeclared == set()
    assert seen.ran == set(known().values())


@pytest.fixture
async def links() -> AsyncIterator[Ways]:
    """Ways to a store, which end with the test."""
    async with AsyncExitStack() as stack:

        def link(url: str) -> Link:
            made = Link(url, {})
            stack.push_async_callback(made.close)
            return made

        yield link


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A Cluster whose nodes have a replica each."""
    cluster = Cluster(servers.valkey_binary(), replicas=1)
    yield cluster
    cluster.remove()


async def test_an_answer_whose_key_was_moved_ahead_is_left_when_all_are_there(cluster: Cluster, links: Ways) -> None:
    link = links(cluster.url)
    log, inbox = await RedisLog.open(link, RING, 1, 5_000), RedisInbox(link, Channels(link), RING, 1, 5_000)
    hasty = RedisLog(link, RING, 1, 100)
    pen = await new_session(log)
    (first,) = await fill(inbox, b"1")
    await decide(pen, take(first, b"one"))
    (second,) = await fill(inbox, b"2", first=2)
    with stopped(*cluster.replicas), pytest.raises(Unavailable, match="outcome is unknown"):
        await hasty.append("s", pen.head.epoch, pen.head.seq, fresh_batch(), 1, b"decided", taken=[take(second, b"two")])
    with cluster.moving(key_slot(of_session("s").encode())) as carry:
        carry(of_session("s", "answers", "a"))
        with pytest.raises(Unavailable, match="during rehashing"):
            await log.acquire("s")  # whoever takes over commits what it finds
    await log.acquire("s")
    assert await inbox.answers("s", "a") == [Answer(1, b"one"), Answer(2, b"two")]


@contextmanager
def stopped(*servers_: Server) -> Iterator[None]:
    """Servers that say nothing for a while."""
    for server in servers_:
        server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for server in servers_:
            server.process.send_signal(signal.SIGCONT)
