"""What `doctor` finds out about a Redis, with real servers: all well, each setting wrong, no rights, many nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from skep.errors import Invalid
from skep.redis.address import parse
from skep.store.redis.doctor import Report, examine
from skep.store.redis.facts import WITHHELD, gather
from skep.store.redis.findings import USER, findings
from skep.store.redis.promises import PROMISES, promises
from tests import servers
from tests.servers import Cluster, Replicated, Server, Watched, until

#: The user that the manual describes, and one that reads settings.
SKEP = USER.replace(">PASSWORD", ">mine").split()
ADMIN = ["ACL", "SETUSER", "boss", "on", ">theirs", "-@all", "+ping", "+info", "+config|get"]
ENV = {"REDIS_PASSWORD": "mine", "SKEP_REDIS_ADMIN_USER": "boss", "SKEP_REDIS_ADMIN_PASSWORD": "theirs"}
WITHOUT = {"REDIS_PASSWORD": "mine"}
#: What breaks when the server forgets, or throws away.
LASTING = {"R1", "R2", "R3", "R10"}


def prepared(*nodes: Server) -> None:
    """Gives servers the users, and a bound."""
    for node in nodes:
        node.tell("ACL", "DELUSER", "skep")
        node.tell(*SKEP)
        node.tell(*ADMIN)
        node.tell("CONFIG", "SET", "maxmemory", "100mb")


def as_skep(url: str) -> str:
    return url.replace("://", "://skep@")


@dataclass
class Tried:
    """A report, by name."""

    report: Report
    state: dict[str, str] = field(init=False)
    text: dict[str, str] = field(init=False)
    promised: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.state = {one.name: one.state for one in self.report.findings}
        self.text = {one.name: one.text for one in self.report.findings}
        self.promised = {one.name: one.state for one in self.report.promises}
        assert all(one.fix for one in self.report.findings if one.state != "ok")
        assert all(one.fix and one.because for one in self.report.promises if one.state in ("fails", "unknown"))

    @property
    def failing(self) -> set[str]:
        return {name for name, state in self.promised.items() if state == "fails"}


async def tried(url: str, replicas: int = 0, env: dict[str, str] | None = None) -> Tried:
    return Tried(await examine(as_skep(url), replicas, ENV if env is None else env))


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server set as it must be, but for a password, which the tests do without."""
    server = Server(servers.redis_binary() if request.param == "redis" else servers.valkey_binary())
    prepared(server)
    yield server
    server.remove()


@pytest.fixture
def alone() -> Iterator[Server]:
    server = Server(servers.valkey_binary())
    prepared(server)
    yield server
    server.remove()


async def test_of_a_server_set_as_it_must_be_every_promise_holds_and_nothing_is_left_there(server: Server) -> None:
    server.tell("SET", "somebody's", "data")
    found = await tried(server.url)
    assert found.report.ok
    assert {name for name, state in found.state.items() if state != "ok"} == {"password"}
    assert found.promised == dict.fromkeys(PROMISES, "holds") | {"R8": "partly"}
    assert server.tell("KEYS", "*") == [b"somebody's"]
    assert ("WAITAOF" in found.text["version"]) == found.text["version"].startswith("Redis 7.0")


@pytest.mark.parametrize(
    ("setting", "value", "said", "broken"),
    [
        ("appendonly", "no", "gone when the server ends", LASTING),
        ("appendfsync", "everysec", "everysec: lossy", LASTING),
        ("appendfsync", "no", "no: lossy", LASTING),
        ("no-appendfsync-on-rewrite", "yes", "lossy", LASTING),
        ("maxmemory-policy", "allkeys-lru", "allkeys-lru", LASTING | {"R5", "R7", "R8"}),
    ],
)
async def test_each_setting_that_is_wrong_is_named_with_what_it_breaks(
    server: Server, setting: str, value: str, said: str, broken: set[str]
) -> None:
    server.tell("CONFIG", "SET", setting, value)
    found = await tried(server.url)
    assert (found.report.ok, found.state[setting]) == (False, "error")
    assert said in found.text[setting]
    assert found.failing == broken
    lost = next(promise for promise in found.report.promises if promise.name == "R1")
    assert lost.because == (setting,)
    assert f"CONFIG SET {setting}" in lost.fix


async def test_a_server_without_a_bound_may_be_killed_and_one_that_is_nearly_full_refuses_soon(alone: Server) -> None:
    alone.tell("CONFIG", "SET", "maxmemory", 0)
    found = await tried(alone.url)
    assert (found.report.ok, found.state["maxmemory"]) == (True, "warning")
    assert "no limit" in found.text["maxmemory"]
    used = int(alone.tell("INFO", "memory")["used_memory"])
    alone.tell("CONFIG", "SET", "maxmemory", used + used // 20)
    assert "MiB used" in (await tried(alone.url)).text["maxmemory"]


async def test_what_cannot_be_read_without_the_other_credential_is_unknown(server: Server) -> None:
    server.tell("CONFIG", "SET", "appendfsync", "everysec")
    found = await tried(server.url, env=WITHOUT)
    assert found.report.ok  # nothing is known to be wrong
    assert {name for name, state in found.state.items() if state == "unknown"} == {
        "admin",
        "appendfsync",
        "no-appendfsync-on-rewrite",
        "password",
    }
    assert {name for name, state in found.promised.items() if state == "unknown"} == LASTING | {"R9"}
    server.tell("CONFIG", "SET", "appendonly", "no")  # which INFO tells too
    assert (await tried(server.url, env=WITHOUT)).failing == LASTING


async def test_the_credential_may_lie_in_a_file_and_a_wrong_one_is_said(alone: Server, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("theirs\n")
    named = {"REDIS_PASSWORD": "mine", "SKEP_REDIS_ADMIN_USER": "boss"}
    found = await tried(alone.url, env=named | {"SKEP_REDIS_ADMIN_PASSWORD_FILE": str(tmp_path / "password")})
    assert found.state["appendfsync"] == "ok"
    found = await tried(alone.url, env=named | {"SKEP_REDIS_ADMIN_PASSWORD": "guessed"})
    assert (found.state["admin"], found.state["appendfsync"], found.report.ok) == ("error", "unknown", False)
    assert "guessed" not in repr(found.report)


@pytest.mark.parametrize("right", WITHHELD)
async def test_each_right_that_the_user_must_not_have_is_named_and_never_used(server: Server, right: str) -> None:
    if right in ("DEBUG", "MODULE"):  # which a server refuses to everybody unless it is told not to
        server.kill()
        server.command += [f"--enable-{right.lower()}-command", "yes"]
        server.start()
        prepared(server)
    server.tell("SET", "somebody's", "data")
    server.tell("ACL", "SETUSER", "skep", f"+{right}")
    found = await tried(server.url)
    assert (found.state["rights"], found.failing) == ("error", {"R8", "R9"})
    assert f" may {right}:" in found.text["rights"]
    assert server.tell("DBSIZE") == 1


async def test_a_user_that_sees_keys_of_others_is_warned_about(alone: Server) -> None:
    alone.tell("ACL", "SETUSER", "skep", "allkeys")
    found = await tried(alone.url)
    assert (found.state["keys"], found.report.ok) == ("warning", True)


@pytest.mark.parametrize(
    "right", ["-evalsha", "-xadd", "-hset", "-publish", "-subscribe", "-unlink", "resetchannels", "resetkeys"]
)
async def test_a_right_that_is_missing_is_found_by_trying(alone: Server, right: str) -> None:
    alone.tell("ACL", "SETUSER", "skep", right)
    found = await tried(alone.url)
    assert found.state["trial"] == "error"
    assert found.failing == set(PROMISES) - {"R9"}
    alone.tell(*SKEP)
    alone.tell("ACL", "SETUSER", "skep", "~skep:*", "&skep:*")
    assert (await tried(alone.url)).report.ok


async def test_without_a_password_other_machines_must_not_be_let_in(alone: Server) -> None:
    assert (await tried(alone.url)).state["password"] == "warning"
    alone.tell("CONFIG", "SET", "bind", "0.0.0.0")
    assert (await tried(alone.url)).state["password"] == "warning"  # protected mode keeps them out
    alone.tell("CONFIG", "SET", "protected-mode", "no")
    found = await tried(alone.url)
    assert (found.state["password"], found.failing) == ("error", {"R9"})
    alone.tell("ACL", "SETUSER", "default", ">some", "resetpass", ">some")
    assert (await tried(alone.url)).state["password"] == "ok"


async def test_what_crosses_a_network_must_be_by_tls_and_with_a_password(alone: Server) -> None:
    address = parse(as_skep(alone.url), ENV)
    here = await gather(address, ENV, 0)
    away = replace(here, loopback=False)
    wrong = {one.name for one in findings(away, 0) if one.state == "error"}
    assert wrong == {"tls", "password"}
    safe = replace(away, address=replace(address, tls=True), open=False)
    assert {one.name for one in findings(safe, 0) if one.state != "ok"} == set()
    assert {one.name: one.state for one in promises(findings(away, 0))}["R9"] == "fails"


async def test_by_a_socket_nobody_else_is_let_in_but_who_may_open_it(tmp_path: Path) -> None:
    place = tmp_path / "socket"
    server = Server(servers.valkey_binary(), (*servers.DURABLE, "--unixsocket", str(place)))
    prepared(server)
    found = await tried(f"unix://{place}")
    server.remove()
    assert (found.report.ok, found.text["servers"]) == (True, str(place))
    assert "open the socket" in found.text["password"]


async def test_where_not_even_info_is_allowed_nothing_is_known_and_nothing_said_to_hold(alone: Server) -> None:
    alone.tell("ACL", "SETUSER", "skep", "-info")
    found = await tried(alone.url, env=WITHOUT)
    assert {"version", "role", "appendonly", "maxmemory", "replicas"} <= {
        n for n, state in found.state.items() if state == "unknown"
    }
    assert set(found.promised.values()) == {"unknown"}


async def test_a_store_that_does_not_answer_is_a_finding_and_nothing_is_promised(alone: Server) -> None:
    alone.kill()
    found = await tried(alone.url)
    assert (found.state, found.report.ok) == ({"servers": "error"}, False)
    assert set(found.promised.values()) == {"unknown"}
    wrong = await tried(servers.valkey_server().url, env={"REDIS_PASSWORD": "guessed"})
    assert "refuses this user or password" in wrong.text["servers"]


async def test_a_password_in_an_argument_is_refused() -> None:
    with pytest.raises(Invalid, match="everybody on the machine"):
        await examine("redis://skep:mine@127.0.0.1", 0, {}, given=True)


# Several servers


@pytest.fixture(scope="module")
def pair() -> Iterator[Replicated]:
    pair = Replicated(servers.valkey_binary(), 1)
    prepared(pair.primary, *pair.replicas)
    yield pair
    pair.remove()


async def test_with_a_replica_what_counts_must_be_on_it_and_a_primary_alone_must_refuse(pair: Replicated) -> None:
    found = await tried(pair.primary.url)
    assert (found.state["replicas"], found.failing) == ("error", LASTING)
    assert "1 follow, Skep waits for 0" in found.text["replicas"]
    found = await tried(pair.primary.url, replicas=1)
    assert (found.state["replicas"], found.state["min-replicas-to-write"]) == ("ok", "error")
    both = (pair.primary, *pair.replicas)
    for node in both:
        node.tell("CONFIG", "SET", "min-replicas-to-write", 1)
    found = await tried(pair.primary.url, replicas=1)
    assert {name for name, state in found.state.items() if state == "error"} == {"min-replicas-max-lag"}  # 10 s
    for node in both:
        node.tell("CONFIG", "SET", "min-replicas-max-lag", 2)
    found = await tried(pair.primary.url, replicas=1)
    assert (found.report.ok, found.promised["R1"]) == (True, "holds")
    pair.replicas[0].tell("CONFIG", "SET", "appendfsync", "everysec")  # which may be promoted
    found = await tried(pair.primary.url, replicas=1)
    assert f"at 127.0.0.1:{pair.replicas[0].port}" in found.text["appendfsync"]
    assert f":{pair.primary.port}" not in found.text["appendfsync"]
    assert found.failing == LASTING
    pair.replicas[0].tell("CONFIG", "SET", "appendfsync", "always")


async def test_fewer_replicas_than_must_confirm_are_an_error(pair: Replicated) -> None:
    found = await tried(pair.primary.url, replicas=2)
    assert (found.state["replicas"], found.state["trial"]) == ("error", "error")
    assert "nothing is acknowledged" in found.text["replicas"]


async def test_a_url_that_names_a_replica_is_told(pair: Replicated) -> None:
    found = await tried(pair.replicas[0].url)
    assert (found.state["role"], found.promised["R1"]) == ("error", "fails")
    assert "takes no writes" in found.text["role"]


async def test_a_cluster_is_checked_node_by_node_and_must_have_all_slots() -> None:
    cluster = Cluster(servers.valkey_binary())
    prepared(*cluster.nodes)
    found = await tried(cluster.url)
    assert (found.report.ok, found.promised["R1"]) == (True, "holds")
    assert "all 16384 slots, 3 primaries; nobody takes over" in found.text["cluster"]
    cluster.nodes[1].tell("CONFIG", "SET", "appendfsync", "everysec")
    assert (await tried(cluster.url)).text["appendfsync"].startswith(f"everysec at 127.0.0.1:{cluster.nodes[1].port}: lossy")
    for node in cluster.nodes:
        node.tell("CLUSTER", "DELSLOTS", 16383)
    found = await tried(cluster.url)
    assert "16383 of 16384 slots" in found.text["cluster"]
    assert found.state["cluster"] == "error"
    for node in cluster.nodes:
        node.remove()


async def test_sentinels_must_be_able_to_agree_on_somebody() -> None:
    watched = Watched(servers.valkey_binary())
    try:
        nodes = (watched.primary, *watched.replicas)
        prepared(*nodes)
        for node in nodes:
            node.tell("CONFIG", "SET", "min-replicas-to-write", 1)
            node.tell("CONFIG", "SET", "min-replicas-max-lag", 2)
        found = await tried(watched.url, replicas=2)
        assert (found.report.ok, found.promised["R4"]) == (True, "holds")
        assert "3 with a quorum of 2, 2 replicas known" in found.text["sentinels"]
        assert len(found.text["servers"].split(", ")) == 3
        assert (found.text["down-after-milliseconds"], found.text["failover-timeout"]) == ("500", "3000")
        slow = watched.sentinels[2]  # each has a setting of its own
        slow.tell("SENTINEL", "SET", "main", "down-after-milliseconds", 30_000)
        slow.tell("SENTINEL", "SET", "main", "failover-timeout", 180_000)
        found = await tried(watched.url, replicas=2)
        assert (found.state["down-after-milliseconds"], found.failing) == ("error", {"R4"})
        assert "for 30 s nobody misses a primary" in found.text["down-after-milliseconds"]
        assert (found.state["failover-timeout"], "again after 360 s" in found.text["failover-timeout"]) == ("warning", True)
        for sentinel in watched.sentinels[1:]:
            sentinel.kill()
        first = watched.sentinels[0]
        until(lambda: "NOQUORUM" in _quorum(first), "the Sentinel that is left does not miss the others")
        found = await tried(watched.url, replicas=2)
        assert (found.state["sentinels"], "R4" in found.failing) == ("error", True)
        assert "NOQUORUM" in found.text["sentinels"]
    finally:
        watched.remove()


def _quorum(sentinel: Server) -> str:
    try:
        return str(sentinel.tell("SENTINEL", "CKQUORUM", "main"))
    except Exception as refusal:  # how a Sentinel says no
        return str(refusal)
