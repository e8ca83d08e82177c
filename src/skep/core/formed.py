"""What the events of fleets do to a state: the part of `core.apply` that concerns them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from skep.core.fleet import KEEP_ROUTES, FleetFormed, FleetHanded, FleetRemoved, FleetRouted, Formed
from skep.core.state import State


def _was_formed(s: State, e: FleetFormed) -> None:
    before = s.fleets.get(e.fleet.name)
    routes = before.routes if before is not None else {}
    s.fleets[e.fleet.name] = Formed(fleet=e.fleet, at=e.at, used=e.used, routes=routes)


def _was_removed(s: State, e: FleetRemoved) -> None:
    del s.fleets[e.fleet]


def _was_routed(s: State, e: FleetRouted) -> None:
    routes = s.fleets[e.fleet].routes
    routes[e.route.key] = e.route
    if len(routes) > KEEP_ROUTES:
        for old in [key for key, one in routes.items() if one.task is None][: KEEP_ROUTES // 8]:
            del routes[old]


def _was_handed(s: State, e: FleetHanded) -> None:
    routes = s.fleets[e.fleet].routes
    if e.refused:
        del routes[e.key]
    else:
        routes[e.key] = replace(routes[e.key], task=None, id=e.id)


APPLY: dict[type, Callable[[State, Any], None]] = {
    FleetFormed: _was_formed,
    FleetRemoved: _was_removed,
    FleetRouted: _was_routed,
    FleetHanded: _was_handed,
}
