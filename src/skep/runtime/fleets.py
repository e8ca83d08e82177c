"""Fleets, carried out: what the log of the session `SYSTEM` says is made so, and tasks go where it says.

First it is recorded what a fleet is, or where a task goes, then that is done. Whatever dies in between, whoever comes next makes
sessions that are not there and hands tasks over. Both may be done twice: a session is made once under its name, and takes a
submission with the same key once. Sessions that are there are changed by those who form the fleet only: what a plan is made
complete with depends on the process, and may have been changed by a person since.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from skep.core import health, routing
from skep.core import inputs as inp
from skep.core.fleet import SYSTEM, Fleet, Formed, Route, Standing, Swarm, Used
from skep.core.model import Limits, Plan
from skep.core.routing import lacks
from skep.core.state import State
from skep.errors import Conflict, Exhausted, Invalid, NotFound, SkepError
from skep.runtime import requests as rq
from skep.runtime.live import CLOSED, RACES
from skep.runtime.names import check_name
from skep.runtime.nodes import order_to, read_note
from skep.runtime.parts import Parts
from skep.runtime.shared import DRAINS, NODES, OWNERS
from skep.runtime.swarms import FleetView, FormedView, differences, view
from skep.runtime.views import status_of

if TYPE_CHECKING:
    from skep.runtime.sessions import Sessions
    from skep.store import Lease


class There(msgspec.Struct, frozen=True):
    """Who is there: the nodes and what they give, the processes that write sessions, whether one of them goes on with others'."""

    rooms: tuple[health.Room, ...]
    owners: frozenset[str] | None
    leads: bool


class Fleets:
    """Answers the requests about fleets."""

    def __init__(self, sessions: Sessions, parts: Parts) -> None:
        self._sessions = sessions
        self._parts = parts
        sessions.live.chores.append(self.hand_over_all)
        self.answers: dict[type, Callable[[Any], Awaitable[Any]]] = {
            rq.FormFleet: self._form,
            rq.RemoveFleet: self._remove,
            rq.ResizeFleet: self._resize,
            rq.Fleets: self._fleets,
            rq.SendTask: self._send,
        }

    async def hand_over_all(self) -> None:
        """Hands over what is owed, of all fleets: somebody may have died over it."""
        with contextlib.suppress(SkepError):  # who asks about the fleets hears of it
            for formed in (await self._recorded()).values():
                await self._hand_over(formed)

    # What is recorded

    async def _recorded(self) -> dict[str, Formed]:
        """The fleets by name."""
        if not any(row.session == SYSTEM for row in await self._parts.log.sessions()):
            return {}
        return await self._sessions.live.look(SYSTEM, lambda state: dict(state.fleets))

    async def _formed(self, name: str) -> Formed:
        found = await self._recorded()
        if name not in found:
            fix = f"There are: {', '.join(found) or 'none'}; `skep fleet init FILE` forms one."
            raise NotFound(f"there is no fleet '{name}'", fix)
        return found[name]

    async def _tell(self, given: inp.Input) -> Any:
        """Has something recorded. Another process may become the writer of that log meanwhile: then it is said again."""
        for left in reversed(range(RACES)):
            with contextlib.suppress(Conflict):  # it is there
                await self._parts.log.create(SYSTEM, given.at)
            loop = await self._sessions.live.loop(SYSTEM, hands=False)
            try:
                if not loop.state.session:
                    await loop.tell(
                        inp.OpenSession(at=given.at, session=SYSTEM, plan=Plan(name="system", limits=Limits(agents=1)))
                    )
                return await loop.tell(given)
            except SkepError:
                if loop.failure is None or not left:
                    raise
        raise AssertionError("the last one returns or raises")

    # Forming

    async def _form(self, asked: rq.FormFleet) -> FormedView:
        found = (await self._recorded()).get(asked.fleet.name)
        before = found.fleet if found is not None else None
        known = {swarm.session for swarm in before.swarms} if before is not None else set()
        adopted = []
        for swarm in asked.fleet.swarms:
            check_name(swarm.session)
            if swarm.session not in known and await self._sessions.names.find(swarm.session):
                if not asked.adopt:
                    fix = "Give the fleet or the swarm another name, or say --adopt: then the session is its swarm."
                    raise Conflict(f"there is a session {swarm.session} already, which is none of this fleet", fix)
                adopted.append(f"session {swarm.session} was there before: it is a swarm of the fleet now, and keeps its tasks")
            await self._sessions.complete(_plan(swarm))  # an agent of a type that does not exist is refused first
        changes = differences(before, asked.fleet)
        if asked.dry:
            return FormedView(fleet=asked.fleet.name, changes=changes, notes=tuple(adopted))
        if changes:
            used = await self._used(asked.fleet, found)
            await self._tell(inp.FormFleet(at=self._now(), fleet=asked.fleet, used=used, by=asked.by))
        notes = await self._make_so(asked.fleet, asked.by)  # also if nothing is new: who recorded it may have died over this
        return FormedView(fleet=asked.fleet.name, changes=changes, notes=(*adopted, *notes))

    async def _remove(self, asked: rq.RemoveFleet) -> tuple[str, ...]:
        formed = await self._formed(asked.fleet)
        await self._hand_over(formed)  # what can be is; the rest is in the way
        return tuple(await self._tell(inp.RemoveFleet(at=self._now(), fleet=asked.fleet, by=asked.by)))

    async def _resize(self, asked: rq.ResizeFleet) -> FormedView:
        formed = await self._formed(asked.fleet)
        standings = await self._standings({asked.fleet: formed})
        sizes = {
            swarm.name: health.resize(swarm, formed.used.get(swarm.name, Used()), standings[asked.fleet][swarm.name]).to
            for swarm in formed.fleet.swarms
        }
        swarms = tuple(replace(swarm, slots=sizes[swarm.name]) for swarm in formed.fleet.swarms)
        return await self._form(rq.FormFleet(fleet=replace(formed.fleet, swarms=swarms), by=asked.by))

    async def _used(self, fleet: Fleet, found: Formed | None) -> dict[str, Used]:
        """What each swarm had used when it got its slots: the figures from then on are of these."""
        before = {swarm.name: swarm.slots for swarm in found.fleet.swarms} if found is not None else {}
        used = {}
        for swarm in fleet.swarms:
            if found is not None and before.get(swarm.name) == swarm.slots:
                used[swarm.name] = found.used.get(swarm.name, Used())
            elif swarm.name in before:
                used[swarm.name] = (await self._stands(swarm)).used
        return used

    async def _make_so(self, fleet: Fleet, by: str) -> tuple[str, ...]:
        """Makes the sessions that are not there, and changes those that are otherwise. Returns what could not be changed."""
        notes = []
        for swarm in fleet.swarms:
            if session := await self._made(swarm, by):
                try:
                    await self._change(session, await self._sessions.complete(_plan(swarm)), by)
                except (Invalid, Conflict) as error:
                    notes.append(f"session {swarm.session} stays as it was: {error.message}")
        return tuple(notes)

    async def _made(self, swarm: Swarm, by: str = "") -> str:
        """Makes a swarm's session; the one that was there before, which stays as it is, or "" if none was."""
        session = await self._sessions.names.find(swarm.session)
        if not session:
            made = rq.Create(plan=_plan(swarm), name=swarm.session, new=True, start=False, by=by)
            with contextlib.suppress(Conflict):  # another process made it
                await self._sessions.call(made)
        return session

    async def _change(self, session: str, wanted: Plan, by: str) -> None:
        now: Plan = await self._sessions.live.look(session, lambda state: state.plan)
        plan = replace(now, limits=replace(now.limits, agents=wanted.limits.agents), agents=wanted.agents)
        if plan != now:
            loop = await self._sessions.live.loop(session, hands=False)
            await loop.tell(inp.ChangePlan(at=self._now(), plan=plan, all=True, by=by))

    # Sending

    async def _send(self, asked: rq.SendTask) -> Route:
        formed = await self._formed(asked.fleet)
        route = formed.routes.get(asked.key)
        if route is None:
            if all(lacks(swarm, asked.task) for swarm in formed.fleet.swarms):
                routing.route(formed.fleet, {}, asked.task, asked.key)  # says of each swarm what it lacks
            standings = (await self._standings(await self._recorded()))[asked.fleet]
            given = inp.RouteTask(
                at=self._now(), fleet=asked.fleet, key=asked.key, task=asked.task, standings=standings, by=asked.by
            )
            route = msgspec.convert(await self._tell(given), Route)
        if route.task is not None:
            for swarm in formed.fleet.swarms:
                if swarm.session == route.session:
                    await self._made(swarm, asked.by)
            route = await self._hand(asked.fleet, route, asked.carry, asked.by)
        elif asked.carry:
            await self._go_on(route.session)
        return replace(route, task=None)

    async def _hand_over(self, formed: Formed) -> None:
        """Does what is owed of a fleet. What cannot be done holds up nothing else, and is still shown as owed."""
        for swarm in formed.fleet.swarms:
            with contextlib.suppress(SkepError):
                await self._made(swarm)
        for route in list(formed.routes.values()):
            if route.task is not None:
                with contextlib.suppress(SkepError):
                    await self._hand(formed.fleet.name, route, False, "")

    async def _hand(self, fleet: str, route: Route, carry: bool, by: str) -> Route:
        """Gives the task to its session, and records that it has it, or why it does not take it."""
        assert route.task is not None
        given = rq.Submit(session=route.session, tasks=(route.task,), key=f"{fleet}/{route.key}", by=by, carry=carry)
        try:
            (task,) = await self._sessions.call(given)
        except (Invalid, Conflict, Exhausted) as error:
            await self._tell(inp.HandTask(at=self._now(), fleet=fleet, key=route.key, refused=error.message))
            raise
        await self._tell(inp.HandTask(at=self._now(), fleet=fleet, key=route.key, id=task))
        if carry:
            await self._go_on(route.session)
        return replace(route, task=None, id=task)

    async def _go_on(self, session: str) -> None:
        """The session is carried out here, unless somebody else does, or a person stopped it."""
        name = await self._sessions.names.resolve(session)
        paused: bool = await self._sessions.live.look(name, lambda state: state.paused and state.why != CLOSED)
        if not paused:
            await self._sessions.call(rq.Activate(session=session))

    # Looking

    async def _fleets(self, asked: rq.Fleets) -> list[FleetView]:
        if asked.fleet:
            await self._formed(asked.fleet)
        fleets = await self._recorded()
        there, at = await self._there(), self._now()
        standings = await self._standings(fleets, there)
        names = [room.name for room in there.rooms]
        found = []
        for name, formed in fleets.items():
            if asked.fleet not in ("", name):
                continue
            swarms = [view(one, formed.used.get(one.name, Used()), standings[name][one.name]) for one in formed.fleet.swarms]
            stands = health.health(formed.fleet, standings[name], names, at)
            owed = sum(route.task is not None for route in formed.routes.values())
            found.append(FleetView(name=name, formed=formed.at, health=stands, swarms=tuple(swarms), owed=owed))
        return found

    async def _standings(self, fleets: Mapping[str, Formed], there: There | None = None) -> dict[str, dict[str, Standing]]:
        """How every swarm of every fleet stands: nodes count once for all of them."""
        there = there or await self._there()
        held = health.allot((swarm for one in fleets.values() for swarm in one.fleet.swarms), there.rooms)
        found: dict[str, dict[str, Standing]] = {}
        for name, formed in fleets.items():
            stands = [await self._stands(swarm, there) for swarm in formed.fleet.swarms]
            found[name] = {
                swarm.name: replace(now, held=held[swarm.session]) for swarm, now in zip(formed.fleet.swarms, stands, strict=True)
            }
        return found

    async def _stands(self, swarm: Swarm, there: There | None = None) -> Standing:
        session = await self._sessions.names.find(swarm.session)
        if not session:
            return Standing(swarm=swarm.name, led=there is None or there.owners is None or there.leads)
        at = self._now()

        def looked(state: State) -> tuple[Standing, bool]:
            return routing.standing(swarm.name, state, at, status_of(state)), state.open_tasks > 0

        now, goes_on = await self._sessions.live.look(session, looked)
        if there is None:
            return now
        if there.owners is None:
            led = not goes_on or self._sessions.live.is_at_work(session)
        else:
            led = there.leads or (await self._parts.log.row(session)).owner in there.owners
        return replace(now, led=led)

    async def _there(self) -> There:
        shared, here = self._parts.shared, self._parts.here
        if shared is None:
            joined = here.join(self._parts.state, self._parts.clock)
            has = joined.capacity
            room = health.Room(name=here.name, labels=here.labels, slots=here.slots, cpu=has.cpu, memory=has.memory)
            return There((room,), None, True)
        nodes, told = await shared.leases.held(NODES), await shared.leases.held(DRAINS)
        owners = await shared.leases.held(OWNERS)
        seal = self._parts.log.seal_to
        leaving = {name for name, lease in nodes.items() if order_to(name, lease.holder, told.get(name), seal)}
        return There(tuple(_rooms(nodes, leaving)), frozenset(owners), any(read_note(one).leads for one in owners.values()))

    def _now(self) -> int:
        return self._parts.clock.now()


def _rooms(nodes: Mapping[str, Lease], leaving: Iterable[str]) -> Iterable[health.Room]:
    """What the nodes give that work for others and were not told to leave."""
    for name, lease in nodes.items():
        note = read_note(lease)
        if note.serves and name not in leaving:
            yield health.Room(name=name, labels=note.labels, slots=note.slots, cpu=note.cpu, memory=note.memory)


def _plan(swarm: Swarm) -> Plan:
    """What a swarm's session is opened with."""
    return Plan(name=swarm.name, limits=Limits(agents=swarm.slots), agents=swarm.agents)
