"""A disk that answers with errors, and bits that change on it: what was accepted is kept, and nothing false is read as truth."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from skep.errors import SkepError
from skep.store.sqlite import SqliteLog
from tests.store.scribe import EVENTS, blob
from tests.torture.amounts import amount, dice
from tests.torture.checker import check
from tests.torture.test_kills import finish, load
from tests.workspace.repository import Repository

SCRIBE = Path(__file__).parents[1] / "store" / "scribe.py"


async def test_an_io_error_at_any_write_or_sync(repo: Repository, effects: Path, tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("needs strace: input/output errors under a session were not tested")
    die, notes, count = dice("io-errors"), tmp_path / "notes", amount("io-errors")
    hit = 0
    for number in range(count):
        call, most = die.choice([("fdatasync", 60), ("pwrite64", 400)]) if number else ("fdatasync", 12)  # the first one hits
        fault = ("-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when={die.randrange(1, most)}")
        wrapper = (strace, "-f", "-o", os.devnull, *fault)
        async with load(repo, notes, effects, number + 4, wrapper=wrapper, env={"GIVE_UP": "1"}) as client:
            with contextlib.suppress(AssertionError):
                await client.said("settled")
            hit += await client.process.wait() != 0
        if number % 20 == 19:
            await finish(repo, notes, effects, number + 4)
            assert await check(repo.top, [notes], effects) == []
    assert hit
    await finish(repo, notes, effects, count + 4)
    assert await check(repo.top, [notes], effects) == []


async def test_a_bit_that_flips_in_the_database_its_log_or_a_checkpoint(tmp_path: Path) -> None:
    """Found, or harmless. In the log of SQLite (`-wal`) it may also cut the end off: SQLite takes it for the end of what was
    written before a crash, and the seal of the end lies in the same file."""
    die = dice("bit-flips")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    killed_scribe(whole, 2_000)
    targets = [whole / "skep.db", whole / "skep.db-wal", *(path for path in whole.glob("snapshots/*/*") if path.is_file())]
    assert len(targets) > 2
    assert all(path.stat().st_size for path in targets)
    shutil.copytree(whole, broken)
    truth = await told(broken)
    assert isinstance(truth, dict)
    found = 0
    for _ in range(amount("bit-flips")):
        shutil.rmtree(broken)
        shutil.copytree(whole, broken)
        target = broken / die.choice(targets).relative_to(whole)
        data = bytearray(target.read_bytes())
        data[die.randrange(len(data))] ^= 1 << die.randrange(8)
        target.write_bytes(data)
        now = await told(broken)
        if isinstance(now, SkepError):
            assert now.fix, now
            found += 1
        elif target.suffix == ".db-wal":
            assert all(last <= truth[session] for session, last in now.items())
        else:
            assert now == truth, target
    assert found


def killed_scribe(folder: Path, lines: int) -> None:
    """Fills a store, and leaves it as kill -9 does."""
    process = subprocess.Popen([sys.executable, str(SCRIBE), str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    list(islice(process.stdout, lines))
    process.kill()
    process.communicate()


async def told(folder: Path) -> dict[str, int] | SkepError:
    """The end of every log of a scribe's store, or how the store refuses. What it tells is what was written, or it fails."""
    try:
        log = await SqliteLog.open(folder)
        try:
            found = {}
            for row in await log.sessions():
                head = await log.verify(row.session)
                for append in await log.read(row.session, limit=1_000_000):
                    assert append.blob == blob(row.session, append.first)
                latest = await log.latest(row.session)
                assert latest is None or latest[1] == blob(row.session, latest[0] - EVENTS + 1)
                found[row.session] = head.seq
            return found
        finally:
            await log.close()
    except SkepError as error:
        return error
