"""Sessions as a whole: found by name, paused, closed, forked, restored, carried elsewhere, read again after they were closed."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import skep
from skep.core import state
from skep.core.apply import replay
from skep.runtime import loop
from skep.runtime.copies import events_until
from skep.runtime.names import Known
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository

PID = "tests.runtime.calls:pid"


async def test_a_session_is_found_by_name_again_and_again(repo: Repository) -> None:
    async with skep.open(repo.top) as hive:
        with pytest.raises(skep.NotFound, match="there is no session here"):
            await hive.find()
        one, two = await hive.session("one"), await hive.session("two")
        await one.submit(skep.Task(call=PID, id="x"))
        assert (await one.results(["x"]))[0].ok
        assert [brief.name for brief in await hive.sessions()] == ["one", "two"]
        assert (await hive.find()).name == two.name
        with pytest.raises(skep.NotFound, match=r"no session 'three'"):
            await hive.find("three")
    async with skep.open(repo.top) as hive:
        brief = (await hive.sessions())[0]
        assert (brief.name, brief.state, brief.tasks, brief.done, brief.live) == ("one", "completed", 1, 1, False)
        assert (await (await hive.find("one")).task("x")).state == "done"
        assert (await hive.who()).sessions == []


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 101, "-x", "a/b", "a\u0308", "@", "a@1"])
async def test_names_that_cannot_be_typed_are_refused_and_leave_nothing(hive: skep.Skep, name: str) -> None:
    with pytest.raises(skep.Invalid, match="no name for a session"):
        await hive.session(name)
    assert await hive.sessions() == []


async def test_a_plan_that_can_never_work_leaves_no_session(hive: skep.Skep) -> None:
    bad = skep.Plan(name="p", tasks=(skep.Task(id="a", run="true", needs=("b",)), skep.Task(id="b", run="true", needs=("a",))))
    with pytest.raises(skep.Invalid):
        await hive.start(bad)
    assert await hive.sessions() == []
    assert (await hive.start(skep.Plan(name="p", tasks=(skep.Task(id="a", run="true"),)))).name == "p-1"


async def test_an_unfinished_session_of_a_file_is_not_begun_twice(hive: skep.Skep, gate: Gate) -> None:
    plan = skep.Plan(name="p", source="/x/p.yaml", tasks=(skep.Task(id="a", run=gate.PASS, env=gate.env, mode="none"),))
    session = await hive.start(plan)
    with pytest.raises(skep.Conflict, match="p-1 of this file is unfinished"):
        await hive.start(plan)
    assert (await hive.start(plan, new=True)).name == "p-2"
    await gate.begun(2)
    gate.go(2)
    await session.settled()
    await (await hive.find("p-2")).settled()
    assert (await hive.start(plan)).name == "p-3"


async def test_waiting_for_what_a_paused_session_will_not_begin_is_refused(session: skep.Session, gate: Gate) -> None:
    done = await session.submit(skep.Task(call=PID))
    assert (await done.result()).ok
    fork = await session.fork()
    assert (await fork.results([done.id]))[0].ok
    handle = await fork.submit(skep.Task(run="true", mode="none"))
    with pytest.raises(skep.Unavailable, match=f"{fork.name} is paused: a copy of bench; nothing runs until") as error:
        await handle.result()
    assert "resume" in error.value.fix
    await fork.resume()
    assert (await handle.result()).ok


async def test_whoever_waits_outlasts_a_pause(session: skep.Session, gate: Gate) -> None:
    task = skep.Task(run=gate.PASS, env=gate.env, mode="none", locks=("one",))
    first, second = await session.submit_many([task, task])
    await gate.begun()
    waiting = asyncio.ensure_future(second.result())
    await session.pause()
    gate.go()
    assert (await first.result()).ok
    await session.settled()
    await session.resume()
    await gate.begun()
    gate.go()
    assert (await waiting).ok


async def test_pausing_lets_run_what_runs_and_starts_nothing_new(session: skep.Session, gate: Gate) -> None:
    handles = await session.submit_many(skep.Task(run=gate.PASS, env=gate.env, mode="none", locks=("one",)) for _ in range(2))
    await gate.begun()
    await session.pause()
    gate.go()
    assert (await handles[0].result()).ok
    view = await session.settled()
    assert (view.state, view.idle, [task.state for task in view.tasks]) == (
        "paused",
        "paused: paused by a person",
        ["done", "ready"],
    )
    await session.resume()
    await gate.begun()
    gate.go()
    assert (await handles[1].result()).ok


async def test_closing_a_session_cancels_what_is_open_and_is_for_good(session: skep.Session, gate: Gate) -> None:
    await session.submit_many(
        [skep.Task(call=PID), skep.Task(run=gate.PASS, env=gate.env, mode="none"), skep.Task(run="x", needs=("t2",))]
    )
    await gate.begun()
    await session.close()
    view = await session.settled()
    assert (view.state, [task.state for task in view.tasks][1:]) == ("closed", ["cancelled", "cancelled"])
    for refused in (session.submit(skep.Task(call=PID)), session.resume(), session.pause(), session.retry("t2")):
        with pytest.raises(skep.Conflict, match="closed"):
            await refused
    assert (await session.task("t2")).state == "cancelled"


async def test_closing_the_workspace_interrupts_what_runs_and_the_next_owner_goes_on(repo: Repository, gate: Gate) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        await session.submit(
            skep.Task(id="a", run=f"echo half >> work; {gate.PASS}; echo $SKEP_ATTEMPT", env=gate.env, retries=0)
        )
        await gate.begun()
    assert repo.show("refs/skep/bench/wip/a/1", "work") == "half"
    async with skep.open(repo.top) as hive:
        view = await (await hive.find("bench")).status()
        assert (view.state, view.why, view.live, view.tasks[0].state) == ("paused", "its owner was closed", False, "ready")
        session = await hive.session("bench")
        await gate.begun()
        gate.go()
        (result,) = await session.results(["a"])
        assert (result.value, result.state) == ("2", "done")


async def test_a_fork_goes_on_by_itself_with_refs_of_its_own(session: skep.Session, repo: Repository) -> None:
    await session.submit(skep.Task(id="a", run="echo a > a"))
    assert (await session.results(["a"]))[0].ok
    number = await session.checkpoint("after-a")
    await session.submit(skep.Task(id="b", run="echo b > b"))
    assert (await session.results(["b"]))[0].ok
    fork = await session.fork("after-a")
    view = await fork.status()
    assert (fork.name, view.state, view.origin, [task.id for task in view.tasks]) == ("bench-1", "completed", "bench", ["a"])
    assert view.seq > number
    assert repo.files("refs/skep/bench-1/main") == {".gitignore", "a.txt", "src/app.py", "a"}
    await fork.resume()
    await fork.submit(skep.Task(id="c", run="cat a; echo c > c"))
    assert (await fork.results(["c"]))[0].ok
    assert repo.files("refs/skep/bench-1/main") == {".gitignore", "a.txt", "src/app.py", "a", "c"}
    assert repo.files("refs/skep/bench/main") == {".gitignore", "a.txt", "src/app.py", "a", "b"}
    again = await session.fork(str(number))
    assert again.name == "bench-2"
    for bad in ("nothing", "0", "99999"):
        with pytest.raises(skep.NotFound):
            await session.fork(bad)


async def test_a_fork_of_a_running_session_voids_its_attempts(session: skep.Session, gate: Gate) -> None:
    await session.submit(skep.Task(id="a", run=f"{gate.PASS}; echo $SKEP_SESSION", env=gate.env))
    await gate.begun()
    fork = await session.fork()
    view = await fork.status()
    assert (view.state, view.tasks[0].state, view.tasks[0].pid) == ("paused", "ready", 0)
    await fork.resume()
    await gate.begun()
    gate.go(2)
    assert [(await one.results(["a"]))[0].value for one in (session, fork)] == ["bench", "bench-1"]


async def test_restoring_switches_the_name_and_rewinds_nothing(repo: Repository, gate: Gate) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        await session.submit(skep.Task(id="good", run="echo g > g"))
        assert (await session.results(["good"]))[0].ok
        await session.checkpoint("good")
        await session.submit(skep.Task(id="bad", run=f"echo b > b; {gate.PASS}", env=gate.env))
        await gate.begun()
        restored = await session.restore("good")
        old_name, new_name = (brief.name for brief in await hive.sessions())
        assert (new_name, old_name.startswith("bench@")) == ("bench", True)
        found = await hive.find("bench")
        assert [task.id for task in (await found.status()).tasks] == ["good"]
        old = await hive.find(old_name)
        view = await old.status()
        assert (view.state, sorted(task.id for task in view.tasks)) == ("paused", ["bad", "good"])
        assert repo("for-each-ref", "refs/skep/bench/wip")
        await restored.resume()
        await restored.submit(skep.Task(id="better", run="cat g"))
        assert (await restored.results(["better"]))[0].value == "g"
    async with skep.open(repo.top) as hive:
        names = [brief.name for brief in await hive.sessions()]
        assert names[1] == "bench"
        assert names[0].startswith("bench@")
        assert {task.id for task in (await (await hive.find("bench")).status()).tasks} == {"good", "better"}
        assert (await (await hive.session("bench")).status()).session == "bench-1"


async def test_an_exported_session_is_the_same_elsewhere_and_starts_nothing(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "KEEP_FINISHED", 4)
    monkeypatch.setattr(state, "LEAVE_TOGETHER", 2)
    file = tmp_path / "bench.skep"
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        await session.submit(skep.Task(id="out", run="echo kept > $SKEP_OUT/o; echo x > x", outputs={"o": "o"}))
        await session.gather(await session.submit_many(skep.Task(call=PID) for _ in range(20)))
        await session.submit(skep.Task(id="open", run=f"touch {tmp_path}/ran", needs=("out",), approve="before"))
        await session.settled()
        size = await session.export(file)
        assert size == file.stat().st_size
        before = await session.status()
    other = Repository(tmp_path / "other")
    other.commit({"unrelated": "file"})
    async with skep.open(other.top) as hive:
        loaded = await hive.load(file)
        view = await loaded.status()
        assert (view.name, view.state, view.origin) == ("bench-1", "paused", "bench")
        assert "copy of bench" in view.why
        assert view.counts["done"] == before.counts["done"]
        for task in ("out", "t2", "t21"):
            assert (await loaded.task(task)).state == "done"
        assert other.files("refs/skep/bench-1/main") == {".gitignore", "a.txt", "src/app.py", "x"}
        assert (await hive.who()).sessions == []
    assert not (tmp_path / "ran").exists()
    async with skep.open(other.top) as hive:
        loaded = await hive.find("bench-1")
        await loaded.resume()
        await loaded.settled()
        await loaded.answer("open", "approve")
        assert (await loaded.results(["open"]))[0].ok
    assert (tmp_path / "ran").exists()


async def test_a_damaged_file_is_refused_and_nothing_of_it_stays(hive: skep.Skep, session: skep.Session, tmp_path: Path) -> None:
    await session.submit(skep.Task(id="a", run="echo x > x; echo o > $SKEP_OUT/o", outputs={"o": "o"}))
    assert (await session.results(["a"]))[0].ok
    file = tmp_path / "whole.skep"
    await session.export(file)
    whole = file.read_bytes()
    bad = tmp_path / "bad.skep"
    for content in [
        b"",
        b"PK",
        whole[:-1],
        whole[: len(whole) // 2],
        whole[: len(whole) // 2] + b"x" + whole[len(whole) // 2 + 1 :],
    ]:
        bad.write_bytes(content)
        with pytest.raises(skep.Invalid):
            await hive.load(bad)
    changes: dict[str, Callable[[bytes], bytes]] = {
        "log": lambda data: data[:-1],
        "commits": lambda data: data[:-9],
        "archive": lambda data: b"\xff",
        "manifest.json": lambda data: data.replace(b'"format":2', b'"format":99'),
    }
    for member, change in changes.items():
        with zipfile.ZipFile(file) as source, zipfile.ZipFile(bad, "w") as target:
            for name in source.namelist():
                data = source.read(name)
                target.writestr(name, change(data) if name == member else data)
        with pytest.raises(skep.Invalid):
            await hive.load(bad)
    with pytest.raises(skep.NotFound):
        await hive.load(tmp_path / "missing")
    assert [brief.name for brief in await hive.sessions()] == ["bench"]
    with pytest.raises(skep.Invalid, match="cannot write"):
        await session.export(tmp_path / "no" / "such" / "folder")
    assert sorted(path.name for path in tmp_path.glob("*.skep*")) == ["bad.skep", "whole.skep"]
    assert (await hive.load(file)).name == "bench-1"


async def test_finished_tasks_leave_for_the_archive_and_stay_known(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "KEEP_FINISHED", 10)
    monkeypatch.setattr(state, "LEAVE_TOGETHER", 5)
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        handles = await session.submit_many(
            skep.Task(call="tests.runtime.calls:later", args={"n": n}, id=f"n{n}") for n in range(100)
        )
        assert [result.value for result in await session.gather(handles)] == list(range(1, 101))
        view = await session.status()
        assert len(view.tasks) < 30
        assert view.counts == {"done": 100}
        assert [result.value for result in await session.gather(handles)] == list(range(1, 101))
        assert (await handles[0].view()).result == 1
        after = await session.submit(skep.Task(call=PID, needs=("n0", "n99"), id="after"))
        assert (await after.result()).ok
        with pytest.raises(skep.Conflict, match="'n0'"):
            await session.submit(skep.Task(call=PID, id="n0"))
        with pytest.raises(skep.NotFound):
            await session.results(["n0", "n100"])
    async with skep.open(repo.top) as hive:
        session = await hive.find("bench")
        assert [result.value for result in await session.results([f"n{n}" for n in range(100)])] == list(range(1, 101))


async def test_a_snapshot_and_the_whole_log_give_the_same_session(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 50)
    monkeypatch.setattr(state, "KEEP_FINISHED", 10)
    monkeypatch.setattr(state, "LEAVE_TOGETHER", 5)
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        for _ in range(5):
            await session.gather(await session.submit_many(skep.Task(call=PID) for _ in range(20)))
        await session.submit(skep.Task(id="shell", run="echo x > x"))
        assert (await session.results(["shell"]))[0].ok
    async with skep.open(repo.top) as hive:
        sessions = hive.door._sessions
        assert sessions is not None
        seen = await sessions.live.look("bench", lambda current: (current.seq, current.digest()))
        whole = state.State()
        replay(whole, await events_until(sessions._parts.log, "bench", ""))
        assert seen == (whole.seq, whole.digest())


async def test_a_session_as_it_stood_after_any_event(session: skep.Session) -> None:
    await session.submit(skep.Task(id="a", run="true", mode="none"))
    view = await session.settled()
    states = [[task.state for task in (await session.at(number)).tasks] for number in range(1, view.seq + 1)]
    assert states[0] == []
    assert states[-1] == ["done"]
    assert ["running"] in states
    with pytest.raises(skep.NotFound):
        await session.at(view.seq + 1)


async def test_what_a_dead_owner_was_just_making_is_gone_and_its_name_is_free(repo: Repository) -> None:
    async with skep.open(repo.top) as hive:
        await hive.session("other")
        sessions = hive.door._sessions
        assert sessions is not None
        await sessions._parts.log.create("p-1", 1)
        await sessions._parts.workspace.begin("p-1")
    repo.commit({"later": "commit"})
    async with skep.open(repo.top) as hive:
        assert [brief.name for brief in await hive.sessions()] == ["other"]
        session = await hive.start(skep.Plan(name="p", tasks=(skep.Task(id="a", run="cat later"),)))
        assert session.name == "p-1"
        assert (await session.results(["a"]))[0].value == "commit"


async def test_a_session_that_is_removed_while_all_are_listed_hides_no_other(
    hive: skep.Skep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("version: 1\nname: p\ntasks:\n  a: {run: 'true'}\n")
    await hive.session("there")
    sessions = hive.door._sessions
    assert sessions is not None
    known = await sessions.names.all()
    gone = Known(session="gone", name="gone", source=str(plan), created=1)

    async def read_before_it_went() -> list[Known]:
        return [gone, *known]

    monkeypatch.setattr(sessions.names, "all", read_before_it_went)
    assert [brief.name for brief in await hive.sessions()] == ["there"]
    assert await hive.inbox() == []
    made = skep.Plan(name="p", source=str(plan), tasks=(skep.Task(id="a", run="true"),))
    assert (await hive.start(made)).name == "p-1"


async def test_many_sessions_run_side_by_side(hive: skep.Skep) -> None:
    sessions = [await hive.session(f"s{n}") for n in range(8)]
    for one in sessions:
        await one.submit_many(
            [skep.Task(call=PID, id="a"), skep.Task(run="echo $SKEP_SESSION", mode="none", id="b", needs=("a",))]
        )
    for one in sessions:
        assert (await one.results(["b"]))[0].value == one.name
    assert len((await hive.who()).sessions) == 8
