"""Memory in SQLite: the contract, and what only a file can do wrong."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from skep.disk.database import DURABILITY
from skep.disk.writer import MOST_WAITING
from skep.errors import Conflict, Exhausted, Invalid, SkepError
from skep.memory import Change, Record
from skep.memory.bank import Bank
from skep.memory.draft import Draft
from skep.memory.sqlite import SqliteStore
from tests.contracts.memory import MemoryContract, fresh
from tests.memory.homes import SqliteHome


class TestSqliteStore(MemoryContract):
    home = SqliteHome


async def filled(folder: Path, count: int = 200) -> list[Record]:
    """Keeps so many records in namespace `n` and closes it; what is there."""
    store = await SqliteStore.open(folder)
    await store.commit([fresh(f"k{number:04}", f"value {number} " * 30) for number in range(count)])
    found = await store.page("n", limit=count)
    await store.close()
    return found


async def left_unclean(folder: Path, copy: Path) -> list[Record]:
    """What a crash leaves, in `copy`: files with a writer that never closed them."""
    store = await SqliteStore.open(folder)
    await store.commit([fresh(f"k{number}") for number in range(10)])
    found = await store.page("n")
    shutil.copytree(folder, copy)
    await store.close()
    return found


# What is made


async def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "deep" / "state")
    await store.commit([fresh("k")])
    found = list((tmp_path / "deep" / "state").iterdir())
    assert {path.name for path in found} == {"memory.lock", "memory.db", "memory.db-shm", "memory.db-wal"}
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    await store.close()


async def test_every_durability_setting_holds_in_the_connection_that_writes(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    for pragma, wanted in DURABILITY.items():
        assert store._files.writer.execute(f"PRAGMA {pragma}").fetchone() == (wanted,)
    for reader in (store._files.near, store._files.far):
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("DELETE FROM record")
    await store.close()


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    with pytest.raises(Conflict, match="another process works with the memory"):
        await SqliteStore.open(tmp_path)
    await store.close()
    await (await SqliteStore.open(tmp_path)).close()


async def test_reading_all_the_time_does_not_keep_the_write_ahead_log_from_shrinking(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit([fresh("first")])
    for number in range(150):
        asked = [store.commit([fresh(f"k{number}", "x" * 200_000)]), store.page("n", limit=3), store.changes("n", limit=3)]
        await asyncio.gather(*asked, *(store.get("n", "first") for _ in range(20)))
    assert (tmp_path / "memory.db").stat().st_size > 20 * 2**20
    assert (tmp_path / "memory.db-wal").stat().st_size < 8 * 2**20
    await store.close()


async def test_a_large_namespace_is_dropped_while_others_are_written(tmp_path: Path) -> None:
    await filled(tmp_path, 5_000)
    store = await SqliteStore.open(tmp_path)
    dropped = asyncio.ensure_future(store.drop("n"))
    number = 0
    while not dropped.done():
        await store.commit([fresh(f"k{number}", namespace="other")])
        number += 1
    await dropped
    assert number > 1
    await store.close()
    with SqliteHome(tmp_path).database() as database:
        assert database.execute("SELECT count(*) FROM record").fetchone() == (number,)
        assert database.execute("SELECT name FROM namespace").fetchall() == [("other",)]


async def test_a_drop_that_was_cut_short_is_finished_when_it_is_opened(tmp_path: Path) -> None:
    await filled(tmp_path)
    with SqliteHome(tmp_path).database() as database:
        database.execute("UPDATE namespace SET name = NULL")
    store = await SqliteStore.open(tmp_path)
    assert await store.heads() == {}
    await store.close()
    with SqliteHome(tmp_path).database() as database:
        assert database.execute("SELECT count(*) FROM record").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM namespace").fetchone() == (0,)


async def test_what_may_wait_is_bounded_and_says_so(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    changes = [fresh(f"k{number}") for number in range(MOST_WAITING + 5)]
    answers = await asyncio.gather(*(store.commit([change]) for change in changes), return_exceptions=True)
    refused = [answer for answer in answers if answer is not None]
    assert len(refused) == 5
    assert all(isinstance(answer, Exhausted) and answer.fix for answer in refused)
    assert len(await store.page("n", limit=20_000)) == MOST_WAITING
    await store.close()


# Damage


async def test_a_memory_that_was_not_closed_is_checked_and_whole(tmp_path: Path) -> None:
    before = await left_unclean(tmp_path / "live", tmp_path / "copy")
    store = await SqliteStore.open(tmp_path / "copy")
    assert await store.page("n") == before
    await store.close()


async def test_after_an_unclean_stop_a_damaged_file_is_refused(tmp_path: Path) -> None:
    await filled(tmp_path)
    with SqliteHome(tmp_path).database() as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'record'").fetchone()
        database.execute("UPDATE mark SET value = 0 WHERE name = 'clean'")
    with (tmp_path / "memory.db").open("r+b") as file:
        file.seek((root - 1) * 4096 + 8)
        file.write(b"\xff" * 64)
    with pytest.raises(Invalid, match="damaged"):
        await SqliteStore.open(tmp_path)


@pytest.mark.parametrize("content", [b"no database at all " * 100, b"\0" * 5000])
async def test_what_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "memory.db").write_bytes(content)
    with pytest.raises(Invalid):
        await SqliteStore.open(tmp_path)
    assert (tmp_path / "memory.db").read_bytes() == content


async def test_a_database_of_a_later_skep_or_of_another_program_is_refused(tmp_path: Path) -> None:
    await filled(tmp_path)
    with SqliteHome(tmp_path).database() as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(Invalid, match="later Skep"):
        await SqliteStore.open(tmp_path)
    with SqliteHome(tmp_path).database() as database:
        database.execute("PRAGMA application_id = 5")
    with pytest.raises(Invalid, match="not one of Skep"):
        await SqliteStore.open(tmp_path)


@pytest.mark.parametrize(
    "damage",
    ["body = x'00'", "body = substr(body, 1, 40)", "body = 'text'", "body = (SELECT body FROM record WHERE key = 'k0001')"],
)
async def test_a_record_that_is_damaged_is_never_returned(tmp_path: Path, damage: str) -> None:
    before = await filled(tmp_path)
    with SqliteHome(tmp_path).database() as database:
        database.execute(f"UPDATE record SET {damage} WHERE key = 'k0002'")
    store = await SqliteStore.open(tmp_path)
    for call in (store.get("n", "k0002"), store.page("n"), store.changes("n")):
        with pytest.raises(Invalid, match="'k0002' in 'n' is damaged"):
            await call
    assert await store.get("n", "k0003") == before[3]
    assert await store.page("n", "k0002", 5) == before[3:8]
    await store.close()


@pytest.mark.parametrize("seed", range(8))
async def test_what_is_read_after_a_bit_was_flipped_is_what_was_written(tmp_path: Path, seed: int) -> None:
    """Or it is refused. What damage hides is not noticed before the file is checked, after an unclean stop."""
    before = await filled(tmp_path)
    path, chance = tmp_path / "memory.db", random.Random(seed)
    whole = path.read_bytes()
    refused = 0
    for _ in range(10):
        data = bytearray(whole)
        data[chance.randrange(100, len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        told = await everything(tmp_path, before)
        if isinstance(told, SkepError):
            assert told.fix, told
            refused += 1
        else:
            assert all(record in before for record in told)
    assert refused


async def everything(folder: Path, asked: list[Record]) -> list[Record] | SkepError:
    """What a memory tells, or how it refuses."""
    try:
        store = await SqliteStore.open(folder)
        try:
            single = [await store.get("n", record.key) for record in asked[:20]]
            return [*(record for record in single if record), *await store.page("n", limit=500)]
        finally:
            await store.close()
    except SkepError as error:
        return error


async def test_a_bank_reads_what_a_caller_wrote_who_went_away(tmp_path: Path) -> None:
    bank = Bank(await SqliteStore.open(tmp_path), lambda: 1_700_000_000_000)
    try:
        for number in range(20):
            draft = Draft(namespace="n", key=f"k{number}", value=1)
            await bank.store(draft)
            asked = asyncio.create_task(bank.store(replace(draft, value=2)))
            await asyncio.wait([asked], timeout=0)
            asked.cancel()
            await asyncio.wait([asked])
            await bank.record("n", draft.key)  # which the cache keeps
            await bank.store(replace(draft, key="behind it"))
            kept = await bank.store_below.get("n", draft.key)
            assert await bank.record("n", draft.key) == kept
    finally:
        await bank.close()


async def test_a_copy_of_a_folder_writes_under_a_name_of_its_own(tmp_path: Path) -> None:
    writers = []
    for folder in ("one", "one", "copy", "copy"):
        if not (tmp_path / folder).exists() and folder == "copy":
            shutil.copytree(tmp_path / "one", tmp_path / folder)
        store = await SqliteStore.open(tmp_path / folder)
        writers.append(store.writer)
        await store.close()
    assert writers[0] == writers[1] != writers[2] == writers[3]


async def test_what_is_kept_in_one_turn_of_the_loop_is_one_transaction(tmp_path: Path) -> None:
    store, said = await SqliteStore.open(tmp_path), list[str]()
    store._files.writer.set_trace_callback(said.append)
    records = [Record(namespace="n", key=f"k{number}", clock={"w": 1}) for number in range(50)]
    await asyncio.gather(*(store.commit([Change(record)]) for record in records))
    assert sum(one.startswith("BEGIN") for one in said) == 1
    assert [await store.get("n", one.key) for one in records] == records
    await store.close()


async def test_a_change_that_came_after_a_read_of_the_same_turn_is_read(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    record = Record(namespace="n", key="k", clock={"w": 1})
    assert await store.get("n", "k") is None
    await store.commit([Change(record)])
    assert await store.get("n", "k") == record
    await store.close()
