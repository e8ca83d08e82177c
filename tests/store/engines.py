"""The Redis engines that the store is tested on, each emptied before a test."""

from __future__ import annotations

from pathlib import Path

from skep.redis.connect import Link
from skep.redis.listen import Channels
from tests import servers
from tests.servers import Server


class Engine:
    """A Redis without any data, and whatever is opened on it. Subclasses say which."""

    def __init__(self, folder: Path) -> None:
        self.url, self.nodes = self.begin()
        for node in self.nodes:
            node.tell("FLUSHALL")
        self._open: list[Link | Channels] = []

    def begin(self) -> tuple[str, list[Server]]:
        """Its URL and its servers."""
        raise NotImplementedError

    def link(self) -> Link:
        """A way to it, as one more process has."""
        link = Link(self.url, {})
        self._open.insert(0, link)
        return link

    def channels(self) -> Channels:
        """What one more process listens to."""
        channels = Channels(self.link())
        self._open.insert(0, channels)
        return channels

    async def close(self) -> None:
        """Ends what was opened."""
        while self._open:
            await self._open.pop(0).close()


class OnRedis(Engine):
    """A Redis 7.0."""

    def begin(self) -> tuple[str, list[Server]]:
        server = servers.redis_server()
        return server.url, [server]


class OnValkey(Engine):
    """A Valkey 9."""

    def begin(self) -> tuple[str, list[Server]]:
        server = servers.valkey_server()
        return server.url, [server]


class OnCluster(Engine):
    """Three nodes of Valkey 9."""

    def begin(self) -> tuple[str, list[Server]]:
        cluster = servers.cluster()
        return cluster.url, cluster.nodes
