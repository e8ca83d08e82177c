"""The desk of an attempt: what it may have done for its agent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from msgspec.structs import replace

from skep.agents.door import Send
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
        desk = Desk(loop, replace(command, nonce="abcd" + last * 28), lambda: 0, lambda agent: None)
        for _ in range(2):
            answer: Any = await desk.serve(Send(to="moth-1", text="hello"))
            assert answer["to"] == "moth-1"
    assert len({given.id for given in told}) == 4
