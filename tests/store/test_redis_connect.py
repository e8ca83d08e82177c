"""How a Redis is reached: addresses, passwords, retries, redirections, with real servers."""

from __future__ import annotations

import asyncio
import datetime
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.crc import key_slot
from redis.exceptions import MovedError

from skep.config import redacted
from skep.errors import Denied, Exhausted, Invalid, Unavailable
from skep.redis import connect, routes
from skep.redis.address import parse
from skep.redis.connect import Link
from skep.redis.routes import REQUESTS
from skep.redis.script import Script
from tests import servers
from tests.servers import Cluster, Server

ECHO = Script("return {KEYS[1], ARGV[1]}")
ENGINES: dict[str, Callable[[], Server | Cluster]] = {
    "redis": servers.redis_server,
    "valkey": servers.valkey_server,
    "cluster": servers.cluster,
}


@pytest.fixture
async def link(request: pytest.FixtureRequest) -> AsyncIterator[Link]:
    link = Link(ENGINES[request.param]().url, {})
    yield link
    await link.close()


@pytest.fixture
def alone() -> Iterator[Server]:
    """A server that the test may kill."""
    server = Server(servers.valkey_binary())
    yield server
    server.remove()


every_engine = pytest.mark.parametrize("link", ENGINES, indirect=True)

# Addresses


@pytest.mark.parametrize(
    ("url", "kind", "hosts", "rest"),
    [
        ("redis://h", "server", (("h", 6379),), {}),
        ("redis://h:1/2", "server", (("h", 1),), {"database": 2}),
        ("redis://u:p%40@[::1]:7", "server", (("::1", 7),), {"user": "u", "password": "p@"}),
        ("redis://:p@h", "server", (("h", 6379),), {"password": "p"}),
        ("redis://", "server", (("localhost", 6379),), {}),
        ("rediss://h?ca=/c.pem", "server", (("h", 6379),), {"tls": True, "files": (("ssl_ca_certs", "/c.pem"),)}),
        ("redis+sentinel://a,b:2/main/3", "sentinel", (("a", 26379), ("b", 2)), {"service": "main", "database": 3}),
        ("redis+cluster://a:1,b:2", "cluster", (("a", 1), ("b", 2)), {}),
        ("unix:///run/r.sock?db=4", "socket", (), {"path": "/run/r.sock", "database": 4}),
    ],
)
def test_an_address_is_read(url: str, kind: str, hosts: tuple[tuple[str, int], ...], rest: dict[str, object]) -> None:
    address = parse(url, {})
    assert (address.kind, address.hosts) == (kind, hosts)
    assert {name: getattr(address, name) for name in rest} == rest


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "redis",
        "redis://h:x",
        "redis://h/x",
        "redis://a,b",
        "redis+sentinel://a",
        "redis+cluster://a/1",
        "unix://h/p",
        "redis://h?ca=/c",
        "redis://h?password=secret",
        "redis://u:secret@h:99999",
    ],
)
def test_what_names_no_redis_is_refused_without_showing_a_password(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(url, {})
    assert caught.value.fix
    assert "secret" not in str(caught.value)


def test_what_a_url_lacks_comes_from_the_environment(tmp_path: Path) -> None:
    env = {"REDIS_HOST": "h", "REDIS_PORT": "7", "REDIS_DB": "3", "REDIS_PASSWORD": "p"}
    address = parse("redis://", env)
    assert (address.hosts, address.database, address.password) == ((("h", 7),), 3, "p")
    address = parse("redis://u:own@other/1", env)
    assert (address.hosts, address.database, address.password) == ((("other", 6379),), 1, "own")
    (tmp_path / "password").write_text("from file\n")
    assert parse("redis://h", {**env, "REDIS_PASSWORD_FILE": str(tmp_path / "password")}).password == "from file"
    with pytest.raises(Invalid, match="cannot be read"):
        parse("redis://h", {"REDIS_PASSWORD_FILE": str(tmp_path / "nothing")})


def test_no_way_of_showing_an_address_shows_its_password() -> None:
    address = parse("redis://u:secret@h:1/2", {})
    assert str(address) == repr(address) == f"{address}" == "redis://u:***@h:1/2"
    for url in ("redis://:secret/@secret@h", "u:secret@h", "redis://u:secret@h?x=secret", "unix://:secret@/p"):
        assert "secret" not in redacted(url)


# Requests


@every_engine
async def test_commands_and_scripts_are_answered(link: Link) -> None:
    assert await link.call("SET", "skep:test", b"\x00\xff") == b"OK"
    assert await link.call("GET", "skep:test") == b"\x00\xff"
    assert await link.run(ECHO, ["skep:test"], ["ü"]) == [[b"skep:test", "ü".encode()]]


@every_engine
async def test_many_commands_come_back_in_order(link: Link) -> None:
    keys = [f"skep:many:{n}" for n in range(450)]
    await link.many([("SET", key, key) for key in keys])
    assert await link.many([("GET", key) for key in [*keys, "skep:nothing"]]) == [*(key.encode() for key in keys), None]
    assert await link.many([]) == []


@every_engine
async def test_more_requests_at_once_than_connections_wait_for_each_other(link: Link) -> None:
    assert await asyncio.gather(*(link.call("INCRBY", f"skep:n:{n}", 0) for n in range(10 * REQUESTS)))
    (clients,) = await link.batch("skep:n:1", [("CLIENT", "LIST")])
    assert clients.count(b"laddr=") <= REQUESTS + 20  # a Cluster's nodes talk to each other as well


@every_engine
async def test_a_script_that_the_server_forgot_is_sent_again(link: Link) -> None:
    await link.run(ECHO, ["skep:test"], ["1"])
    await link.batch("skep:test", [("SCRIPT", "FLUSH")])
    assert await link.run(ECHO, ["skep:test"], ["2"], then=[("PING",)]) == [[b"skep:test", b"2"], b"PONG"]


async def test_nothing_is_connected_before_the_first_request() -> None:
    link = Link("redis://nowhere.invalid", {})
    await link.close()
    with pytest.raises(Unavailable, match="closed"):
        await link.call("GET", "skep:test")


async def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    link = Link(f"redis://u:secret@127.0.0.1:{servers.free_port()}", {})
    with pytest.raises(Unavailable, match=r"redis://u:\*\*\*@127.0.0.1") as caught:
        await link.call("GET", "skep:test")
    assert "secret" not in str(caught.value)
    await link.close()


async def test_a_server_that_was_killed_and_started_again_goes_on_with_what_it_had(alone: Server) -> None:
    link = Link(alone.url, {})
    await asyncio.gather(*(link.run(ECHO, ["skep:test"], [n]) for n in range(5)))
    await link.call("SET", "skep:test", "kept")
    alone.kill()
    again = asyncio.create_task(link.call("GET", "skep:test"))
    await asyncio.sleep(0)  # it asks before the server is there
    alone.start()
    assert await again == b"kept"
    assert await link.run(ECHO, ["skep:test"], ["1"]) == [[b"skep:test", b"1"]]
    await link.close()


async def test_a_server_that_says_nothing_is_given_up(alone: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "ANSWER", 0.2)
    monkeypatch.setattr(connect, "ANSWER", 0.2)
    link, fresh = Link(alone.url, {}), Link(alone.url, {})
    await link.call("SET", "k", "v")
    alone.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match="no answer within"):  # by a connection that was there, and then by a new one
            await link.call("GET", "k")
        with pytest.raises(Unavailable):
            await fresh.connection()
    finally:
        alone.process.send_signal(signal.SIGCONT)
    assert await link.call("GET", "k") == b"v"
    await link.close()
    await fresh.close()


async def test_a_request_that_was_given_up_leaves_no_reply_for_the_next(alone: Server) -> None:
    link = Link(alone.url, {})
    await link.call("SET", "skep:test", "right")
    for _ in range(5):
        slow = asyncio.create_task(link.run(Script("for n = 1, 3000000 do end return 'wrong'"), ["skep:test"], []))
        for _ in range(20):
            await asyncio.sleep(0)
        slow.cancel()
        assert await link.call("GET", "skep:test") == b"right"
    await link.close()


@every_engine
async def test_a_request_that_is_cancelled_at_any_moment_ends(link: Link) -> None:
    await link.call("GET", "x")
    for turns in range(20):
        request = asyncio.create_task(link.call("GET", "x"))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not request.cancel():
            break
        await asyncio.wait([request])
        assert request.cancelled(), f"cancelled after {turns} turns of the loop"


@pytest.mark.parametrize(
    ("setting", "error", "said"),
    [
        (("requirepass", "secret"), Denied, "REDIS_PASSWORD"),
        (("maxmemory", "1"), Exhausted, "nothing was written"),
        (("min-replicas-to-write", "1"), Unavailable, "NOREPLICAS"),
    ],
)
async def test_a_refusal_says_what_to_do(alone: Server, setting: tuple[str, str], error: type[Exception], said: str) -> None:
    link = Link(alone.url, {})
    alone.tell("CONFIG", "SET", *setting)
    with pytest.raises(error, match=said):
        await link.call("SET", "skep:test", "x")
    await link.close()


async def test_a_password_of_the_environment_opens_the_server(alone: Server) -> None:
    alone.tell("CONFIG", "SET", "requirepass", "secret")
    link = Link(alone.url, {"REDIS_PASSWORD": "secret"})
    assert await link.call("SET", "skep:test", "x") == b"OK"
    await link.close()
    link = Link(alone.url, {"REDIS_PASSWORD": "not right"})
    with pytest.raises(Denied, match="refuses") as caught:
        await link.call("SET", "skep:test", "x")
    assert "not right" not in str(caught.value)
    await link.close()


async def test_a_command_that_the_user_may_not_use_is_denied(alone: Server) -> None:
    alone.tell("ACL", "SETUSER", "skep", "on", ">p", "~skep:*", "+@all", "-keys")
    link = Link(alone.url.replace("//", "//skep:p@"), {})
    assert await link.call("SET", "skep:test", "x") == b"OK"
    with pytest.raises(Denied, match="ACL"):
        await link.call("KEYS", "skep:*")
    await link.close()


async def test_connections_are_kept_alive() -> None:
    link = Link(servers.valkey_server().url, {})
    await link.call("GET", "skep:test")
    (pool,) = await link._routes.pools()
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py's
    there = connection._writer.get_extra_info("socket")
    assert there.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert there.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
    await pool.release(connection)
    await link.close()


async def test_a_server_is_reached_by_its_socket_and_by_tls(tmp_path: Path) -> None:
    certificate, key = certified(tmp_path)
    tls_port = servers.free_port()
    tls = ("--tls-port", str(tls_port), "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-auth-clients", "no")
    path = tmp_path / "redis.sock"
    server = Server(
        servers.redis_binary(), (*servers.DURABLE, *tls, "--tls-ca-cert-file", certificate, "--unixsocket", str(path))
    )
    link = Link(f"unix://{path}", {})
    assert await link.call("SET", "skep:test", "x") == b"OK"
    await link.close()
    link = Link(f"rediss://localhost:{tls_port}?ca={certificate}", {})
    assert await link.call("GET", "skep:test") == b"x"
    await link.close()
    link = Link(f"rediss://localhost:{tls_port}", {})
    with pytest.raises(Unavailable, match="certificate"):
        await link.call("GET", "skep:test")
    await link.close()
    server.remove()


def certified(folder: Path) -> tuple[str, str]:
    """Files with a certificate for localhost, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    none = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none)
    (folder / "certificate").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key").write_bytes(private)
    return str(folder / "certificate"), str(folder / "key")


# A Cluster


async def test_no_sentinel_is_forgotten_when_many_ask_at_once_while_one_is_away(alone: Server) -> None:
    watch = f"sentinel monitor main 127.0.0.1 {alone.port} 2\n"
    first, *others = (Server(servers.valkey_binary(), (), watch) for _ in range(3))
    hosts = ",".join(f"127.0.0.1:{each.port}" for each in (first, *others))
    link = Link(f"redis+sentinel://{hosts}/main", {})
    first.kill()
    await asyncio.gather(*(link.call("EXISTS", "k") for _ in range(8)))
    first.start()
    for sentinel in others:
        sentinel.kill()
    alone.tell("CLIENT", "KILL", "TYPE", "normal")
    assert await link.call("EXISTS", "k") == 0
    await link.close()
    for sentinel in (first, *others):
        sentinel.remove()


async def test_a_node_of_a_cluster_alone_is_not_taken_for_the_store() -> None:
    link = Link(servers.cluster().nodes[0].url, {})
    keys = [f"skep:{n}" for n in range(10)]  # some lie on the others
    with pytest.raises(Invalid, match="node of a Cluster"):
        await asyncio.gather(*(link.call("GET", key) for key in keys))
    await link.close()


async def test_requests_follow_a_slot_that_moves() -> None:
    cluster = servers.cluster()
    link = Link(cluster.url, {})
    key = "skep:{moving}:a"
    await asyncio.gather(*(link.call("SET", key, "kept") for _ in range(20)))  # several connections are open
    source = next(node for node in cluster.nodes if owns(node, key))
    target = next(node for node in cluster.nodes if node is not source)
    slot = key_slot(key.encode())
    ids = {node: str(node.tell("CLUSTER", "MYID"), "ascii") for node in (source, target)}
    target.tell("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    source.tell("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    new = "skep:{moving}:b"
    assert await asyncio.gather(*(link.call("GET", key) for _ in range(20))) == [b"kept"] * 20
    await asyncio.gather(*(link.call("SET", new, "asked") for _ in range(20)))  # not there yet: ASK
    assert target.tell("CLUSTER", "COUNTKEYSINSLOT", slot) == 1
    source.tell("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
    assert await asyncio.gather(*(link.call("GET", key) for _ in range(20))) == [b"kept"] * 20
    for node in (target, source):
        node.tell("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
    assert await asyncio.gather(*(link.call("GET", key) for _ in range(20))) == [b"kept"] * 20  # MOVED
    assert await link.many([("GET", new), ("GET", "skep:nothing")]) == [b"asked", None]
    await link.close()


def owns(node: Server, key: str) -> bool:
    """Whether a node of a Cluster has the slot of a key."""
    with node.client() as client:
        try:
            client.get(key)
        except MovedError:
            return False
    return True
