"""A node's name is had by one process: who was killed is waited for, who is there is told, clones and copies say what to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import skep
from skep import nodes, wiring
from skep.config import STATE, Config, SandboxConfig, StoreConfig
from skep.core.model import Plan
from skep.errors import Conflict, Invalid
from skep.runtime.membership import NODE_TTL
from skep.runtime.node import MARK, Here, Role, named, place
from skep.runtime.shared import NODES
from skep.store import Leases
from tests import servers

#: Longer than any test, ms.
LONG = 3_600_000


class Hive:
    """A store, its leases, and nodes that join it."""

    def __init__(self, folder: Path, config: Config, held: Leases, stack: AsyncExitStack) -> None:
        self.folder, self.config, self.leases, self.said = folder, config, held, list[str]()
        self.asked = asyncio.Event()
        self._stack = stack

    async def join(self, name: str = "east") -> skep.Skep:
        role = Role(here=Here(name=name, slots=4), serves=True, leads=True, hosted=True, say=self.hear)
        self.machine.mkdir(exist_ok=True)
        return await self._stack.enter_async_context(nodes.join(self.machine, self.config, role))

    def hear(self, words: str) -> None:
        """What a node says while it joins."""
        self.said.append(words)
        self.asked.set()

    async def take(self, name: str, ttl: int, note: str = '{"host": "far", "pid": 7}') -> None:
        """Somebody else has the name from now on."""
        while not await self.leases.hold(f"{NODES}/{name}", "somebody", ttl, note):
            lease = (await self.leases.held(NODES)).get(name)
            if lease is not None:
                await self.leases.release(f"{NODES}/{name}", lease.holder)

    @property
    def machine(self) -> Path:
        return self.folder / "machine"


@pytest.fixture
async def hive(tmp_path: Path) -> AsyncIterator[Hive]:
    servers.valkey_server().tell("FLUSHALL")
    store = StoreConfig(url=servers.valkey_server().url, key=str(tmp_path / "key"))
    config = Config(store=store, sandbox=SandboxConfig(mode="off"))
    async with AsyncExitStack() as stack:
        held, _ = await stack.enter_async_context(wiring.hive(tmp_path, config))
        yield Hive(tmp_path, config, held, stack)


def test_each_state_folder_has_a_mark_of_its_own_that_stays(tmp_path: Path) -> None:
    one, other = tmp_path / "a" / STATE, tmp_path / "b" / STATE
    name = named(one)
    assert named(one) == name != named(other)
    assert (one / MARK).stat().st_mode & 0o777 == 0o600
    assert one.stat().st_mode & 0o777 == 0o700
    one.rename(tmp_path / "moved")
    assert named(tmp_path / "moved") == name, "the mark goes with the folder, wherever it is"


def test_a_file_that_holds_no_mark_is_refused_and_named(tmp_path: Path) -> None:
    named(tmp_path)
    (tmp_path / MARK).write_text("")
    with pytest.raises(Invalid, match=str(tmp_path / MARK)):
        named(tmp_path)


async def test_the_name_of_a_process_that_was_killed_is_waited_for(hive: Hive) -> None:
    await hive.take("east", LONG)
    joining = asyncio.create_task(hive.join())
    await hive.asked.wait()
    await hive.leases.release(f"{NODES}/east", "somebody")  # as if it had run out
    assert (await joining).owner
    assert hive.said == ["another process (7 on far) is the node 'east', or was: waits until that is known"]


async def test_the_name_of_a_process_that_is_there_is_refused_with_what_to_do(hive: Hive) -> None:
    await hive.take("east", NODE_TTL)

    async def renew() -> None:
        while await hive.leases.hold(f"{NODES}/east", "somebody", NODE_TTL, '{"host": "far", "pid": 7}'):
            pass

    renewing = asyncio.create_task(renew())
    try:
        with pytest.raises(Conflict, match=r"7 on far.*is the node 'east'") as found:
            await hive.join()
        assert str(hive.machine / STATE / MARK) in found.value.fix
        assert "--name" in found.value.fix
    finally:
        renewing.cancel()


async def test_who_had_the_name_in_the_very_same_folder_is_dead_and_not_waited_for(hive: Hive) -> None:
    (hive.machine / STATE).mkdir(parents=True, mode=0o700)
    await hive.take("east", LONG, json.dumps({"host": "far", "pid": 7, "place": place(hive.machine / STATE)}))
    assert (await hive.join()).owner
    assert hive.said == []


async def test_a_node_whose_name_was_taken_meanwhile_ends_with_that(hive: Hive) -> None:
    east = await hive.join()
    await hive.take("east", LONG)
    with pytest.raises(Conflict, match="7 on far"):
        await east.door.parted()
    with pytest.raises(Conflict, match="7 on far"):
        await east.start(Plan(name="later"))


async def test_who_only_looks_on_is_no_node(hive: Hive) -> None:
    hive.machine.mkdir()
    role = Role(here=Here(name="east", slots=4))
    async with nodes.join(hive.machine, hive.config, role) as face:
        assert await face.sessions() == []
        assert await hive.leases.held(NODES) == {}, "a node that died would be taken to be there"
        session = await face.start(Plan(name="s"))
        assert list(await hive.leases.held(NODES)) == ["east"]
        await session.status()
