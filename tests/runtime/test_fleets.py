"""Fleets over SQLite and over a Valkey: formed once, changed in place, tasks sent once, whatever dies in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import skep
from skep import fleets
from skep.config import Config, StoreConfig
from skep.core import inputs as inp
from skep.core.events import Event
from skep.core.fleet import SYSTEM, Fleet, FleetFormed, FleetHanded, FleetRouted, Swarm
from skep.core.model import AgentSpec, Plan
from skep.core.rules import ToolRule
from skep.errors import Conflict, Invalid, NotFound, Unavailable
from skep.runtime import requests as rq
from skep.runtime.fleets import Fleets
from skep.runtime.node import SystemClock
from skep.runtime.sessions import Sessions
from tests import servers
from tests.workspace.repository import Repository


def swarm(name: str, slots: int = 2, **more: Any) -> Swarm:
    return Swarm(name=name, session=f"farm.{name}", slots=slots, **more)


def farm(*swarms: Swarm) -> Fleet:
    return Fleet(name="farm", swarms=swarms)


def work(**more: Any) -> skep.Task:
    return skep.Task(run="echo done", mode="none", **more)


class Place:
    """A workspace, and the store that it works with."""

    def __init__(self, folder: Path, config: Config | None) -> None:
        self.folder, self.config = folder, config

    @asynccontextmanager
    async def open(self) -> AsyncIterator[skep.Skep]:
        async with skep.open(self.folder, self.config) as hive:
            yield hive

    async def told(self, hive: skep.Skep, session: str, *kinds: type) -> list[Event]:
        """The events of these kinds that a session's log holds."""
        sessions = hive.door._sessions
        assert sessions is not None
        view = await sessions.live.look(session, lambda state: state.seq)
        found: list[Event] = []
        async for number, event in sessions.live.stream(session, 0):
            if isinstance(event, kinds or object):
                found.append(event)
            if number >= view:
                break
        return found


@pytest.fixture(params=["sqlite", "valkey"])
def place(request: pytest.FixtureRequest, repo: Repository) -> Place:
    if request.param == "sqlite":
        return Place(repo.top, None)
    server = servers.valkey_server()
    server.tell("FLUSHALL")
    return Place(repo.top, Config(store=StoreConfig(url=server.url)))


async def test_the_same_fleet_again_changes_nothing_and_another_one_is_told_of(place: Place) -> None:
    async with place.open() as hive:
        first = await fleets.init(hive, farm(swarm("a"), swarm("b")))
        assert first.changes == ("swarm a is new: session farm.a, 2 slots", "swarm b is new: session farm.b, 2 slots")
    async with place.open() as hive:
        before = (await (await hive.find("farm.a")).status()).seq
        assert (await fleets.init(hive, farm(swarm("a"), swarm("b")))).changes == ()
        assert (await (await hive.find("farm.a")).status()).seq == before
        assert len(await place.told(hive, SYSTEM, FleetFormed)) == 1
        assert (await fleets.init(hive, farm(swarm("a", 5)), dry=True)).changes == (
            "swarm a: slots 2 -> 5",
            "swarm b is taken out; its session farm.b stays",
        )
        assert len(await place.told(hive, SYSTEM, FleetFormed)) == 1
        await fleets.init(hive, farm(swarm("a", 5)))
        assert (await (await hive.find("farm.a")).status()).limits.agents == 5
        assert [one.name for one in (await fleets.status(hive, "farm"))[0].swarms] == ["a"]
        assert {one.name for one in await hive.sessions()} == {"farm.a", "farm.b"}, "the log of the fleets is no session"


async def test_a_task_goes_to_the_best_swarm_once_for_each_key(place: Place) -> None:
    async with place.open() as hive:
        await fleets.init(hive, farm(swarm("a", labels={"gpu": "true"}), swarm("b")))
        sent = await fleets.submit(hive, "farm", work(), key="one")
        again = await fleets.submit(hive, "farm", work(), key="one")
        assert (sent.route.session, sent.task.id) == ("farm.b", again.task.id) == ("farm.b", "t1")
        assert sent.route.reasons == again.route.reasons
        assert (await sent.task.result()).ok
        other = await fleets.submit(hive, "farm", work(), key="two")
        assert other.task.id == "t2"
        assert (await other.task.result()).ok
        (view,) = await fleets.status(hive)
        assert [(one.done, one.running, one.waiting) for one in view.swarms] == [(0, 0, 0), (2, 0, 0)]
        assert view.owed == 0
    async with place.open() as hive:
        assert (await fleets.submit(hive, "farm", work(), key="one")).task.id == "t1"


async def test_what_no_swarm_could_do_is_refused_with_what_each_lacks_and_nothing_is_recorded(place: Place) -> None:
    async with place.open() as hive:
        await fleets.init(hive, farm(swarm("a"), swarm("b", runtimes=("python",))))
        with pytest.raises(Invalid, match="a: it does not carry gpu=true; b: it has no agent for run tasks"):
            await fleets.submit(hive, "farm", work(constraints={"gpu": "true"}))
        with pytest.raises(NotFound, match="no fleet 'none'"):
            await fleets.submit(hive, "none", work())
        assert not await place.told(hive, SYSTEM, FleetRouted)


async def test_a_submission_that_dies_before_the_session_has_it_is_handed_over_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any) -> Any:
        raise Unavailable("the process died here")

    async with place.open() as hive:
        await fleets.init(hive, farm(swarm("a"), swarm("b")))
        with monkeypatch.context() as patched:
            patched.setattr(Fleets, "_hand", dies)
            with pytest.raises(Unavailable):
                await fleets.submit(hive, "farm", work(), key="one")
        assert (await fleets.status(hive))[0].owed == 1
        assert len(await place.told(hive, SYSTEM, FleetRouted)) == 1
    async with place.open() as hive:
        sessions = hive.door._sessions
        assert sessions is not None
        await Fleets(sessions, sessions._parts).hand_over_all()
        assert (await fleets.status(hive))[0].owed == 0
        sent = await fleets.submit(hive, "farm", work(), key="one")
        assert (sent.route.session, sent.task.id) == ("farm.a", "t1")
        assert (await sent.task.result()).ok
        assert len(await place.told(hive, SYSTEM, FleetRouted)) == len(await place.told(hive, SYSTEM, FleetHanded)) == 1
        assert sum(one.tasks for one in await hive.sessions()) == 1


async def test_a_submission_that_dies_before_that_is_recorded_is_handed_over_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = Fleets._tell

    async def dies(self: Fleets, given: Any) -> Any:
        if type(given).__name__ == "HandTask":
            raise Unavailable("the process died here")
        return await tell(self, given)

    async with place.open() as hive:
        await fleets.init(hive, farm(swarm("a")))
        with monkeypatch.context() as patched:
            patched.setattr(Fleets, "_tell", dies)
            with pytest.raises(Unavailable):
                await fleets.submit(hive, "farm", work(), key="one")
        sent = await fleets.submit(hive, "farm", work(), key="one")
        assert sent.task.id == "t1"
        assert (await hive.sessions())[0].tasks == 1


async def test_sessions_that_were_not_made_are_made_by_the_next_who_asks(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Sessions.call

    async def dies(self: Sessions, request: Any) -> Any:
        if isinstance(request, rq.Create) and request.name == "farm.b":
            raise Unavailable("the process died here")
        return await call(self, request)

    async with place.open() as hive:
        with monkeypatch.context() as patched:
            patched.setattr(Sessions, "call", dies)
            with pytest.raises(Unavailable):
                await fleets.init(hive, farm(swarm("a"), swarm("b")))
        assert {one.name for one in await hive.sessions()} == {"farm.a"}
        assert (await fleets.init(hive, farm(swarm("a"), swarm("b")))).changes == ()
        assert {one.name for one in await hive.sessions()} == {"farm.a", "farm.b"}


async def test_a_plan_is_changed_by_who_forms_the_fleet_only(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "first"))
    kind = AgentSpec(name="coder", runtime="claude", rules=(ToolRule(do="never", path="~/secret"),))
    fleet = farm(swarm("a", agents=(kind,)))
    async with place.open() as hive:
        await fleets.init(hive, fleet)
        sessions = hive.door._sessions
        assert sessions is not None
        plan: Plan = await sessions.live.look("farm.a", lambda state: state.plan)
        theirs = replace(plan, limits=replace(plan.limits, agents=7))
        loop = await sessions.live.loop("farm.a", hands=False)
        await loop.tell(inp.ChangePlan(at=1, plan=theirs, all=True, by="a person"))
    monkeypatch.setenv("HOME", str(tmp_path / "second"))
    async with place.open() as hive:
        sessions = hive.door._sessions
        assert sessions is not None
        await Fleets(sessions, sessions._parts).hand_over_all()
        assert (await (await fleets.submit(hive, "farm", work(), key="one")).task.result()).ok
        assert await sessions.live.look("farm.a", lambda state: state.plan) == theirs
        assert (await fleets.init(hive, fleet)).changes == ()
        now: Plan = await sessions.live.look("farm.a", lambda state: state.plan)
        assert (now.limits.agents, now.agents[-1].rules[0].path) == (2, str(tmp_path / "second/secret"))


async def test_a_change_that_dies_before_the_session_has_it_is_finished_by_the_same_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any) -> Any:
        raise Unavailable("the process died here")

    async with place.open() as hive:
        await fleets.init(hive, farm(swarm("a")))
        with monkeypatch.context() as patched:
            patched.setattr(Fleets, "_change", dies)
            with pytest.raises(Unavailable):
                await fleets.init(hive, farm(swarm("a", 5)))
        assert (await (await hive.find("farm.a")).status()).limits.agents == 2
        assert (await fleets.init(hive, farm(swarm("a", 5)))).changes == ()
        assert (await (await hive.find("farm.a")).status()).limits.agents == 5


@pytest.mark.parametrize("session", ["_farm.b", "f" * 99 + ".b"])
async def test_a_fleet_whose_sessions_can_have_no_such_name_is_refused(place: Place, session: str) -> None:
    fleet = farm(swarm("a"), Swarm(name="b", session=session, slots=1))
    async with place.open() as hive:
        for dry in (True, False):
            with pytest.raises(Invalid, match="is no name for a session"):
                await fleets.init(hive, fleet, dry=dry)
        assert await fleets.status(hive) == []


async def test_what_cannot_be_handed_over_holds_up_nothing_else(place: Place) -> None:
    bad = Swarm(name="bad", session="_farm.bad", slots=1, labels={"gpu": "true"})
    async with place.open() as hive:
        sessions = hive.door._sessions
        assert sessions is not None
        owing = Fleets(sessions, sessions._parts)
        for name, swarms in (("first", (bad, swarm("a"))), ("second", (swarm("b"),))):
            await owing._tell(inp.FormFleet(at=1, fleet=Fleet(name=name, swarms=swarms), used={}))
        gpu = work(constraints={"gpu": "true"})
        for name, key, task in (("first", "one", gpu), ("first", "two", work()), ("second", "three", work())):
            await owing._tell(inp.RouteTask(at=2, fleet=name, key=key, task=task, standings={}))
        assert [one.owed for one in await fleets.status(hive)] == [2, 1]
        await owing.hand_over_all()
        assert [one.owed for one in await fleets.status(hive)] == [1, 0], "what a session cannot be made for"
        assert {one.name: one.tasks for one in await hive.sessions()} == {"farm.a": 1, "farm.b": 1}
        assert (await fleets.submit(hive, "first", work(), key="four")).route.session == "farm.a"


async def test_a_session_that_was_there_before_is_not_taken(place: Place) -> None:
    async with place.open() as hive:
        await hive.session("farm.a")
        with pytest.raises(Conflict, match=r"there is a session farm.a already"):
            await fleets.init(hive, farm(swarm("a")))
        assert await fleets.status(hive) == []


async def test_a_fleet_that_is_removed_leaves_its_sessions_which_another_may_adopt(place: Place) -> None:
    async with place.open() as hive:
        await fleets.init(hive, farm(swarm("a"), swarm("b")))
        assert (await (await fleets.submit(hive, "farm", work(), key="k")).task.result()).ok
        assert await fleets.remove(hive, "farm") == ("farm.a", "farm.b")
        assert await fleets.status(hive) == []
        with pytest.raises(NotFound, match="no fleet 'farm'"):
            await fleets.remove(hive, "farm")
        with pytest.raises(Conflict, match="--adopt"):
            await fleets.init(hive, farm(swarm("a", 3)))
        for dry in (True, False):
            made = await fleets.init(hive, farm(swarm("a", 3)), dry=dry, adopt=True)
            assert made.notes == ("session farm.a was there before: it is a swarm of the fleet now, and keeps its tasks",)
            assert len(await fleets.status(hive)) == (not dry)
        (view,) = await fleets.status(hive)
        assert [(one.slots, one.done) for one in view.swarms] == [(3, 1)]
        assert (await (await hive.find("farm.a")).status()).limits.agents == 3


async def test_backups_of_all_hold_the_fleets(place: Place, tmp_path: Path) -> None:
    async with place.open() as hive:
        await fleets.init(hive, farm(swarm("a"), swarm("b")))
        first = await fleets.submit(hive, "farm", work(), key="k")
        assert (await first.task.result()).ok
        made = await hive.backup(everything=True, to=tmp_path / "kept")
        assert sorted(one.name for one in made) == [SYSTEM, "farm.a", "farm.b"]
        assert not any(one.trouble for one in made)
        with pytest.raises(Conflict, match="not replaced"):
            await hive.restore(SYSTEM, tmp_path / "kept")
    (tmp_path / "anew").mkdir()
    async with skep.open(tmp_path / "anew") as hive:
        assert hive.door._sessions is not None
        await hive.door._sessions._parts.log.create(SYSTEM, 1)  # as a restore leaves it that was killed
        for name in ("farm.a", "farm.b", SYSTEM):
            await hive.restore(name, tmp_path / "kept")
        assert sorted(one.name for one in await hive.sessions()) == ["farm.a", "farm.b"]
        again = await fleets.submit(hive, "farm", work(), key="k", carry=False)
        assert (again.route.session, again.task.id) == (first.route.session, first.task.id)
        assert (await again.task.result()).ok
        second = await fleets.submit(hive, "farm", work(), key="another", carry=False)
        await (await hive.find(second.route.session)).resume()
        assert (await second.task.result()).ok


async def test_what_is_recommended_is_applied(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place.open() as hive:
        await fleets.init(hive, farm(swarm("a", 4), swarm("b", 1)))
        assert (await (await fleets.submit(hive, "farm", work())).task.result()).ok
        assert (await fleets.resize(hive, "farm")).changes == (), "watched for too short a time"
        now = SystemClock.now
        monkeypatch.setattr(SystemClock, "now", lambda self: now(self) + 20 * 60_000)
        session = await hive.find("farm.a")
        assert (await fleets.resize(hive, "farm")).changes == ("swarm a: slots 4 -> 1",)
        assert (await session.status()).limits.agents == 1
        assert (await fleets.resize(hive, "farm")).changes == ()


async def test_a_task_that_its_session_refuses_is_not_kept(place: Place) -> None:
    async with place.open() as hive:
        await fleets.init(hive, farm(swarm("a")))
        with pytest.raises(Invalid):
            await fleets.submit(hive, "farm", work(id="t7"), key="one")
        assert (await fleets.status(hive))[0].owed == 0
        assert (await fleets.submit(hive, "farm", work(), key="one")).task.id == "t1"


async def test_open_tasks_stay_when_a_swarm_is_changed(place: Place) -> None:
    async with place.open() as hive:
        await fleets.init(hive, farm(swarm("a", 1)))
        for number in range(3):
            await fleets.submit(hive, "farm", work(), key=str(number), carry=False)
        assert (await fleets.init(hive, farm(swarm("a", 2)))).changes == ("swarm a: slots 1 -> 2",)
        session = await hive.find("farm.a")
        assert (await session.status()).limits.agents == 2
        results = [await (await fleets.submit(hive, "farm", work(), key=str(number))).task.result() for number in range(3)]
        assert [one.ok for one in results] == [True] * 3


async def test_health_on_one_machine(repo: Repository) -> None:
    async with skep.open(repo.top) as hive:
        await fleets.init(hive, farm(swarm("a")))
        assert await fleets.health(hive) == "healthy"
        await fleets.submit(hive, "farm", work(), carry=False)
        (view,) = await fleets.status(hive)
        assert (view.health.state, view.health.causes) == ("unhealthy", ("nobody leads swarm a (session farm.a)",))
        await (await hive.find("farm.a")).resume()
        await (await hive.find("farm.a")).settled()
        assert await fleets.health(hive) == "healthy"
        await fleets.init(hive, Fleet(name="gpus", swarms=(Swarm(name="x", session="gpus.x", slots=1, labels={"gpu": "true"}),)))
        assert [one.health.state for one in await fleets.status(hive)] == ["healthy", "unhealthy"]
        assert await fleets.health(hive) == "unhealthy"
