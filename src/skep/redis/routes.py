"""Which server holds a key: the only one, the primary that Sentinels name, or a node of a Cluster."""

from __future__ import annotations

import asyncio
import copy
import socket
from collections.abc import Sequence
from typing import Any, Protocol

from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as Late

from skep.redis.address import Address

#: Requests at once at one server.
REQUESTS = 64
#: Seconds until a server that does not answer is given up, and until a connection is.
ANSWER, CONNECT = 5.0, 2.0

Place = tuple[str, int]


class Routes(Protocol):
    """Where keys are; every method may raise what redis-py raises."""

    async def pool(self, key: bytes) -> ConnectionPool:
        """Connections to the server that holds `key`."""

    async def pools(self) -> list[ConnectionPool]:
        """Connections to each server that holds keys."""

    async def failed(self, pool: ConnectionPool) -> None:
        """A connection of the pool failed: what is known of the servers is not to be trusted any more."""

    def at(self, pool: ConnectionPool, place: Place) -> ConnectionPool | None:
        """Connections to the node that the one behind `pool` calls `place`. None: this is no Cluster."""

    def moved(self, slot: int, pool: ConnectionPool) -> None:
        """A slot is behind `pool` now."""

    async def close(self) -> None:
        """Ends all connections."""


def routes(address: Address) -> Routes:
    """The way to a Redis. Nothing is connected yet."""
    if address.kind == "cluster":
        return ClusterRoutes(address)
    if address.kind == "sentinel":
        return SentinelRoutes(address)
    return ServerRoutes(address)


class ServerRoutes:
    """One server, by TCP or by a socket."""

    def __init__(self, address: Address) -> None:
        place: dict[str, Any] = {"path": address.path} if address.path else _at(address.hosts[0])
        kind = UnixDomainSocketConnection if address.path else SSLConnection if address.tls else Connection
        self._pool = ConnectionPool(kind, REQUESTS, **_settings(address), **place)

    async def pool(self, key: bytes) -> ConnectionPool:
        """See `Routes.pool`."""
        return self._pool

    async def pools(self) -> list[ConnectionPool]:
        """See `Routes.pools`."""
        return [self._pool]

    async def failed(self, pool: ConnectionPool) -> None:
        """See `Routes.failed`."""
        await pool.disconnect(inuse_connections=False)

    def at(self, pool: ConnectionPool, place: Place) -> ConnectionPool | None:
        """See `Routes.at`."""
        return None

    def moved(self, slot: int, pool: ConnectionPool) -> None:
        """See `Routes.moved`."""

    async def close(self) -> None:
        """See `Routes.close`."""
        await self._pool.aclose()


class _Sentinels(Sentinel):
    """redis-py's, which forgets one of them when several ask at once: each moves whoever answered to the front of one list."""

    async def discover_master(self, service_name: str) -> Place:
        """The primary of a service. Each notes who answered in a list of its own, which then replaces the old."""
        asked = copy.copy(self)
        asked.sentinels = [*self.sentinels]
        place: Place = await super(_Sentinels, asked).discover_master(service_name)
        self.sentinels = asked.sentinels
        return place


class SentinelRoutes(ServerRoutes):
    """Whatever server the Sentinels call the primary of a service; each new connection asks them."""

    def __init__(self, address: Address) -> None:
        asking = {"socket_timeout": CONNECT, "socket_connect_timeout": CONNECT, "protocol": 2, "retry": Retry(NoBackoff(), 0)}
        if address.sentinel_password:
            asking["password"] = address.sentinel_password
        if address.tls:
            asking |= {"ssl": True, **dict(address.files)}
        self._sentinel = _Sentinels(address.hosts, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]  # redis-py's
        self._pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]  # redis-py's
            address.service, self._sentinel, ssl=address.tls, max_connections=REQUESTS, **_settings(address)
        )

    async def close(self) -> None:
        """See `Routes.close`."""
        await super().close()
        await self._sentinel.aclose()


class ClusterRoutes:
    """The nodes of a Cluster, and which of them has which of the 16384 slots; asked for again when it proves to be wrong."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._pools: dict[Place, ConnectionPool] = {place: self._make(place) for place in address.hosts}
        self._slots: list[Place | None] = []
        self._learning = asyncio.Lock()

    async def pool(self, key: bytes) -> ConnectionPool:
        """See `Routes.pool`."""
        async with self._learning:
            if not self._slots:
                self._slots = await self._learn()
        slot = key_slot(key)
        place = self._slots[slot]
        if place is None:
            self._slots = []
            raise ConnectionError(f"no node of the Cluster holds slot {slot}")
        return self._at(place)

    async def pools(self) -> list[ConnectionPool]:
        """See `Routes.pools`."""
        await self.pool(b"")
        return [self._at(place) for place in sorted({place for place in self._slots if place})]

    async def failed(self, pool: ConnectionPool) -> None:
        """See `Routes.failed`."""
        self._slots = []
        await pool.disconnect(inuse_connections=False)

    def at(self, pool: ConnectionPool, place: Place) -> ConnectionPool | None:
        """See `Routes.at`."""
        return self._at((place[0] or pool.connection_kwargs["host"], place[1]))

    def moved(self, slot: int, pool: ConnectionPool) -> None:
        """See `Routes.moved`."""
        if self._slots:
            self._slots[slot] = (pool.connection_kwargs["host"], pool.connection_kwargs["port"])

    async def close(self) -> None:
        """See `Routes.close`."""
        for pool in self._pools.values():
            await pool.aclose()

    async def _learn(self) -> list[Place | None]:
        """The place of each slot, from the first node that answers."""
        why: Exception = ConnectionError("the Cluster has no nodes")
        for (host, _), pool in list(self._pools.items()):
            try:
                rows = await exchange(pool, [("CLUSTER", "SLOTS")])
            except (RedisError, OSError) as error:
                why = error
                continue
            if isinstance(rows[0], Exception):
                why = rows[0]
                continue
            slots: list[Place | None] = [None] * 16384
            for first, last, primary, *_ in rows[0]:
                place = ((primary[0] or b"").decode() or host, int(primary[1]))
                slots[first : last + 1] = [place] * (last + 1 - first)
            return slots
        raise why

    def _at(self, place: Place) -> ConnectionPool:
        if place not in self._pools:
            self._pools[place] = self._make(place)
        return self._pools[place]

    def _make(self, place: Place) -> ConnectionPool:
        kind = SSLConnection if self._address.tls else Connection
        return ConnectionPool(kind, REQUESTS, **_settings(self._address), **_at(place))


async def exchange(pool: ConnectionPool, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Sends commands over one connection, all at once, and returns their replies: a refusal as an exception of redis-py.

    Raises what redis-py raises when the connection fails; then any of the commands may have been carried out.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        return await _exchanged(pool, commands)
    except TimeoutError:
        raise Late(f"no answer within {ANSWER:.0f} s") from None
    finally:
        # redis-py asks Sentinels with `asyncio.wait_for`, which in Python 3.11 swallows a cancellation that comes as it ends.
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError


async def _exchanged(pool: ConnectionPool, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    replies: list[Any] = []
    async with asyncio.timeout(ANSWER) as limit:
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py's
        try:
            await connection.send_packed_command(connection.pack_commands(commands))
            for _ in commands:
                limit.reschedule(asyncio.get_running_loop().time() + ANSWER)
                try:
                    replies.append(await connection.read_response())
                except ResponseError as refusal:
                    replies.append(refusal)
        finally:
            if len(replies) < len(commands):  # the rest of them would be taken for replies to the next commands
                await connection.disconnect(nowait=True)
            await pool.release(connection)
    return replies


#: Three requests in a row unanswered for 30 s end a connection that nobody uses.
_KEEP_ALIVE = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}
#: Whoever uses a connection limits its time: redis-py's own limit costs a task for whatever is sent.
_TIMES = {"socket_timeout": None, "socket_connect_timeout": CONNECT}


def _at(place: Place) -> dict[str, Any]:
    return {"host": place[0], "port": place[1]}


def _settings(address: Address) -> dict[str, Any]:
    """What every connection to a server is made with. Retries are for `connect`, so there are none here."""
    settings: dict[str, Any] = {**_TIMES, "db": address.database, "protocol": 2, "retry": Retry(NoBackoff(), 0)}
    if address.kind != "socket":
        settings |= {"socket_keepalive": True, "socket_keepalive_options": _KEEP_ALIVE}
    if address.password:
        settings |= {"password": address.password, "username": address.user or None}
    return settings | dict(address.files)
