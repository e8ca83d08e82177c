"""What every `Recordings` does. A backend passes when `class TestX(RecordingsContract): home = XHome` does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from skep.errors import NotFound
from skep.store import Log, Recorded, Recordings

ONE, TWO, NOTHING = Recorded("1" * 64, 7, "east"), Recorded("2" * 64, 70, "west"), Recorded("", 0, "east")
#: Names that would collide, or be cut, if they were put together carelessly.
NAMES = ["api", "each[a:1/b]", "ü {x} *", "t:1", "n" * 400]


class Kept(NamedTuple):
    """The recordings, and the log of the sessions that they are of."""

    log: Log
    recordings: Recordings


class RecordingsHome(Protocol):
    """Where a backend keeps them."""

    def __init__(self, folder: Path) -> None: ...

    async def open(self) -> Kept:
        """As another process would."""

    async def close(self) -> None:
        """Ends what was opened."""


class RecordingsContract:
    """Subclass it with `home`."""

    home: type[RecordingsHome]

    @pytest.fixture
    async def place(self, tmp_path: Path) -> RecordingsHome:
        return self.home(tmp_path / "home")

    @pytest.fixture
    async def kept(self, place: RecordingsHome) -> Kept:
        opened = await place.open()
        await opened.log.create("s", 0)
        return opened

    async def test_what_one_puts_another_finds(self, place: RecordingsHome, kept: Kept) -> None:
        await kept.recordings.put("s", "api", 1, "", ONE)
        await kept.recordings.put("s", "api", 1, "verify", NOTHING)
        other = (await place.open()).recordings
        asked = [(1, ""), (1, "verify"), (1, "merge"), (2, "")]
        assert await other.get("s", "api", asked) == {(1, ""): ONE, (1, "verify"): NOTHING}
        assert await other.get("s", "api", []) == {}

    async def test_the_last_word_counts(self, kept: Kept) -> None:
        await kept.recordings.put("s", "api", 1, "verify", ONE)
        await kept.recordings.put("s", "api", 1, "verify", TWO)
        assert await kept.recordings.get("s", "api", [(1, "verify")]) == {(1, "verify"): TWO}
        assert await kept.recordings.blobs("s") == {TWO.digest}

    @pytest.mark.parametrize("task", NAMES)
    async def test_tasks_of_any_name_are_apart(self, kept: Kept, task: str) -> None:
        await kept.recordings.put("s", task, 1, "", ONE)
        for other in {*NAMES, "t"} - {task}:
            assert await kept.recordings.get("s", other, [(1, ""), (11, "")]) == {}
        assert await kept.recordings.get("s", task, [(1, ""), (11, "")]) == {(1, ""): ONE}

    async def test_all_blobs_of_a_session_are_named_and_those_of_others_are_not(self, kept: Kept) -> None:
        await kept.log.create("other", 0)
        await kept.recordings.put("s", "api", 1, "", ONE)
        await kept.recordings.put("s", "web", 3, "merge", TWO)
        await kept.recordings.put("s", "web", 4, "", NOTHING)
        await kept.recordings.put("other", "api", 1, "", Recorded("3" * 64, 1, "east"))
        assert await kept.recordings.blobs("s") == {ONE.digest, TWO.digest}
        assert await kept.recordings.blobs("nobody") == set()

    async def test_they_go_with_their_session_and_none_is_kept_of_one_that_is_gone(self, kept: Kept) -> None:
        await kept.recordings.put("s", "api", 1, "", ONE)
        await kept.log.drop("s")
        with pytest.raises(NotFound):
            await kept.recordings.put("s", "api", 1, "", ONE)
        await kept.log.create("s", 0)
        assert await kept.recordings.get("s", "api", [(1, "")]) == {}
        assert await kept.recordings.blobs("s") == set()

    @pytest.mark.parametrize("task", NAMES)
    async def test_what_is_shown_of_an_attempt_others_see(self, place: RecordingsHome, kept: Kept, task: str) -> None:
        await kept.recordings.show("s", task, 1, b"first", 60_000)
        await kept.recordings.show("s", task, 1, b"then \x00\xff", 60_000)
        other = (await place.open()).recordings
        assert await other.shown("s", task, 1) == b"then \x00\xff"
        assert await other.shown("s", task, 11) == b""
        for another in {*NAMES, "t"} - {task}:
            assert await other.shown("s", another, 1) == b""

    async def test_it_is_shown_for_a_moment_only(self, kept: Kept) -> None:
        await kept.recordings.show("s", "api", 1, b"gone", 1)
        while True:
            if not await kept.recordings.shown("s", "api", 1):
                break
            await asyncio.sleep(0.001)  # tidy: sleeps because only time ends it
