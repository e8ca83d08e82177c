"""What people decide while a session runs: approvals, rejections, retries, cancelling."""

from __future__ import annotations

import pytest

import skep
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository


async def test_a_task_that_is_approved_before_starts_with_the_yes(session: skep.Session, repo: Repository) -> None:
    await session.submit_many(
        [
            skep.Task(id="a", run="touch a", approve="before"),
            skep.Task(id="b", run="touch b", needs=("a",)),
            skep.Task(id="c", run="touch c", approve="before", retries=1),
        ]
    )
    view = await session.settled()
    assert [(task.id, task.state, task.attempts) for task in view.tasks] == [
        ("a", "needs-you", 0),
        ("b", "waiting", 0),
        ("c", "needs-you", 0),
    ]
    await session.answer("a", "approve")
    await session.answer("c", "reject", comment="too risky")
    a, b, c = await session.results(["a", "b", "c"])
    assert (a.state, b.state, c.state, c.cause) == ("done", "done", "cancelled", "rejected")
    with pytest.raises(skep.Conflict):
        await session.answer("a", "approve")


async def test_a_result_that_is_approved_after_is_merged_with_the_yes_and_reworked_with_a_no(
    session: skep.Session, repo: Repository
) -> None:
    await session.submit(skep.Task(id="a", run='echo "try ${SKEP_FEEDBACK:-one}" > a', approve="after", retries=1))
    view = await session.settled()
    assert (view.tasks[0].state, view.tasks[0].question) == ("needs-you", "approve")
    assert view.tip == view.base
    await session.answer("a", "reject", comment="two please")
    view = await session.settled()
    assert (view.tasks[0].state, view.tasks[0].attempts) == ("needs-you", 2)
    await session.answer("a", "approve")
    assert (await session.results(["a"]))[0].ok
    assert repo.show("refs/skep/bench/main", "a") == "try two please"


async def test_merge_ask_asks_before_the_branch_moves(session: skep.Session, repo: Repository) -> None:
    await session.submit_many([skep.Task(id=name, run=f"touch {name}", merge="ask") for name in ("a", "b")])
    view = await session.settled()
    assert {task.question for task in view.tasks} == {"merge"}
    await session.answer("a", "merge")
    await session.answer("b", "skip")
    a, b = await session.results(["a", "b"])
    assert a.ok
    assert repo.files("refs/skep/bench/main") == {".gitignore", "a.txt", "src/app.py", "a"}
    assert b.state in ("done", "skipped")


async def test_an_answer_that_does_not_fit_is_refused(session: skep.Session) -> None:
    await session.submit(skep.Task(id="a", run="true", approve="before"))
    await session.settled()
    with pytest.raises(skep.Invalid):
        await session.answer("a", "rerun")
    with pytest.raises(skep.NotFound):
        await session.answer("b", "approve")


async def test_a_failed_task_can_be_sent_round_with_a_comment_and_takes_along_what_it_held_up(
    session: skep.Session, repo: Repository
) -> None:
    await session.submit_many(
        [
            skep.Task(id="a", run='test "$SKEP_FEEDBACK" = "mind the gap"; touch a'),
            skep.Task(id="b", run="touch b", needs=("a",)),
        ]
    )
    a, b = await session.results(["a", "b"])
    assert (a.state, b.state, b.cause) == ("failed", "skipped", "needs")
    await session.retry("a", comment="mind the gap")
    a, b = await session.results(["a", "b"])
    assert (a.state, b.state) == ("done", "done")


async def test_a_task_can_be_sent_to_another_agent(hive: skep.Skep) -> None:
    agents = (
        skep.AgentSpec(name="bad", runtime="shell", options={"run": "exit 1"}),
        skep.AgentSpec(name="good", runtime="shell", options={"run": "touch made"}),
    )
    plan = skep.Plan(name="p", agents=agents, tasks=(skep.Task(id="a", prompt="x", agent="bad"),))
    session = await hive.start(plan)
    assert (await session.results(["a"]))[0].state == "failed"
    await session.retry("a", agent="good")
    (result,) = await session.results(["a"])
    assert (result.state, result.agent) == ("done", "good-1")
    with pytest.raises(skep.Invalid):
        await session.retry("a", agent="nobody")


async def test_cancelling_ends_the_processes_and_frees_what_they_held(
    session: skep.Session, gate: Gate, repo: Repository
) -> None:
    holder = await session.submit(
        skep.Task(
            id="a",
            run=f"echo half > w; trap '' TERM; (trap '' TERM; setsid sleep 300) & {gate.PASS}",
            env=gate.env,
            locks=("db",),
        )
    )
    await gate.begun()
    after = await session.submit(skep.Task(id="b", run="echo mine", locks=("db",), mode="none"))
    child = await session.submit(skep.Task(id="c", run="true", needs=("a",)))
    assert sorted(await session.cancel("a")) == ["a", "c"]
    assert [result.state for result in await session.gather([holder, child])] == ["cancelled", "cancelled"]
    assert (await after.result()).value == "mine"
    assert repo.show("refs/skep/bench/wip/a/1", "w") == "half"
    with pytest.raises(skep.Conflict, match="cancelled already"):
        await session.cancel("a")


async def test_cancelling_a_subtree_takes_everything_that_hangs_on_it(session: skep.Session, gate: Gate) -> None:
    await session.submit_many(
        [
            skep.Task(id="a", run=gate.PASS, env=gate.env, mode="none"),
            skep.Task(id="b", run="true", needs=("a",), condition="always()"),
            skep.Task(id="c", run="true", needs=("b",)),
            skep.Task(id="d", run="true", mode="none"),
        ]
    )
    await gate.begun()
    assert sorted(await session.cancel("a", subtree=True)) == ["a", "b", "c"]
    assert [result.state for result in await session.results(["a", "b", "c", "d"])] == ["cancelled"] * 3 + ["done"]


async def test_coroutines_of_this_process_are_cancelled_too(session: skep.Session) -> None:
    handle = await session.submit(skep.Task(call="tests.runtime.calls:wait_forever"))
    waiting = await session.submit(skep.Task(call="tests.runtime.calls:pid", needs=(handle.id,)))
    await session.cancel(handle.id)
    assert [result.state for result in await session.gather([handle, waiting])] == ["cancelled", "cancelled"]
