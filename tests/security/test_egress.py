"""The way out leads to named hosts alone, by addresses that were judged, and nowhere near."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent

import pytest
from msgspec.structs import replace

from skep.errors import Invalid
from skep.runtime.confined import Wards
from skep.security import Sandbox
from skep.security.egress import Egress, Host, is_public, near, parse, permitted
from skep.terminals.native import Native
from tests.contracts.sandbox import Yard
from tests.contracts.terminal import run
from tests.security.test_bubblewrap import bubblewrap
from tests.security.test_landlock import landlock

#: What a confined program asks the proxy for, its own loopback too, one line each; it prints status and body.
ASK = """
import os, sys, urllib.request, urllib.error
os.environ.pop('NO_PROXY', ''), os.environ.pop('no_proxy', '')
for url in sys.argv[1:]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            print(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode().strip())
    except OSError as error:
        print('none', error)
"""


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
    ],
)
def test_only_addresses_of_the_internet_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_hosts_are_named_exactly() -> None:
    hosts = [parse(text) for text in ("api.example.com", "*.example.org", "localhost:11434", "[::1]:80")]
    allowed = [("api.example.com", 443), ("a.example.org", 80), ("localhost", 11434), ("::1", 80)]
    refused = [
        ("api.example.com", 22),
        ("example.com", 443),
        ("xapi.example.com", 443),
        ("api.example.com.evil.net", 443),
        ("example.org", 443),
        ("evilexample.org", 443),
        ("localhost", 443),
        ("127.0.0.1", 11434),
    ]
    assert [permitted(hosts, *one) is not None for one in (*allowed, *refused)] == [True] * 4 + [False] * 8
    assert permitted([parse("*")], "anything.net", 443) == Host("*", 0, False)
    for text in ("", "a*b.com", "host:0x50", "host:99999999", "*.*"):
        with pytest.raises(Invalid):
            parse(text)


@asynccontextmanager
async def website(words: str, keeps: bool = False) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server on loopback: where it is, and what it was sent. `keeps`: it keeps connections, whatever it is asked."""
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                heard.append(await reader.readuntil(b"\r\n\r\n"))
                begun = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: keep-alive" if keeps else "HTTP/1.1 200 OK"
                writer.write(f"{begun}\r\nContent-Length: {len(words)}\r\n\r\n{words}".encode())
                await writer.drain()
                if not keeps:
                    break
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heard


@pytest.mark.parametrize("sandbox", ["bubblewrap", "landlock"])
async def test_a_confined_program_reaches_what_is_named_and_nothing_else(sandbox: str, tmp_path: Path) -> None:
    found: Sandbox = (bubblewrap if sandbox == "bubblewrap" else landlock)(tmp_path / "sandbox")
    if "hosts" in found.lost:
        pytest.skip(found.lost["hosts"])
    terminals, egress = Native(), Egress(tmp_path / "sandbox")
    yard, wards = Yard(tmp_path, found, terminals), Wards(terminals, found, egress)
    async with website("hello") as (named, heard), website("not for you") as (other, unheard):
        port = named.rpartition(":")[2]
        urls = (f"http://{named}/page?q=1", f"http://{other}/", f"http://localhost:{port}/", "http://169.254.169.254/latest")
        profile = yard.profile(sys.executable, "-I", "-c", ASK, *urls)
        with wards.of(profile.nonce, yard.bounds, hosts=(named, "localhost")):
            ended, said = await run(wards, profile)
        assert ended.code == 0, said
        lines = said.splitlines()
        assert lines[0] == "200 hello"
        assert [line[:3] for line in lines[1:]] == ["403", "403", "403"], said
        assert f"{other} is not among the hosts" in lines[1]
        assert heard[0].startswith(b"GET /page?q=1 HTTP/1.1\r\nHost: " + named.encode())
        assert (len(heard), unheard) == (1, [])
        # Without hosts there is no listener at all.
        profile = yard.profile(sys.executable, "-I", "-c", ASK, f"http://{named}/")
        with wards.of(profile.nonce, yard.bounds):
            assert (await run(wards, profile))[1].startswith("none")
    await wards.close()
    assert not os.path.exists(egress.door)


async def test_a_name_at_a_private_address_is_refused_unless_it_is_named_with_its_port(tmp_path: Path) -> None:
    found = bubblewrap(tmp_path / "sandbox")
    terminals = Native()
    yard, wards = Yard(tmp_path, found, terminals), Wards(terminals, found, Egress(tmp_path / "sandbox"))
    async with website("hello") as (named, _heard):
        port = named.rpartition(":")[2]
        for hosts, begins in ((("*",), "403 skep"), ((f"localhost:{port}",), "200 hello")):
            url = f"http://localhost:{port}/" if begins == "200 hello" else "http://localhost/"
            profile = replace(yard.profile(sys.executable, "-I", "-c", ASK, url), nonce=secrets.token_hex(16))
            with wards.of(profile.nonce, yard.bounds, hosts=(*hosts, "127.0.0.1")):
                said = (await run(wards, profile))[1]
            assert said.startswith(begins), said
            assert "private address" in said or begins == "200 hello"
    await wards.close()


async def test_what_is_near_is_found_where_it_is_and_nothing_else(tmp_path: Path) -> None:
    found = bubblewrap(tmp_path / "sandbox")
    terminals = Native()
    yard, wards = Yard(tmp_path, found, terminals), Wards(terminals, found, Egress(tmp_path / "sandbox"))
    code = ASK.replace("os.environ.pop('NO_PROXY', ''), os.environ.pop('no_proxy', '')", "assert os.environ['NO_PROXY']")
    async with website("hello") as (named, heard), website("not for you") as (other, unheard):
        urls = (f"http://localhost:{named.rpartition(':')[2]}/page", f"http://{named}/", f"http://{other}/")
        profile = yard.profile(sys.executable, "-I", "-c", code, *urls)
        with wards.of(profile.nonce, yard.bounds, hosts=(named,)):
            said = (await run(wards, profile))[1]
        assert [line[:9] for line in said.splitlines()] == ["200 hello", "200 hello", "none <url"], said
        assert heard[0].startswith(b"GET /page HTTP/1.1")
        assert unheard == []
    assert near(("localhost:80", "[::1]:81", "127.1.2.3:82", "127.evil.com:83", "10.0.0.1:84", "localhost", "*")) == (
        ("127.0.0.1", 80),
        ("127.1.2.3", 82),
        ("::1", 81),
    )
    with pytest.raises(Invalid, match="names 64 hosts on the loopback"), wards.of("n", yard.bounds, hosts=many_near()):
        pass
    await wards.close()


@pytest.mark.parametrize("sandbox", ["bubblewrap", "landlock"])
async def test_the_proxy_gives_way_to_a_host_that_is_near_at_its_port(sandbox: str, tmp_path: Path) -> None:
    found: Sandbox = (bubblewrap if sandbox == "bubblewrap" else landlock)(tmp_path / "sandbox")
    if "hosts" in found.lost:
        pytest.skip(found.lost["hosts"])
    terminals = Native()
    yard, wards = Yard(tmp_path, found, terminals), Wards(terminals, found, Egress(tmp_path / "sandbox"))
    async with website("hello") as (named, _heard):
        profile = yard.profile(sys.executable, "-I", "-c", ASK, f"http://{named}/")
        with wards.of(profile.nonce, yard.bounds, hosts=("localhost:1023", "localhost:1022", named)):
            assert (await run(wards, profile))[1].strip() == "200 hello"
    await wards.close()


@pytest.mark.parametrize("sandbox", ["bubblewrap", "landlock"])
async def test_of_programs_that_have_ended_nothing_is_held(sandbox: str, tmp_path: Path) -> None:
    found: Sandbox = (bubblewrap if sandbox == "bubblewrap" else landlock)(tmp_path / "sandbox")
    if "hosts" in found.lost:
        pytest.skip(found.lost["hosts"])
    terminals = Native()
    yard, wards = Yard(tmp_path, found, terminals), Wards(terminals, found, Egress(tmp_path / "sandbox"))
    async with website("hello") as (named, _heard), asyncio.timeout(30):
        profile = yard.profile(sys.executable, "-I", "-c", ASK, f"http://{named}/")
        with wards.of(profile.nonce, yard.bounds, hosts=(named,)):
            await run(wards, profile)
        with wards.of(profile.nonce, yard.bounds, hosts=(named,)):
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(5):
                assert (await run(wards, profile))[1].strip() == "200 hello"
            while len(os.listdir("/proc/self/fd")) > before:
                await asyncio.to_thread(os.getpid)
    await wards.close()


def many_near() -> tuple[str, ...]:
    """More than can be handed over."""
    return tuple(f"localhost:{port}" for port in range(1, 65))


async def test_each_connection_to_the_proxy_is_for_one_request(tmp_path: Path) -> None:
    found = bubblewrap(tmp_path / "sandbox")
    terminals = Native()
    yard, wards = Yard(tmp_path, found, terminals), Wards(terminals, found, Egress(tmp_path / "sandbox"))
    code = """
    import http.client, os, sys
    proxy = http.client.HTTPConnection(os.environ['HTTP_PROXY'].removeprefix('http://'))
    for path in ('/one', '/two'):  # opens another connection if the last answer says that it was the last
        proxy.request('GET', sys.argv[1] + path)
        print(proxy.getresponse().read().decode(), proxy.sock is None)
    """
    async with website("hello", keeps=True) as (named, heard):
        profile = yard.profile(sys.executable, "-I", "-c", dedent(code), f"http://{named}")
        with wards.of(profile.nonce, yard.bounds, hosts=(named,)):
            ended, said = await run(wards, profile)
        assert (ended.code, said.splitlines()) == (0, ["hello True"] * 2), said
        assert [one.partition(b" HTTP")[0] for one in heard] == [b"GET /one", b"GET /two"]
    await wards.close()


async def test_programs_that_have_ended_take_no_place_among_the_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skep.security.egress.CONNECTIONS", 2)
    found = bubblewrap(tmp_path / "sandbox")
    terminals = Native()
    yard, wards = Yard(tmp_path, found, terminals), Wards(terminals, found, Egress(tmp_path / "sandbox"))
    async with website("hello") as (named, _heard):
        profile = yard.profile(sys.executable, "-I", "-c", ASK, f"http://{named}/")
        with wards.of(profile.nonce, yard.bounds, hosts=(named,)):
            said = [(await run(wards, profile))[1].strip() for _ in range(4)]
    assert said == ["200 hello"] * 4
    await wards.close()


async def test_an_attempt_that_ends_takes_its_connections_along_without_complaint(tmp_path: Path) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    found = bubblewrap(tmp_path / "sandbox")
    terminals = Native()
    yard, wards = Yard(tmp_path, found, terminals), Wards(terminals, found, Egress(tmp_path / "sandbox"))
    reached, left = asyncio.Event(), asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        await reader.read()
        writer.close()
        left.set()

    code = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]))).recv(1)"
    async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        profile = yard.profile(sys.executable, "-I", "-c", code, str(port))
        with wards.of(profile.nonce, yard.bounds, hosts=(f"127.0.0.1:{port}",)):
            terminal = await wards.create(profile, lambda data: None)
            terminal.release()
            await asyncio.wait_for(reached.wait(), 30)
        await asyncio.wait_for(left.wait(), 30)
        await terminal.end(0)
    await wards.close()
    assert complaints == []
