"""What the servers of a store tell about themselves: how they are set, who follows whom, what our user may do there."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from redis.exceptions import AuthenticationError, MovedError, RedisError, ResponseError

from skep.errors import SkepError
from skep.redis.address import Address, secret
from skep.redis.connect import Command, Link
from skep.redis.listen import Channels
from skep.redis.quorum import Quorum
from skep.redis.routes import ServerRoutes, exchange
from skep.store.redis.keys import of_session
from skep.store.redis.script import load

#: The credential that may read settings: never an argument, for those can be seen by all.
ADMIN, ADMIN_USER = "SKEP_REDIS_ADMIN_PASSWORD", "SKEP_REDIS_ADMIN_USER"
#: Settings that are read.
SETTINGS = (
    "appendonly",
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "maxmemory",
    "maxmemory-policy",
    "min-replicas-to-write",
    "min-replicas-max-lag",
    "protected-mode",
    "bind",
    "tls-replication",
)
#: What the user of Skep must not be allowed -> a form of it that would change nothing even if it were carried out.
WITHHELD: dict[str, Command] = {
    "ACL": ("ACL", "DELUSER", "default"),
    "CONFIG": ("CONFIG", "SET", "skep-none", "none"),
    "DEBUG": ("DEBUG", "HELP"),
    "FLUSHALL": ("FLUSHALL", "NONE"),
    "FLUSHDB": ("FLUSHDB", "NONE"),
    "KEYS": ("KEYS", "skep:none"),
    "MODULE": ("MODULE", "UNLOAD", "skep-none"),
}
#: A key that is none of Skep's.
FOREIGN: Command = ("GET", "none-of-skep")
#: Seconds in which something that was published must be heard.
HEARD = 5.0

Place = tuple[str, int]


class Server(Struct, frozen=True, kw_only=True):
    """One server. `info`: what INFO says. `config`: its settings, None = they could not be read. `why`: no answer, and why."""

    place: str
    info: dict[str, str] = {}
    config: dict[str, str] | None = None
    why: str = ""

    @property
    def replicas(self) -> int:
        """How many follow it and have all."""
        return sum("state=online" in value for name, value in self.info.items() if _lists_replica(name))


class Watch(Struct, frozen=True):
    """The Sentinels: those that answered, what each says of the service, and whether they can agree on a failover now."""

    asked: int
    states: list[dict[str, str]]
    quorum: str = ""


class Facts(Struct, frozen=True, kw_only=True):
    """All that was found.

    `servers`: primaries first. `admin`: what is wrong with the credential, empty = nothing, or none was given. `loopback`:
    whether all that is spoken to is on this machine. `open`: whether a server lets in who has no password. `allowed`: what our
    user may of WITHHELD, and of FOREIGN. `slots`: of a Cluster, that are served. `trial`: what did not work, empty = all did.
    """

    address: Address
    servers: list[Server]
    primaries: int
    admin: str = ""
    loopback: bool = True
    open: bool | None = None
    allowed: frozenset[str] | None = None
    slots: int | None = None
    cluster: str = ""
    watch: Watch | None = None
    trial: str = ""
    fix: str = ""


async def gather(address: Address, env: Mapping[str, str], replicas: int) -> Facts:
    """Asks all servers of a store. Leaves nothing there.

    Args:
        address: as the user of Skep.
        env: with the credential that may read settings, if there is one.
        replicas: how many the configuration demands.

    Raises:
        SkepError: as `Link` does, when the store does not answer us at all.
    """
    link = Link(address.url, env)
    try:
        places, slots, cluster = await _primaries(address)
        if slots is None:  # of a Cluster that lacks some, what it has is found all the same
            await link.call("PING", key="")
        trial = await _try(link, replicas)
    finally:
        await link.close()
    admin, wrong = await _admin(address, env, places[0])
    primaries = [await _server(admin, place) for place in places]
    followers = [place for server in primaries for place in _followers(server)]
    servers = primaries + [await _server(admin, place) for place in dict.fromkeys(followers)]
    return Facts(
        address=address,
        servers=servers,
        primaries=len(primaries),
        admin=wrong,
        loopback=all([await _local(host) for host, _ in (*address.hosts, *places, *followers)]) if address.hosts else True,
        open=await _open(_at(address, places[0])),
        allowed=await _allowed(_at(address, places[0])),
        slots=slots,
        cluster=cluster,
        watch=await _watch(address) if address.kind == "sentinel" else None,
        trial=trial.message if trial else "",
        fix=trial.fix if trial else "",
    )


async def _ask(address: Address, *commands: Command) -> list[Any]:
    """The replies of one server; refusals as exceptions. Raises RedisError or OSError."""
    way = ServerRoutes(address)
    try:
        return await exchange((await way.pools())[0], commands)
    finally:
        await way.close()


def _at(address: Address, place: Place) -> Address:
    return address if address.kind == "socket" else replace(address, kind="server", hosts=(place,))


async def _primaries(address: Address) -> tuple[list[Place], int | None, str]:
    """Where the primaries are; of a Cluster also how many slots are served, and its own word on its state."""
    if address.kind == "sentinel":
        for host in address.hosts:
            try:
                (found,) = await _ask(_sentinel(address, host), ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.service))
            except (RedisError, OSError):
                continue
            if isinstance(found, list):
                return [(found[0].decode(), int(found[1]))], None, ""
    if address.kind != "cluster":
        return [address.hosts[0] if address.hosts else ("", 0)], None, ""
    for host in address.hosts:
        try:
            rows, said = await _ask(_at(address, host), ("CLUSTER", "SLOTS"), ("CLUSTER", "INFO"))
        except (RedisError, OSError):
            continue
        if isinstance(rows, list):
            places = {((row[2][0] or b"").decode() or host[0], int(row[2][1])): None for row in rows}
            state = _fields(said).get("cluster_state", "")
            return list(places) or [host], sum(last - first + 1 for first, last, *_ in rows), state
    return list(address.hosts), None, ""


async def _admin(address: Address, env: Mapping[str, str], place: Place) -> tuple[Address, str]:
    """Who reads the settings, and what is wrong with the credential that was given; without one, whoever Skep is."""
    password = secret(env, ADMIN)
    if not password:
        return address, ""
    admin = replace(address, user=env.get(ADMIN_USER, ""), password=password)
    try:
        await _ask(_at(admin, place), ("PING",))
    except AuthenticationError as error:
        return address, f"refused: {error}"
    except (RedisError, OSError):
        pass  # the server itself is a finding
    return admin, ""


async def _server(address: Address, place: Place) -> Server:
    name = f"{place[0]}:{place[1]}" if place[0] else address.path
    try:
        said, *found = await _ask(_at(address, place), ("INFO",), *(("CONFIG", "GET", setting) for setting in SETTINGS))
    except (RedisError, OSError) as error:
        return Server(place=name, why=str(error))
    known = [pair for pair in found if isinstance(pair, list)]
    config = {pair[0].decode(): pair[1].decode() for pair in known if len(pair) == 2} if known else None
    return Server(place=name, info=_fields(said), config=config)


def _fields(said: Any) -> dict[str, str]:
    """`name:value` lines; of a refusal nothing."""
    lines = said.decode(errors="replace").splitlines() if isinstance(said, bytes) else []
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def _lists_replica(name: str) -> bool:
    return name.startswith("slave") and name.removeprefix("slave").isdecimal()


def _followers(server: Server) -> list[Place]:
    rows = (value for name, value in server.info.items() if _lists_replica(name))
    found = [dict(part.partition("=")[::2] for part in row.split(",")) for row in rows]
    return [(row["ip"], int(row["port"])) for row in found if row.get("ip") and row.get("port", "").isdecimal()]


async def _local(host: str) -> bool:
    """Whether all that a name stands for is this machine."""
    try:
        rows = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(row[4][0]).partition("%")[0]).is_loopback for row in rows)


async def _open(address: Address) -> bool | None:
    """Whether whoever connects without a password is let in. None: nobody can tell."""
    try:
        (answer,) = await _ask(replace(address, user="", password=""), ("PING",))
    except AuthenticationError:
        return False
    except (RedisError, OSError) as error:
        return False if "protected mode" in str(error) else None
    return bool(answer == b"PONG")


async def _allowed(address: Address) -> frozenset[str] | None:
    """What the user of Skep may do of what it must not: each is queued in a transaction, which is then given up.

    A server checks rights when it queues. Nothing is sent before the transaction is open. None: it cannot be tried.
    """
    way = ServerRoutes(address)
    connection = (await way.pools())[0].make_connection()  # type: ignore[no-untyped-call]  # redis-py's

    async def answer(command: Command) -> Any:
        try:
            await connection.send_command(*command)
            return await connection.read_response()
        except ResponseError as refusal:
            return refusal

    try:
        await connection.connect()
        if await answer(("MULTI",)) != b"OK":
            return None
        found = {name for name, command in WITHHELD.items() if await answer(command) == b"QUEUED"}
        foreign = await answer(FOREIGN)
        if foreign == b"QUEUED" or isinstance(foreign, MovedError):
            found.add(FOREIGN[0])
        await answer(("DISCARD",))
        return frozenset(found)
    except (RedisError, OSError):
        return None
    finally:
        await connection.disconnect(nowait=True)
        await way.close()


def _sentinel(address: Address, host: Place) -> Address:
    return replace(address, kind="server", hosts=(host,), user="", password=address.sentinel_password, database=0)


async def _watch(address: Address) -> Watch:
    states: list[dict[str, str]] = []
    quorum = ""
    for host in address.hosts:
        commands = (("SENTINEL", "MASTER", address.service), ("SENTINEL", "CKQUORUM", address.service))
        try:
            state, said = await _ask(_sentinel(address, host), *commands)
        except (RedisError, OSError):
            continue
        if isinstance(state, list):
            words = [word.decode(errors="replace") for word in state]
            states.append(dict(zip(words[::2], words[1::2], strict=False)))
        if isinstance(said, Exception):
            quorum = str(said)
    return Watch(len(address.hosts), states, quorum)


async def _try(link: Link, replicas: int) -> SkepError | None:
    """Does once what the store does, with keys of its own: appends by a script, confirmed as configured, and hears of it."""
    name = f"doctor-{secrets.token_hex(8)}"
    keys = [of_session(name, part) for part in ("append", "hash", "sorted", "list")]
    channel, channels = of_session(name, "heard"), Channels(link)
    heard = asyncio.Event()
    try:
        stop = await channels.listen(channel, lambda data: heard.set() if data else None)
        try:
            await Quorum(link, replicas).run(load("trial"), keys, ["trial", channel])
            async with asyncio.timeout(HEARD):
                await heard.wait()
        finally:
            await stop()
            await link.call("UNLINK", *keys)
    except SkepError as error:
        return error
    except TimeoutError:
        return SkepError("what is published is not heard", fix="Allow the channels: ACL SETUSER USER &skep:*.")
    finally:
        await channels.close()
    return None
