"""Forming fleets and sending tasks to their swarms: what is decided and recorded, in the log of the session `SYSTEM`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from skep.core import inputs as inp
from skep.core.fleet import (
    KEEP_ROUTES,
    MAX_FLEETS,
    MAX_KEY,
    MAX_SWARMS,
    SYSTEM,
    Fleet,
    FleetFormed,
    FleetHanded,
    FleetRemoved,
    FleetRouted,
    Formed,
    Route,
)
from skep.core.plans import FACTORS, MAX_AGENTS, check_specs
from skep.core.routing import route
from skep.core.state import State
from skep.core.turn import Turn
from skep.errors import Conflict, Exhausted, Invalid, NotFound


def form(turn: Turn, given: inp.FormFleet) -> bool:
    """Records what a fleet is; returns whether that is new.

    Raises:
        Conflict: this session keeps no fleets, or a swarm's session belongs to another fleet.
        Invalid: the fleet makes no sense.
        Exhausted: too many fleets.
    """
    state, fleet = turn.state, given.fleet
    if state.session != SYSTEM:
        raise Conflict(f"session {state.session} keeps no fleets", "`skep fleet` finds the one that does.")
    before = state.fleets.get(fleet.name)
    if before is not None and before.fleet == fleet:
        return False
    check(fleet)
    if before is None and len(state.fleets) >= MAX_FLEETS:
        raise Exhausted(f"there are {MAX_FLEETS} fleets, no more are kept", "Use one of these.")
    theirs = {s.session: f for f, one in state.fleets.items() if f != fleet.name for s in one.fleet.swarms}
    taken = next((swarm.session for swarm in fleet.swarms if swarm.session in theirs), "")
    if taken:
        raise Conflict(f"session {taken} is a swarm of fleet {theirs[taken]}", "Give the swarm another name.")
    turn.emit(FleetFormed(turn.at, fleet, given.used, given.by))
    return True


def remove(turn: Turn, given: inp.RemoveFleet) -> tuple[str, ...]:
    """Records that there is no such fleet any more; returns the sessions of its swarms, which stay.

    Raises:
        NotFound: no such fleet.
        Conflict: tasks of it are still to be handed over.
    """
    formed = _formed(turn.state, given.fleet)
    owed = sum(route.task is not None for route in formed.routes.values())
    if owed:
        fix = "Try again when their sessions take them; `skep fleet status` shows how many wait."
        raise Conflict(f"{owed} tasks of fleet {given.fleet} are still to be handed over", fix)
    turn.emit(FleetRemoved(turn.at, given.fleet, given.by))
    return tuple(swarm.session for swarm in formed.fleet.swarms)


def check(fleet: Fleet) -> None:
    """Raises Invalid for a fleet that makes no sense."""
    if not 1 <= len(fleet.swarms) <= MAX_SWARMS:
        raise Invalid(f"fleet {fleet.name} has {len(fleet.swarms)} swarms", f"Give it 1 to {MAX_SWARMS}.")
    for names in ([swarm.name for swarm in fleet.swarms], [swarm.session for swarm in fleet.swarms]):
        twice = next((name for name in names if names.count(name) > 1), "")
        if twice:
            raise Invalid(f"two swarms of fleet {fleet.name} are called '{twice}'", "Give one another name.")
    for swarm in fleet.swarms:
        if not 1 <= swarm.slots <= MAX_AGENTS:
            raise Invalid(f"swarm {swarm.name} has {swarm.slots} slots", f"Give it 1 to {MAX_AGENTS}.")
        if not (0 <= swarm.cpu < math.inf and swarm.memory >= 0):
            raise Invalid(f"swarm {swarm.name}: a slot cannot have less than nothing", "Use numbers that are not negative.")
        check_specs(swarm.agents)
    for name, weight in fleet.placement.weights.items():
        if name not in FACTORS or not (math.isfinite(weight) and weight >= 0):
            raise Invalid(f"fleet {fleet.name}: weight {name} = {weight}", f"Known are {', '.join(sorted(FACTORS))}; from 0 up.")


def send(turn: Turn, given: inp.RouteTask) -> Route:
    """Chooses the swarm for a task, and records it; the same key again gives the same answer and changes nothing.

    Raises:
        NotFound: no such fleet.
        Invalid: no swarm has what the task demands, or the key cannot be one.
        Exhausted: too many submissions are still to be handed over.
    """
    formed = _formed(turn.state, given.fleet)
    if given.key in formed.routes:
        return formed.routes[given.key]
    if not 1 <= len(given.key) <= MAX_KEY:
        raise Invalid(f"the key of the submission has {len(given.key)} characters", f"Use 1 to {MAX_KEY}.")
    if sum(one.task is not None for one in formed.routes.values()) >= KEEP_ROUTES:
        raise Exhausted(f"{KEEP_ROUTES} tasks of fleet {given.fleet} wait to be handed over", "Try again when their sessions do.")
    found = route(formed.fleet, given.standings, given.task, given.key)
    turn.emit(FleetRouted(turn.at, given.fleet, found, given.by))
    return found


def hand(turn: Turn, given: inp.HandTask) -> None:
    """Records that a session has its task, or does not take it. Once more changes nothing. Raises NotFound for no such fleet."""
    found = _formed(turn.state, given.fleet).routes.get(given.key)
    if found is not None and found.task is not None:
        turn.emit(FleetHanded(turn.at, given.fleet, given.key, given.id, given.refused))


def _formed(state: State, name: str) -> Formed:
    formed = state.fleets.get(name)
    if formed is None:
        raise NotFound(f"there is no fleet '{name}'", f"There are: {', '.join(state.fleets) or 'none'}; `skep fleet init FILE`.")
    return formed


HANDLERS: dict[type, Callable[[Turn, Any], Any]] = {
    inp.FormFleet: form,
    inp.RemoveFleet: remove,
    inp.RouteTask: send,
    inp.HandTask: hand,
}
