"""An attempt's door under hostile hands: what is no request is refused or ignored, and who knocks properly is still answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skep.agents.door import ANSWER, ASK, BELL, KNOCK, MAX_LINE, MAX_REQUEST, Contacts, Request, Send, client
from skep.agents.door.client import Bell, Door, fetched
from skep.errors import Denied, Invalid, Unavailable
from skep.runtime import doorway
from skep.runtime.doorway import MAX_LEFT, MAX_OPEN, Doorway


class Behind:
    """Whoever answers: keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.most = self.now = 0
        self.gate: asyncio.Event | None = None
        self.full = asyncio.Event()
        #: What it answers with, if not with what it heard; whether it says texts again.
        self.said, self.echo = "", False

    async def serve(self, request: Request) -> Any:
        self.asked.append(request)
        self.now += 1
        self.most = max(self.most, self.now)
        if self.now == MAX_OPEN:
            self.full.set()
        if self.gate is not None:
            await self.gate.wait()
        self.now -= 1
        if self.echo and isinstance(request, Send):
            return request.text
        if isinstance(request, Send) and request.to == "nobody":
            raise Denied("no edge", "Write to somebody else.")
        return self.said or {"heard": type(request).__name__}


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Doorway, Behind]]:
    behind = Behind()
    door = Doorway(str(folder), behind.serve)
    door.open()
    try:
        yield door, behind
    finally:
        await door.close()
        assert os.listdir(folder) == []


def knock(folder: Path, *names: str) -> None:
    pipe = os.open(folder / KNOCK, os.O_WRONLY)
    os.write(pipe, "".join(f"{name}\n" for name in names).encode())
    os.close(pipe)


async def reply(folder: Path, name: str) -> Any:
    """The answer to a request, once it is there."""
    return json.loads(await asyncio.to_thread(fetched, f"{folder}/{name}{ANSWER}", time.monotonic() + 20))


async def still_answers(folder: Path) -> None:
    assert await asyncio.to_thread(lambda: Door(str(folder)).ask(Contacts())) == {"heard": "Contacts"}


async def test_a_request_is_answered_and_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "d") as (_, behind):
        door = Door(str(tmp_path / "d"))
        assert await asyncio.to_thread(door.ask, Send(to="coder-2", text="hello")) == {"heard": "Send"}
        with pytest.raises(Denied, match="no edge") as refused:
            await asyncio.to_thread(door.ask, Send(to="nobody", text="x"))
        assert refused.value.fix == "Write to somebody else."
        long = Send(to="coder-2", text="x" * MAX_LINE)
        assert await asyncio.to_thread(door.ask, long) == {"heard": "Send"}
        assert (behind.asked[0], behind.asked[2]) == (Send(to="coder-2", text="hello"), long)
        assert sorted(path.suffix for path in (tmp_path / "d").iterdir()) == ["", BELL]
    async with opened(tmp_path / "e"):
        await still_answers(tmp_path / "e")
        assert os.listdir(tmp_path / "e") == [KNOCK]


async def test_a_door_that_is_closed_answers_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path / "d") as (door, _):
        os.rename(tmp_path / "d" / KNOCK, tmp_path / "pipe")
        await door.close()
        os.rename(tmp_path / "pipe", tmp_path / "d" / KNOCK)
        with pytest.raises(Unavailable, match="nobody is behind the door"):
            await asyncio.to_thread(Door(str(tmp_path / "d")).ask, Contacts())
        os.unlink(tmp_path / "d" / KNOCK)
    with pytest.raises(Invalid, match="SKEP_DOOR is not set"):
        Door.here({})


@pytest.mark.parametrize("what", ["link", "pipe", "folder", "socket", "hard link", "huge", "empty", "missing"])
async def test_what_is_no_request_is_refused(tmp_path: Path, what: str) -> None:
    folder, secret = tmp_path / "d", tmp_path / "secret"
    secret.write_text('{"op": "contacts"}')
    async with opened(folder) as (_, behind):
        path = folder / f"x{ASK}"
        if what == "link":
            path.symlink_to(secret)
        elif what == "pipe":
            os.mkfifo(path)
        elif what == "folder":
            path.mkdir()
        elif what == "socket":
            os.mknod(path, 0o140600)
        elif what == "hard link":
            os.link(secret, path)
        elif what == "huge":
            with path.open("wb") as file:
                file.truncate(MAX_REQUEST + 1)
        elif what == "empty":
            path.touch()
        knock(folder, "x")
        answer = await reply(folder, "x")
        assert answer["error"]["kind"] == "Invalid"
        assert behind.asked == []
        assert secret.read_text() == '{"op": "contacts"}'
        await still_answers(folder)


@pytest.mark.parametrize("what", ["link", "folder", "pipe"])
async def test_what_stands_where_the_answer_goes_is_not_written_through(tmp_path: Path, what: str) -> None:
    folder, mine = tmp_path / "d", tmp_path / "mine"
    mine.write_text("as it was")
    async with opened(folder) as (_, behind):
        path = folder / f"x{ANSWER}"
        if what == "link":
            path.symlink_to(mine)
        elif what == "pipe":
            os.mkfifo(path)
        else:
            (path / "full").mkdir(parents=True)
        (folder / f"x{ASK}").write_text('{"op": "contacts"}')
        knock(folder, "x")
        await still_answers(folder)
        assert len(behind.asked) == 2
        assert mine.read_text() == "as it was"


def lines_of(bell: int) -> list[Any]:
    """What came through a bell: names, and answers."""
    found = (line.split(b" ", 1) for line in os.read(bell, 1 << 16).splitlines())
    return [(name.decode(), *map(json.loads, rest)) for name, *rest in found]


async def test_short_requests_and_answers_go_through_pipes_and_a_bell_says_where_a_long_answer_lies(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    async with opened(folder) as (_, behind):
        os.mkfifo(folder / f"mine{BELL}")
        bell = os.open(folder / f"mine{BELL}", os.O_RDWR | os.O_NONBLOCK)
        knock(folder, 'x@mine {"op": "contacts"}', f"{'y' * 70}@mine {{}}", 'z {"op": "contacts"}')
        assert await reply(folder, "z") == {"value": {"heard": "Contacts"}}
        assert lines_of(bell) == [("x", {"value": {"heard": "Contacts"}})]
        behind.said = "x" * MAX_LINE
        knock(folder, 'long@mine {"op": "contacts"}')
        assert await reply(folder, "long") == {"value": behind.said}
        behind.said = ""
        await still_answers(folder)
        assert lines_of(bell) == [("long",)]
        os.close(bell)


@pytest.mark.parametrize("what", ["missing", "nobody reads", "full", "link", "file", "folder", "second name"])
async def test_what_is_no_bell_is_left_alone_and_the_answer_lies_in_its_file(tmp_path: Path, what: str) -> None:
    folder, mine, other = tmp_path / "d", tmp_path / "d" / f"mine{BELL}", tmp_path / "other"
    os.mkfifo(other)
    listening = os.open(other, os.O_RDWR | os.O_NONBLOCK)
    async with opened(folder):
        if what == "link":
            mine.symlink_to(other)
        elif what == "second name":
            os.link(other, mine)
        elif what == "file":
            mine.write_text("as it was")
        elif what == "folder":
            mine.mkdir()
        elif what != "missing":
            os.mkfifo(mine)
        bell = os.open(mine, os.O_RDWR | os.O_NONBLOCK) if what == "full" else -1
        with contextlib.suppress(BlockingIOError):
            while what == "full":
                os.write(bell, bytes(MAX_LINE))
        knock(folder, 'x@mine {"op": "contacts"}')
        assert await reply(folder, "x") == {"value": {"heard": "Contacts"}}
        await still_answers(folder)
        with pytest.raises(BlockingIOError):
            os.read(listening, 1)
        assert what != "file" or mine.read_text() == "as it was"
        if bell >= 0:
            os.close(bell)
    os.close(listening)


async def test_many_ask_at_once_through_one_door_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    async with opened(tmp_path / "d") as (_, behind):
        door = Door(str(tmp_path / "d"))
        behind.echo = True
        texts = [f"t{number}" * (1 + number * 50) for number in range(40)]
        asked = (asyncio.to_thread(door.ask, Send(to="b", text=text)) for text in texts)
        assert await asyncio.gather(*asked) == texts


async def test_an_answer_that_comes_too_late_is_nobody_elses(tmp_path: Path) -> None:
    async with opened(tmp_path / "d"):
        bell = Bell(str(tmp_path / "d"))
        knock(tmp_path / "d", f'first@{bell.name} {{"op": "contacts"}}', f'second@{bell.name} {{"op": "send"}}')
        answer = await asyncio.to_thread(bell.wait, "second", 20)
        assert answer is not None
        assert json.loads(answer)["error"]["kind"] == "Invalid"


async def test_where_no_bell_can_be_made_the_answer_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path / "d") as (_, behind):
        monkeypatch.setattr(client, "Bell", no_bell)
        await still_answers(tmp_path / "d")
        assert behind.asked == [Contacts()]
        assert os.listdir(tmp_path / "d") == [KNOCK]


def no_bell(folder: str) -> None:
    raise PermissionError(f"no pipes in {folder}")


async def test_a_folder_that_is_moved_away_takes_the_door_along(tmp_path: Path) -> None:
    """The owner works below a descriptor: what comes to stand at the path is never touched."""
    folder, other = tmp_path / "d", tmp_path / "other"
    other.mkdir()
    async with opened(folder):
        os.rename(folder, tmp_path / "moved")
        folder.symlink_to(other)
        (other / f"x{ASK}").write_text('{"op": "contacts"}')
        await still_answers(tmp_path / "moved")
        assert os.listdir(other) == [f"x{ASK}"]
        folder.unlink()
        os.rename(tmp_path / "moved", folder)


async def test_whoever_asks_too_much_waits_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorway, "BURST", 50.0)
    monkeypatch.setattr(doorway, "RATE", 5_000.0)
    names = [f"n{number}" for number in range(3 * MAX_OPEN)]
    async with opened(tmp_path / "d") as (_, behind):
        behind.gate = asyncio.Event()
        for name in names:
            (tmp_path / "d" / f"{name}{ASK}").write_text('{"op": "contacts"}')
        knock(tmp_path / "d", *names)
        await asyncio.wait_for(behind.full.wait(), 20)
        behind.gate.set()
        for name in names:
            await reply(tmp_path / "d", name)
        assert behind.most == MAX_OPEN
        assert len(behind.asked) == len(names)


async def test_answers_that_nobody_fetches_are_bounded(tmp_path: Path) -> None:
    async with opened(tmp_path / "d") as (_, behind):
        for number in range(MAX_LEFT + 20):
            (tmp_path / "d" / f"n{number}{ASK}").write_text('{"op": "contacts"}')
            knock(tmp_path / "d", f"n{number}")
        await reply(tmp_path / "d", f"n{MAX_LEFT + 19}")
        assert len([name for name in os.listdir(tmp_path / "d") if name.endswith(ANSWER)]) == MAX_LEFT
        assert len(behind.asked) == MAX_LEFT + 20


def test_no_bytes_in_the_pipe_or_in_a_request_keep_it_from_answering() -> None:
    @settings(max_examples=60)
    @given(st.binary(max_size=300), st.binary(max_size=300) | st.recursive(st.none() | st.text(), st.lists).map(_json))
    def fuzz(noise: bytes, data: bytes) -> None:
        async def go() -> None:
            with tempfile.TemporaryDirectory() as top:
                folder = Path(top) / "d"
                async with opened(folder):
                    (folder / f"x{ASK}").write_bytes(data)
                    pipe = os.open(folder / KNOCK, os.O_WRONLY)
                    os.write(pipe, noise + b"\nx\n")
                    os.close(pipe)
                    assert (await reply(folder, "x")).get("error", {}).get("kind", "Invalid") == "Invalid"
                    await still_answers(folder)

        asyncio.run(go())

    fuzz()


def _json(value: object) -> bytes:
    return json.dumps({"op": "send", "to": value, "text": value}).encode()


def test_what_nests_without_end_is_refused() -> None:
    async def go() -> None:
        with tempfile.TemporaryDirectory() as top:
            folder = Path(top) / "d"
            async with opened(folder) as (_, behind):
                (folder / f"x{ASK}").write_text('{"op":"send","to":"a","text":' + "[" * 60_000)
                knock(folder, "x")
                assert (await reply(folder, "x"))["error"]["kind"] == "Invalid"
                assert behind.asked == []

    asyncio.run(go())
