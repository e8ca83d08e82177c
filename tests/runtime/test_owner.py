"""One owner, its guests, and what happens between them: the lock, the socket, the taking over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import struct
from pathlib import Path

import msgspec
import pytest

import skep
from skep.runtime import owner, wire
from skep.runtime import requests as rq
from tests.runtime.actors import actor
from tests.runtime.gates import Gate
from tests.runtime.traces import left_behind
from tests.workspace.repository import Repository

#: Takes part and stays until the test lets it go.
STAY = """
say("open", hive.owner)
await hear()
"""


async def test_a_second_process_works_through_the_first(repo: Repository, hive: skep.Skep) -> None:
    session = await hive.session("bench")
    code = """
        say("owner", hive.owner)
        session = await hive.session("bench")
        handle = await session.submit(skep.Task(run="echo from outside | tee out.txt", id="out"))
        say("result", (await handle.result()).value)
        say("pid", (await (await session.submit(skep.Task(call="os:getpid"))).result()).value)
        async for number, event in session.follow():
            if type(event).__name__ == "Merged":
                say("followed", event.task)
                break
        say("seen", sorted(view.id for view in (await session.status()).tasks))
        slow = await session.submit(skep.Task(run="sleep 300", mode="none"))
        say("fallen", await session.cancel(slow.id))
        say("end", (await slow.result()).state)
    """
    async with actor(repo.top, code) as guest:
        assert await guest.said("owner") is False
        assert await guest.said("result") == "from outside"
        ran_in = await guest.said("pid")
        assert ran_in not in (os.getpid(), guest.pid)
        assert await guest.said("followed") == "out"
        assert await guest.said("seen") == ["out", "t2"]
        assert (await guest.said("fallen"), await guest.said("end")) == (["t3"], "cancelled")
        assert await guest.ended() == 0
    assert (await (await session.submit(skep.Task(call="os:getpid"))).result()).value == os.getpid()


async def test_a_call_that_the_dead_owner_never_saw_is_made_to_the_next_one(repo: Repository) -> None:
    async with actor(repo.top, STAY) as first:
        assert await first.said("open") is True
        async with skep.open(repo.top) as hive:
            session = await hive.session("bench")
            client = hive.door._client
            assert client is not None
            await first.kill()
            await asyncio.wait([client._task])
            # Not to be repeated if its outcome were unknown.
            assert await session.checkpoint("here") > 0
            assert hive.owner


async def test_a_guest_hears_errors_as_they_are(repo: Repository, hive: skep.Skep) -> None:
    code = """
        session = await hive.session("bench")
        bad = skep.Task(run="x", needs=("no",))
        for what in (session.task("no"), session.cancel("no"), hive.find("no"), session.submit(bad)):
            try:
                await what
            except skep.SkepError as error:
                say("error", [type(error).__name__, error.message, error.fix])
        try:
            await session.submit(skep.Task(call="a:b", args={"x": object()}))
        except skep.Invalid as error:
            say("error", ["Invalid", error.message, error.fix])
    """
    async with actor(repo.top, code) as guest:
        session = await hive.session("bench")
        bad = skep.Task(run="x", needs=("no",))
        for what in (session.task("no"), session.cancel("no"), hive.find("no"), session.submit(bad)):
            with pytest.raises(skep.SkepError) as here:
                await what
            assert await guest.said("error") == [type(here.value).__name__, here.value.message, here.value.fix]
        kind, message, fix = await guest.said("error")
        assert (kind, bool(message), bool(fix)) == ("Invalid", True, True)
        assert await guest.ended() == 0


async def test_when_the_owner_is_killed_a_guest_takes_over_and_finishes(repo: Repository, gate: Gate, tmp_path: Path) -> None:
    async with actor(repo.top, 'session = await hive.session("bench")' + STAY) as first:
        await first.said("open")
        code = f"""
            session = await hive.session("bench")
            say("guest", not hive.owner)
            task = skep.Task(run={gate.PASS!r} + "; echo $SKEP_ATTEMPT > f$SKEP_TASK", env={gate.env!r})
            handles = await session.submit_many([task, task])
            say("submitted")
            events = asyncio.ensure_future(anext(session.follow(after=1)))
            say("results", [[result.state, result.attempts] for result in await session.gather(handles)])
            say("owner", hive.owner)
            await events
            view = await session.status()
            say("counts", view.counts)
        """
        async with actor(repo.top, code) as second:
            assert await second.said("guest")
            await second.said("submitted")
            await gate.begun(2)
            await first.kill()
            await gate.begun(2)
            gate.go(2)
            assert await second.said("results") == [["done", 2], ["done", 2]]
            assert await second.said("owner") is True
            assert await second.said("counts") == {"done": 2}
            assert await second.ended() == 0
    assert sorted(repo.files("refs/skep/bench/main")) == [".gitignore", "a.txt", "ft1", "ft2", "src/app.py"]


async def test_of_two_guests_exactly_one_becomes_the_owner(repo: Repository) -> None:
    code = """
        session = await hive.session("bench")
        say("guest", not hive.owner)
        await session.settled()
        await hear()
        say("who", (await hive.who()).pid)
        say("owner", hive.owner)
        await hear()
    """
    async with (
        actor(repo.top, 'await hive.session("bench")' + STAY) as first,
        contextlib.AsyncExitStack() as stack,
    ):
        await first.said("open")
        guests = [await stack.enter_async_context(actor(repo.top, code)) for _ in range(3)]
        for guest in guests:
            assert await guest.said("guest")
        await first.kill()
        for guest in guests:
            guest.tell()
        whos = {await guest.said("who") for guest in guests}
        owners = [guest.pid for guest in guests if await guest.said("owner")]
        assert len(owners) == 1
        assert whos == set(owners)
        for guest in guests:  # the owner last, so that nobody has to take over while it closes
            if guest.pid not in owners:
                guest.tell()
                assert await guest.ended() == 0


async def test_what_a_person_stopped_is_not_resumed_by_who_takes_over(repo: Repository, gate: Gate) -> None:
    stopping = f"""
        session = await hive.session("bench")
        await session.submit(skep.Task(run={gate.PASS!r}, env={gate.env!r}, mode="none"))
        say("open")
        await hear()
        await session.stop("enough")
    """
    code = """
        session = await hive.session("bench")
        say("guest")
        view = await session.settled()
        say("settled", [view.state, view.why])
        await hear()
        say("then", [(await session.settled()).state, hive.owner])
    """
    async with actor(repo.top, stopping) as first:
        await first.said("open")
        await gate.begun()
        async with actor(repo.top, code) as second:
            await second.said("guest")
            first.tell()
            assert await second.said("settled") == ["paused", "enough"]
            assert await first.ended() == 0
            second.tell()
            assert await second.said("then") == ["paused", True]
            assert await second.ended() == 0


async def test_a_guest_goes_on_when_its_owner_closes_in_good_order(repo: Repository, gate: Gate) -> None:
    async with actor(repo.top, 'await hive.session("bench")' + STAY) as first:
        await first.said("open")
        code = f"""
            session = await hive.session("bench")
            handle = await session.submit(skep.Task(run={gate.PASS!r} + "; echo $SKEP_ATTEMPT", env={gate.env!r}, mode="none"))
            result = await handle.result()
            say("result", [result.state, result.value, hive.owner])
        """
        async with actor(repo.top, code) as second:
            await gate.begun()
            first.tell()
            assert await first.ended() == 0
            await gate.begun()
            gate.go()
            assert await second.said("result") == ["done", "2", True]
            assert await second.ended() == 0


async def test_a_submission_whose_connection_is_lost_counts_once(repo: Repository, tmp_path: Path) -> None:
    code = """
        import os
        from skep.runtime import wire
        original = wire.Guest._send
        async def die(self, number, kind, content):
            if kind == "answer" and isinstance(content, tuple) and content and content[0] == "t1":
                os._exit(9)
            await original(self, number, kind, content)
        wire.Guest._send = die
        await hive.session("bench")
    """
    async with actor(repo.top, code + STAY.replace("\n", "\n        ")) as first:
        await first.said("open")
        async with skep.open(repo.top) as hive:
            session = await hive.session("bench")
            assert not hive.owner
            handle = await session.submit(skep.Task(run="echo once >> $SKEP_WORKSPACE/../ran", mode="none"))
            assert hive.owner
            assert (await handle.result()).ok
            assert (await session.status()).counts == {"done": 1}
    assert 1 <= len((tmp_path / "ran").read_text().split()) <= 2


async def test_deep_folders_have_sockets_too(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    Repository(folder).commit({"a": "b"})
    async with skep.open(folder) as hive:
        await hive.session("bench")
        async with actor(
            folder, 'say("owner", hive.owner); say("names", [brief.name for brief in await hive.sessions()])'
        ) as guest:
            assert await guest.said("owner") is False
            assert await guest.said("names") == ["bench"]
            assert await guest.ended() == 0


async def test_what_a_dead_owner_left_is_in_nobodys_way(repo: Repository) -> None:
    async with actor(repo.top, STAY) as first:
        await first.said("open")
        await first.kill()
    state = repo.top / ".skep"
    assert (state / owner.SOCKET).exists()
    assert (state / owner.LOCK).exists()
    async with skep.open(repo.top) as hive:
        assert hive.owner
    assert not (state / owner.SOCKET).exists()


async def test_only_the_owner_can_enter_the_state_folder(repo: Repository) -> None:
    state = repo.top / ".skep"
    state.mkdir(mode=0o755)
    state.chmod(0o755)
    async with skep.open(repo.top) as hive:
        await (await hive.session("bench")).submit(skep.Task(run="true"))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [state, *state.iterdir()]}
    assert modes[".skep"] == 0o700
    for name in (owner.SOCKET, owner.LOCK, "key", "skep.db"):
        assert modes[name] == 0o600, name


@pytest.mark.root
async def test_processes_of_other_users_are_turned_away(repo: Repository, hive: skep.Skep) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user: refusing other users was not tested")
    for path in [*reversed((repo.top / ".skep" / owner.SOCKET).parents), repo.top / ".skep" / owner.SOCKET]:
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o007)
    code = f"""
import os, socket
os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect({str(repo.top / ".skep" / owner.SOCKET)!r})
s.sendall(bytes({list(frame(1, rq.Who()))!r}))
print(len(s.recv(100)))
"""
    process = await asyncio.create_subprocess_exec(
        "python3", "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert b"0" in said.split() or b"BrokenPipeError" in said or b"ConnectionResetError" in said
    assert (await hive.who()).guests == 0


def frame(number: int, request: object) -> bytes:
    data = msgspec.msgpack.encode((number, request))
    return struct.pack(">I", len(data)) + data


async def connect(repo: Repository) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(str(repo.top / ".skep" / owner.SOCKET))


async def hung_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Waits until the owner hangs up; returns what it said before."""
    said = b""
    with contextlib.suppress(ConnectionError):
        said = await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return said


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", wire.MAX_FRAME + 1) + b"x",
        struct.pack(">I", 0xFFFFFFFF),
        struct.pack(">I", 3) + b"\xff\xff\xff",
        struct.pack(">I", 1) + b"\x90",
        struct.pack(">I", 4) + msgspec.msgpack.encode([1]) + b"\xc1\xc1",
        frame(1, rq.Who())[:-2],
        b"",
    ],
)
async def test_what_is_no_frame_ends_that_connection_and_harms_nobody(repo: Repository, hive: skep.Skep, sent: bytes) -> None:
    session = await hive.session("bench")
    reader, writer = await connect(repo)
    writer.write(sent)
    writer.write_eof()
    assert await hung_up(reader, writer) == b""
    assert (await (await session.submit(skep.Task(call="tests.runtime.calls:pid"))).result()).ok


async def test_a_request_that_nobody_understands_is_answered_with_an_error(repo: Repository, hive: skep.Skep) -> None:
    reader, writer = await connect(repo)
    for number, request in enumerate([{"type": "dance"}, {"type": "status", "session": 7}, [1, 2], "who", None, 5]):
        writer.write(frame(number + 1, request))
    writer.write_eof()
    answers = {}
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            (size,) = struct.unpack(">I", await reader.readexactly(4))
            number, kind, payload = msgspec.msgpack.decode(await reader.readexactly(size))
            answers[number] = (kind, payload[0])
    await hung_up(reader, writer)
    assert answers == dict.fromkeys((1, 2, 3, 4, 6), ("error", "Invalid"))


async def test_who_does_not_read_answers_costs_nobody_else_anything(repo: Repository, hive: skep.Skep) -> None:
    session = await hive.session("bench")
    text = "x" * 100_000
    await session.gather(
        await session.submit_many(skep.Task(call="tests.runtime.calls:echo", args={"n": n, "t": text}) for n in range(50))
    )
    lazy = [await connect(repo) for _ in range(3)]
    for _, writer in lazy:
        for number in range(1, 20):
            writer.write(frame(number, rq.Await(session="bench", tasks=tuple(f"t{n}" for n in range(1, 51)))))
        writer.write(frame(1000, rq.Follow(session="bench")))
    for n in range(20):
        assert (await (await session.submit(skep.Task(call="tests.runtime.calls:later", args={"n": n}))).result()).value == n + 1
    for _, writer in lazy:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_too_many_connections_are_told_so_and_room_comes_back(
    repo: Repository, hive: skep.Skep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_GUESTS", 5)
    many = [await connect(repo) for _ in range(5)]
    for reader, writer in many:  # all of them are being served
        writer.write(frame(1, rq.Who()))
        await reader.readexactly(4)
    reader, writer = await connect(repo)
    said = await hung_up(reader, writer)
    assert msgspec.msgpack.decode(said[4:])[:2] == [0, "error"]
    assert b"5 clients are connected" in said
    code = 'say("in", (await hive.who()).guests)'
    async with actor(repo.top, code) as refused:
        assert "Exhausted: 5 clients are connected" in await refused.complaints()
    many[0][1].close()
    await many[0][1].wait_closed()
    async with actor(repo.top, code) as guest:
        assert await guest.said("in") >= 1
        assert await guest.ended() == 0
    for _, writer in many[1:]:
        writer.close()
        await writer.wait_closed()


async def test_an_answer_that_is_too_large_is_refused_and_the_connection_goes_on(
    repo: Repository, hive: skep.Skep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_FRAME", 50_000)
    session = await hive.session("bench")
    await session.gather(
        await session.submit_many(skep.Task(call="tests.runtime.calls:echo", args={"t": "x" * 9_000}) for _ in range(9))
    )
    code = """
        session = await hive.session("bench")
        names = [f"t{n}" for n in range(1, 10)]
        try:
            await session.results(names)
        except skep.Exhausted as error:
            say("refused", error.message)
        say("some", len(await session.results(names[:3])))
        from skep.runtime import wire
        wire.MAX_FRAME = 1000
        try:
            await session.submit(skep.Task(call="a:b", args={"t": "x" * 2000}))
        except skep.Exhausted as error:
            say("refused", error.message)
    """
    async with actor(repo.top, code) as guest:
        assert "at most 50000 can be sent" in await guest.said("refused")
        assert await guest.said("some") == 3
        assert "at most 1000 can be sent" in await guest.said("refused")
        assert await guest.ended() == 0


async def test_waiting_that_was_given_up_is_given_up_by_the_owner_as_well(repo: Repository, hive: skep.Skep) -> None:
    session = await hive.session("bench")
    handle = await session.submit(skep.Task(call="tests.runtime.calls:wait_forever"))
    code = f"""
        session = await hive.find("bench")
        for _ in range(5):
            try:
                await asyncio.wait_for(session.results(["{handle.id}"]), 0.05)
            except TimeoutError:
                pass
        say("gave up", (await hive.who()).guests)
    """
    async with actor(repo.top, code) as guest:
        await guest.said("gave up")
        assert await guest.ended() == 0
    loop = hive.door._sessions.live.get("bench")  # type: ignore[union-attr]  # looks inside on purpose
    assert loop is not None
    assert loop._awaited == {}
    await session.cancel(handle.id)


async def test_an_owner_that_hangs_is_named_and_nobody_takes_its_place(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "PATIENCE", 0.5)
    async with actor(repo.top, STAY) as first:
        await first.said("open")
        first.send(signal.SIGSTOP)
        with pytest.raises(skep.Unavailable, match=rf"\(process {first.pid}\) owns .* and does not answer"):
            async with skep.open(repo.top):
                pass
        first.send(signal.SIGCONT)
        async with skep.open(repo.top) as second:
            assert not second.owner
            assert (await second.who()).pid == first.pid
        first.tell()
        assert await first.ended() == 0


async def test_a_landing_is_not_cut_short_when_the_client_hangs_up(repo: Repository, hive: skep.Skep) -> None:
    session = await hive.session("bench")
    assert (await (await session.submit(skep.Task(run="echo new > new.txt"))).result()).ok
    reader, writer = await connect(repo)
    writer.write(frame(1, rq.Land(session="bench")))
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async for _, event in session.follow():
        if type(event).__name__ == "SessionLanded":
            break
    assert (repo.top / "new.txt").read_text() == "new\n"
    del reader


async def test_sockets_closed_by_force_leave_nothing(repo: Repository) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(repo.top / ".skep" / owner.SOCKET))
            raw.sendall(frame(1, rq.Follow(session="bench")))
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert (await (await session.submit(skep.Task(call="tests.runtime.calls:pid"))).result()).ok
    assert left_behind(repo.top) == []
