"""What stands around the removal of old sessions: names that moved, other stores, notes and folders that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import skep
from skep.core.fleet import Fleet, Swarm
from skep.core.model import Plan
from skep.runtime import requests as rq
from skep.runtime import retention
from skep.runtime.names import Names
from skep.runtime.node import SystemClock
from skep.runtime.retention import GOING
from tests import servers
from tests.runtime.ages import ahead
from tests.runtime.test_retention import comes_back, ended, left, prune
from tests.workspace.repository import Repository


def much_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the clock forward."""
    monkeypatch.setattr(SystemClock, "now", ahead)


async def test_a_restored_session_of_a_fleet_stays_and_the_one_it_replaced_goes(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with skep.open(repo.top) as hive:
        await hive.call(rq.FormFleet(fleet=Fleet(name="farm", swarms=(Swarm(name="a", session="farm-a", slots=1),))))
        session = await hive.find("farm-a")
        await session.resume()
        await session.submit(skep.Task(id="t", run="true", mode="none"))
        assert (await session.results(["t"]))[0].ok
        await hive.backup("farm-a")
        await hive.restore("farm-a")
    much_later(monkeypatch)
    async with skep.open(repo.top) as hive:
        told = {view.name: (view.gone, view.kept) for view in await prune(hive)}
        assert told.pop("farm-a") == (False, "it is of fleet farm")
        assert list(told.values()) == [(True, "")]
        assert [brief.name for brief in await hive.sessions()] == ["farm-a"]


async def test_what_another_store_has_is_left_alone(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store went away over the removal; the next command in the folder is about another one, which knows no such session."""
    server = servers.redis_server()
    server.tell("FLUSHALL")
    monkeypatch.setenv("SKEP_STORE_URL", server.url)
    await ended(repo)
    much_later(monkeypatch)

    async def away(*_: Any) -> None:
        raise skep.Unavailable("the Redis does not answer")

    async with skep.open(repo.top) as hive:
        with monkeypatch.context() as patch:
            patch.setattr(Names, "forget", away)
            (view,) = await prune(hive)
        assert "does not answer" in view.trouble
    assert (repo.top / ".skep" / GOING).exists()
    monkeypatch.delenv("SKEP_STORE_URL")
    async with skep.open(repo.top) as hive:
        assert await hive.sessions() == []
    monkeypatch.setenv("SKEP_STORE_URL", server.url)
    async with skep.open(repo.top) as hive:
        assert repo.show("refs/skep/bench/main", "x") == "x"
        assert [view.gone for view in await prune(hive)] == [True]
    assert left(repo) == []
    await comes_back(repo)


async def test_a_damaged_note_of_what_was_going_is_in_the_way_of_pruning_only(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ended(repo)
    (repo.top / ".skep" / GOING).write_bytes(b"")
    much_later(monkeypatch)
    async with skep.open(repo.top) as hive:
        assert len(await hive.sessions()) == 1
        with pytest.raises(skep.Invalid, match="is damaged"):
            await prune(hive)


async def test_a_session_begins_where_backups_cannot_be_read(repo: Repository) -> None:
    async with skep.open(repo.top) as hive:
        folder = repo.top / ".skep" / "backups"
        folder.symlink_to(folder)
        assert (await hive.start(Plan(name="plan"))).name == "plan-1"
        with pytest.raises(skep.Invalid, match="cannot be read"):
            await hive.backups()


async def test_what_could_not_be_kept_of_an_attempt_stays_with_its_session(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk was full when its work was to be committed: it lies in its worktree only."""
    await ended(repo)
    much_later(monkeypatch)
    async with skep.open(repo.top) as hive:
        sessions = hive.door._sessions
        assert sessions is not None
        path = await sessions._parts.workspace.checkout("bench", "task/make", repo("rev-parse", "HEAD").strip())
        (view,) = await prune(hive)
        assert (view.gone, path in view.kept) == (False, True)
        assert len(await hive.sessions()) == 1


async def test_what_is_gone_is_not_said_to_be_there(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something of a session that went cannot be removed: that is told, and tried again the next time."""

    def stuck(path: Path) -> None:
        raise skep.Unavailable(f"{path} cannot be removed")

    await ended(repo)
    much_later(monkeypatch)
    async with skep.open(repo.top) as hive:
        with monkeypatch.context() as patch:
            patch.setattr(retention, "erase", stuck)
            (view,) = await prune(hive)
        assert (view.gone, "cannot be removed" in view.trouble) == (True, True)
        assert await hive.sessions() == []
        assert await prune(hive) == []
    assert left(repo) == []
    await comes_back(repo)
