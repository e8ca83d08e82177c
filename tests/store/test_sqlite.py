"""The SQLite store: the contract, and what only a file can do wrong."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from skep.disk.database import DURABILITY, open_reader, open_writer
from skep.disk.writer import MOST_BYTES, MOST_WAITING
from skep.errors import Bug, Conflict, Denied, Exhausted, Invalid, SkepError, Unavailable
from skep.store import Append, Head
from skep.store.schema import LADDER
from skep.store.sqlite import SqliteLog
from tests.contracts.log import LogContract, Pen, fresh_batch, new_session
from tests.store.homes import SqliteHome, spoil


class TestSqliteLog(LogContract):
    home = SqliteHome
    may_lack = frozenset({"shared"})


async def filled(folder: Path, appends: int = 3, size: int = 300) -> list[Append]:
    """Writes a session `s` and closes it; what was written."""
    log = await SqliteLog.open(folder)
    pen = await new_session(log)
    for n in range(appends):
        await pen.write(bytes([n % 256]) * size, archive=[(f"t{n}", b"entry %d" % n)])
    rows = await log.read("s", limit=appends + 1)
    await log.close()
    return rows


async def left_unclean(folder: Path, copy: Path) -> list[Append]:
    """Like `filled`, but `copy` is what a crash leaves: files with a writer that never closed them."""
    log = await SqliteLog.open(folder)
    pen = await new_session(log)
    for n in range(3):
        await pen.write(b"blob %d" % n)
    rows = await log.read("s")
    shutil.copytree(folder, copy)
    await log.close()
    return rows


# What is made


async def test_only_the_owner_can_read_a_state_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    log = await SqliteLog.open(folder)
    await new_session(log)
    for path in (folder, *folder.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert {path.name for path in folder.iterdir()} == {"key", "skep.db", "skep.db-shm", "skep.db-wal"}
    await log.close()
    assert {path.name for path in folder.iterdir()} == {"key", "skep.db"}


async def test_every_durability_setting_holds_in_the_connection_that_writes(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path)
    assert (DURABILITY["journal_mode"], DURABILITY["synchronous"]) == ("wal", 2)
    for pragma, wanted in DURABILITY.items():
        assert log._files.writer.execute(f"PRAGMA {pragma}").fetchone() == (wanted,)
    await log.close()


async def test_a_place_that_cannot_be_durable_is_refused() -> None:
    with pytest.raises(Unavailable, match="journal_mode is memory, not wal"):
        open_writer(Path(":memory:"), LADDER)


async def test_the_reading_connection_cannot_write(tmp_path: Path) -> None:
    await filled(tmp_path)
    reader = open_reader(tmp_path / "skep.db")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM log")
    reader.close()


async def test_the_write_ahead_log_stays_bounded(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path)
    pen = await new_session(log)
    for _ in range(100):
        await asyncio.gather(pen.write(bytes(300_000)), log.read("s", after=pen.head.seq))
    assert (tmp_path / "skep.db").stat().st_size > 20 * 2**20
    assert (tmp_path / "skep.db-wal").stat().st_size < 8 * 2**20
    await log.close()


async def test_a_large_session_is_dropped_without_a_large_write_ahead_log(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path)
    pen, other = await new_session(log), await new_session(log, "other", 2)
    for n in range(10):
        await pen.write(bytes(1_000_000), archive=[(f"t{n}-{k}", bytes(1000)) for k in range(300)])
    dropped = asyncio.ensure_future(log.drop("s"))
    while not dropped.done():
        await other.write()
    await dropped
    assert (tmp_path / "skep.db-wal").stat().st_size <= 17 * 2**20
    assert [row.session for row in await log.sessions()] == ["other"]
    assert await log.verify("other") == other.head
    await log.close()


async def test_a_drop_that_was_cut_short_is_finished_when_the_store_is_opened(tmp_path: Path) -> None:
    await filled(tmp_path)
    with SqliteHome(tmp_path).database() as database:
        database.execute("UPDATE session SET name = char(10) || '1' WHERE name = 's'")
    log = await SqliteLog.open(tmp_path)
    assert await log.sessions() == []
    pen = await new_session(log)
    await pen.write()
    await log.close()
    with SqliteHome(tmp_path).database() as database:
        assert database.execute("SELECT number, name FROM session").fetchall() == [(2, "s")]
        assert database.execute("SELECT count(*) FROM log").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM archive").fetchone() == (0,)


# Whose it is


async def test_a_second_process_cannot_open_it(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path)
    with pytest.raises(Conflict, match="another process works with the store"):
        await SqliteLog.open(tmp_path)
    await log.close()
    await (await SqliteLog.open(tmp_path)).close()


async def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    await filled(tmp_path)
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(Denied, match="can be read or changed by others") as caught:
        await SqliteLog.open(tmp_path)
    assert "chmod 600" in caught.value.fix
    (tmp_path / "key").chmod(0o600)
    await (await SqliteLog.open(tmp_path)).close()


async def test_a_store_without_its_key_is_refused_and_gets_no_new_one(tmp_path: Path) -> None:
    await filled(tmp_path)
    (tmp_path / "key").unlink()
    with pytest.raises(Invalid, match="is missing"):
        await SqliteLog.open(tmp_path)
    assert not (tmp_path / "key").exists()


@pytest.mark.parametrize(("key", "why"), [(b"k" * 32, "not the one"), (b"short", "holds no key"), (b"k" * 33, "holds no key")])
async def test_a_wrong_key_is_told_from_a_damaged_log(tmp_path: Path, key: bytes, why: str) -> None:
    await filled(tmp_path)
    (tmp_path / "key").write_bytes(key)
    with pytest.raises(Invalid, match=why):
        await SqliteLog.open(tmp_path)


async def test_a_key_whose_database_was_never_made_is_used(tmp_path: Path) -> None:
    await (await SqliteLog.open(tmp_path)).close()
    key = (tmp_path / "key").read_bytes()
    (tmp_path / "skep.db").write_bytes(b"")
    await filled(tmp_path)
    assert (tmp_path / "key").read_bytes() == key


# The schema


async def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path)
    await log.close()
    (tmp_path / "skep.db").unlink()
    with SqliteHome(tmp_path).database() as database:
        database.execute("CREATE TABLE theirs (a)")
    before = (tmp_path / "skep.db").read_bytes()
    with pytest.raises(Invalid, match="not one of Skep"):
        await SqliteLog.open(tmp_path)
    assert (tmp_path / "skep.db").read_bytes() == before


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    await (await SqliteLog.open(tmp_path)).close()
    (tmp_path / "skep.db").write_text("not a database, but long enough to be taken for one " * 100)
    with pytest.raises(Invalid, match="not a database"):
        await SqliteLog.open(tmp_path)


async def test_a_later_schema_is_refused(tmp_path: Path) -> None:
    await filled(tmp_path)
    with SqliteHome(tmp_path).database() as database:
        database.execute(f"PRAGMA user_version={len(LADDER) + 1}")
    with pytest.raises(Invalid, match="by a later Skep") as caught:
        await SqliteLog.open(tmp_path)
    assert caught.value.fix


async def test_an_earlier_schema_is_brought_up_step_by_step(tmp_path: Path) -> None:
    rows = await filled(tmp_path)
    later = (*LADDER, ("ALTER TABLE session ADD COLUMN colour TEXT", "UPDATE session SET colour = 'red'"))
    database = open_writer(tmp_path / "skep.db", later)
    assert database.execute("SELECT name, colour FROM session").fetchall() == [("s", "red")]
    assert database.execute("PRAGMA user_version").fetchone() == (len(LADDER) + 1,)
    assert database.execute("SELECT blob FROM log").fetchall() == [(row.blob,) for row in rows]
    database.close()


async def test_a_step_that_fails_leaves_the_schema_before_it(tmp_path: Path) -> None:
    rows = await filled(tmp_path)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        open_writer(tmp_path / "skep.db", (*LADDER, ("ALTER TABLE log ADD COLUMN extra", "DROP TABLE no_such")))
    log = await SqliteLog.open(tmp_path)
    assert await log.read("s") == rows
    await log.close()


# Groups, bounds, cancellation


async def test_a_refused_append_spoils_nothing_for_those_that_share_its_commit(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path)
    pens = [await new_session(log, f"s{n}") for n in range(10)]
    jobs = []
    for pen in pens:
        jobs.append(pen.write(b"good"))
        jobs.append(log.append(pen.session, 99, 0, fresh_batch(), 1, b"bad", [("t", b"bad")]))
    # This one fails half way, in the middle of a group: the group is taken back, and each is tried alone.
    jobs.insert(7, log.append("s9", 1, 0, fresh_batch(), 1, b"bad", [("half a surrogate pair: \ud800", b"bad")]))
    answers = await asyncio.gather(*jobs, return_exceptions=True)
    assert sum(isinstance(answer, Head) for answer in answers) == 10
    assert sum(isinstance(answer, Conflict) for answer in answers) == 10
    assert sum(isinstance(answer, Bug) for answer in answers) == 1
    for pen in pens:
        assert [row.blob for row in await log.read(pen.session)] == [b"good"]
        assert await log.archived(pen.session, ["t"]) == {}
    await log.close()


async def test_the_writers_queue_is_bounded_and_says_so(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path)
    await log.create("s", 1)
    answers = await asyncio.gather(*(log.annotate("s", str(n)) for n in range(MOST_WAITING + 5)), return_exceptions=True)
    refused = [answer for answer in answers if answer is not None]
    assert len(refused) == 5
    assert all(isinstance(answer, Exhausted) and answer.fix for answer in refused)
    assert (await log.sessions())[0].note == str(MOST_WAITING - 1)
    await log.annotate("s", "there is room again")
    await log.close()


async def test_a_full_queue_does_not_keep_the_store_from_closing(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path)
    await log.create("s", 1)
    waiting = [asyncio.ensure_future(log.annotate("s", str(n))) for n in range(MOST_WAITING)]
    await asyncio.gather(*waiting, log.close())
    log = await SqliteLog.open(tmp_path)
    assert not log._files.unclean
    assert (await log.sessions())[0].note == str(MOST_WAITING - 1)
    await log.close()


async def test_the_bytes_that_wait_are_bounded(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path)
    entry = bytes(MOST_BYTES // 4)
    pens = [await new_session(log, f"s{n}") for n in range(5)]
    stale = [log.append(pen.session, 99, 0, fresh_batch(), 1, b"", [("t", entry)]) for pen in pens]
    answers = await asyncio.gather(*stale, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Conflict] * 4 + [Exhausted]
    await log.close()


async def test_a_caller_that_goes_away_leaves_the_store_in_order(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path)
    pen = await new_session(log)
    batch = fresh_batch()
    gone = asyncio.create_task(log.append("s", 1, 0, batch, 3, b"written all the same"))
    await asyncio.gather(asyncio.wait([gone], timeout=0), log.sessions())
    gone.cancel()
    await asyncio.wait([gone])
    pen.head = await log.append("s", 1, 0, batch, 3, b"written all the same")
    await pen.write(b"next")
    assert [row.blob for row in await log.read("s")] == [b"written all the same", b"next"]
    await log.close()


# Damage


async def test_a_store_that_was_not_closed_is_checked_and_whole(tmp_path: Path) -> None:
    rows = await left_unclean(tmp_path / "live", tmp_path / "copy")
    log = await SqliteLog.open(tmp_path / "copy")
    assert log._files.unclean
    assert log.damaged == {}
    assert await log.read("s") == rows
    await log.close()
    log = await SqliteLog.open(tmp_path / "copy")
    assert not log._files.unclean
    await log.close()


async def test_after_an_unclean_stop_damaged_sessions_are_named(tmp_path: Path) -> None:
    await left_unclean(tmp_path / "live", tmp_path / "copy")
    home = SqliteHome(tmp_path / "copy")
    home.rewrite("s", home.rows("s")[:-1])
    log = await SqliteLog.open(tmp_path / "copy")
    assert list(log.damaged) == ["s"]
    assert "damaged at event 7" in log.damaged["s"]
    await log.close()
    log = await SqliteLog.open(tmp_path / "copy")
    assert list(log.damaged) == ["s"]
    await log.close()


async def test_after_an_unclean_stop_a_damaged_database_is_refused(tmp_path: Path) -> None:
    await filled(tmp_path, appends=200, size=3000)
    with SqliteHome(tmp_path).database() as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'log'").fetchone()
        database.execute("UPDATE mark SET value = 0 WHERE name = 'clean'")
    with (tmp_path / "skep.db").open("r+b") as file:
        file.seek((root - 1) * 4096 + 8)
        file.write(b"\xff" * 64)
    with pytest.raises(Invalid, match="damaged"):
        await SqliteLog.open(tmp_path)


@pytest.mark.parametrize("seed", range(12))
async def test_a_flipped_bit_is_found_or_harmless_never_read_as_truth(tmp_path: Path, seed: int) -> None:
    await filled(tmp_path, appends=40, size=700)
    before = await everything(tmp_path)
    path, chance = tmp_path / "skep.db", random.Random(seed)
    whole = path.read_bytes()
    found = 0
    for _ in range(10):
        data = bytearray(whole)
        data[chance.randrange(100, len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        told = await everything(tmp_path)
        if isinstance(told, SkepError):
            assert told.fix, told
            found += 1
        else:
            assert told == before
    assert found


async def everything(folder: Path) -> object:
    """What a store tells, or how it refuses."""
    try:
        log = await SqliteLog.open(folder)
        try:
            return await log.read("s"), [entry async for entry in log.archive("s")], await log.latest("s")
        finally:
            await log.close()
    except SkepError as error:
        return error


async def test_a_snapshot_that_is_damaged_under_an_open_store_is_passed_over(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path)
    pen = await new_session(log)
    head = await pen.write()
    await log.snapshot("s", head.seq, b"state")
    spoil(tmp_path / "snapshots" / "1" / str(head.seq))
    assert await log.latest("s") is None
    await log.close()


async def test_a_row_changed_behind_the_writers_back_stops_it(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path)
    pen = await new_session(log)
    await pen.write()
    with SqliteHome(tmp_path).database() as database:
        database.execute("UPDATE session SET epoch = 7")
    with pytest.raises(Conflict, match="behind its writer's back"):
        await pen.write()
    assert len(await asyncio.gather(log.sessions())) == 1
    await log.close()


async def test_another_programs_lock_refuses_an_append_and_the_store_goes_on(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path)
    pen = await new_session(log)
    with SqliteHome(tmp_path).database() as database:
        database.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="another program holds the database: nothing was written"):
            await pen.write()
        database.execute("ROLLBACK")
    await Pen(log, "s").take()
    await log.close()
