"""Sessions over a Redis: begun where the files are, carried out by nodes elsewhere, gone on with when somebody dies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import skep
from skep import nodes
from skep.config import Config, SandboxConfig, StoreConfig
from skep.core import events as ev
from skep.core.model import Plan, Task
from skep.errors import Unavailable
from skep.runtime.node import Here, Role
from skep.store.redis.keys import of_session
from tests import servers
from tests.workspace.repository import Repository, git

LEADER = Role(here=Here(name="leader", slots=0))


def config(tmp_path: Path, **more: object) -> Config:
    store = StoreConfig(url=servers.valkey_server().url, key=str(tmp_path / "key"))
    return Config(store=store, sandbox=SandboxConfig(mode="off"))


def node(name: str, **labels: str) -> Role:
    return Role(here=Here(name=name, slots=8, labels=labels), serves=True, leads=True, hosted=True)


class Hive:
    def __init__(self, tmp_path: Path, stack: AsyncExitStack, repo: Repository) -> None:
        servers.valkey_server().tell("FLUSHALL")
        self.tmp_path, self.stack, self.repo = tmp_path, stack, repo
        self.config = config(tmp_path)

    async def lead(self, role: Role = LEADER) -> skep.Skep:
        return await self.stack.enter_async_context(nodes.join(self.repo.top, self.config, role))

    async def join(self, name: str, **labels: str) -> skep.Skep:
        folder = self.tmp_path / f"machine-{name}"
        folder.mkdir()
        return await self.stack.enter_async_context(nodes.join(folder, self.config, node(name, **labels)))


@pytest.fixture
async def hive(tmp_path: Path, repo: Repository) -> AsyncIterator[Hive]:
    async with AsyncExitStack() as stack:
        yield Hive(tmp_path, stack, repo)


def writes(name: str, **more: object) -> Task:
    return Task(id=name, run=f"echo {name} > {name}.txt", **more)  # type: ignore[arg-type]  # of the caller's


async def test_work_is_done_on_nodes_that_have_nothing_of_the_user_and_merged_where_the_files_are(hive: Hive) -> None:
    leader = await hive.lead()
    await hive.join("east")
    await hive.join("west")
    tasks = (writes("one"), writes("two"), writes("three", needs=("one", "two")))
    session = await leader.start(Plan(name="over", tasks=tasks))
    view = await session.settled()
    assert {task.id: task.state for task in view.tasks} == {"one": "done", "two": "done", "three": "done"}
    await session.merge()
    assert [(hive.repo.top / f"{name}.txt").read_text() for name in ("one", "two", "three")] == ["one\n", "two\n", "three\n"]


async def test_commits_travel_through_a_shared_repository_that_the_settings_name(hive: Hive) -> None:
    shared = hive.tmp_path / "shared.git"
    git(hive.tmp_path, "init", "-q", "--bare", str(shared))
    store = replace(hive.config.store, remote=f"file://{shared}")
    hive.config = replace(hive.config, store=store)
    leader = await hive.lead()
    await hive.join("east")
    session = await leader.start(Plan(name="over", tasks=(writes("one"), writes("two", needs=("one",)))))
    assert {task.state for task in (await session.settled()).tasks} == {"done"}
    await session.merge()
    assert (hive.repo.top / "two.txt").read_text() == "two\n"
    with servers.valkey_server().client() as client:
        listed: Any = client.hgetall(of_session(session.name, "commits"))
    refs = git(shared, "for-each-ref", "--format=%(refname)").split()
    assert {ref.rpartition("/")[2] for ref in refs} == {commit.decode() for commit in listed}
    assert len({ref.split("/")[2] for ref in refs}) == 1, "one store"
    assert all(b'"digest":""' in packed for packed in listed.values()), "nothing went as a bundle"


async def test_a_task_goes_to_a_node_that_carries_its_labels(hive: Hive) -> None:
    leader = await hive.lead()
    await hive.join("plain")
    await hive.join("large", gpu="yes")
    session = await leader.start(Plan(name="over", tasks=(writes("one", constraints={"gpu": "yes"}), writes("two"))))
    await session.settled()
    placed = {event.node async for _, event in past(session) if isinstance(event, ev.TaskAssigned) and event.task == "one"}
    assert placed == {"large"}


async def test_a_node_tells_of_a_session_and_changes_it_as_its_writer_does(hive: Hive) -> None:
    leader, other = await hive.lead(), await hive.join("east")
    session = await leader.start(Plan(name="over", tasks=(writes("one", approve="before"),)))
    there = await other.find(session.name)
    assert [task.id for task in (await there.status()).tasks] == ["one"]
    await there.answer("one", "approve")
    view = await session.settled()
    assert view.tasks[0].state == "done"
    assert (await there.status()).tasks[0].state == "done"


async def test_whoever_closes_leaves_its_sessions_to_others(hive: Hive) -> None:
    async with AsyncExitStack() as first:
        leader = await first.enter_async_context(nodes.join(hive.repo.top, hive.config, LEADER))
        other = await hive.join("east")
        session = await leader.start(Plan(name="over", tasks=(writes("one", approve="before"), writes("two", needs=("one",)))))
        there = await other.find(session.name)
        await there.status()
    await there.answer("one", "approve")
    view = await there.settled()
    assert {task.state for task in view.tasks} == {"done"}, view


async def test_who_only_serves_never_writes_a_session_whose_writer_went_as_it_came(hive: Hive) -> None:
    """It had seen the writer a moment before."""
    async with nodes.join(hive.repo.top, hive.config, LEADER) as leader:
        await leader.session("left")
    (hive.tmp_path / "helper").mkdir()
    role = replace(node("helper"), leads=False)
    helper = await hive.stack.enter_async_context(nodes.join(hive.tmp_path / "helper", hive.config, role))
    sessions = helper.door._sessions
    assert sessions is not None
    log = sessions._parts.log
    before = await log.row("left")
    with pytest.raises(Unavailable, match="nobody writes it"):
        await sessions.live.serve("left")
    assert await log.row("left") == before


async def test_letters_that_nobody_with_the_key_wrote_are_passed_over_and_shown(hive: Hive) -> None:
    leader, other = await hive.lead(), await hive.join("east")
    session = await leader.start(Plan(name="over", tasks=(writes("one", approve="before"), writes("two", approve="before"))))
    server, inbox = servers.valkey_server(), of_session(session.name, "inbox")
    forged = [server.tell("XADD", inbox, "*", "s", "a", "n", "1", "b", "x" * 40) for _ in range(2)]
    there = await other.find(session.name)
    await there.answer("one", "approve")
    await there.answer("two", "approve")
    assert {task.state for task in (await session.settled()).tasks} == {"done"}
    for place in forged:
        assert isinstance(place, bytes)
        for seen in (session, there):
            assert f"`XDEL {inbox} {place.decode()}` removes the letter" in (await seen.status()).unread
        server.tell("XDEL", inbox, place)
    assert (await session.status()).unread == ""


async def test_who_waits_for_a_session_that_has_no_writer_waits_for_whoever_takes_it_over(hive: Hive) -> None:
    async with nodes.join(hive.repo.top, hive.config, LEADER) as first:
        name = (await first.start(Plan(name="over", tasks=(writes("one", mode="none"),)))).name
    face = await hive.lead(Role(here=Here(name="face", slots=0)))
    session = await face.find(name)
    waiting = asyncio.ensure_future(session.settled())
    await session.status()  # from here on the face has it open, with nobody who carries it out
    await hive.join("east")
    assert {task.state for task in (await waiting).tasks} == {"done"}


async def test_whoever_waits_when_the_workspace_is_closed_hears_so(hive: Hive) -> None:
    async with AsyncExitStack() as first:
        leader = await first.enter_async_context(nodes.join(hive.repo.top, hive.config, Role(here=Here(name="here", slots=2))))
        session = await leader.start(Plan(name="over", tasks=(Task(id="one", run="sleep 600"),)))
        waits = asyncio.ensure_future(session.settled())
        async for _, event in session.follow():
            if isinstance(event, ev.AttemptSpawned):
                break
    async with asyncio.timeout(60):
        with contextlib.suppress(Unavailable):
            await waits


async def past(session: skep.Session) -> AsyncIterator[tuple[int, ev.Event]]:
    """All that has happened so far."""
    last = (await session.status(tasks=False)).seq
    async for number, event in session.follow():
        yield number, event
        if number >= last:
            return
