"""The hands of a node: what they do about a command that nobody can carry out any more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from skep.agents.inprocess import InProcess
from skep.core import inputs as inp
from skep.core.commands import StartAttempt
from skep.core.model import Entry, Task
from skep.runtime.attempt import Node
from skep.runtime.loop import Loop
from skep.runtime.perform import Performer


async def test_an_attempt_is_begun_once_whoever_says_that_it_is_owed() -> None:
    told: list[Any] = []
    loops = [cast(Loop, SimpleNamespace(name="s-1", state=SimpleNamespace(specs={}), report=told.append)) for _ in range(2)]
    hands = Performer(cast(Node, None), cast(InProcess, None), lambda: 0)
    task = Task(id="a", prompt="x")
    for nonce in ("n" * 32, "m" * 32):
        command = StartAttempt(task, 2, nonce, "gone-1", "gone", "here", 0, "", "", "")
        for loop in loops:
            hands.perform(loop, command, Entry(task=task, seq=1, submitted=0))
    assert [report.nonce for report in told] == ["n" * 32, "m" * 32]


async def test_an_attempt_whose_kind_of_agent_a_new_plan_took_away_is_interrupted() -> None:
    told: list[Any] = []
    session = cast(Loop, SimpleNamespace(name="s-1", state=SimpleNamespace(specs={}), report=told.append))
    hands = Performer(cast(Node, None), cast(InProcess, None), lambda: 0)
    task = Task(id="a", prompt="x")
    command = StartAttempt(task, 2, "n" * 32, "gone-1", "gone", "here", 0, "", "", "")
    hands.perform(session, command, Entry(task=task, seq=1, submitted=0))
    (report,) = told
    assert isinstance(report, inp.Ended)
    assert (report.task, report.n, report.nonce, report.outcome) == ("a", 2, "n" * 32, "interrupted")
    assert "'gone'" in report.detail
