"""What bounds and orders the work: agents, locks, priorities, conditions, deadlines, time; and who is told of what happens."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

import skep
from skep.core.events import AttemptEnded
from skep.core.terms import Notify
from skep.runtime import live
from tests.runtime import calls
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository


def gated(gate: Gate, **more: object) -> skep.Task:
    return skep.Task(run=gate.PASS, env=gate.env, mode="none", **more)  # type: ignore[arg-type]  # keyword arguments of many kinds


async def test_no_more_attempts_than_the_limit_run_at_once(repo: Repository, gate: Gate) -> None:
    async with skep.open(repo.top, agents=3) as hive:
        session = await hive.session("bench")
        handles = await session.submit_many(gated(gate) for _ in range(7))
        begun = await gate.begun(3)
        for _ in range(4):
            running = [task.id for task in (await session.status()).tasks if task.state == "running"]
            assert len(running) == 3
            gate.go()
            begun += await gate.begun()
        gate.go(3)
        assert sorted(begun) == sorted(handle.id for handle in handles)
        assert {result.state for result in await session.gather(handles)} == {"done"}


async def test_a_lock_has_one_holder_until_its_last_process_is_gone(session: skep.Session, gate: Gate, tmp_path: Path) -> None:
    held = tmp_path / "held"
    script = f"""
        mkdir {held}
        if [ $SKEP_TASK = t1 ]; then (trap '' TERM HUP; read -r _ < "$GATE/never") & fi
        {gate.PASS}
        rmdir {held}
    """
    handles = await session.submit_many(skep.Task(run=script, env=gate.env, locks=("db",), mode="none") for _ in range(3))
    free = await session.submit(skep.Task(run="echo free", mode="none"))
    assert (await free.result()).ok
    for handle in handles:
        assert await gate.begun() == [handle.id]
        gate.go()
        assert (await handle.result()).ok


async def test_higher_priority_goes_first_and_the_older_of_equals(repo: Repository, gate: Gate) -> None:
    async with skep.open(repo.top, agents=1) as hive:
        session = await hive.session("bench")
        await session.submit(gated(gate))
        await gate.begun()
        kinds = ("low", "normal", "critical", "high", "normal", "critical")
        handles = await session.submit_many(gated(gate, priority=kind) for kind in kinds)
        order = []
        for _ in kinds:
            gate.go()
            order += await gate.begun()
        gate.go()
        await session.gather(handles)
    assert order == ["t4", "t7", "t5", "t3", "t6", "t2"]


async def test_conditions_decide_what_is_skipped(hive: skep.Skep) -> None:
    plan = skep.Plan(
        name="p",
        inputs={"mode": "fast"},
        tasks=(
            skep.Task(id="bad", run="exit 1", mode="none"),
            skep.Task(id="good", run="echo yes > $SKEP_OUT/o", outputs={"o": "o"}, mode="none"),
            skep.Task(id="after-bad", run="true", mode="none", needs=("bad",)),
            skep.Task(id="rescue", run="true", mode="none", needs=("bad",), condition="failure()"),
            skep.Task(id="always", run="true", mode="none", needs=("bad", "good"), condition="always()"),
            skep.Task(id="fast", run="true", mode="none", condition="inputs.mode == 'fast'"),
            skep.Task(id="slow", run="true", mode="none", condition="inputs.mode == 'slow'"),
            skep.Task(id="state", run="true", mode="none", needs=("bad",), condition="needs.bad.exit_code == 1 && always()"),
        ),
    )
    session = await hive.start(plan)
    view = await session.settled()
    assert {task.id: task.state for task in view.tasks} == {
        "bad": "failed",
        "good": "done",
        "after-bad": "skipped",
        "rescue": "done",
        "always": "done",
        "fast": "done",
        "slow": "skipped",
        "state": "done",
    }
    assert view.state == "failed"


async def test_items_of_a_foreach_run_at_most_so_many_at_once_and_fail_fast(hive: skep.Skep, gate: Gate) -> None:
    make = skep.Task(id="list", run="seq 1 5 > $SKEP_OUT/l", outputs={"l": "l"}, mode="none")
    each = skep.Foreach(source="needs.list.outputs.l", max_parallel=2, fail_fast=True)
    item = skep.Task(
        id="each", run=f"{gate.PASS}; test $SKEP_ITEM != 2", env=gate.env, mode="none", needs=("list",), foreach=each
    )
    session = await hive.start(skep.Plan(name="p", limits=skep.Limits(agents=8), tasks=(make, item)))
    assert sorted(await gate.begun(2)) == ["each[1]", "each[2]"]
    assert sum(task.pid > 0 for task in (await session.status()).tasks) == 2
    gate.go(2)
    view = await session.settled()
    states = {task.id: task.state for task in view.tasks}
    assert (states["each[2]"], states["each"], states["each[5]"]) == ("failed", "failed", "cancelled")


async def test_what_is_too_late_fails_without_being_started_or_is_ended(session: skep.Session, gate: Gate) -> None:
    now = int(time.time() * 1000)
    late, running = await session.submit_many(
        [gated(gate, deadline=now - 1), skep.Task(run="sleep 300", deadline=now + 500, mode="none")]
    )
    results = await session.gather([late, running])
    assert [(result.state, result.cause) for result in results] == [("failed", "deadline")] * 2
    assert results[0].attempts == 0


async def test_a_session_whose_time_is_used_up_is_paused_and_says_so(hive: skep.Skep, gate: Gate) -> None:
    plan = skep.Plan(name="p", limits=skep.Limits(agents=2, time=0.4), tasks=(skep.Task(id="a", run="sleep 300", mode="none"),))
    session = await hive.start(plan)
    view = await session.settled()
    assert (view.state, view.limit, view.tasks[0].state) == ("paused", True, "ready")


async def test_whoever_waits_for_a_task_hears_that_the_sessions_time_is_used_up(hive: skep.Skep) -> None:
    plan = skep.Plan(name="p", limits=skep.Limits(agents=2, time=0.4), tasks=(skep.Task(id="a", run="sleep 300", mode="none"),))
    session = await hive.start(plan)
    for _ in range(2):
        with pytest.raises(skep.Unavailable, match="session p-1 is paused: time limit reached"):
            await session.results(["a"])


async def test_backoff_parks_a_task_and_it_comes_back(session: skep.Session) -> None:
    task = skep.Task(run="test $SKEP_ATTEMPT = 2", retries=skep.Retries(max=1, backoff=0.3), mode="none")
    handle = await session.submit(task)
    seen = []
    async for _, event in session.follow():
        if isinstance(event, AttemptEnded):
            seen.append(event.then)
        if len(seen) == 2:
            break
    assert seen == ["parked", "done"]
    assert (await handle.result()).attempts == 2


async def test_those_who_want_to_be_told_are_told_with_json_on_standard_input(
    hive: skep.Skep, gate: Gate, tmp_path: Path
) -> None:
    told = gate.folder / "begun"
    plan = skep.Plan(
        name="p",
        notify=(
            Notify(on=("failed", "needs-you"), run=f'echo "$(cat)" > {told}'),
            Notify(on=("done",), run=("sh", "-c", f'echo "$(cat)" > {told}')),
            Notify(on=("failed",), run="exit 3"),
            Notify(on=("failed",), run=("/no/such/program",)),
            Notify(on=("needs-you",), run=f"touch {tmp_path}/late", after=300),
        ),
        tasks=(
            skep.Task(id="bad", run="echo why; exit 2", mode="none"),
            skep.Task(id="ask", run="true", mode="none", approve="before"),
            skep.Task(id="good", run="true", mode="none"),
        ),
    )
    session = await hive.start(plan)
    found = {line["task"]: line for line in map(json.loads, await gate.begun(3))}
    assert found["bad"] == {
        "version": 1,
        "session": "p-1",
        "on": "failed",
        "task": "bad",
        "question": "",
        "asks": [],
        "questions": [],
        "cause": "exit",
        "detail": "exit code 2: why",
    }
    assert (found["ask"]["on"], found["ask"]["question"]) == ("needs-you", "approve before")
    assert found["good"]["on"] == "done"
    await session.settled()
    assert not (tmp_path / "late").exists()


async def test_resources_are_booked_and_what_could_never_fit_is_refused(session: skep.Session, gate: Gate) -> None:
    with pytest.raises(skep.Invalid, match="more than any node has"):
        await session.submit(skep.Task(run="true", resources=skep.Resources(cpu=1e6)))
    whole = skep.Resources(memory=int(0.6 * total_memory()))
    handles = await session.submit_many(gated(gate, resources=whole) for _ in range(2))
    assert await gate.begun() == ["t1"]
    assert [task.state for task in (await session.status()).tasks] == ["running", "ready"]
    gate.go()
    assert await gate.begun() == ["t2"]
    gate.go()
    assert {result.state for result in await session.gather(handles)} == {"done"}


async def test_sessions_of_one_machine_never_have_more_of_it_than_there_is(hive: skep.Skep, gate: Gate, tmp_path: Path) -> None:
    """Every task notes how many are at it when it begins; of a third of the memory each, there is room for three."""
    third = skep.Resources(memory=total_memory() // 3)
    at_it = tmp_path / "at-it"
    at_it.mkdir()
    script = f"touch {at_it}/$$; ls {at_it} | wc -l > $SKEP_OUT/n; {gate.PASS}; rm {at_it}/$$"
    sessions = [await hive.session(name) for name in ("one", "two")]
    task = skep.Task(run=script, env=gate.env, mode="none", resources=third, outputs={"n": "n"})
    first = await sessions[0].submit_many([task] * 6)
    await gate.begun(3)
    second = await sessions[1].submit_many([task] * 6)
    shares = set()
    for _ in range(9):
        gate.go()
        await gate.begun()
        views = [await session.status() for session in sessions]
        shares.add(tuple(sum(one.state == "running" for one in view.tasks) for view in views))
    gate.go(3)
    results = [*await sessions[0].gather(first), *await sessions[1].gather(second)]
    assert [result.state for result in results] == ["done"] * 12
    assert max(int(result.outputs["n"].text or 0) for result in results) == 3
    assert {(2, 1), (1, 2)} & shares, "both go on at the same time"


def total_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


async def test_closing_waits_for_functions_only_so_long(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "CLOSING", 0.2)
    calls.gate.clear()
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        await session.submit(skep.Task(call="tests.runtime.calls:wait_at_gate"))
    calls.gate.set()
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        (result,) = await session.results(["t1"])
        assert (result.state, result.attempts) == ("done", 2)
