"""What counts only when replicas have it: `replicas` of a log."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest

from skep.errors import Conflict, Unavailable
from skep.redis.connect import Link
from skep.redis.listen import Channels
from skep.store import Answer, Head, Taken, chain, letters
from skep.store.redis.inbox import RedisInbox
from skep.store.redis.keys import of_session
from skep.store.redis.log import RedisLog
from skep.store.ring import HiveRing
from tests import servers
from tests.contracts.inbox import InboxContract, Shared
from tests.contracts.log import LogContract, Pen, fresh_batch, new_session
from tests.servers import Replicated, Server
from tests.store.engines import Engine
from tests.store.redis_homes import KEY, ReplicatedHome


class TestReplicated(LogContract):
    home = ReplicatedHome
    may_lack = frozenset()


#: WAITAOF is of Valkey and of Redis 7.2; before that there is WAIT.
@pytest.fixture(scope="module", params=[servers.redis_binary, servers.valkey_binary], ids=["wait", "waitaof"])
def set_(request: pytest.FixtureRequest) -> Iterator[Replicated]:
    binary: Callable[[], str] = request.param
    replicated = Replicated(binary(), 2)
    yield replicated
    replicated.remove()


@pytest.fixture
async def log(set_: Replicated) -> AsyncIterator[RedisLog]:
    set_.primary.tell("FLUSHALL")
    log = await opened(set_)
    yield log
    await log.close()


async def opened(set_: Replicated, replicas: int = 2, patience: int = 100) -> RedisLog:
    return await RedisLog.open(Link(set_.primary.url, {}), HiveRing(KEY), replicas, patience)


@contextmanager
def stopped(*replicas: Server) -> Iterator[None]:
    """Replicas that say nothing for a while."""
    for server in replicas:
        server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for server in replicas:
            server.process.send_signal(signal.SIGCONT)


async def patient(set_: Replicated) -> RedisLog:
    """A log that waits until replicas that were stopped have what they missed."""
    return await opened(set_, patience=4000)


async def test_what_replicas_have_can_be_read(log: RedisLog, set_: Replicated) -> None:
    waits = await patient(set_)
    pen = await new_session(waits)
    await pen.write(b"one")
    assert [row.blob for row in await log.read("s")] == [b"one"]
    assert await log.verify("s") == pen.head
    await waits.close()


async def test_what_too_few_replicas_have_is_nobodys_business_until_they_have_it(log: RedisLog, set_: Replicated) -> None:
    waits = await patient(set_)
    pen = await new_session(waits)
    known = await pen.write(b"one")
    batch = fresh_batch()
    with stopped(set_.replicas[0]):
        with pytest.raises(Unavailable, match="outcome is unknown") as caught:
            await log.append("s", 1, known.seq, batch, 2, b"two", [("t", b"entry")])
        assert "replicas" in caught.value.fix
        for _ in range(2):
            with pytest.raises(Unavailable, match="outcome is unknown"):
                await log.append("s", 1, known.seq, batch, 2, b"two", [("t", b"entry")])
        assert [row.blob for row in await log.read("s")] == [b"one"]
        assert await log.read("s", after=known.seq) == []
        assert await log.verify("s") == known
        assert [row.head for row in await log.sessions()] == [known]
    head = await waits.append("s", 1, known.seq, batch, 2, b"two", [("t", b"entry")])
    assert head.seq == known.seq + 2
    assert [row.blob for row in await log.read("s")] == [b"one", b"two"]
    assert await log.verify("s") == head
    await waits.close()


async def test_of_the_first_append_nothing_is_seen_either(log: RedisLog, set_: Replicated) -> None:
    await log.create("s", 1)
    waits = await patient(set_)
    await waits.acquire("s")
    with stopped(*set_.replicas), pytest.raises(Unavailable):
        await log.append("s", 1, 0, fresh_batch(), 2, b"one")
    assert await log.read("s") == []
    assert await log.verify("s") == Head(1, 0, chain.GENESIS)
    await waits.close()


async def test_who_takes_over_commits_what_it_finds_before_it_goes_on(log: RedisLog, set_: Replicated) -> None:
    waits = await patient(set_)
    pen = await new_session(waits)
    await pen.write(b"one")
    with stopped(*set_.replicas):
        with pytest.raises(Unavailable):
            await log.append("s", 1, 3, fresh_batch(), 3, b"two")
        with pytest.raises(Unavailable):
            await log.acquire("s")
        assert [row.blob for row in await log.read("s")] == [b"one"]
    heir = await Pen(waits, "s").take()
    assert [row.blob for row in await log.read("s")] == [b"one", b"two"]
    await heir.write(b"three")
    with pytest.raises(Conflict, match="another owner"):
        await log.append("s", 1, 6, fresh_batch(), 3, b"late")
    assert await log.verify("s") == heir.head
    await waits.close()


async def test_listeners_and_those_who_asked_hear_of_it_when_it_is_committed(log: RedisLog, set_: Replicated) -> None:
    waits = await patient(set_)
    await new_session(waits)
    link = Link(set_.primary.url, {})
    inbox = RedisInbox(link, Channels(link), HiveRing(KEY))
    await inbox.put("s", "a", 1, b"letter")
    (letter,) = await inbox.letters("s")
    connection = await link.connection()
    await connection.send_command("SUBSCRIBE", of_session("s", "log"), of_session("s", "to", "a"))
    for _ in range(2):
        await connection.read_response()
    batch, taken = fresh_batch(), [Taken(letter.place, "a", 1, b"answer")]
    with stopped(*set_.replicas):
        with pytest.raises(Unavailable):
            await log.append("s", 1, 0, batch, 1, b"decided", taken=taken)
        assert await inbox.letters("s") == []
        assert await inbox.answers("s", "a") == []
    await link.call("PUBLISH", of_session("s", "log"), "nothing came before this")
    head = await waits.append("s", 1, 0, batch, 1, b"decided", taken=taken)
    heard = [(await connection.read_response())[1:] for _ in range(3)]
    assert heard[0][1] == b"nothing came before this"
    assert head.hash in heard[1][1]
    assert heard[1][1].endswith(b"decided")
    assert heard[2][0] == of_session("s", "to", "a").encode()
    assert [answer.body for answer in await inbox.answers("s", "a")] == [b"answer"]
    await connection.disconnect()
    await link.close()
    await waits.close()


class ReplicatedInboxHome(Engine):
    """A primary that must have its replica's word for everything."""

    def begin(self) -> tuple[str, list[Server]]:
        set_ = servers.replicated()
        return set_.primary.url, [set_.primary]

    async def open(self, most: int = letters.MAX_LETTERS, unread: int = letters.MAX_ANSWERS) -> Shared:
        link = self.link()
        inbox = RedisInbox(link, self.channels(), HiveRing(KEY), 1, 10_000, most, unread)
        return Shared(await RedisLog.open(link, HiveRing(KEY), 1, 10_000), inbox)


class TestReplicatedInbox(InboxContract):
    home = ReplicatedInboxHome


@pytest.fixture
async def inboxes(set_: Replicated) -> AsyncIterator[list[RedisInbox]]:
    """Two that do not wait long for both replicas, and one that does; each with connections of its own."""
    links = [Link(set_.primary.url, {}) for _ in range(3)]
    patient = zip(links, (100, 100, 10_000), strict=True)
    yield [RedisInbox(link, Channels(link), HiveRing(KEY), 2, patience) for link, patience in patient]
    for link in links:
        await link.close()


async def test_a_letter_counts_when_replicas_have_it(log: RedisLog, set_: Replicated, inboxes: list[RedisInbox]) -> None:
    await log.create("s", 1)
    *hasty, waits = inboxes
    with stopped(set_.replicas[0]):
        for inbox in hasty:  # the second one writes nothing new, over another connection, and counts no more for that
            with pytest.raises(Unavailable, match="outcome is unknown"):
                await inbox.put("s", "a", 1, b"one")
    await waits.put("s", "a", 1, b"one")
    assert [letter.body for letter in await waits.letters("s")] == [b"one"]


async def test_what_was_settled_is_answered_when_replicas_have_it(
    log: RedisLog, set_: Replicated, inboxes: list[RedisInbox]
) -> None:
    patient_log = await patient(set_)
    pen = await new_session(patient_log)
    *hasty, waits = inboxes
    await waits.put("s", "a", 1, b"one")
    (letter,) = await waits.letters("s")
    taken = [Taken(letter.place, "a", 1, b"no")]
    with stopped(set_.replicas[0]):
        for inbox in hasty:
            with pytest.raises(Unavailable, match="outcome is unknown"):
                await inbox.settle("s", pen.head.epoch, taken)
            assert await waits.answers("s", "a") == []
    await waits.settle("s", pen.head.epoch, taken)
    assert await waits.answers("s", "a") == [Answer(1, b"no")]
    await patient_log.close()
