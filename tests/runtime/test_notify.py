"""Who is told of what happens: at once, after a while, and what becomes of commands that hang, fail or are too many."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import skep
from skep.core import events as ev
from skep.core.model import Attempt, Entry, Plan
from skep.core.rules import Asking
from skep.core.state import State
from skep.core.terms import Notify
from skep.runtime import notify, wire
from skep.runtime.deputies import Deputies
from skep.terminals import Exit, Profile
from tests.runtime.gates import Gate
from tests.simulation.virtual import VirtualLoop
from tests.workspace.repository import Repository


class Started:
    """A terminal that only says that it was started; it ends when the test lets it, or never."""

    pid = born = 1

    def __init__(self, ends: asyncio.Future[Exit]) -> None:
        self._ends = ends
        self.ended = False

    def release(self) -> None:
        """Nothing waits."""

    async def wait(self) -> Exit:
        """As the test says."""
        return await asyncio.shield(self._ends)

    async def end(self, grace: float = 2.0) -> None:
        """Gone."""
        self.ended = True


class Shelf:
    """Terminals that note at what virtual time which command was started."""

    def __init__(self, hangs: bool = False, code: int = 0) -> None:
        self.started: list[tuple[float, dict[str, Any]]] = []
        self.terminals: list[Started] = []
        self._hangs, self._code = hangs, code

    async def create(self, profile: Profile, output: Callable[[bytes], None]) -> Any:
        """See the port."""
        loop = asyncio.get_running_loop()
        assert isinstance(profile.stdin, bytes)
        self.started.append((loop.time(), json.loads(profile.stdin)))
        ends: asyncio.Future[Exit] = loop.create_future()
        if not self._hangs:
            ends.set_result(Exit(self._code))
        self.terminals.append(Started(ends))
        return self.terminals[-1]

    async def close(self) -> None:
        """Nothing to close."""


class Story:
    """A session of which only the events are told, one by one; its tasks ask what the test says."""

    name = "p-1"

    def __init__(self, *entries: Notify) -> None:
        self.state = State(plan=Plan(name="p", notify=entries))
        self._events: asyncio.Queue[tuple[int, ev.Event]] = asyncio.Queue()

    async def follow(self, after: int) -> Any:
        """What the test tells."""
        while True:
            yield await self._events.get()

    def asks(self, task: str, number: int = 1) -> None:
        """An attempt at the task asks something now."""
        at = milliseconds()
        entry = self.state.entries.get(task)
        if entry is None or entry.attempt is None:
            attempt = Attempt(n=1, nonce="n", agent="coder-1", node="here", slot=1, started=at)
            entry = Entry(task=skep.Task(id=task), seq=1, submitted=0, state="running", attempt=attempt)
            self.state.entries[task] = entry
        assert entry.attempt is not None
        until = at + 86_400_000
        asking = Asking(number=number, key="k", tool="Bash", about="x", digest="d", shape="s", at=at, until=until)
        entry.attempt.asks = {**(entry.attempt.asks or {}), number: asking}
        self._events.put_nowait((1, ev.ApprovalAsked(at, task, 1, number, "Bash", "x", "d", until)))

    def answered(self, task: str, number: int = 1) -> None:
        """A person answered."""
        attempt = self.state.entries[task].attempt
        assert attempt is not None
        assert attempt.asks is not None
        attempt.asks[number].said = "yes"

    def failed(self, task: str) -> None:
        """The task failed."""
        self._events.put_nowait((1, ev.TaskClosed(milliseconds(), task, "failed", "exit", "why")))


def milliseconds() -> int:
    """The wall clock of the virtual world."""
    return int(asyncio.get_running_loop().time() * 1000) + 1_000_000


def told(story: Story, shelf: Shelf, work: Callable[[notify.Teller], Coroutine[Any, Any, None]]) -> notify.Teller:
    """Does this while the story's session is followed, in virtual time."""
    made: list[notify.Teller] = []

    async def run() -> None:
        teller = notify.Teller(story, shelf, {}, "/", milliseconds, Deputies())  # type: ignore[arg-type]  # only what a teller asks of a session
        made.append(teller)
        following = asyncio.ensure_future(teller.follow(0))
        await work(teller)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    loop = VirtualLoop(limit=1e6)
    asyncio.set_event_loop(loop)
    try:
        loop.complete(run())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    return made[0]


async def passes(seconds: float) -> None:
    """Time goes by in the virtual world."""
    # tidy: sleeps because this takes no time at all
    await asyncio.sleep(seconds)


PING = ("./ping.sh",)


def test_from_the_event_to_the_command_no_time_passes() -> None:
    story, shelf = Story(Notify(on=("needs-you",), run=PING)), Shelf()

    async def work(_: notify.Teller) -> None:
        await passes(7.25)
        for number in range(3):
            story.asks(f"t{number}")
        await passes(60)

    told(story, shelf, work)
    assert [(at, said["task"], said["asks"][0]["id"]) for at, said in shelf.started] == [
        (7.25, "t0", "t0/1"),
        (7.25, "t1", "t1/1"),
        (7.25, "t2", "t2/1"),
    ]


def test_who_wants_to_be_told_late_is_told_of_what_nobody_answered_and_of_nothing_else() -> None:
    story, shelf = Story(Notify(on=("needs-you",), run=PING, after=900)), Shelf()

    async def work(_: notify.Teller) -> None:
        story.asks("kept")
        story.asks("answered")
        await passes(600)
        story.answered("answered")
        story.asks("answered", 2)  # another question: its own fifteen minutes
        await passes(600)
        story.answered("answered", 2)
        await passes(3600)

    told(story, shelf, work)
    assert [(at, said["task"]) for at, said in shelf.started] == [(900, "kept")]


def test_a_command_that_hangs_is_ended_and_holds_up_only_its_own_entry() -> None:
    slow, other = Notify(on=("needs-you",), run=("slow",)), Notify(on=("needs-you",), run=("slow", "but", "other"))
    story, shelf = Story(slow, other), Shelf(hangs=True)

    async def work(_: notify.Teller) -> None:
        for number in range(notify.PARALLEL):
            story.asks(f"t{number}")
        await passes(1)
        assert len(shelf.started) == 2 * notify.PARALLEL, "each entry has room of its own"
        story.asks("late")
        story.asks("answered")
        await passes(1)
        story.answered("answered")
        await passes(notify.TIMEOUT)

    teller = told(story, shelf, work)
    assert [(at, said["task"]) for at, said in shelf.started[2 * notify.PARALLEL :]] == [(notify.TIMEOUT, "late")] * 2
    assert all(terminal.ended for terminal in shelf.terminals)
    assert teller.trouble == "8 notices failed; the last: `slow but other`: ended, as it took more than 60 s"


def test_a_flood_is_bounded_told_once_for_each_task_and_what_is_dropped_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "MAX_WAITING", 10)
    story, shelf = Story(Notify(on=("failed",), run=PING), Notify(on=("failed",), run=PING, after=60)), Shelf(hangs=True)
    most = []

    async def work(_: notify.Teller) -> None:
        for number in range(50):
            story.failed(f"t{number % 25}")
        await passes(1)
        most.append(len(asyncio.all_tasks()))

    teller = told(story, shelf, work)
    assert len(shelf.started) == notify.PARALLEL
    assert most[0] <= 2 * notify.PARALLEL + 3, "tasks do not pile up"
    # At once: of 50, 4 run, 10 wait; of the 25 names that come again, those that wait are folded. Later: 10 of 50 wait.
    assert teller.dropped == (50 - 4 - 10 - 10) + (50 - 10)
    assert "66 notices dropped, as 10 waited already" in teller.trouble


def test_a_command_that_fails_is_said_in_the_status() -> None:
    story, shelf = Story(Notify(on=("failed",), run=PING)), Shelf(code=3)

    async def work(_: notify.Teller) -> None:
        story.failed("a")
        await passes(1)

    assert told(story, shelf, work).trouble == "1 notice failed; the last: `./ping.sh`: exit code 3"


async def test_attempts_that_fill_the_terminals_do_not_hold_up_a_notice(repo: Repository, gate: Gate, tmp_path: Path) -> None:
    (repo.top / "skep.toml").write_text("[terminals]\npool = 2\n")
    holding = skep.Task(run=gate.PASS, env=gate.env, mode="none")
    ask = skep.Task(id="ask", run="true", mode="none", approve="before")
    tell = Notify(on=("needs-you",), run=f"echo told > {gate.folder}/begun")
    plan = skep.Plan(name="p", notify=(tell,), tasks=(holding, holding), limits=skep.Limits(agents=4))
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan)
        await gate.begun(2)
        await session.submit(ask)
        assert await gate.begun() == ["told"]
        assert (await session.status()).untold == ""
        gate.go(2)
        await session.settled()


async def test_a_plan_that_gains_a_notify_is_told_of_from_then_on(hive: skep.Skep, gate: Gate) -> None:
    ask = skep.Task(id="ask", run="true", mode="none", approve="before")
    plan = skep.Plan(name="p", source="/f.yaml", tasks=(skep.Task(id="a", run="true", mode="none"),))
    session = await hive.start(plan)
    await session.settled()
    tell = Notify(on=("needs-you",), run=f"echo told > {gate.folder}/begun")
    await hive.revise(skep.Plan(name="p", source="/f.yaml", tasks=(*plan.tasks, ask), notify=(tell,)))
    assert await gate.begun() == ["told"]


async def test_a_stream_that_nobody_looks_at_is_bounded_and_loses_nothing(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_ITEMS", 1)
    monkeypatch.setattr(wire, "MAX_BEHIND", 4)
    deepest = 0

    class Watched(asyncio.Queue[Any]):
        """Notes how many replies waited at most."""

        def put_nowait(self, item: Any) -> None:
            nonlocal deepest
            super().put_nowait(item)
            deepest = max(deepest, self.qsize())

    async with skep.open(repo.top) as hive, skep.open(repo.top) as guest:
        assert not guest.owner
        monkeypatch.setattr(asyncio, "Queue", Watched)
        looked = await guest.find((await hive.session("bench")).name)
        stream = looked.follow()
        seen = [(await anext(stream))[0]]
        handles = await looked.submit_many(skep.Task(run="true", mode="none") for _ in range(20))
        await looked.gather(handles)
        last = (await looked.status()).seq
        while seen[-1] < last:
            seen.append((await anext(stream))[0])
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert seen == list(range(1, last + 1))
    assert deepest == 4
