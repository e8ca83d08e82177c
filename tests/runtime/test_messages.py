"""A word to an agent: it waits, comes with the next prompt, and is told of as delivered only when the agent has it."""

from __future__ import annotations

from pathlib import Path

import pytest

import skep
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository


async def begun(hive: skep.Skep, keep: Path) -> skep.Session:
    """A session with one agent, which keeps the prompts that it gets."""
    coder = skep.AgentSpec(name="coder", runtime="shell", options={"run": f'cat "$SKEP_PROMPT" >> {keep}; echo x >> x.txt'})
    return await hive.start(skep.Plan(name="talk", agents=(coder,), limits=skep.Limits(agents=2)))


async def test_a_message_comes_with_the_next_prompt_and_only_once(repo: Repository, tmp_path: Path) -> None:
    keep = tmp_path / "prompts"
    async with skep.open(repo.top) as hive:
        session = await begun(hive, keep)
        handed = await session.tell("coder-1", "use v2")
        assert not handed.delivered
        assert [one.payload for one in (await session.messages()).waiting] == ["use v2"]
        for _ in range(2):
            assert (await (await session.submit(skep.Task(prompt="Do it."))).result()).ok
        assert keep.read_text().count(f"Message {handed.id} from a person, note:\nuse v2") == 1
        view = await session.messages()
        assert (view.waiting, view.sent, view.delivered) == ((), 1, 1)


async def test_an_agent_that_was_interrupted_finds_it_again(repo: Repository, tmp_path: Path, gate: Gate) -> None:
    keep = tmp_path / "prompts"
    async with skep.open(repo.top) as hive:
        command = f'cat "$SKEP_PROMPT" >> {keep}; GATE={gate.folder}; {gate.PASS}; echo x >> x.txt'
        coder = skep.AgentSpec(name="coder", runtime="shell", options={"run": command})
        session = await hive.start(skep.Plan(name="talk", agents=(coder,), limits=skep.Limits(agents=2)))
        await session.tell("coder-1", "use v2")
        handle = await session.submit(skep.Task(prompt="Do it."))
        await gate.begun()
        await session.stop()
        assert [one.payload for one in (await session.messages("coder-1")).waiting] == ["use v2"]
        gate.go()
        await session.resume()
        assert (await handle.result()).ok
        assert keep.read_text().count("use v2") == 2
        assert (await session.messages()).delivered == 1


async def test_a_message_to_nobody_is_refused(repo: Repository, tmp_path: Path) -> None:
    async with skep.open(repo.top) as hive:
        session = await begun(hive, tmp_path / "prompts")
        with pytest.raises(skep.NotFound, match="no agent is called 'codr-1'") as refused:
            await session.tell("codr-1", "hello")
        assert "coder-1" in refused.value.fix
