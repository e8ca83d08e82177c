"""The store fails under a running session: callers hear that the outcome is unknown, nothing is lost, nothing runs twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

import skep
from skep.core import state
from skep.runtime import loop
from skep.store import chain
from tests.runtime import calls
from tests.runtime.faults import FaultyLog, with_faults
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository

COUNT = 'echo ran >> "$COUNTS/$SKEP_TASK"'


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> list[FaultyLog]:
    return with_faults(monkeypatch)


@pytest.fixture
def counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where tasks count their own runs, a file each."""
    folder = tmp_path / "counts"
    folder.mkdir()
    return folder


def counting(counts: Path, run: str = COUNT) -> skep.Task:
    return skep.Task(run=run, env={"COUNTS": str(counts)}, mode="none")


def runs(counts: Path) -> dict[str, int]:
    return {path.name: len(path.read_text().splitlines()) for path in counts.iterdir()}


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_submission_whose_append_fails_may_be_repeated_and_counts_once(
    repo: Repository, logs: list[FaultyLog], counts: Path, fault: str
) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        logs[0].appends.append(fault)
        with pytest.raises(skep.Unavailable, match="outcome unknown"):
            await session.submit(counting(counts), key="mine")
        handle = await session.submit(counting(counts), key="mine")
        assert (await handle.result()).ok
        assert (await session.status()).counts == {"done": 1}
    assert runs(counts) == {handle.id: 1}


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_reports_survive_a_failed_append_and_nothing_starts_twice(
    repo: Repository, logs: list[FaultyLog], counts: Path, fault: str
) -> None:
    async with skep.open(repo.top, agents=8) as hive:
        session = await hive.session("bench")
        for _ in range(3):
            handles = await session.submit_many(counting(counts) for _ in range(8))
            logs[0].appends.extend(["", fault, "", fault, fault])
            results = await session.gather(handles)
            assert [result.state for result in results] == ["done"] * 8
            logs[0].appends.clear()
    assert logs[0].struck >= 3
    # A process whose record failed was never let go, and is tried again; one that ran is not.
    assert runs(counts) == {f"t{n}": 1 for n in range(1, 25)}


async def test_callables_in_this_process_do_not_run_twice_either(repo: Repository, logs: list[FaultyLog]) -> None:
    global _called
    _called = []
    async with skep.open(repo.top, agents=600) as hive:
        session = await hive.session("bench")
        logs[0].appends.extend(["", "", "before", "after", "before"] * 3)
        handles: list[skep.Handle] = []
        while len(handles) < 3_000:
            try:
                handles += await session.submit_many(
                    (skep.Task(call=__name__ + ":note", args={"n": n}) for n in range(len(handles), len(handles) + 1_000)),
                    key=f"part {len(handles)}",
                )
            except skep.Unavailable:
                continue
        results = await session.gather(handles)
    assert [result.value for result in results] == list(range(3_000))
    assert sorted(_called) == list(range(3_000))
    assert logs[0].struck >= 3


async def test_a_callable_under_way_is_not_begun_again_when_the_state_is_read_again(
    repo: Repository, logs: list[FaultyLog]
) -> None:
    calls.gate.clear()
    calls.passed.clear()
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        handles = await session.submit_many(skep.Task(call="tests.runtime.calls:wait_at_gate") for _ in range(3))
        for fault in ("before", "after"):
            logs[0].appends.append(fault)
            with pytest.raises(skep.Unavailable):
                await session.checkpoint(fault)
            await session.status()
        calls.gate.set()
        assert {result.value for result in await session.gather(handles)} == {"through"}
    assert len(calls.passed) == 3


async def test_a_process_that_could_not_be_recorded_is_never_let_go(
    repo: Repository, logs: list[FaultyLog], counts: Path
) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        for number in range(2):
            logs[0].appends.extend(["", "before"])  # the submission; the record of the process
            handle = await session.submit(counting(counts, "echo $SKEP_ATTEMPT >> $COUNTS/$SKEP_TASK"))
            result = await handle.result()
            assert (result.state, result.attempts) == ("done", 2)
            assert (counts / handle.id).read_text() == "2\n", number


_called: list[int] = []


def note(n: int) -> int:
    """A task that leaves a trace."""
    _called.append(n)
    return n


async def test_while_the_store_is_away_callers_hear_so_and_work_goes_on_when_it_is_back(
    repo: Repository, logs: list[FaultyLog], counts: Path, gate: Gate
) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        task = counting(counts, f"{COUNT}; {gate.PASS}")
        running = await session.submit(replace(task, env=task.env | gate.env))
        await gate.begun()
        logs[0].appends.extend(["before"])
        logs[0].refused = 3
        with pytest.raises(skep.Unavailable, match="outcome unknown: the disk went away"):
            await session.pause()
        with pytest.raises(skep.Unavailable, match="nothing of this was done: the disk is still away"):
            await session.pause()
        gate.go()
        assert (await running.result()).ok
        assert (await (await session.submit(counting(counts))).result()).ok
    assert logs[0].refused == 0
    assert runs(counts) == {"t1": 1, "t2": 1}


async def test_a_store_that_does_not_come_back_ends_the_session_here_and_whoever_waits_hears_why(
    repo: Repository, logs: list[FaultyLog], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "PATIENCE", 0.2)
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        running = await session.submit(skep.Task(run=gate.PASS, env=gate.env, mode="none"))
        await gate.begun()
        waiting = [asyncio.ensure_future(wait) for wait in (running.result(), session.settled())]
        logs[0].appends.extend(["before"])
        logs[0].refused = 1_000
        with pytest.raises(skep.Unavailable):
            await session.checkpoint("x")
        for wait in waiting:
            with pytest.raises(skep.Unavailable, match="the disk is still away"):
                await wait
        logs[0].refused = 0
        assert (await session.status()).seq > 0
    async with skep.open(repo.top) as hive:
        await (await hive.session("bench")).cancel("t1")


async def test_what_is_too_large_for_the_log_is_refused_and_harms_nobody_else(
    repo: Repository, logs: list[FaultyLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "LARGEST_APPEND", 20_000)
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        small = [skep.Task(call="tests.runtime.calls:echo", args={"n": n, "text": "x" * 3_000}) for n in range(12)]
        large = skep.Task(call="tests.runtime.calls:echo", args={"text": "x" * 30_000})
        told = await asyncio.gather(*(session.submit(task) for task in [*small, large]), return_exceptions=True)
        assert isinstance(told.pop(), skep.Exhausted)
        results = await session.gather(handle for handle in told if isinstance(handle, skep.Handle))
        assert [result.value["n"] for result in results] == list(range(12))


@pytest.mark.parametrize("why", [skep.Unavailable("no room"), chain.no_boundary("bench", 3)], ids=["no room", "events lost"])
async def test_a_snapshot_that_cannot_be_kept_harms_nothing(
    repo: Repository, logs: list[FaultyLog], why: skep.SkepError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "WORTH_ONE", 1)
    async with skep.open(repo.top) as hive:
        logs[0].no_snapshots = why
        session = await hive.session("bench")
        assert (await (await session.submit(skep.Task(call="tests.runtime.calls:later", args={"n": 1}))).result()).value == 2
    assert logs[0].struck > 0
    async with skep.open(repo.top) as hive:
        assert (await (await hive.find("bench")).task("t1")).state == "done"


async def test_whoever_waits_hears_also_of_tasks_that_end_and_leave_at_once(
    hive: skep.Skep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "KEEP_FINISHED", 10)
    session = await hive.session("bench")
    first = await session.submit(skep.Task(call="tests.runtime.calls:wait_forever"))
    others = await session.submit_many(skep.Task(call="tests.runtime.calls:pid", needs=(first.id,)) for _ in range(500))
    waiting = asyncio.ensure_future(session.gather([first, *others]))
    fallen = await session.cancel(first.id, subtree=True)
    assert len(fallen) == 501
    assert {result.state for result in await waiting} == {"cancelled"}
    assert (await session.task(others[0].id)).state == "cancelled"
