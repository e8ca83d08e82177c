"""A session that one process writes and others follow: told through its inbox, carried out on the nodes of those who follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest

from skep.core import inputs as inp
from skep.core.commands import EndAttempt, Owed, StartAttempt
from skep.core.model import AgentSpec, Entry, Limits, Plan, Resources, Task
from skep.core.state import State
from skep.errors import Conflict, Exhausted, Invalid, NotFound, SkepError, Unavailable
from skep.runtime import letters
from skep.runtime.loop import Loop
from skep.runtime.node import SystemClock
from skep.runtime.replica import Replica
from skep.runtime.session import Session
from skep.store import Answer, Append, Head, Heard, Letter, Taken, chain
from skep.store.ephemeral import EphemeralDisk, EphemeralLog
from skep.store.ephemeral_shared import EphemeralInbox
from skep.store.letters import Unsealed

SHELL = AgentSpec(name="shell", runtime="shell", count=0)


class Hands:
    """Carries out what a test lets it: `begun` are the attempts that were begun here, `ended` those that it was to end."""

    def __init__(self, at_once: bool = True) -> None:
        self.begun: list[StartAttempt] = []
        self.ended: list[EndAttempt] = []
        self.sessions: list[Session] = []
        self._at_once = at_once

    def perform(self, session: Session, command: Owed, entry: Entry) -> None:
        if isinstance(command, EndAttempt) and command not in self.ended:
            self.ended.append(command)
            session.report(inp.Gone(at=0, task=command.task.id, n=command.n, nonce=command.nonce))
        elif isinstance(command, StartAttempt) and command.nonce not in [one.nonce for one in self.begun]:
            self.begun.append(command)
            self.sessions.append(session)
            if self._at_once:
                self.finish(len(self.begun) - 1)

    def hand_over(self, session: Session, agent: str) -> None:
        raise AssertionError("nobody writes here")

    def finish(self, number: int) -> None:
        self.sessions[number].report(ended(self.begun[number]))


def ended(command: StartAttempt) -> inp.Ended:
    return inp.Ended(at=0, task=command.task.id, n=command.n, nonce=command.nonce, outcome="ok", result=command.node)


class Faulty(EphemeralLog):
    """A log whose next append is written and not answered."""

    silent = 0

    async def append(self, *args: Any, **more: Any) -> Head:
        head = await super().append(*args, **more)
        if self.silent:
            self.silent -= 1
            raise Unavailable("the answer went away")
        return head


class Deaf(EphemeralInbox):
    """Pushes nothing that `drops` says."""

    drops: Callable[[Heard], bool] = staticmethod(lambda heard: False)

    async def listen(self, session: str, hear: Callable[[Heard], None], sender: str = "") -> Any:
        return await super().listen(session, lambda heard: None if self.drops(heard) else hear(heard), sender)


class Written(EphemeralInbox):
    """The inbox as its writer has it.

    `refuses`: how many times nothing is settled; `foreign`: where a letter is not sealed; `broken`: what comes of reading.
    """

    refuses = 0
    foreign = ""
    broken: SkepError | None = None

    async def settle(self, session: str, epoch: int, taken: Sequence[Taken]) -> None:
        if self.refuses:
            self.refuses -= 1
            raise Unavailable("the store went away")
        await super().settle(session, epoch, taken)

    async def letters(self, session: str, after: str = "", limit: int = 1000) -> list[Letter]:
        if self.broken is not None:
            raise self.broken
        page = await super().letters(session, after, limit)
        if after < self.foreign:
            raise Unsealed("a letter is not sealed", "", page, max([self.foreign, *(letter.place for letter in page)]))
        return page


class Hive:
    """A shared store, whoever writes its session, and whoever follows it."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.disk = EphemeralDisk()
        self.clock = SystemClock()
        self.log = Faulty(self.disk)
        self.inbox = Deaf(self.disk)
        self.written = Written(self.disk)
        self.loop: Loop

    async def lead(self, after: int = -1) -> Loop:
        self.loop = Loop("s", self.log, self.clock, Hands(), "leader", self.written, "boss")
        await self.loop.start(after)
        self._stack.push_async_callback(self.loop.stop)
        return self.loop

    async def lettered(self) -> None:
        """Returns when there is a letter."""
        there = asyncio.Event()
        stop = await EphemeralInbox(self.disk).listen("s", lambda heard: there.set())
        if not await self.inbox.letters("s"):
            await there.wait()
        await stop()

    async def open(self) -> None:
        await self.log.create("s", 1)
        loop = await self.lead()
        await loop.tell(inp.OpenSession(at=0, session="s", plan=Plan(name="s", agents=(SHELL,), limits=Limits(agents=8))))

    async def follow(self, hands: Hands | None = None, node: str = "", boot: str = "b1") -> Replica:
        replica = Replica("s", self.log, self.inbox, self.clock, hands, node)
        await replica.start()
        self._stack.push_async_callback(replica.stop)
        if node:
            replica.boot = boot
            await replica.tell(join(node, boot))
        return replica


def join(node: str, boot: str = "b1") -> inp.JoinNode:
    return inp.JoinNode(at=0, node=node, boot=boot, capacity=Resources(cpu=8.0), slots=100)


def submit(*names: str, key: str = "") -> inp.Submit:
    return inp.Submit(at=0, tasks=tuple(Task(id=name, run="true") for name in names), key=key)


async def end_of(session: Session, *names: str) -> list[Entry]:
    """The entries of tasks once they are over."""
    loop = asyncio.get_running_loop()
    over = [loop.create_future() for _ in names]

    def wait(state: State) -> None:
        for name, future in zip(names, over, strict=True):
            entry = state.entries.get(name)
            if entry is not None and entry.state == "done":
                future.set_result(entry)
            else:
                session.when_done(name, future.set_result)

    await session.ask(wait)
    return list(await asyncio.gather(*over))


@pytest.fixture
async def hive() -> AsyncIterator[Hive]:
    async with AsyncExitStack() as stack:
        made = Hive(stack)
        await made.open()
        yield made


async def test_what_is_told_to_a_replica_is_decided_by_the_writer_and_answered(hive: Hive) -> None:
    one = await hive.follow()
    assert await one.tell(submit("a", "b")) == ("a", "b")
    assert list(one.state.entries) == ["a", "b"], "what was answered is known here by then"
    with pytest.raises(NotFound, match="no task 'nobody'"):
        await one.tell(inp.Cancel(at=0, tasks=("nobody",)))
    assert await one.tell(inp.Cancel(at=0, tasks=("a",))) == ("a",)
    assert hive.loop.state.digest() == one.state.digest()


async def test_attempts_run_on_the_nodes_of_those_who_follow_each_on_its_own(hive: Hive) -> None:
    hands = {node: Hands() for node in ("east", "west")}
    replicas = [await hive.follow(hands[node], node) for node in hands]
    names = [f"task{n}" for n in range(10)]
    await hive.loop.tell(submit(*names))
    for session in (hive.loop, *replicas):
        assert {entry.state for entry in await end_of(session, *names)} == {"done"}
    for node, own in hands.items():
        assert own.begun, "both have a share"
        assert {command.node for command in own.begun} == {node}
    assert sorted(command.task.id for own in hands.values() for command in own.begun) == sorted(names)


async def test_a_node_that_comes_back_ends_what_its_former_boot_had_in_hand_and_begins_it_anew(hive: Hive) -> None:
    hands = Hands(at_once=False)
    replica = await hive.follow(hands, "east")
    await replica.tell(submit("a"))
    await replica.stop()
    other = Hands()
    back = Replica("s", hive.log, hive.inbox, hive.clock, other, "east")
    back.boot = "b2"
    await back.start()
    assert (other.begun, other.ended) == ([], []), "before it has joined it owes nothing"
    await back.tell(join("east", "b2"))
    await end_of(back, "a")
    assert [(command.task.id, command.n) for command in hands.begun] == [("a", 1)]
    assert [command.nonce for command in other.ended] == [hands.begun[0].nonce]
    assert [(command.task.id, command.n) for command in other.begun] == [("a", 2)]
    await back.stop()


async def test_a_node_whose_former_boot_joins_last_carries_nothing_out(hive: Hive) -> None:
    hands = Hands()
    replica = await hive.follow(hands, "east", "b2")
    await hive.loop.tell(join("east", "b1"))
    await hive.loop.tell(submit("a"))
    while "a" not in replica.state.entries:
        await replica.moved(replica.head.seq)
    assert replica.state.entries["a"].attempt is not None
    assert hands.begun == []


async def test_who_gave_a_session_over_begins_nothing_more_and_says_when_it_has_told_all(hive: Hive) -> None:
    hands = Hands(at_once=False)
    replica = await hive.follow(hands, "east")
    await replica.tell(submit("a"))
    waiting = asyncio.ensure_future(end_of(replica, "a"))
    replica.rest()
    await replica.tell(submit("b"))
    assert [command.task.id for command in hands.begun] == ["a"]
    assert not replica.at_rest, "somebody waits for a task"
    hands.finish(0)
    assert not replica.at_rest, "a report is on its way"
    await waiting
    await replica.tell(submit("c"))  # behind all that was told before
    assert replica.at_rest


async def test_what_ran_on_a_node_that_is_lost_runs_on_another_and_its_late_report_is_refused(hive: Hive) -> None:
    lost, other = Hands(at_once=False), Hands()
    replica = await hive.follow(lost, "lost")
    await hive.loop.tell(submit("a"))
    await replica.moved(replica.head.seq - 1)
    while not lost.begun:
        await replica.moved(replica.head.seq)
    witness = await hive.follow(other, "other")
    await hive.loop.tell(inp.LoseNode(at=0, node="lost", why="its lease ran out"))
    (entry,) = await end_of(witness, "a")
    assert (entry.attempts, entry.result) == (2, "other")
    with pytest.raises(Conflict):
        await replica.tell(ended(lost.begun[0]))
    assert witness.state.entries["a"].result == "other"


async def test_a_writer_that_follows_another_decides_each_letter_once(hive: Hive) -> None:
    one = await hive.follow()
    # Nobody takes turns: the letters wait.
    await hive.loop.stop()
    told = [one.tell(submit(f"task{n}", key=f"k{n}")) for n in range(5)]
    await hive.lettered()
    await hive.lead(after=hive.loop.head.epoch)
    assert [await answer for answer in told] == [(f"task{n}",) for n in range(5)]
    assert await hive.inbox.letters("s") == []
    with pytest.raises(Conflict, match="another owner"):
        await hive.lead(after=hive.loop.head.epoch - 1)


async def test_letters_of_an_append_whose_answer_was_lost_are_not_decided_again(hive: Hive) -> None:
    one = await hive.follow()
    hive.log.silent = 1
    assert await one.tell(submit("a")) == ("a",)
    assert await one.tell(submit("b")) == ("b",)
    assert hive.loop.state.counter == 2
    assert await hive.inbox.letters("s") == []


async def test_what_was_not_pushed_is_read(hive: Hive) -> None:
    one = await hive.follow(Hands(), "east")
    hive.inbox.drops = lambda heard: isinstance(heard, Append | Answer)
    told = one.tell(submit("a"))
    while "a" not in hive.loop.state.entries:
        await hive.loop.moved(hive.loop.head.seq)
    assert "a" not in one.state.entries
    hive.inbox.drops = lambda heard: False
    await hive.loop.tell(submit("b"))  # its push does not follow what is known, so the log is read
    assert await told == ("a",)
    await end_of(one, "a", "b")


async def test_a_replica_whose_log_went_another_way_follows_that(hive: Hive) -> None:
    one = await hive.follow()
    await hive.loop.tell(submit("a"))
    while "a" not in one.state.entries:
        await one.moved(one.head.seq)
    await hive.loop.stop()
    kept = hive.disk.sessions["s"]
    # A failover to a replica of the store that had not got the last append.
    cut, kept.log = kept.log[-1], kept.log[:-1]
    head = Head(cut.epoch, kept.log[-1].last, kept.log[-1].hash)
    hive.log._end("s", kept, head)
    await hive.lead()
    await hive.loop.tell(submit("other"))
    while "other" not in one.state.entries:
        await one.moved(0)
        await asyncio.sleep(0)
    assert "a" not in one.state.entries
    assert one.state.digest() == hive.loop.state.digest()


async def test_an_append_without_a_good_seal_is_not_acted_on(hive: Hive) -> None:
    hands = Hands()
    one = await hive.follow(hands, "east")
    await hive.loop.tell(submit("a"))
    await end_of(one, "a")
    last, head = hive.disk.sessions["s"].log[-1], one.head
    forged = Append(head.seq + 1, head.seq + 1, last.epoch, bytes(16), last.blob, bytes(32))
    before = len(hands.begun)
    one._hear(forged)
    assert (one.head, len(hands.begun)) == (head, before)


async def test_a_letter_that_is_pushed_again_is_not_decided_again(hive: Hive) -> None:
    heard: list[Heard] = []
    await EphemeralInbox(hive.disk).listen("s", heard.append)
    one = await hive.follow()
    assert await one.tell(submit("a")) == ("a",)
    (letter,) = heard
    assert hive.loop._post is not None
    hive.loop._post._hear(letter)
    assert await one.tell(submit("b")) == ("b",)
    assert (hive.loop.failure, hive.loop.state.counter) == (None, 2)


async def test_who_writes_letters_that_cannot_be_read_hears_so_at_once(hive: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = await hive.follow(), await hive.follow()
    monkeypatch.setattr(letters, "write", lambda enclosed, since: b"\xc1 of another version")
    told = [one.tell(submit("a")), one.tell(submit("b"))]
    for answer in told:
        with pytest.raises(Invalid, match=r"a letter of \w+ cannot be read") as caught:
            await answer
        assert caught.value.fix == "Use the same version of Skep everywhere."
    assert await hive.inbox.letters("s") == []
    monkeypatch.undo()
    assert await other.tell(submit("c")) == ("c",)
    assert list(hive.loop.state.entries) == ["c"]


async def test_a_letter_that_cannot_be_read_and_failed_to_be_taken_is_taken_later(
    hive: Hive, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await hive.follow()
    hive.written.refuses = 1
    monkeypatch.setattr(letters, "write", lambda enclosed, since: b"\xc1 of another version")
    with pytest.raises(Invalid, match="cannot be read"):
        await one.tell(submit("a"))
    assert (hive.written.refuses, await hive.inbox.letters("s")) == (0, [])


async def test_letters_that_cannot_be_had_end_the_session_here_loudly(hive: Hive) -> None:
    hive.written.broken = Invalid("the inbox is damaged", "Mend it.")
    await hive.lead()
    with pytest.raises(Invalid, match="the inbox is damaged"):
        await hive.loop.moved(hive.loop.head.seq)


async def test_letters_that_lie_around_one_that_is_not_sealed_are_decided(hive: Hive) -> None:
    one = await hive.follow()
    await hive.loop.stop()
    told = [one.tell(submit("a"))]
    await hive.lettered()
    hive.written.foreign = (await hive.inbox.letters("s"))[0].place + "x"
    await hive.lead()
    told.append(one.tell(submit("b")))
    assert [await answer for answer in told] == [("a",), ("b",)]


async def test_a_full_store_is_waited_for(hive: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    full = [Exhausted("the store is full"), Exhausted("the store is full")]
    acquire, append = hive.log.acquire, hive.log.append

    async def acquired(*args: Any) -> Head:
        if full:
            raise full.pop()
        return await acquire(*args)

    async def appended(*args: Any, **more: Any) -> Head:
        if len(full) == 2:
            raise full.pop()
        return await append(*args, **more)

    monkeypatch.setattr(hive.log, "acquire", acquired)
    monkeypatch.setattr(hive.log, "append", appended)
    with pytest.raises(Exhausted):
        await hive.loop.tell(submit("a"))
    with pytest.raises(Unavailable, match="nothing of this was done: the store is full"):
        await hive.loop.tell(submit("b"))
    assert await hive.loop.tell(submit("c")) == ("c",)
    assert not full


async def test_a_letter_that_the_log_can_never_hold_is_refused_and_gone(hive: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = await hive.follow(), await hive.follow()
    monkeypatch.setattr(chain, "LARGEST_APPEND", 3_000)
    large = submit("large", *("x" * 90 + str(n) for n in range(40)))
    told = [one.tell(large), two.tell(submit("a"))]
    with pytest.raises(Exhausted, match="at most 3000 fit"):
        await told[0]
    assert await told[1] == ("a",)
    assert await one.tell(submit("b")) == ("b",)
    assert await hive.inbox.letters("s") == []
    assert "large" not in hive.loop.state.entries


async def test_what_is_as_large_as_can_be_sent_goes_alone(hive: Hive) -> None:
    one = await hive.follow()
    large = submit("x" * (letters.LARGEST - len(letters.enclose(submit(""), True)) - 8))
    told = [one.tell(given) for given in (submit(*(f"a{n}" for n in range(100))), large, submit("b"))]
    assert len(await told[0]) == 100
    with pytest.raises(Invalid):
        await told[1]
    assert await told[2] == ("b",)


@pytest.mark.parametrize("where", ["elsewhere", "here"])
async def test_an_attempt_that_reports_more_than_the_log_can_hold_has_failed(
    hive: Hive, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    hands = Hands(at_once=False)
    node = await hive.follow(hands, "east")
    await hive.loop.tell(submit("a"))
    while not hands.begun:
        await node.moved(node.head.seq)
    monkeypatch.setattr(chain, "LARGEST_APPEND", 3_000)
    report = msgspec.structs.replace(ended(hands.begun[0]), result="x" * 4_000)
    (node if where == "elsewhere" else hive.loop).report(report)
    while hive.loop.state.entries["a"].state != "failed":
        await hive.loop.moved(hive.loop.head.seq)
    assert "an append of" in hive.loop.state.entries["a"].detail
    assert await node.tell(submit("b")) == ("b",)
    assert await hive.inbox.letters("s") == []


async def test_whoever_closes_tells_who_waits_that_the_outcome_is_unknown(hive: Hive) -> None:
    one = await hive.follow()
    await hive.loop.stop()
    told = one.tell(submit("a"))
    await one.stop()
    with pytest.raises(SkepError, match="outcome unknown"):
        await told


async def test_letters_are_taken_with_the_append_that_decides_them(hive: Hive) -> None:
    taken: list[tuple[int, int]] = []
    append = hive.log.append

    async def watched(*args: Any, **more: Any) -> Head:
        given: list[Taken] = [*args[7]] if len(args) > 7 else [*more.get("taken", ())]
        taken.append((args[4], len(given)))
        return await append(*args, **more)

    hive.log.append = watched  # type: ignore[method-assign]  # to see what is given
    one = await hive.follow()
    await one.tell(submit("a"))
    assert taken == [(2, 1)]
