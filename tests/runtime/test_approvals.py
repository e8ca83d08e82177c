"""What coding clients ask leave for, through the real runtime of Claude Code: a small program speaks as that client does."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import skep
from skep.core import events as ev
from skep.core.rules import ToolRule
from tests.runtime.actors import actor
from tests.workspace.repository import Repository

CLIENT = Path(__file__).parent / "drivers" / "claude_like.py"


@pytest.fixture
def program(tmp_path: Path) -> str:
    """The client, as something that can be started."""
    path = tmp_path / "claude"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -P {CLIENT} "$@"\n')
    path.chmod(0o755)
    return str(path)


async def begin(hive: skep.Skep, program: str, *commands: str, rules: tuple[ToolRule, ...] = (), **task: Any) -> skep.Session:
    """A session with one task, whose agent asks for these commands."""
    agent = skep.AgentSpec(name="coder", runtime="claude", options={"program": program, **task.pop("options", {})})
    prompt = "\n".join(f"$ {command}" for command in commands)
    tasks = (skep.Task(id="api", prompt=prompt, agent="coder", **task),)
    limits = skep.Limits(answer_within=task.pop("within", 0.0))
    return await hive.start(skep.Plan(name="p", agents=(agent,), tasks=tasks, rules=rules, limits=limits))


async def asked(session: skep.Session, number: int = 1) -> None:
    """Returns when this question is in the log."""
    async for _, event in session.follow():
        if isinstance(event, ev.ApprovalAsked) and event.number >= number:
            return


def answers(repo: Repository, ref: str = "refs/skep/p-1/main") -> list[str]:
    return repo.show(ref, "answers.txt").splitlines()


async def test_a_command_runs_after_a_persons_yes_and_not_before(hive: skep.Skep, program: str, repo: Repository) -> None:
    session = await begin(hive, program, "touch made")
    await asked(session)
    (need,) = await hive.inbox()
    assert (need.id, need.task, need.agent, need.tool, need.about) == ("api/1", "api", "coder-1", "Bash", "touch made")
    view = await session.status()
    assert (view.tasks[0].state, view.idle) == ("needs-you", "needs you: api/1")
    assert not list(Path(await session.open("api")).glob("made"))
    await session.allow("api/1")
    (result,) = await session.results(["api"])
    assert result.ok
    assert "made" in repo.files("refs/skep/p-1/main")
    assert await hive.inbox() == []
    kinds = [type(event).__name__ async for event in _story(session)]
    assert kinds == ["ApprovalAsked", "ApprovalAnswered", "ApprovalUsed"]


async def _story(session: skep.Session) -> Any:
    last = (await session.status()).seq
    async for number, event in session.follow():
        if isinstance(event, ev.ApprovalAsked | ev.ApprovalAnswered | ev.ApprovalUsed):
            yield event
        if number >= last:
            return


async def test_a_no_reaches_the_agent_with_its_reason_and_the_task_was_denied(hive: skep.Skep, program: str) -> None:
    session = await begin(hive, program, "touch made")
    await asked(session)
    await session.refuse("api/1", "use what is there")
    (result,) = await session.results(["api"])
    assert (result.state, result.cause) == ("failed", "denied")


async def test_always_is_asked_once(hive: skep.Skep, program: str, repo: Repository) -> None:
    session = await begin(hive, program, "echo x >> made", "echo x >> made", "touch other")
    await asked(session)
    await session.allow("api/1", always=True)
    await asked(session, 3)
    assert [need.about for need in await hive.inbox()] == ["touch other"]
    await session.allow("api/3")
    assert (await session.results(["api"]))[0].ok
    assert repo.show("refs/skep/p-1/main", "made").split() == ["x", "x"]


async def test_rules_answer_without_anybody(hive: skep.Skep, program: str, repo: Repository) -> None:
    rules = (ToolRule(do="never", command="rm *"), ToolRule(do="always", command="touch *"))
    options = {"args": ["--stubborn"]}
    session = await begin(hive, program, "touch made", "ls; rm a.txt", rules=rules, options=options)
    assert (await session.results(["api"]))[0].ok
    assert answers(repo) == ["allow ", "deny Not allowed: the rule `never command=rm *`."]
    assert "a.txt" in repo.files("refs/skep/p-1/main")


async def test_nobody_in_time_is_a_no(hive: skep.Skep, program: str) -> None:
    agent = skep.AgentSpec(name="coder", runtime="claude", options={"program": program})
    task = skep.Task(id="api", prompt="$ touch made", agent="coder")
    session = await hive.start(skep.Plan(name="p", agents=(agent,), tasks=(task,), limits=skep.Limits(answer_within=0.2)))
    (result,) = await session.results(["api"])
    assert (result.state, result.cause) == ("failed", "denied")


async def test_an_answer_is_void_with_its_attempt_and_asked_again_by_the_next(hive: skep.Skep, program: str) -> None:
    session = await begin(hive, program, "touch made")
    await asked(session)
    await session.stop()
    with pytest.raises(skep.NotFound):
        await session.allow("api/1")
    await session.resume()
    await asked(session, 2)
    with pytest.raises(skep.NotFound):
        await session.allow("api/1")
    await session.allow("api/2")
    assert (await session.results(["api"]))[0].ok
    with pytest.raises(skep.NotFound):
        await session.allow("api/2")


async def test_an_answer_that_was_not_used_when_skep_was_killed_counts_for_nobody_else(repo: Repository, program: str) -> None:
    code = f"""
        from skep.runtime.asking import Leave
        async def never(*_):
            say("answered", True)
            await asyncio.Event().wait()
        Leave._use = never
        task = skep.Task(id="api", prompt="$ touch made", agent="coder")
        spec = skep.AgentSpec(name="coder", runtime="claude", options={{"program": {program!r}}})
        session = await hive.start(skep.Plan(name="p", agents=(spec,), tasks=(task,)))
        async for _, event in session.follow():
            if type(event).__name__ == "ApprovalAsked":
                await session.allow("api/1")
    """
    async with actor(repo.top, code) as owner:
        assert await owner.said("answered") is True
        await owner.kill()
    async with skep.open(repo.top) as hive:
        session = await hive.find("p-1")
        await session.resume()
        await asked(session, 2)
        assert not list(Path(await session.open("api")).glob("made"))
        with pytest.raises(skep.NotFound):
            await session.allow("api/1")
        await session.allow("api/2")
        assert (await session.results(["api"]))[0].ok
        told = [f"{type(event).__name__} {event.number}" async for event in _story(session)]
    assert told == ["ApprovalAsked 1", "ApprovalAnswered 1", "ApprovalAsked 2", "ApprovalAnswered 2", "ApprovalUsed 2"]


async def test_what_is_asked_shows_every_character_that_would_be_run(hive: skep.Skep, program: str) -> None:
    session = await begin(hive, program, "ls \x1b[2K\u202eevil\ttail")
    await asked(session)
    (need,) = await hive.inbox()
    assert need.about == "ls \\x1b[2K\\u202eevil\\ttail"
    await session.refuse(need.id)
    await session.results(["api"])


async def test_an_answer_to_the_task_says_how_to_answer_its_agent(hive: skep.Skep, program: str) -> None:
    session = await begin(hive, program, "touch made")
    await asked(session)
    with pytest.raises(skep.Conflict, match="its agent asks leave"):
        await session.answer("api", "approve")
    await session.cancel("api")


@pytest.mark.parametrize("disguise", ["", "env -i PATH=$PATH", "env -i PATH=$PATH setsid -w", "env -i PATH=$PATH setsid -f"])
async def test_what_runs_inside_an_attempt_decides_nothing(
    hive: skep.Skep, program: str, repo: Repository, tmp_path: Path, disguise: str
) -> None:
    session = await begin(hive, program, "touch made")
    await asked(session)
    told = tmp_path / "told"
    os.mkfifo(told)
    skep_line = f"{sys.executable} -P -m skep -C {repo.top}"
    line = f"{disguise} bash -c '({skep_line} approve api/1; {skep_line} status) > {told} 2>&1'"
    said = asyncio.get_running_loop().run_in_executor(None, told.read_text)
    intruder = await session.submit(skep.Task(run=line, mode="none"))
    text = await said
    assert "this process runs inside an attempt" in text
    assert "api  coder-1  NEEDS YOU" in text
    await intruder.result()
    assert [need.id for need in await hive.inbox()] == ["api/1"]
    await session.cancel("api")


async def test_who_cannot_ask_is_named_before_the_run(hive: skep.Skep) -> None:
    agents = (skep.AgentSpec(name="mute", runtime="codex"), skep.AgentSpec(name="coder", runtime="claude"))
    plan = skep.Plan(name="p", agents=agents, tasks=(skep.Task(run="true"),), rules=(ToolRule(do="ask", command="git push *"),))
    (note,) = (await hive.start(plan)).notes
    assert note.startswith("agent mute: the runtime codex cannot wait for an answer, so what its rules ask about is refused")
