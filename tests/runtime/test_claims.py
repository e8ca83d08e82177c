"""Tasks taken by hand: their worktree, their fence, their lease; nothing else begins for them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

import skep
from skep.agents.hand import HandRuntime
from skep.core import inputs as inp
from skep.core.model import AgentSpec, Limits, Plan, Task
from skep.core.placement import HAND
from skep.errors import Conflict, Invalid, NotFound, Unavailable
from skep.runtime.claims import Claims
from skep.runtime.requests import Claim, Create
from tests.core import desk as core
from tests.workspace.repository import Repository

#: An agent that would leave a trace if it were ever started.
NEVER = AgentSpec(name="paid", runtime="shell", options={"run": 'touch "$SKEP_WORKSPACE/started"; echo x > x.txt'})
MAKE = Task(id="make", prompt="make it", agent="paid", verify="test -f made.txt", retries=1)
PLAN = Plan(name="hand", agents=(NEVER,), tasks=(MAKE, Task(id="next", prompt="go on", agent="paid", needs=("make",))))


async def opened(hive: skep.Skep, plan: Plan = PLAN) -> skep.Session:
    """A session that nobody carries out."""
    view = await hive.call(Create(plan=plan, name="hand", new=True, start=False))
    return await hive.find(view.name)


async def test_what_is_claimed_is_judged_and_merged_and_nothing_else_starts(repo: Repository) -> None:
    async with skep.open(repo.top) as hive:
        session = await opened(hive)
        taken = await session.claim("make")
        assert "make it" in taken.prompt
        assert len(taken.nonce) == 32
        assert Path(taken.env["SKEP_PROMPT"]).read_text() == "make it"
        (Path(taken.path) / "made.txt").write_text("by hand\n")
        view = await session.settle("make", taken.nonce, "done", "made it")
        assert (view.state, view.result, view.agent) == ("done", "made it", "hand-1")
        status = await session.status()
        assert repo.show(status.tip, "made.txt") == "by hand"
        assert [one.id for one in await session.ready() if one.state == "ready"] == ["next"]
        assert "made it" in (await session.claim("next")).prompt
        assert not (repo.top / "started").exists()
        assert not status.cost.usd
        assert not status.cost.unpriced


async def test_the_verify_judges_it_and_the_next_attempt_hears_of_it(repo: Repository) -> None:
    async with skep.open(repo.top) as hive:
        session = await opened(hive)
        first = await session.claim("make")
        (Path(first.path) / "other.txt").write_text("x")
        view = await session.settle("make", first.nonce, "done")
        assert (view.state, view.cause) == ("ready", "verify-failed")
        second = await session.claim("make")
        assert "test -f made.txt" in second.prompt
        assert second.nonce != first.nonce
        view = await session.settle("make", second.nonce, "fail", "there is no way")
        assert (view.state, view.detail) == ("failed", "there is no way")


async def test_a_claim_that_runs_out_returns_with_its_work_kept_and_its_nonce_settles_nothing(repo: Repository) -> None:
    async with skep.open(repo.top) as hive:
        session = await opened(hive)
        taken = await session.claim("make", lease=3600)
        (Path(taken.path) / "made.txt").write_text("half\n")
        assert (await session.claim("make", taken.nonce, lease=0.01)).nonce == taken.nonce
        assert (await session.settled()).state == "paused"
        view = await session.task("make")
        assert (view.state, view.cause, view.detail) == ("ready", "interrupted", "its claim ran out")
        assert repo.show(view.wip, "made.txt") == "half"
        again = await session.claim("make")
        with pytest.raises(Conflict, match="no such claim"):
            await session.settle("make", taken.nonce, "done")
        with pytest.raises(Conflict, match="no such claim"):
            await session.settle("next", again.nonce, "done")


async def test_what_is_given_back_counts_no_try(repo: Repository) -> None:
    async with skep.open(repo.top) as hive:
        session = await opened(hive)
        for _ in range(6):  # more than interruptions may be
            taken = await session.claim("make")
            view = await session.settle("make", taken.nonce, "release")
            assert view.state == "ready"


async def test_a_session_that_is_carried_out_goes_on_beside_a_claim(repo: Repository, tmp_path: Path) -> None:
    busy = AgentSpec(name="paid", runtime="shell", options={"run": f'echo x > "$SKEP_TASK.txt"; read -r go < {tmp_path}/gate'})
    os.mkfifo(tmp_path / "gate")
    plan = Plan(
        name="hand",
        agents=(busy,),
        limits=Limits(agents=3),
        tasks=(Task(id="a", prompt="a", agent="paid"), Task(id="b", prompt="b", agent="paid")),
    )
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan)
        async for _, event in session.follow():
            if type(event).__name__ == "AttemptSpawned":
                break
        taken = await session.claim("b")
        (Path(taken.path) / "mine.txt").write_text("x")
        assert (await session.settle("b", taken.nonce, "done")).state == "done"
        assert (await session.status()).state == "active"
        with open(tmp_path / "gate", "w") as gate:
            gate.write("go\n")
        view = await session.settled()
        assert view.state == "completed"
        assert {task.id: task.agent for task in view.tasks} == {"a": "paid-1", "b": "hand-1"}


async def test_what_cannot_be_claimed_says_why(repo: Repository) -> None:
    run = Task(id="run", run="true")
    async with skep.open(repo.top) as hive:
        session = await opened(hive, replace(PLAN, tasks=(*PLAN.tasks, run)))
        with pytest.raises(Conflict, match="'next' is waiting, not ready"):
            await session.claim("next")
        with pytest.raises(Invalid, match="'run' has no prompt"):
            await session.claim("run")
        with pytest.raises(NotFound, match="nothing"):
            await session.claim("nothing")
        await session.claim("make")
        with pytest.raises(Conflict, match="'make' is running"):
            await session.claim("make")


async def test_a_setup_that_fails_is_told_to_who_claims(repo: Repository) -> None:
    broken = replace(MAKE, setup=("echo no compiler >&2; false",))
    async with skep.open(repo.top) as hive:
        session = await opened(hive, replace(PLAN, tasks=(broken,)))
        with pytest.raises(skep.SkepError, match=r"could not be prepared: setup .*no compiler"):
            await session.claim("make")


async def test_a_claim_that_another_attempt_took_the_place_of_is_over() -> None:
    """Before its worktree was ready it was given up, and whoever came next holds the task."""
    session = core.Desk(NEVER)
    session.tell(inp.Pause(at=0, why="by hand"))
    session.submit(replace(MAKE, verify=""))
    answers: list[str] = []

    async def tell(given: inp.Claim) -> str:
        answers.append(session.tell(given))
        session.tell(session.report(inp.Ended, "make", outcome="interrupted", cause="interrupted"))
        answers.append(session.tell(given))
        return answers[0]

    async def ask(look: Any) -> Any:
        return look(session.state)

    async def loop(_session: str, hands: bool = True) -> Any:
        return SimpleNamespace(tell=tell, ask=ask)

    async def resolve(name: str) -> str:
        return name

    live = SimpleNamespace(is_at_work=lambda _: True, loop=loop)
    node = SimpleNamespace(runtimes={HAND: HandRuntime()})
    parts = SimpleNamespace(performer=SimpleNamespace(node=node), clock=SimpleNamespace(now=lambda: 0))
    claims = Claims(cast(Any, SimpleNamespace(names=SimpleNamespace(resolve=resolve), live=live)), cast(Any, parts))
    with pytest.raises(Unavailable, match="another attempt has begun"):
        await claims.answers[Claim](Claim(session="desk-1", task="make"))
    assert len(set(answers)) == 2


async def test_nothing_inside_an_attempt_claims(repo: Repository) -> None:
    order = f'{sys.executable} -m skep -C "$SKEP_WORKSPACE" claim make 2>&1 | tee said.txt; exit 1'
    async with skep.open(repo.top) as hive:
        session = await hive.start(
            replace(PLAN, agents=(replace(NEVER, options={"run": order}),), tasks=(replace(MAKE, retries=0),))
        )
        await session.settled()
        said = await session.diff("make")
        assert "+error:" in said
        assert "inside" in said
