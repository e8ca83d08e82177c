"""Channels of a Redis: one connection hears for all, is made anew, and says when something may have been missed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skep.errors import Unavailable
from skep.redis import listen
from skep.redis.connect import Link
from skep.redis.listen import Channels
from tests import servers
from tests.servers import Server
from tests.store.engines import OnCluster


class Ear:
    """A listener that keeps what it heard."""

    def __init__(self) -> None:
        self.heard: list[bytes | None] = []
        self._more = asyncio.Event()

    def hear(self, message: bytes | None) -> None:
        self.heard.append(message)
        self._more.set()

    async def until(self, message: bytes | None) -> list[bytes | None]:
        """All that it heard, when this is among it."""
        async with asyncio.timeout(30):
            while message not in self.heard:
                self._more.clear()
                await self._more.wait()
        return self.heard


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that the test may kill."""
    server = Server(servers.valkey_binary())
    yield server
    server.remove()


@pytest.fixture
async def channels(server: Server) -> AsyncIterator[Channels]:
    link = Link(server.url, {})
    channels = Channels(link)
    yield channels
    await channels.close()
    await link.close()


def listeners(server: Server) -> list[bytes]:
    """The connections on which somebody listens, as the server sees them."""
    told = server.tell("CLIENT", "LIST", "TYPE", "pubsub")
    assert isinstance(told, bytes)
    return told.splitlines()


async def becomes(true: Callable[[], bool]) -> None:
    """Waits until something is so at the server, while our own side goes on."""
    async with asyncio.timeout(30):
        while True:
            if true():
                return
            await asyncio.sleep(0)


async def test_many_listen_over_one_connection_which_ends_with_the_last(server: Server, channels: Channels) -> None:
    ears = [Ear() for _ in range(30)]
    stops = await asyncio.gather(*(channels.listen(f"c{n % 10}", ear.hear) for n, ear in enumerate(ears)))
    assert len(listeners(server)) == 1
    for n in range(10):
        server.tell("PUBLISH", f"c{n}", f"m{n}")
    for n, ear in enumerate(ears):
        assert await ear.until(b"m%d" % (n % 10)) == [b"m%d" % (n % 10)]
    for stop in stops:
        await stop()
    await becomes(lambda: not listeners(server))
    again = Ear()
    await channels.listen("c0", again.hear)
    server.tell("PUBLISH", "c0", "again")
    assert await again.until(b"again") == [b"again"]


async def test_who_listens_again_at_once_hears(server: Server, channels: Channels) -> None:
    keep = Ear()
    await channels.listen("keep", keep.hear)
    for n in range(50):
        ear = Ear()
        stop = await channels.listen("c", ear.hear)
        server.tell("PUBLISH", "c", f"m{n}")
        assert await ear.until(b"m%d" % n) == [b"m%d" % n]
        await stop()


async def test_what_is_said_between_stopping_and_listening_again_is_not_taken_for_ours(
    server: Server, channels: Channels
) -> None:
    first, second = Ear(), Ear()
    stop = await channels.listen("c", first.hear)
    await asyncio.gather(stop(), channels.listen("c", second.hear))
    server.tell("PUBLISH", "c", "m")
    assert await second.until(b"m") == [b"m"]
    assert first.heard == []


async def test_a_server_that_comes_again_makes_all_look(server: Server, channels: Channels) -> None:
    ears = {name: Ear() for name in "abc"}
    for name, ear in ears.items():
        await channels.listen(name, ear.hear)
    server.kill()
    server.start()
    for ear in ears.values():
        assert await ear.until(None) == [None]
    for name, ear in ears.items():
        server.tell("PUBLISH", name, "after")
        assert await ear.until(b"after") == [None, b"after"]
    assert len(listeners(server)) == 1


async def test_a_connection_that_the_server_ends_is_made_anew(server: Server, channels: Channels) -> None:
    ear = Ear()
    await channels.listen("a", ear.hear)
    for _ in range(3):
        ear.heard.clear()
        server.tell("CLIENT", "KILL", "TYPE", "pubsub")
        await ear.until(None)
        server.tell("PUBLISH", "a", "after")
        assert await ear.until(b"after") == [None, b"after"]


async def test_a_server_that_hangs_is_noticed(server: Server, channels: Channels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "QUIET", 0.1)
    monkeypatch.setattr(listen, "ANSWER", 0.3)
    ear = Ear()
    await channels.listen("a", ear.hear)
    (connection,) = listeners(server)
    server.process.send_signal(signal.SIGSTOP)
    await becomes(lambda: channels.lost)
    server.process.send_signal(signal.SIGCONT)
    assert await ear.until(None) == [None]
    await becomes(lambda: connection not in listeners(server))


async def test_silence_alone_ends_nothing(server: Server, channels: Channels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "QUIET", 0.02)
    ear = Ear()
    await channels.listen("a", ear.hear)

    def pinged() -> bool:
        (connection,) = listeners(server)
        return b"cmd=ping" in connection

    await becomes(pinged)
    server.tell("PUBLISH", "a", "m")
    assert await ear.until(b"m") == [b"m"]


async def test_nobody_listens_where_no_server_is(server: Server, channels: Channels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "ANSWER", 0.3)
    server.kill()
    ear = Ear()
    with pytest.raises(Unavailable, match="does not let us listen"):
        await channels.listen("a", ear.hear)
    server.start()
    monkeypatch.setattr(listen, "ANSWER", 30.0)
    await channels.listen("a", ear.hear)
    server.tell("PUBLISH", "a", "m")
    assert await ear.until(b"m") == [b"m"]


async def test_a_listener_that_fails_takes_nothing_from_the_others(server: Server, channels: Channels) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    ear = Ear()

    def fail(message: bytes | None) -> None:
        raise ValueError(message)

    await channels.listen("a", fail)
    await channels.listen("a", ear.hear)
    for message in (b"one", b"two"):
        server.tell("PUBLISH", "a", message)
        await ear.until(message)
    assert [context["message"] for context in complaints] == ["what was published was not taken"] * 2


async def test_nobody_listens_after_the_end(server: Server, channels: Channels) -> None:
    ear = Ear()
    stop = await channels.listen("a", ear.hear)
    await channels.close()
    await becomes(lambda: not listeners(server))
    await stop()
    await channels.close()
    with pytest.raises(Unavailable, match="closed"):
        await channels.listen("a", ear.hear)


async def test_a_cluster_tells_on_any_node_what_is_said_on_any(tmp_path: Path) -> None:
    place = OnCluster(tmp_path)
    ear = Ear()
    await place.channels().listen("a", ear.hear)
    for n, node in enumerate(place.nodes):
        node.tell("PUBLISH", "a", f"m{n}")
        await ear.until(b"m%d" % n)
    assert len(ear.heard) == 3
    await place.close()
