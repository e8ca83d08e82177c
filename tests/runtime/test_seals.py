"""Who may write to the Redis and has no key: nothing that they put there is acted on, not even what others said before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from skep import nodes
from skep.config import Config, SandboxConfig, StoreConfig
from skep.core import inputs as inp
from skep.core.model import Limits, Plan
from skep.errors import Denied, Unavailable
from skep.redis.connect import Link
from skep.redis.listen import Channels
from skep.runtime.loop import Loop
from skep.runtime.node import Here, Role, SystemClock
from skep.runtime.nodes import listed, order_to, tell
from skep.runtime.replica import Replica
from skep.runtime.shared import DRAINS
from skep.store import chain
from skep.store.redis.inbox import RedisInbox, pieces
from skep.store.redis.keys import of_session
from skep.store.redis.leases import RedisLeases
from skep.store.redis.log import RedisLog
from skep.store.ring import HiveRing, NodeRing
from tests import servers

KEY = b"k" * 32
RING = HiveRing(KEY)
INBOX, CHANNEL = of_session("s", "inbox"), of_session("s", "in")


class Machines:
    """Whoever writes the session, somebody who follows it, and somebody who has only redis-py."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack = stack
        self.server = servers.valkey_server()
        self.server.tell("FLUSHALL")
        self.stranger = stack.enter_context(self.server.client())
        self.ear: Any = self.stranger.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]  # of redis-py
        self.ear.subscribe(CHANNEL)
        stack.callback(self.ear.close)

    async def store(self) -> tuple[RedisLog, RedisInbox]:
        link = Link(self.server.url)
        log = await RedisLog.open(link, RING)
        self.stack.push_async_callback(log.close)
        channels = Channels(link)
        self.stack.push_async_callback(channels.close)
        return log, RedisInbox(link, channels, RING)

    async def lead(self, after: int = -1) -> Loop:
        log, inbox = await self.store()
        if after < 0:
            await log.create("s", 1)
        loop = Loop("s", log, SystemClock(), None, "", inbox, "boss")
        await loop.start(after)
        self.stack.push_async_callback(loop.stop)
        return loop

    async def follow(self) -> Replica:
        log, inbox = await self.store()
        replica = Replica("s", log, inbox, SystemClock())
        await replica.start()
        self.stack.push_async_callback(replica.stop)
        return replica

    def overheard(self, count: int) -> list[tuple[bytes, bytes, bytes]]:
        """The first letters that were put: sender, number and sealed body of each."""
        found: list[tuple[bytes, bytes, bytes]] = []
        for message in self.ear.listen():
            found += [(sender, number, sealed) for (_, sender, number), sealed in pieces(message["data"])]
            if len(found) >= count:
                break
        return found

    def repeat(self, sender: bytes, number: bytes, sealed: bytes) -> None:
        """Puts a letter there once more, byte for byte, and says so."""
        place: Any = self.stranger.xadd(INBOX, {"s": sender, "n": number, "b": sealed})
        self.stranger.publish(CHANNEL, b"%s %s %s %d\n%s" % (place, sender, number, len(sealed), sealed))


@pytest.fixture
async def machines() -> AsyncIterator[Machines]:
    async with AsyncExitStack() as stack:
        yield Machines(stack)


async def test_a_letter_that_is_repeated_is_not_decided_again_also_not_by_a_successor(machines: Machines) -> None:
    loop = await machines.lead()
    await loop.tell(inp.OpenSession(at=0, session="s", plan=Plan(name="s", limits=Limits(agents=1))))
    replica = await machines.follow()
    await replica.tell(inp.Pause(at=0, by="somebody"))
    await replica.tell(inp.Resume(at=0, by="somebody"))
    pause, resume = machines.overheard(2)
    machines.repeat(*pause)
    await replica.tell(inp.Mark(at=0, name="one"))
    assert not loop.state.paused
    assert machines.stranger.xlen(INBOX) == 0, "what is refused does not stay"
    machines.repeat(*pause)
    machines.repeat(*resume)
    machines.repeat(*pause)
    successor = await machines.lead(loop.head.epoch)
    await replica.tell(inp.Mark(at=0, name="two"))
    assert not successor.state.paused
    assert set(successor.state.marks) == {"one", "two"}
    assert machines.stranger.xlen(INBOX) == 0


async def test_a_letter_to_another_session_of_the_same_name_is_answered_and_not_decided(machines: Machines) -> None:
    loop = await machines.lead()
    await loop.tell(inp.OpenSession(at=0, session="s", plan=Plan(name="s", limits=Limits(agents=1))))
    replica = await machines.follow()
    replica.state.opened += 1
    with pytest.raises(Unavailable, match="outcome unknown"):
        await replica.tell(inp.Pause(at=0, by="somebody"))
    assert not loop.state.paused


async def test_an_order_without_the_seal_of_the_key_is_none(machines: Machines) -> None:
    log, _ = await machines.store()
    leases = RedisLeases(Link(machines.server.url))
    machines.stack.push_async_callback(leases._link.close)
    await leases.hold("node/east", "first", 60_000, '{"host": "h", "pid": 1, "serves": true}')
    await tell(leases, log.seal_to, "east", "leave")
    order = (await leases.held(DRAINS))["east"]
    assert order_to("east", "first", order, log.seal_to) == "leave"
    forged = [replace(order, note=note) for note in ("leave", "drain " + order.note.split()[1], "leave " + "0" * 64, "leave é")]
    assert [order_to("east", "first", one, log.seal_to) for one in forged] == [""] * 4
    assert order_to("west", "first", order, log.seal_to) == "", "it is to another node"
    repeated = replace(order, holder="second")
    assert order_to("east", "second", repeated, log.seal_to) == "", "it is to another process, which had the name before"
    assert [one.told for one in await listed(leases, log.seal_to)] == ["leave"]


async def test_a_node_that_was_invited_tells_others_nothing(machines: Machines) -> None:
    """It writes to the leases what it likes, with the secret that it has: only its own process heeds that."""
    log, _ = await machines.store()
    east = NodeRing("east", RING.secret("east"), RING.public, RING.place)
    machines.server.tell("SET", "skep:public", RING.public.hex())
    invited = await RedisLog.open(Link(machines.server.url), east)
    machines.stack.push_async_callback(invited.close)
    leases = RedisLeases(Link(machines.server.url))
    machines.stack.push_async_callback(leases._link.close)
    for name in ("east", "west"):
        await leases.hold(f"node/{name}", f"process of {name}", 60_000, '{"host": "h", "pid": 1, "serves": true}')
    with pytest.raises(Denied):
        await tell(leases, invited.seal_to, "west", "leave")

    def seal(node: str, text: bytes) -> bytes:
        return chain.seal_text(RING.secret("east"), text)

    await tell(leases, seal, "west", "leave")
    await tell(leases, log.seal_to, "east", "drain")
    assert [one.told for one in await listed(leases, log.seal_to)] == ["drain", ""]
    told = (await leases.held(DRAINS))["east"]
    assert order_to("east", "process of east", told, invited.seal_to) == "drain", "it can tell that this is for it"


async def test_a_node_stays_when_a_stranger_tells_it_to_leave(tmp_path: Path) -> None:
    """The stranger has redis-py and no key, and knows what an order looked like before orders were sealed."""
    server = servers.valkey_server()
    server.tell("FLUSHALL")
    config = Config(store=StoreConfig(url=server.url, key=str(tmp_path / "key")), sandbox=SandboxConfig(mode="off"))
    role = Role(here=Here(name="east", slots=1), serves=True, leads=True, hosted=True)
    async with nodes.join(tmp_path, config, role) as east:
        (east_lease,) = server.tell("HVALS", "skep:leases:node")
        ends, holder, _ = east_lease.split(b" ", 2)
        server.tell("HSET", "skep:leases:drain", "east", b"%d %s leave" % (int(ends) + 60_000, holder))
        assert [one.told for one in await nodes.nodes(tmp_path, config)] == [""]
        sessions = east.door._sessions
        assert sessions is not None
        membership = sessions._membership
        assert membership is not None
        await membership._obey()
        assert not membership._parted.is_set()
        await nodes.tell_node(tmp_path, config, "east", "leave")
        await membership.left()


@pytest.mark.parametrize(
    "note", [b'{"x":' + b"[" * 100_000, b'{"host":"\xed\xa0\x80"}', b"\xff", b"null", b'{"host":"h","pid":1e99}']
)
async def test_what_a_stranger_writes_on_a_lease_ends_nobody(tmp_path: Path, note: bytes) -> None:
    """Leases carry no seal: what stands on them may be anything."""
    server = servers.valkey_server()
    server.tell("FLUSHALL")
    config = Config(store=StoreConfig(url=server.url, key=str(tmp_path / "key")), sandbox=SandboxConfig(mode="off"))
    role = Role(here=Here(name="east", slots=1), serves=True, leads=True, hosted=True)
    async with nodes.join(tmp_path, config, role) as east:
        await east.session("led")
        for kind in ("node", "owner"):
            server.tell("HSET", f"skep:leases:{kind}", "evil", b"%d evil %s" % (2**52, note))
        sessions = east.door._sessions
        assert sessions is not None
        membership = sessions._membership
        assert membership is not None
        await membership._look()
        assert membership._failure is None
        assert "east" in [one.name for one in await nodes.nodes(tmp_path, config)]
