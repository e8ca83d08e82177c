"""A notify command that may answer, and agents that would like to be one."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import skep
from skep.core import events as ev
from skep.core.terms import Notify
from skep.runtime import requests as rq
from skep.runtime.deputies import Deputy, admitted
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository

CLIENT = Path(__file__).parent / "drivers" / "claude_like.py"
SKEP = f"{sys.executable} -P -m skep"


@pytest.fixture
def plan(repo: Repository, tmp_path: Path, gate: Gate) -> Callable[..., skep.Plan]:
    """Makes a plan: an agent that asks once, and a notify command of this text; further tasks come first."""
    program = tmp_path / "claude"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P {CLIENT} "$@"\n')
    program.chmod(0o755)

    def make(bridge: str, *tasks: skep.Task, answers: bool = True) -> skep.Plan:
        script = repo.top / "bridge.sh"
        script.write_text(f"#!/bin/bash\n{bridge}\n")
        script.chmod(0o755)
        agent = skep.AgentSpec(name="coder", runtime="claude", options={"program": str(program)})
        needs = tuple(task.id for task in tasks)
        api = skep.Task(id="api", prompt="$ touch made", agent="coder", needs=needs)
        tell = Notify(on=("needs-you",), run=("./bridge.sh",), answers=answers)
        return skep.Plan(name="p", agents=(agent,), tasks=(*tasks, api), notify=(tell,), source="/f.yaml")

    return make


def approve(repo: Repository, gate: Gate, what: str = "approve api/1") -> str:
    """Shell words that do this through Skep, and tell the test what came of it."""
    return f'{{ {SKEP} -C {repo.top} {what} 2>&1; echo "code $?"; }} | tr "\\n" " " | sed "a\\\\" > {gate.folder}/begun'


async def answered(session: skep.Session) -> ev.ApprovalAnswered:
    async for _, event in session.follow():
        if isinstance(event, ev.ApprovalAnswered):
            return event
    raise AssertionError


async def asked(session: skep.Session, number: int) -> None:
    async for _, event in session.follow():
        if isinstance(event, ev.ApprovalAsked) and event.number >= number:
            return


async def test_a_command_that_may_answer_answers_and_the_log_says_who(
    repo: Repository, gate: Gate, plan: Callable[..., skep.Plan]
) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan(approve(repo, gate)))
        assert (await gate.begun())[0].endswith("code 0 ")
        event = await answered(session)
        assert (event.allowed, event.by) == (True, "a notify command")
        assert (await session.results(["api"]))[0].ok


async def test_one_that_was_not_said_to_answers_nothing(repo: Repository, gate: Gate, plan: Callable[..., skep.Plan]) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan(approve(repo, gate), answers=False))
        assert "runs inside an attempt" in (await gate.begun())[0]
        assert [need.id for need in await hive.inbox()] == ["api/1"]
        await session.cancel("api")


@pytest.mark.parametrize("what", ["cancel api", "stop", "add --run true", "discard", "tell coder-1 hello"])
async def test_it_answers_and_changes_nothing_else(
    repo: Repository, gate: Gate, plan: Callable[..., skep.Plan], what: str
) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan(approve(repo, gate, what)))
        assert "may answer what is asked, and change nothing else" in (await gate.begun())[0]
        await session.cancel("api")


async def test_it_answers_for_its_own_session_alone(repo: Repository, gate: Gate, plan: Callable[..., skep.Plan]) -> None:
    ask = skep.Task(id="ask", run="true", mode="none", approve="before")
    async with skep.open(repo.top) as hive:
        other = await hive.start(skep.Plan(name="other", tasks=(ask,)))
        session = await hive.start(plan(approve(repo, gate, "approve ask -s other-1")))
        assert "answers for its own session alone" in (await gate.begun())[0]
        assert (await other.task("ask")).state == "needs-you"
        await session.cancel("api")


async def test_a_script_that_an_attempt_changed_is_not_even_started(
    repo: Repository, gate: Gate, plan: Callable[..., skep.Plan]
) -> None:
    evil = skep.Task(id="evil", run=f"echo 'echo evil > {gate.folder}/begun' >> {repo.top}/bridge.sh", mode="none")
    # What is asked at the end: the third question of the task, also after it was replaced.
    made = plan(approve(repo, gate, "approve api/3"), evil)
    async with skep.open(repo.top) as hive:
        session = await hive.start(made)
        await asked(session, 1)
        assert "is not what it was when the session began" in await untold(session)
        assert [need.id for need in await hive.inbox()] == ["api/1"]
    # A later owner does not take the changed script for the person's either.
    async with skep.open(repo.top) as hive:
        session = await hive.find("p-1")
        await session.resume()
        await asked(session, 2)
        assert "is not what it was when the session began" in await untold(session)
        assert [need.id for need in await hive.inbox()] == ["api/2"]
        # Whoever hands the file over anew says that it is theirs.
        await session.cancel("api")
        await hive.revise(made)
        said, more = await gate.begun(2)
        assert (said.endswith("code 0 "), more) == (True, "evil")


async def untold(session: skep.Session) -> str:
    """What could not be told, once there is something."""
    while not (view := await session.status()).untold:
        await asyncio.to_thread(os.getpid)
    return view.untold


async def test_a_script_that_was_changed_for_a_moment_does_not_answer(
    repo: Repository, gate: Gate, plan: Callable[..., skep.Plan]
) -> None:
    bridge = f"echo ready > {gate.folder}/begun; read -r _ < {gate.folder}/go; {approve(repo, gate)}"
    made = plan(bridge)
    script = repo.top / "bridge.sh"
    swap = f"mv {script} {script}.own; echo evil > {script}; mv {script}.own {script}"
    async with skep.open(repo.top) as hive:
        session = await hive.start(made)
        assert await gate.begun() == ["ready"]
        assert (await (await session.submit(skep.Task(id="evil", run=swap, mode="none"))).result()).ok
        gate.go()
        assert "was changed while it ran" in (await gate.begun())[0]
        assert [need.id for need in await hive.inbox()] == ["api/1"]
        await session.cancel("api")


@pytest.mark.parametrize("disguise", ["", "setsid -w", "setsid -f", "env -i PATH=$PATH"])
async def test_an_attempt_that_carries_the_commands_marks_is_an_attempt(
    repo: Repository, gate: Gate, plan: Callable[..., skep.Plan], disguise: str
) -> None:
    """It reads the environment of the command, which runs meanwhile, and has its own program carry that."""
    bridge = f"echo $$ > {gate.folder}/begun; read -r _ < {gate.folder}/go"
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan(bridge))
        (pid,) = await gate.begun()
        steal = f'nonce=$(tr "\\0" "\\n" < /proc/{pid}/environ | grep ^SKEP_NONCE=); test -n "$nonce"'
        run = f"{steal}; {disguise} env $nonce bash -c '{approve(repo, gate)}'".replace(
            "env -i PATH=$PATH env", "env -i PATH=$PATH"
        )
        intruder = await session.submit(skep.Task(run=run, mode="none"))
        assert "runs inside an attempt" in (await gate.begun())[0]
        await intruder.result()
        assert [need.id for need in await hive.inbox()] == ["api/1"]
        gate.go()
        await session.cancel("api")


async def test_what_a_command_leaves_behind_answers_nothing(repo: Repository, gate: Gate, plan: Callable[..., skep.Plan]) -> None:
    """A process that lost its parent is nobody's: it could be an attempt's."""
    line = approve(repo, gate).replace("'", "'\\''")
    leaves = f"(setsid bash -c 'read -r _ < {gate.folder}/go; {line}' &)"
    bridge = f"{leaves}; echo ready > {gate.folder}/begun; read -r _ < {gate.folder}/never"
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan(bridge))
        assert await gate.begun() == ["ready"]
        gate.go()
        assert "runs inside an attempt" in (await gate.begun())[0]
        await session.cancel("api")


def test_it_also_answers_what_an_agent_asks_its_person_in_words() -> None:
    deputy = Deputy("p-1", "0" * 32, (), ())
    answer = rq.Message(session="p-1", agent="coder-1", text="v2", answers="q1")
    assert admitted(deputy, answer, "p-1") is answer
    for other in (rq.Message(session="p-1", agent="coder-1", text="do it"), rq.Stop(session="p-1")):
        with pytest.raises(skep.SkepError, match="change nothing else"):
            admitted(deputy, other, "p-1")
    with pytest.raises(skep.SkepError, match="its own session alone"):
        admitted(deputy, answer, "p-2")
