"""The health of a fleet over a Valkey while its nodes, processes of their own, are killed and come back."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

import skep
from skep import fleets
from skep.config import Config, StoreConfig
from skep.core.fleet import Fleet, Swarm
from skep.core.health import Health
from skep.runtime.nodes import Note, tell
from skep.runtime.shared import DRAINS, NODES
from tests import servers
from tests.workspace.repository import Repository

Join = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def url() -> str:
    server = servers.valkey_server()
    server.tell("FLUSHALL")
    return server.url


@pytest.fixture
def join(repo: Repository, tmp_path: Path, url: str) -> Iterator[Join]:
    """Begins a node with four slots."""
    began: list[subprocess.Popen[bytes]] = []

    def node(name: str, *more: str) -> subprocess.Popen[bytes]:
        key, folder = str(repo.top / ".skep" / "key"), str(tmp_path / f"machine-{name}")
        given = ("--name", name, "--key", key, "--folder", folder, "--slots", "4", *more)
        env = {**os.environ, "SKEP_STORE_URL": url}
        command = [sys.executable, "-m", "skep", "node", "join", *given]
        process = subprocess.Popen(command, cwd=repo.top, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        began.append(process)
        return process

    yield node
    for process in began:
        if process.poll() is None:
            process.terminate()
    for process in began:
        process.wait(60)


async def until(hive: skep.Skep, there: Callable[[Health], bool]) -> Health:
    """The fleet's health once it is so."""
    seen = None
    try:
        async with asyncio.timeout(100):
            while seen is None or not there(seen):
                (view,) = await fleets.status(hive, "farm")
                seen = view.health
                await asyncio.sleep(0.05)  # tidy: sleeps because other processes tell nobody
    except TimeoutError:
        raise AssertionError(f"it stays at {seen}") from None
    return seen


async def test_a_node_that_is_killed_makes_a_fleet_degraded_until_it_is_back_and_no_leader_unhealthy(
    repo: Repository, url: str, join: Join
) -> None:
    swarm = Swarm(name="any", session="farm.any", slots=8)
    async with skep.open(repo.top, Config(store=StoreConfig(url=url))) as hive:
        await fleets.init(hive, Fleet(name="farm", swarms=(swarm,)))
        alone = await until(hive, lambda one: True)
        assert (alone.state, alone.held) == ("unhealthy", 0), "this process carries out nothing for others"
        east, west = join("east"), join("west", "--no-lead")
        await until(hive, lambda one: one.state == "healthy")
        west.kill()
        west.wait()
        ill = await until(hive, lambda one: one.state != "healthy")
        assert (ill.state, ill.held) == ("degraded", 4)
        assert "nodes have 4 of 8 slots, under 80%" in ill.causes
        west = join("west", "--no-lead")
        await until(hive, lambda one: one.state == "healthy")
        east.kill()
        east.wait()
        led = await until(hive, lambda one: one.state == "unhealthy")
        assert "nobody leads swarm any (session farm.any)" in led.causes


async def test_a_node_counts_when_a_stranger_tells_it_to_leave(repo: Repository, url: str) -> None:
    """The stranger has no key, and knows what an order looked like before orders were sealed."""
    async with skep.open(repo.top, Config(store=StoreConfig(url=url))) as hive:
        await fleets.init(hive, Fleet(name="farm", swarms=(Swarm(name="any", session="farm.any", slots=4),)))
        sessions = hive.door._sessions
        assert sessions is not None
        assert sessions._parts.shared is not None
        leases, seal = sessions._parts.shared.leases, sessions._parts.log.seal_to
        note = Note("there", 1, node="east", slots=4, serves=True, leads=True)
        await leases.hold(f"{NODES}/east", "its process", 600_000, msgspec.json.encode(note).decode())
        await leases.hold(f"{DRAINS}/east", "its process", 600_000, "leave")
        assert [one.health.held for one in await fleets.status(hive)] == [4]
        await tell(leases, seal, "east", "drain")
        assert [one.health.held for one in await fleets.status(hive)] == [0]
