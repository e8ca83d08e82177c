"""What an invitation is good for: its holder checks all that lies in the store, writes none of it, and speaks as itself only."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from skep.config import StoreConfig
from skep.errors import Conflict, Denied, Invalid
from skep.redis.connect import Link
from skep.redis.listen import Channels
from skep.store import Append, Head, Recorded, Stores, Taken, chain
from skep.store.invitation import invited, save
from skep.store.letters import Unsealed
from skep.store.redis.inbox import RedisInbox, appends
from skep.store.redis.keys import of_session
from skep.store.redis.log import RedisLog
from skep.store.redis.recordings import RedisRecordings
from skep.store.redis.shared import open_shared
from skep.store.ring import HiveRing, NodeRing, Ring, append_text
from tests import servers
from tests.contracts.log import Pen, new_session
from tests.store.redis_homes import KEY, ValkeyHome

HIVE = HiveRing(KEY)
LOG = of_session("s", "log")


def ring(node: str) -> NodeRing:
    """What is in the invitation of a node."""
    return NodeRing(node, HIVE.secret(node), HIVE.public, HIVE.place)


class Machines:
    """The writer of a session, nodes that were invited, and somebody with redis-py and an invitation."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.home = ValkeyHome(folder)
        self.folder = folder
        self._stack = stack
        self.stranger: Any = stack.enter_context(servers.valkey_server().client())
        self.log: RedisLog
        self.pen: Pen

    async def open(self) -> None:
        self.log, _ = await self.store(HIVE)
        self.pen = await new_session(self.log)
        self.stranger.set("skep:public", HIVE.public.hex())

    async def store(self, ring: Ring) -> tuple[RedisLog, RedisInbox]:
        link = Link(self.home.url, {})
        log = await RedisLog.open(link, ring)
        self._stack.push_async_callback(log.close)
        channels = Channels(link)
        self._stack.push_async_callback(channels.close)
        return log, RedisInbox(link, channels, ring)

    def everything(self) -> dict[bytes, bytes]:
        """All that the server has."""
        return {key: self.stranger.dump(key) for key in self.stranger.scan_iter()}

    async def begun(self, name: str = "boss", blobs: str = "") -> Callable[[str], Awaitable[bytes]]:
        """Empties the server and begins a store there; gives what invites nodes."""
        self.home.begin()
        boss = await self.shared(StoreConfig(blobs=blobs), name)
        assert boss.invited == ""
        assert boss.ready is not None
        await boss.ready()
        assert boss.invite is not None
        return boss.invite

    async def shared(self, config: StoreConfig, name: str) -> Stores:
        stores = await open_shared(replace(config, url=self.home.url), self.folder / name / ".skep", lambda: 1)
        self._stack.push_async_callback(stores.close)
        return stores


@pytest.fixture
async def machines(tmp_path: Path) -> AsyncIterator[Machines]:
    async with AsyncExitStack() as stack:
        made = Machines(tmp_path, stack)
        await made.open()
        yield made


async def test_an_invited_node_reads_logs_and_snapshots_and_what_is_pushed(machines: Machines) -> None:
    log, _ = await machines.store(ring("east"))
    ear = machines.stranger.pubsub(ignore_subscribe_messages=True)
    ear.subscribe(LOG)
    ear.get_message(timeout=60)
    first = await machines.pen.write(b"one")
    head = await machines.pen.write(b"two")
    await machines.log.snapshot("s", first.seq, b"state")
    assert [row.blob for row in await log.read("s")] == [b"one", b"two"]
    assert await log.verify("s") == head
    assert await log.latest("s") == (first.seq, b"state")
    heard = [
        append for message in (ear.get_message(timeout=60), ear.get_message(timeout=60)) for append in appends(message["data"])
    ]
    pushed = heard[-1]
    assert log.follows("s", first, pushed)
    assert not log.follows("s", head, pushed), "it does not come after the last one"
    ear.close()


WRITES: dict[str, Callable[[RedisLog, RedisInbox, Head], Any]] = {
    "create": lambda log, inbox, head: log.create("t", 1),
    "acquire": lambda log, inbox, head: log.acquire("s", "me"),
    "append": lambda log, inbox, head: log.append("s", head.epoch, head.seq, b"b" * 16, 1, b"blob"),
    "snapshot": lambda log, inbox, head: log.snapshot("s", head.seq, b"state"),
    "annotate": lambda log, inbox, head: log.annotate("s", "{}"),
    "drop": lambda log, inbox, head: log.drop("s"),
    "put": lambda log, inbox, head: inbox.put("s", "me", 1, b"letter"),
    "put as another": lambda log, inbox, head: inbox.put("s", "west/me", 1, b"letter"),
}


@pytest.mark.parametrize("what", WRITES)
async def test_an_invited_node_writes_nothing_of_it(machines: Machines, what: str) -> None:
    head = await machines.pen.write(b"one")
    log, inbox = await machines.store(ring("east"))
    before = machines.everything()
    with pytest.raises(Denied):
        await WRITES[what](log, inbox, head)
    assert before == machines.everything()


def forge(append: Append, **changed: Any) -> Append:
    """An append that is changed and sealed anew as well as somebody with an invitation can."""
    mine = ring("east")
    other = replace(append, **changed)
    fields = (other.first, other.last, other.epoch, other.batch, other.blob)
    other = replace(other, hash=chain.link(mine.secret("east"), "s", chain.GENESIS, *fields))
    signer = Ed25519PrivateKey.from_private_bytes(mine.secret("east"))
    return replace(other, sign=signer.sign(append_text("s", chain.GENESIS, other)))


FORGED: dict[str, Callable[[Append, Append], Append]] = {
    "other words": lambda one, two: replace(one, blob=b"evil"),
    "its own seals": lambda one, two: forge(one, blob=b"evil"),
    "the hash of other words": lambda one, two: replace(one, hash=hashlib.sha256(b"evil").digest()),
    "the words of the next one": lambda one, two: replace(two, first=one.first, last=one.last),
    "another epoch": lambda one, two: replace(one, epoch=one.epoch + 1),
    "no signature": lambda one, two: replace(one, sign=b""),
    "a signature of no length": lambda one, two: replace(one, sign=b"x"),
}


@pytest.mark.parametrize("how", FORGED)
async def test_an_append_that_the_key_did_not_sign_is_refused(machines: Machines, how: str) -> None:
    await machines.pen.write(b"one")
    await machines.pen.write(b"two")
    log, _ = await machines.store(ring("west"))
    one, two = await log.read("s")
    bad = FORGED[how](one, two)
    assert log.follows("s", Head(1, 0, chain.GENESIS), one)
    assert not log.follows("s", Head(1, 0, chain.GENESIS), bad)
    write(machines.stranger, [bad, two])
    with pytest.raises(Invalid, match=r"event 1\b"):
        await log.read("s")
    if how not in ("no signature", "a signature of no length"):
        with pytest.raises(Invalid):
            await machines.log.read("s")


def write(stranger: Any, rows: list[Append]) -> None:
    """Puts these appends in the place of the log."""
    stranger.delete(LOG)
    for row in rows:
        fields: dict[Any, Any] = {"first": row.first, "epoch": row.epoch, "batch": row.batch, "hash": row.hash, "blob": row.blob}
        stranger.xadd(LOG, fields | ({"sign": row.sign} if row.sign else {}), f"{row.last}-0")


async def test_an_append_of_another_session_is_refused(machines: Machines) -> None:
    pen = await new_session(machines.log, "t")
    await pen.write(b"theirs")
    log, _ = await machines.store(ring("east"))
    write(machines.stranger, await log.read("t"))
    with pytest.raises(Invalid, match=r"event 1\b"):
        await log.read("s")


async def test_what_was_written_before_appends_were_signed_is_read_with_the_key_only(machines: Machines) -> None:
    await machines.pen.write(b"old")
    machines.home.rewrite("s", machines.home.rows("s"))  # as it was then: without a signature
    await machines.pen.write(b"new")
    log, _ = await machines.store(ring("east"))
    with pytest.raises(Invalid, match="event 1 is not signed: it was written before appends were signed"):
        await log.read("s")
    assert [row.blob for row in await machines.log.read("s")] == [b"old", b"new"]


async def test_a_snapshot_that_the_key_did_not_sign_is_passed_over(machines: Machines) -> None:
    head = await machines.pen.write(b"one")
    await machines.log.snapshot("s", head.seq, b"state")
    log, _ = await machines.store(ring("east"))
    place = of_session("s", "snapshot", str(head.seq))
    machines.stranger.hset(place, "0", b"evil!")
    assert await log.latest("s") is None
    await machines.log.snapshot("s", head.seq, b"state")
    assert await log.latest("s") == (head.seq, b"state")
    machines.stranger.hdel(place, "sign")
    assert await log.latest("s") is None, "it is as old as the log"
    assert await machines.log.latest("s") == (head.seq, b"state")


async def test_a_letter_is_the_one_of_the_node_whose_seal_it_has(machines: Machines) -> None:
    _, east = await machines.store(ring("east"))
    _, boss = await machines.store(HIVE)
    await east.put("s", "east/1", 1, b"mine")
    (letter,) = await boss.letters("s")
    assert (letter.sender, letter.body) == ("east/1", b"mine")
    inbox = of_session("s", "inbox")
    for forged in ("west/1", "boss", "east/2/1"):
        sealed = chain.seal(HIVE.secret("east"), "letter", "s", forged, 1, b"forged") + b"forged"
        machines.stranger.xadd(inbox, {"s": forged.replace("/", "%2F"), "n": 1, "b": sealed})
    with pytest.raises(Unsealed) as error:
        await boss.letters("s")
    assert [one.sender for one in error.value.sealed] == ["east/1"]


async def test_an_answer_is_for_the_node_that_asked(machines: Machines) -> None:
    (_, east), (_, west), (_, boss) = [await machines.store(one) for one in (ring("east"), ring("west"), HIVE)]
    await east.put("s", "east/1", 1, b"?")
    (letter,) = await boss.letters("s")
    head = machines.pen.head
    await boss.settle("s", head.epoch, [Taken(letter.place, letter.sender, letter.number, b"!")])
    assert [one.body for one in await east.answers("s", "east/1")] == [b"!"]
    with pytest.raises(Denied):
        await west.answers("s", "east/1")
    forged = chain.seal(HIVE.secret("west"), "answer", "s", "east/1", 2, b"forged") + b"forged"
    machines.stranger.zadd(of_session("s", "answers", "east/1"), {b"2 " + forged: 2})
    with pytest.raises(Invalid, match="the answer to letter 2 of east/1"):
        await east.answers("s", "east/1")


async def test_what_a_node_is_told_others_can_neither_read_nor_make_up(machines: Machines) -> None:
    east, _ = await machines.store(ring("east"))
    west, _ = await machines.store(ring("west"))
    assert east.seal_to("east", b"leave") == machines.log.seal_to("east", b"leave")
    assert west.seal_to("west", b"leave") != machines.log.seal_to("east", b"leave")
    for node, what in (("east", west.seal_to), ("west", east.seal_to)):
        with pytest.raises(Denied):
            what(node, b"leave")
    with pytest.raises(Denied, match="needs the key of the store"):
        east.seal(b"text")


async def test_what_an_invited_node_shows_is_seen_of_its_own_attempts_alone(machines: Machines) -> None:
    links = [Link(machines.home.url, {}) for _ in range(2)]
    boss, east = RedisRecordings(links[0], HIVE), RedisRecordings(links[1], ring("east"))
    await east.show("s", "api", 1, b"mine", 60_000)
    assert await boss.shown("s", "api", 1, "east") == b"mine"
    for node in ("west", ""):
        with pytest.raises(Invalid, match="attempt 1 of 'api'"):
            await boss.shown("s", "api", 1, node)
    for link in links:
        await link.close()


async def test_where_recordings_are_a_node_says_for_itself_and_is_known_to_have_said_it(machines: Machines) -> None:
    links = [Link(machines.home.url, {}) for _ in range(2)]
    boss, east = RedisRecordings(links[0], HIVE), RedisRecordings(links[1], ring("east"))
    mine, key = Recorded("1" * 64, 1, "east"), of_session("s", "recordings")
    await east.put("s", "api", 1, "", mine)
    await boss.put("s", "api", 2, "", mine)
    found = await boss.get("s", "api", [(1, ""), (2, "")])
    assert found == {(1, ""): replace(mine, invited=True), (2, ""): mine}
    assert await boss.blobs("s") == {mine.digest}
    with pytest.raises(Denied):
        await east.get("s", "api", [(1, "")])
    await east.put("s", "api", 3, "", replace(mine, node="west"))
    machines.stranger.hset(key, "api:4:", machines.stranger.hget(key, "api:1:"))
    deep = b'{"x":' + b"[" * 100_000
    for n, body in ((5, deep), (6, b'{"digest":"\xff"}')):
        machines.stranger.hset(key, f"api:{n}:", b"0" * 32 + body)
    found = await boss.get("s", "api", [(n, "") for n in range(1, 7)])
    assert {n for (n, _), one in found.items() if one.doubt} == {3, 4, 5, 6}
    assert {one.digest for one in found.values() if one.doubt} == {""}, "nothing of them is believed"
    machines.stranger.hset(key, b"\xff", b"\xff")
    assert await boss.blobs("s") == {mine.digest}, "what others put there stops nobody"
    for link in links:
        await link.close()


# The file


async def test_an_invitation_opens_the_store_it_is_for_and_no_key_is_made(machines: Machines) -> None:
    invite = await machines.begun(blobs="../large")
    path = machines.folder / "east.invite"
    save(path, await invite("east"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert (machines.folder / "boss" / ".skep" / "key").read_bytes().hex() not in path.read_text()
    east = await machines.shared(StoreConfig(invite=str(path), blobs="../large"), "east")
    assert east.invited == "east"
    assert east.ready is not None
    await east.ready()
    assert not (machines.folder / "east" / ".skep" / "key").exists()
    assert east.invite is not None
    for name in ("west", "east"):
        with pytest.raises(Denied):
            await east.invite(name)


async def test_an_invitation_to_another_store_is_refused(machines: Machines) -> None:
    path = machines.folder / "east.invite"
    save(path, await (await machines.begun())("east"))
    invite = await machines.begun("another")
    for _ in range(2):
        with pytest.raises(Denied, match="invitation of node 'east' is not for the store"):
            await machines.shared(StoreConfig(invite=str(path)), "east")
        await invite("east")


async def test_a_file_that_is_no_invitation_or_not_kept_safe_is_refused(machines: Machines) -> None:
    path = machines.folder / "east.invite"
    with pytest.raises(Invalid, match="cannot be read"):
        invited(path)
    said = await (await machines.begun())("east")
    save(path, said)
    with pytest.raises(Conflict):
        save(path, said)
    assert invited(path).node == "east"
    path.chmod(0o640)
    with pytest.raises(Denied, match="can be read or changed by others"):
        invited(path)
    path.chmod(0o600)
    later, longer = said.replace(b'"version": 1', b'"version": 2'), said.replace(b'"public": "', b'"public": "00')
    for bad in (said[:-20], later, longer, b"\xff"):
        assert bad != said
        path.write_bytes(bad)
        with pytest.raises(Invalid):
            invited(path)


@pytest.mark.parametrize("name", ["", "a/b", "a" * 65, "ü", "a b", "a\n"])
async def test_a_name_that_no_invited_node_can_have_is_refused(machines: Machines, name: str) -> None:
    invite = await machines.begun()
    with pytest.raises(Invalid, match="cannot name an invited node"):
        await invite(name)
