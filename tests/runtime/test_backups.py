"""Backups: whole or absent, of sessions at work too, on either store; and going on from them when the log is damaged or gone."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import skep
from skep import nodes
from skep.config import BackupConfig, Config, SandboxConfig, StoreConfig
from skep.disk.durable import UNFINISHED
from skep.runtime import requests as rq
from skep.runtime.backups import MARK
from skep.runtime.node import Here, Role
from skep.runtime.parcel import Packing, Parcel
from skep.runtime.schedule import Last, Schedule, last
from skep.store.redis.keys import of_session
from tests import disks, servers
from tests.runtime.faults import with_faults
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository

MAKE = skep.Task(id="make", run="echo kept > $SKEP_OUT/o; echo x > x", outputs={"o": "o"})


class Store:
    """Where sessions are kept, and the hands of somebody who damages a log there."""

    def __init__(self, repo: Repository) -> None:
        self.repo = repo

    def damage(self, session: str) -> None:
        with closing(sqlite3.connect(self.repo.top / ".skep" / "skep.db", isolation_level=None)) as database:
            changed = database.execute(
                "UPDATE log SET blob = x'00' WHERE place = (SELECT max(place) FROM log WHERE place >> 40 ="
                " (SELECT number FROM session WHERE name = ?))",
                (session,),
            )
            assert changed.rowcount == 1


class InRedis(Store):
    def damage(self, session: str) -> None:
        with servers.redis_server().client() as client:
            key = of_session(session, "log")
            rows: Any = client.xrange(key)
            client.delete(key)
            for place, fields in rows:
                client.xadd(key, {**fields, b"blob": b"spoilt"} if place == rows[-1][0] else fields, place)


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, repo: Repository, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "sqlite":
        return Store(repo)
    server = servers.redis_server()
    server.tell("FLUSHALL")
    monkeypatch.setenv("SKEP_STORE_URL", server.url)
    return InRedis(repo)


@pytest.fixture
async def opened(store: Store) -> AsyncIterator[skep.Skep]:
    """The repository, opened by this process, with one session that made a file and an output."""
    async with skep.open(store.repo.top) as hive:
        session = await hive.session("bench")
        await session.submit(MAKE)
        assert (await session.results(["make"]))[0].ok
        yield hive


def files(repo: Repository) -> list[Path]:
    return sorted((repo.top / ".skep" / "backups").glob("*/*.skep"))


async def tasks(hive: skep.Skep, name: str = "bench") -> dict[str, str]:
    return {task.id: task.state for task in (await (await hive.find(name)).status()).tasks}


async def test_a_session_is_restored_under_its_name_and_nothing_is_overwritten(opened: skep.Skep, repo: Repository) -> None:
    (made,) = await opened.backup()
    assert (made.trouble, made.name, Path(made.path).stat().st_mode & 0o077) == ("", "bench", 0)
    session = await opened.find("bench")
    await session.submit(skep.Task(id="later", run="echo y > y"))
    await session.results(["later"])
    restored = await opened.restore("bench")
    assert (restored.name, restored.notes) == ("bench", ())
    assert await tasks(opened) == {"make": "done"}
    names = [brief.name for brief in await opened.sessions()]
    assert names[0].startswith("bench@")
    assert await tasks(opened, names[0]) == {"make": "done", "later": "done"}
    assert repo.files("refs/skep/bench-1/main") == {".gitignore", "a.txt", "src/app.py", "x"}
    assert "y" in repo.files("refs/skep/bench/main")
    await restored.resume()
    await restored.submit(skep.Task(id="on", run="cat x"))
    assert (await restored.results(["on"]))[0].value == "x"


async def test_what_is_at_work_is_backed_up_as_it_is_at_one_event(opened: skep.Skep, gate: Gate) -> None:
    session = await opened.find("bench")
    await session.submit(skep.Task(id="long", run=f"{gate.PASS}; echo l > l", env=gate.env))
    await gate.begun()
    numbers = (skep.Task(call="tests.runtime.calls:later", args={"n": n}) for n in range(2_000))
    handles, (made,) = await asyncio.gather(session.submit_many(numbers), opened.backup("bench"))
    assert not made.trouble
    view = await session.at(made.events)
    gate.go()
    await session.gather(handles)
    await session.results(["long"])
    copy = await opened.restore("bench", made.path)
    there = await copy.status()
    assert there.counts.keys() <= view.counts.keys() | {"waiting", "ready"}
    assert sum(there.counts.values()) == sum(view.counts.values())
    assert {task.id: task.state for task in there.tasks}["long"] in ("waiting", "ready")
    await copy.resume()
    await gate.begun()
    gate.go()
    assert (await copy.results(["long"]))[0].ok


async def test_what_is_decided_while_the_log_is_read_stays_out(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = with_faults(monkeypatch)
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        await session.submit(MAKE)
        assert (await session.results(["make"]))[0].ok
        read = logs[0].read

        async def late(*args: Any, **more: Any) -> Any:
            del logs[0].__dict__["read"]
            await session.submit(skep.Task(id="late", run="echo late > late"))
            assert (await session.results(["late"]))[0].ok
            return await read(*args, **more)

        logs[0].__dict__["read"] = late
        (made,) = await hive.backup("bench")
        assert (made.trouble, "late" in await tasks(hive)) == ("", True)
        await hive.restore("bench")
        assert await tasks(hive) == {"make": "done"}
        assert "late" not in repo.files("refs/skep/bench-1/main")


async def test_a_session_whose_log_is_damaged_is_restored_and_the_others_are_shown(store: Store) -> None:
    async with skep.open(store.repo.top) as hive:
        for name in ("bench", "other"):
            session = await hive.session(name)
            await session.submit(MAKE)
            assert (await session.results(["make"]))[0].ok
        assert [one.trouble for one in await hive.backup(everything=True)] == ["", ""]
    store.damage("bench")
    async with skep.open(store.repo.top) as hive:
        assert [(one.name, one.state) for one in await hive.sessions()] == [("bench", "damaged"), ("other", "completed")]
        bad, good = await hive.backup(everything=True)
        assert ("damaged" in bad.trouble, good.trouble) == (True, "")
        restored = await hive.restore("bench")
        assert await tasks(hive) == {"make": "done"}
        await restored.resume()
        await restored.submit(skep.Task(id="on", run="cat x"))
        assert (await restored.results(["on"]))[0].value == "x"
        assert [one.state for one in await hive.sessions()] == ["damaged", "completed", "completed"]
        assert await hive.inbox() == []


async def test_a_damaged_backup_is_named_and_skipped(opened: skep.Skep, repo: Repository) -> None:
    await opened.backup("bench")
    session = await opened.find("bench")
    await session.submit(skep.Task(id="later", run="true", mode="none"))
    await session.results(["later"])
    await opened.backup("bench")
    old, new = files(repo)
    whole = new.read_bytes()
    middle = len(whole) // 2
    for damage in (b"", whole[:middle], whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]):
        new.write_bytes(damage)
        newest, oldest = await opened.backups()
        assert (bool(newest.trouble), oldest.trouble) == (True, "")
        restored = await opened.restore("bench")
        assert any(new.name in note for note in restored.notes)
        assert await tasks(opened) == {"make": "done"}
        with pytest.raises(skep.Invalid):
            await opened.restore("bench", new)
    old.write_bytes(b"")
    with pytest.raises(skep.NotFound, match=old.name):
        await opened.restore("bench")


async def test_it_works_in_an_empty_workspace_and_says_what_it_cannot_check(
    opened: skep.Skep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made,) = await opened.backup("bench", to=tmp_path / "safe")
    monkeypatch.delenv("SKEP_STORE_URL", raising=False)
    other = Repository(tmp_path / "other")
    other.commit({"unrelated": "file"})
    async with skep.open(other.top) as hive:
        assert [one.ours for one in await hive.backups(folder=tmp_path / "safe")] == [False]
        restored = await hive.restore("bench", tmp_path / "safe")
        assert "of another store" in restored.notes[0]
        view = await restored.status()
        assert (view.name, view.state, view.tasks[0].outputs["o"].text) == ("bench", "completed", "kept\n")
        assert other.files("refs/skep/bench-1/main") == {".gitignore", "a.txt", "src/app.py", "x"}
        with pytest.raises(skep.NotFound, match="no good backup of session nobody"):
            await hive.restore("nobody", tmp_path / "safe")
        with pytest.raises(skep.Invalid, match="is of session bench"):
            await hive.restore("nobody", made.path)


async def test_nobody_without_the_key_makes_a_backup_of_this_store(
    hive: skep.Skep, session: skep.Session, tmp_path: Path
) -> None:
    await session.submit(MAKE)
    await session.results(["make"])
    (made,) = await hive.backup("bench", to=tmp_path)
    sessions = hive.door._sessions
    assert sessions is not None
    seal = sessions._parts.log.seal
    found = Parcel(Path(made.path), seal)
    forged = tmp_path / "bench" / f"9{Path(made.path).name}"
    packing = Packing(forged)
    for name in found.manifest.members:
        packing.begin(name)
        packing.write(b"".join(found.chunks(name)))
    packing.keep(found.manifest, lambda text: seal(b"") if not text else b"a guess")
    packing.close()
    found.close()
    swapped = tmp_path / "swapped.skep"
    with zipfile.ZipFile(made.path) as source, zipfile.ZipFile(swapped, "w") as target:
        for name in source.namelist():
            target.writestr(name, b"forged\n" if name.startswith("blobs/") else source.read(name))
    with pytest.raises(skep.Invalid, match="is not what was written"):
        await hive.restore("bench", swapped)
    with pytest.raises(skep.Invalid, match="seal does not fit"):
        await hive.restore("bench", forged)
    restored = await hive.restore("bench", tmp_path)
    assert "seal does not fit" in restored.notes[0]


async def test_going_back_to_a_time(hive: skep.Skep, session: skep.Session, repo: Repository) -> None:
    await session.submit(MAKE)
    await session.results(["make"])
    await session.settled()
    then = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == then:
        pass
    await session.submit(skep.Task(id="wrong", run="echo bad > bad"))
    await session.results(["wrong"])
    await hive.backup("bench")
    await hive.restore("bench", until=then)
    assert await tasks(hive) == {"make": "done"}
    assert repo.files("refs/skep/bench-1/main") == {".gitignore", "a.txt", "src/app.py", "x"}
    with pytest.raises(skep.NotFound, match="began later"):
        await hive.restore("bench", until=1)


async def test_the_oldest_go_after_the_newest_is_there(hive: skep.Skep, session: skep.Session, repo: Repository) -> None:
    made = []
    for n in range(4):
        await session.submit(skep.Task(id=f"n{n}", run="true", mode="none"))
        await session.results([f"n{n}"])
        made += [Path(one.path) for one in await hive.backup("bench", keep=2)]
    assert files(repo) == sorted(made[2:])


async def test_kill_9_leaves_a_backup_whole_or_absent(repo: Repository) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        await session.submit(MAKE)
        await session.results(["make"])
        await hive.backup("bench")
    driver, died = Path(__file__).parent / "drivers" / "killed_backup.py", 0
    for point in ("Packing.write", "os.fsync", "Path.rename", "Path.unlink"):
        process = await asyncio.create_subprocess_exec(sys.executable, driver, repo.top, point)
        died += await process.wait() == -9
        async with skep.open(repo.top) as hive:
            found = await hive.backups()
            assert [one.trouble for one in found] == [""] * len(found)
            assert len(found) == (2 if point == "Path.unlink" else 1), point
    assert died == 4
    left = sorted((repo.top / ".skep" / "backups" / "bench").glob(f"{UNFINISHED}*"))
    assert len(left) == 3
    for path in left:
        os.utime(path, (0, 0))
    async with skep.open(repo.top) as hive:
        assert [one.trouble for one in await hive.backup("bench", keep=1)] == [""]
        assert not any(path.exists() for path in left)
        assert len(files(repo)) == 1
        await hive.restore("bench")


def test_killed_at_any_step_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, Path(__file__).parent / "drivers" / "killed_writer.py", tmp_path],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    steps, whole = ran.stdout.split()
    assert int(steps) > 20
    assert 1 <= int(whole) < int(steps), "killed after the rename it is there, before it is not"


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    with disks.small(tmp_path / "tiny", "1m", "a full disk under a backup") as disk:
        yield disk


@pytest.mark.root
async def test_a_full_disk_says_so_and_keeps_what_was_there(hive: skep.Skep, session: skep.Session, tiny: Path) -> None:
    await session.submit(MAKE)
    await session.results(["make"])
    assert [one.trouble for one in await hive.backup("bench", to=tiny, keep=1)] == [""]
    await session.submit(skep.Task(id="big", run="head -c 2000000 /dev/urandom > $SKEP_OUT/o", outputs={"o": "o"}))
    assert (await session.results(["big"]))[0].ok
    (full,) = await hive.backup("bench", to=tiny, keep=1)
    assert "No space left" in full.trouble
    (kept,) = await hive.backups(folder=tiny)
    assert kept.trouble == ""
    assert [path.suffix for path in (tiny / "bench").iterdir()] == [".skep"]
    await hive.restore("bench", tiny)
    assert await tasks(hive) == {"make": "done"}


async def test_an_output_that_the_store_lost_is_told_and_the_rest_is_saved(
    hive: skep.Skep, session: skep.Session, repo: Repository
) -> None:
    await session.submit(MAKE)
    (result,) = await session.results(["make"])
    shutil.rmtree(repo.top / ".skep" / "blobs")
    (made,) = await hive.backup("bench")
    assert (made.trouble, made.lost) == ("", (result.outputs["o"].digest,))
    assert result.outputs["o"].digest in (await hive.restore("bench")).notes[0]


class Clock:
    """A clock that goes on only while somebody sleeps by it, for as many sleeps as it is given."""

    def __init__(self, sleeps: int) -> None:
        self.at, self.sleeps, self.slept = 1_000_000, sleeps, list[float]()

    def now(self) -> int:
        return self.at

    async def sleep(self, seconds: float) -> None:
        if len(self.slept) == self.sleeps:
            raise asyncio.CancelledError
        self.slept.append(seconds)
        self.at += int(seconds * 1000)


async def run(clock: Clock, folder: Path, fails: tuple[int, ...] = ()) -> list[int]:
    """When the schedule did its work, until the clock stops it."""
    done: list[int] = []

    async def work() -> dict[str, str]:
        done.append(clock.at)
        if len(done) in fails:
            raise skep.Unavailable("the store is away")
        return {}

    with pytest.raises(asyncio.CancelledError):
        await Schedule(3_600, folder / MARK, clock.now, work, clock.sleep).run()
    return done


async def test_the_schedule_goes_on_across_restarts_and_failures(tmp_path: Path) -> None:
    clock = Clock(2)
    assert await run(clock, tmp_path, fails=(2,)) == [1_000_000, 4_600_000, 8_200_000]
    assert last(tmp_path / MARK) == Last(8_200_000)
    again = Clock(1)
    again.at = 8_200_000 + 600_000
    assert await run(again, tmp_path, fails=(1,)) == [8_200_000 + 3_600_000]
    assert again.slept == [3_000.0]
    failed = last(tmp_path / MARK)
    assert failed is not None
    assert failed.failed == {"": "the store is away"}
    put_back = Clock(1)
    assert await run(put_back, tmp_path) == [1_000_000, 4_600_000], "a clock that was put back by a day stops nothing for a day"
    assert put_back.slept == [3_600.0]


async def test_the_owner_backs_up_what_changed_while_it_carries_sessions_out(store: Store) -> None:
    (store.repo.top / "skep.toml").write_text('[backup]\nevery = "1h"\nkeep = 2\n')
    async with skep.open(store.repo.top) as hive:
        session = await hive.session("bench")
        await session.submit(MAKE)
        await session.results(["make"])
        sessions = hive.door._sessions
        assert sessions is not None
        answer: Any = sessions._answers[rq.Backups]
        backups = answer.__self__
        for _ in range(3):
            assert await backups.due() == {}
        first = files(store.repo)
        assert 1 <= len(first) <= 2
        first[-1].write_bytes(b"spoilt")
        backups._good.clear()
        assert await backups.due() == {}
        assert next(one.trouble for one in await hive.backups()) == ""
        shutil.rmtree(first[-1].parent)
        first[-1].parent.write_text("in the way")
        assert list(await backups.due()) == ["bench"]


async def test_the_schedule_begins_with_the_first_session_that_is_carried_out(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def run(self: Schedule) -> None:
        begun.set()

    monkeypatch.setattr(Schedule, "run", run)
    (repo.top / "skep.toml").write_text('[backup]\nevery = "1h"\n')
    async with skep.open(repo.top) as hive:
        assert await hive.sessions() == []
        assert not begun.is_set()
        await hive.session("bench")
        await begun.wait()


async def test_a_store_that_does_not_answer_leaves_no_half_backup(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = with_faults(monkeypatch)
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        await session.submit(MAKE)
        await session.results(["make"])

        async def away(*args: object, **more: object) -> None:
            raise skep.Unavailable("the store is away")

        logs[0].__dict__["read"] = away
        (made,) = await hive.backup("bench")
        assert made.trouble == "the store is away"
        assert list((repo.top / ".skep" / "backups" / "bench").iterdir()) == []


async def test_what_a_writer_left_that_is_gone_is_backed_up_by_one_of_the_others(repo: Repository, tmp_path: Path) -> None:
    server = servers.redis_server()
    server.tell("FLUSHALL")
    store = StoreConfig(url=server.url, key=str(tmp_path / "key"))
    config = Config(store=store, backup=BackupConfig(every="1h"), sandbox=SandboxConfig(mode="off"))

    def machine(name: str) -> skep.Skep:
        (tmp_path / name).mkdir(exist_ok=True)
        return nodes.join(tmp_path / name, config, Role(here=Here(name=name, slots=0), leads=False, hosted=True))

    def made(name: str) -> int:
        return len(list((tmp_path / name / ".skep" / "backups").glob("bench/*.skep")))

    async with machine("east") as east, machine("west") as west:
        both = [hive.door._sessions for hive in (east, west)]
        assert both[0] is not None
        assert both[1] is not None
        async with nodes.join(repo.top, config, Role(here=Here(name="user", slots=4), leads=True)) as user:
            session = await user.session("bench")
            assert (await (await session.submit(MAKE)).result()).ok
            assert [await one._backups.due() for one in both if one is not None] == [{}, {}]
            assert (made("east"), made("west")) == (0, 0), "its writer is there"
        assert [await one._backups.due() for one in both if one is not None] == [{}, {}]
        assert (made("east"), made("west")) == (1, 0), "one is enough"
    async with machine("west") as west:
        assert west.door._sessions is not None
        assert await west.door._sessions._backups.due() == {}
    assert made("west") == 1, "whoever did it is gone too"
