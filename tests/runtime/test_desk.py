"""The desk of an attempt: what it may have done for its agent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from skep.agents.door import Escalate, Send
from skep.core import inputs as inp
from skep.core.commands import StartAttempt
from skep.core.model import AgentSpec, Task
from skep.runtime.desk import Desk
from skep.runtime.loop import Loop
from tests.core import desk as core


async def test_no_two_attempts_of_an_agent_give_their_messages_the_same_id_however_alike_their_nonces_begin() -> None:
    session = core.Desk(AgentSpec(name="bee", runtime="x", count=1), AgentSpec(name="moth", runtime="x", count=1))
    session.submit(Task(id="a", prompt="x", agent="bee"))
    (command,) = session.owed()
    assert isinstance(command, StartAttempt)
    told: list[inp.Send] = []

    async def tell(given: inp.Send) -> str:
        told.append(given)
        return given.id

    loop = cast(Loop, SimpleNamespace(state=session.state, tell=tell))
    for last in "01":
        desk = Desk(loop, replace(command, nonce="abcd" + last * 28), lambda: 0)
        for _ in range(2):
            answer: Any = await desk.serve(Send(to="moth-1", text="hello"))
            assert answer["to"] == "moth-1"
    assert len({given.id for given in told}) == 4


@pytest.mark.parametrize("task", ["a" * 200, "2^8", "plain"])
async def test_what_an_agent_names_itself_is_taken_whatever_its_task_is_called_and_stays_the_tasks_own(task: str) -> None:
    session = core.Desk(AgentSpec(name="bee", runtime="x", count=2))
    alike = f"{task[:199]}b"
    session.submit(Task(id=task, prompt="x", agent="bee"), Task(id=alike, prompt="x", agent="bee"))
    first, second = (command for command in session.owed() if isinstance(command, StartAttempt))

    async def tell(given: inp.Input) -> Any:
        return session.tell(given)

    loop = cast(Loop, SimpleNamespace(state=session.state, tell=tell))
    mine, other = (Desk(loop, command, lambda: 0) for command in (first, second))
    for own in (Send(to="you", text="hello", id="n" * 100), Escalate(question="may I?", id="q" * 40)):
        answers = [(await desk.serve(own))["id"] for desk in (mine, mine, other)]
        assert answers[0] == answers[1] != answers[2]
