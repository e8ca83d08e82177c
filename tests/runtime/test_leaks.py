"""Opening and closing: nothing is left of it, whatever happens in between."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from pathlib import Path

import pytest

import skep
from tests.runtime.actors import actor
from tests.runtime.gates import Gate
from tests.runtime.traces import left_behind, open_files
from tests.workspace.repository import Repository


async def once(folder: Path) -> None:
    async with skep.open(folder) as hive:
        session = await hive.session("bench")
        handles = await session.submit_many(
            [
                skep.Task(call="tests.runtime.calls:pid"),
                skep.Task(call="tests.runtime.calls:later", args={"n": 1}),
                skep.Task(run="echo x", mode="none"),
            ]
        )
        assert {result.state for result in await session.gather(handles)} == {"done"}
        following = asyncio.ensure_future(anext(session.follow(after=10**9)))
        async with skep.open(folder) as guest:
            assert not guest.owner
            await (await guest.session("bench")).status()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_nothing_adds_up_when_a_workspace_is_opened_and_closed_many_times(repo: Repository) -> None:
    await once(repo.top)
    gc.collect()
    files, tasks = open_files(), len(asyncio.all_tasks())
    for _ in range(20):
        await once(repo.top)
    gc.collect()
    assert len(open_files()) <= len(files), set(open_files()) - set(files)
    assert len(asyncio.all_tasks()) == tasks
    for thread in threading.enumerate():
        if thread.name.startswith("skep-"):
            thread.join(5)
            assert not thread.is_alive()
    assert left_behind(repo.top) == []


async def test_a_program_that_is_cancelled_in_the_middle_leaves_nothing_running(repo: Repository, gate: Gate) -> None:
    async def program() -> None:
        async with skep.open(repo.top) as hive:
            session = await hive.session("bench")
            await session.submit_many(
                [
                    skep.Task(id="own", run=f"echo half > work; {gate.PASS}", env=gate.env),
                    skep.Task(id="verified", run="touch x", verify=gate.PASS, env=gate.env),
                    skep.Task(id="coroutine", call="tests.runtime.calls:wait_forever"),
                ]
            )
            await session.settled()

    running = asyncio.ensure_future(program())
    await gate.begun(2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert left_behind(repo.top) == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert repo.show("refs/skep/bench/wip/own/1", "work") == "half"
    async with skep.open(repo.top) as hive:
        view = await (await hive.find("bench")).status()
        assert {task.id: (task.state, task.pid) for task in view.tasks} == {
            "own": ("ready", 0),
            "verified": ("running", view.tasks[1].pid),  # a verification is begun again, not the attempt
            "coroutine": ("ready", 0),
        }
        session = await hive.session("bench")
        await session.cancel("coroutine")
        await gate.begun(2)
        gate.go(2)
        assert [result.state for result in await session.results(["own", "verified"])] == ["done", "done"]


async def test_ctrl_c_in_a_program_ends_what_runs_and_keeps_it(repo: Repository, gate: Gate) -> None:
    code = f"""
        session = await hive.session("bench")
        await session.submit(skep.Task(id="a", run="echo half > work; " + {gate.PASS!r}, env={gate.env!r}))
        await session.settled()
    """
    async with actor(repo.top, code) as program:
        await gate.begun()
        program.send(signal.SIGINT)
        assert "KeyboardInterrupt" in await program.complaints()
        await program.process.wait()
        assert left_behind(repo.top) == []
    assert repo.show("refs/skep/bench/wip/a/1", "work") == "half"


async def test_what_cannot_be_opened_leaves_nothing_open(repo: Repository, tmp_path: Path) -> None:
    with pytest.raises(skep.Invalid, match="no folder"):
        async with skep.open(tmp_path / "missing"):
            pass
    (tmp_path / "file").write_text("")
    with pytest.raises(skep.Invalid, match="no folder"):
        async with skep.open(tmp_path / "file"):
            pass
    bare = tmp_path / "bare"
    bare.mkdir()
    repo("init", "-q", "--bare", str(bare))
    gc.collect()
    files = open_files()
    for folder in (bare, repo.top / ".git"):
        for _ in range(3):
            with pytest.raises(skep.SkepError):
                async with skep.open(folder):
                    pass
    (repo.top / ".skep").mkdir()
    (repo.top / ".skep" / "skep.db").write_bytes(b"no database" * 1000)
    for _ in range(3):
        with pytest.raises(skep.SkepError):
            async with skep.open(repo.top):
                pass
    gc.collect()
    assert open_files() == files


async def test_a_closed_workspace_says_so(repo: Repository) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        handle = await session.submit(skep.Task(call="tests.runtime.calls:wait_forever"))
        waiting = asyncio.ensure_future(handle.result())
        following = asyncio.ensure_future(drain(session))
        await session.status()
    with pytest.raises(skep.Unavailable, match="was closed here"):
        await waiting
    await following
    with pytest.raises(RuntimeError, match="async with"):
        await session.status()


async def drain(session: skep.Session) -> None:
    async for _ in session.follow():
        pass
