"""The way out: an HTTP proxy that reaches named hosts for confined programs, and nothing else.

A program with hosts to reach has a network of its own, in which there is nothing but a loopback with one listener. That listener
was made there before the program began, and handed over through the door, a Unix socket that no confined program sees: the
proxy accepts on it from outside. So whose connection it is follows from the listener alone; nothing of Skep's runs inside. It is
closed when the program has ended, so that its network goes too.

Hosts on this machine's own loopback, such as a model served there, are found where they are: the launcher listens on their
addresses in the program's network too, and what comes to those goes there and nowhere else. So programs need no proxy for them,
and for their own loopback either.

A name is looked up once, and the address that was judged is the one that is connected to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path

from msgspec import Struct

from skep.errors import Invalid, Unavailable

#: Where the proxy listens in a network of its own: no port that anybody gives to a server, or the next below that is free.
PORT = 1023
#: Ports of hosts that are named without one.
WEB = (80, 443)
#: Bytes of a request's head, seconds for it and for connecting, seconds without a byte, connections of one attempt at once.
HEAD, PATIENCE, IDLE, CONNECTIONS = 32 * 1024, 30.0, 900.0, 128
_CHUNK = 64 * 1024
#: Listeners that one program hands over: the proxy's, and those of hosts that are near.
MOST = 64
#: Addresses that carry another one in them: prefix, and where the four bytes of that begin.
_CARRIERS = (
    (ipaddress.ip_network("64:ff9b::/96"), 12),
    (ipaddress.ip_network("2002::/16"), 2),
    (ipaddress.ip_network("::/96"), 12),
)


class Host(Struct, frozen=True):
    """A host that may be reached. `port` 0 = those of the web; `exact`: this very host and port, wherever it lies."""

    name: str
    port: int
    exact: bool


class Refused(Exception):
    """A request that is not allowed: status, and why."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


def parse(text: str) -> Host:
    """Reads `host`, `host:port`, `*.host`, `*`. Raises Invalid."""
    name, port = _split(text, 0)
    if not name or not 0 <= port <= 65_535 or "*" in name.removeprefix("*").removeprefix("."):
        raise Invalid(f"'{text}' is no host to allow.", "Write host, host:port, *.host or *.")
    return Host(name, port, bool(port) and "*" not in name)


def _split(authority: str, default: int) -> tuple[str, int]:
    """Host, in small letters and without brackets, and port; the port is -1 if it is none."""
    name, sign, port = authority.rpartition(":")
    if not sign or port.endswith("]") or (":" in name and not name.startswith("[")):
        name, port = authority, str(default)
    return name.strip("[]").rstrip(".").casefold(), int(port) if port.isascii() and port.isdecimal() and len(port) < 6 else -1


def permitted(hosts: Iterable[Host], name: str, port: int) -> Host | None:
    """The rule by which a host and port may be reached, the most exact one; None if there is none."""
    found = None
    for host in hosts:
        wild = host.name.removeprefix("*")
        named = name == host.name or (host.name != wild and name.endswith(wild))
        if named and port in ((host.port,) if host.port else WEB):
            if host.exact:
                return host
            found = host
    return found


def near(hosts: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Address and port of those among these hosts that are named on the loopback, sorted. Raises Invalid for one that is none."""
    return tuple(sorted({(address, host.port) for host in map(parse, hosts) if host.exact and (address := _near(host.name))}))


def own_port(nearby: Collection[tuple[str, int]]) -> int:
    """Where the proxy listens in a network in which these addresses on the loopback are taken."""
    return next(port for port in range(PORT, PORT - MOST, -1) if ("127.0.0.1", port) not in nearby)


def _near(name: str) -> str:
    """The address of a name that means this machine itself; empty if it is none."""
    if name == "localhost":
        return "127.0.0.1"
    return name if name == "::1" or (name.startswith("127.") and _is_address(name)) else ""


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def is_public(address: str) -> bool:
    """Whether it is an address of the internet: not private, loopback, link-local (metadata services), or such in disguise."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped
        for network, at in _CARRIERS:
            if inner is None and ip in network:
                inner = ipaddress.IPv4Address(ip.packed[at : at + 4])
        if inner is not None:
            return is_public(str(inner))
        if ip.teredo is not None:
            return False
    return ip.is_global and not ip.is_multicast


async def resolve(name: str, port: int, rule: Host) -> list[str]:
    """The addresses that may be connected to. Raises Refused if there is none."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Refused("502 Bad Gateway", f"the host {name} is not known") from None
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    allowed = [address for address in addresses if rule.exact or is_public(address)]
    if not allowed:
        raise Refused("403 Forbidden", f"{name} lies at a private address; only `{name}:{port}`, written so, would allow that")
    return allowed


class Egress:
    """The door and the proxy of one Skep.

    Args:
        folder: takes the door; nothing that is confined sees it.
    """

    def __init__(self, folder: Path) -> None:
        self.door = str(folder / "door")
        self._listening: socket.socket | None = None
        self._hosts: dict[str, list[Host]] = {}  # by nonce
        self._near: dict[str, tuple[tuple[str, int], ...]] = {}
        # By nonce: of each program, what tells that it ended (a file descriptor) and who accepts on its listeners.
        self._programs: dict[str, dict[int, list[asyncio.Server]]] = {}
        self._tunnels: dict[str, set[asyncio.Task[None]]] = {}

    def admit(self, nonce: str, hosts: Iterable[str]) -> None:
        """From now on programs with that nonce may reach these hosts. Raises Invalid for one that is none, Unavailable."""
        hosts = tuple(hosts)
        named, nearby = [parse(host) for host in hosts], near(hosts)
        if len(nearby) >= MOST:
            raise Invalid(f"`network` names {len(nearby)} hosts on the loopback.", f"At most {MOST - 1} are possible.")
        self._hosts[nonce], self._near[nonce] = named, nearby
        if self._listening is None:
            self._open()

    def dismiss(self, nonce: str) -> None:
        """They may not any more; what is open is closed."""
        self._hosts.pop(nonce, None)
        self._near.pop(nonce, None)
        for watch in list(self._programs.get(nonce, ())):
            self._release(nonce, watch)
        self._programs.pop(nonce, None)
        for task in self._tunnels.pop(nonce, set()):
            task.cancel()

    def close(self) -> None:
        """Shuts the door."""
        for nonce in list(self._hosts):
            self.dismiss(nonce)
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None
            with contextlib.suppress(OSError):
                os.unlink(self.door)

    def _open(self) -> None:
        folder = os.open(os.path.dirname(self.door), os.O_RDONLY | os.O_DIRECTORY)
        listening = socket.socket(socket.AF_UNIX)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.door)
            listening.bind(f"/proc/self/fd/{folder}/door")  # the names of sockets must be short, those of folders need not
            os.chmod(self.door, 0o600)
            listening.listen(64)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            raise Unavailable(f"{self.door} cannot be made: {error.strerror}.", "Check that folder.") from error
        finally:
            os.close(folder)
        self._listening = listening
        asyncio.get_running_loop().add_reader(listening, self._knock)

    def _knock(self) -> None:
        assert self._listening is not None
        with contextlib.suppress(OSError):
            visitor, _ = self._listening.accept()
            visitor.setblocking(False)
            asyncio.get_running_loop().add_reader(visitor, self._take, visitor)

    def _take(self, visitor: socket.socket) -> None:
        """A listener is handed over, with the nonce of its attempt."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(visitor)
        fds: list[int] = []
        try:
            data, fds, _, _ = socket.recv_fds(visitor, 200, MOST)
            pid, uid, _ = struct.unpack("3i", visitor.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            nonce = data.decode(errors="replace")
            if len(fds) == 1 + len(self._near.get(nonce, ())) and uid == os.getuid() and nonce in self._hosts:
                watch = os.pidfd_open(pid)  # the launcher, which becomes the program
                self._programs.setdefault(nonce, {})[watch] = []
                listeners = [socket.socket(fileno=fds.pop()) for _ in range(len(fds))][::-1]
                task = loop.create_task(self._serve(nonce, listeners, visitor, watch))
                under_way = self._tunnels.setdefault(nonce, set())
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                return
        except OSError:
            pass  # who knocks without a listener finds the door shut
        for fd in fds:
            os.close(fd)
        visitor.close()

    async def _serve(self, nonce: str, listeners: list[socket.socket], visitor: socket.socket, watch: int) -> None:
        """The first listener is the proxy's, each of the others that of one host that is near."""
        loop, servers = asyncio.get_running_loop(), self._programs[nonce][watch]

        async def connected(there: tuple[str, int] | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            open_now = self._tunnels.setdefault(nonce, set())
            task = asyncio.current_task()
            assert task is not None
            open_now.add(task)
            try:
                if there is None:
                    await self._request(nonce, reader, writer, len(open_now) > CONNECTIONS)
                elif len(open_now) <= CONNECTIONS:
                    await _pass_on(there, reader, writer)
            except asyncio.CancelledError:
                pass  # the attempt is over; Python 3.11 complains on standard error of a connection's task that ends cancelled
            finally:
                open_now.discard(task)
                writer.close()

        for listener, there in zip(listeners, (None, *self._near[nonce]), strict=True):
            listener.setblocking(False)
            server = await asyncio.start_server(partial(connected, there), sock=listener, limit=HEAD)
            servers.append(server)
        # What the program sent before it ended is accepted in the same round of the loop: they are closed after that.
        loop.add_reader(watch, loop.call_soon, self._release, nonce, watch)
        with visitor, contextlib.suppress(OSError):
            visitor.send(b"!")

    def _release(self, nonce: str, watch: int) -> None:
        """A program has ended: nothing of its network is held any more, but for connections that are still passed on."""
        servers = self._programs.get(nonce, {}).pop(watch, None)
        if servers is not None:
            asyncio.get_running_loop().remove_reader(watch)
            os.close(watch)
            for server in servers:
                server.close()

    async def _request(self, nonce: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, full: bool) -> None:
        try:
            if full:
                raise Refused("503 Service Unavailable", f"more than {CONNECTIONS} connections at once")
            async with asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
                name, port, onward = _target(head)
                rule = permitted(self._hosts.get(nonce, ()), name, port)
                if rule is None:
                    raise Refused("403 Forbidden", f"{name}:{port} is not among the hosts that `network` of the sandbox allows")
                there, back = await _connect(await resolve(name, port, rule), port)
        except Refused as refused:
            writer.write(f"HTTP/1.1 {refused.status}\r\nConnection: close\r\n\r\nskep: {refused.why}\n".encode())
            with contextlib.suppress(OSError):
                await writer.drain()
            return
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\nskep: no answer, or no request\n")
            return
        with contextlib.closing(back):
            if onward:
                back.write(onward)
                await asyncio.gather(_copy(reader, back), _only_one(there, writer))
            else:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await asyncio.gather(_copy(reader, back), _copy(there, writer))


def _target(head: bytes) -> tuple[str, int, bytes]:
    """Host and port of a request, and the head to send on; nothing is sent on for CONNECT. Raises Refused."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    where, _, version = rest.rpartition(" ")
    if method == "CONNECT":
        return *_checked(where, -1), b""
    if not where.startswith("http://") or not version.startswith("HTTP/1."):
        raise Refused("400 Bad Request", "this is a proxy: CONNECT, or a whole http:// address")
    authority, _, path = where.removeprefix("http://").partition("/")
    name, port = _checked(authority, 80)
    dropped = ("proxy-", "connection:", "keep-alive:", "host:")
    kept = [line for line in lines if line and not line.casefold().startswith(dropped)]
    return (
        name,
        port,
        "\r\n".join([f"{method} /{path} {version}", f"Host: {authority}", *kept, "Connection: close", "", ""]).encode("latin-1"),
    )


def _checked(authority: str, default: int) -> tuple[str, int]:
    name, port = _split(authority, default)
    if not name or not 0 < port < 65_536 or any(sign in name for sign in "@/\\?# \t\0*"):
        raise Refused("400 Bad Request", "no host and port")
    return name, port


async def _connect(addresses: list[str], port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the first address that answers."""
    failed = OSError("no address")
    for address in addresses[:4]:
        try:
            async with asyncio.timeout(PATIENCE / 4):
                return await asyncio.open_connection(address, port)
        except (OSError, TimeoutError) as error:
            failed = OSError(f"{address}: {error}")
    raise failed


async def _only_one(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """An answer, told to be the last of its connection, whatever the host says: the next request may be for another host."""
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        head = b"HTTP/1.1 100"
        while head.startswith(b"HTTP/1.1 100"):  # goes before the answer itself
            async with asyncio.timeout(IDLE):
                head = await source.readuntil(b"\r\n\r\n")
            first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
            kept = [line for line in lines if not line.lower().startswith((b"connection:", b"keep-alive:", b"proxy-"))]
            target.write(b"\r\n".join([first, *kept, b"Connection: close", b"", b""]))
    await _copy(source, target)


async def _pass_on(there: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A connection to a host that is near."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(PATIENCE):
            back, onward = await asyncio.open_connection(*there)
        with contextlib.closing(onward):
            await asyncio.gather(_copy(reader, onward), _copy(back, writer))


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Bytes from one to the other, no faster than they are taken, until one has no more or nothing comes for long."""
    with contextlib.suppress(OSError, TimeoutError):
        while True:
            async with asyncio.timeout(IDLE):
                data = await source.read(_CHUNK)
            if not data:
                break
            target.write(data)
            await target.drain()
    with contextlib.suppress(OSError):
        if target.can_write_eof():
            target.write_eof()


def variables(nearby: Collection[tuple[str, int]] = ()) -> dict[str, str]:
    """The environment by which programs find the proxy. What is near needs none."""
    proxy = f"http://127.0.0.1:{own_port(nearby)}"
    upper = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "ALL_PROXY": proxy, "NO_PROXY": "localhost,127.0.0.1,::1"}
    return {**upper, **{name.lower(): value for name, value in upper.items()}, "NODE_USE_ENV_PROXY": "1"}
