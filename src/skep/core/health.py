"""How well fleets stand: what nodes have for each swarm, and what is wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import Struct

from skep.core.fleet import Fleet, Standing, Swarm, Used
from skep.core.routing import needed

Word = Literal["healthy", "degraded", "unhealthy"]
#: Shares of the slots below which a fleet is degraded, and unhealthy.
DEGRADED, UNHEALTHY = 0.80, 0.50
#: For so long a node that was lost counts, if it does not come back, ms.
LOST_FOR = 24 * 3_600_000
#: An allocation used less than this is to be made smaller; it must have been looked at for so long, ms.
WELL_USED, WATCHED = 0.7, 600_000
_RANK: dict[Word, int] = {"healthy": 0, "degraded": 1, "unhealthy": 2}


class Room(Struct, frozen=True, kw_only=True):
    """A node that is there: its labels, and what it gives to all sessions together. `cpu` and `memory` 0 = not known."""

    name: str
    labels: dict[str, str] = {}
    slots: int = 0
    cpu: float = 0.0
    memory: int = 0


class Health(Struct, frozen=True, kw_only=True):
    """How a fleet stands, with every cause, and how many of its slots nodes have for it."""

    fleet: str
    state: Word
    causes: tuple[str, ...]
    slots: int
    held: int


class Resize(Struct, frozen=True, kw_only=True):
    """What a swarm uses of its slots, and what it should have instead.

    Args:
        used: attempts at work on average, as a share of the slots; -1 = looked at for too short a time.
        watched: how long it was looked at, ms.
        to: slots that it should have; the present ones if nothing should change.
        cpu, memory: what the change saves, as far as the fleet file says what a slot has.
    """

    swarm: str
    slots: int
    used: float
    watched: int
    to: int
    cpu: float = 0.0
    memory: int = 0


def allot(swarms: Iterable[Swarm], rooms: Iterable[Room]) -> dict[str, int]:
    """The slots that nodes have for each session, counted once: nodes by name, swarms with the most labels first.

    A node counts for a swarm as far as it carries its labels and has slots, cpu and memory left.

    Returns:
        session -> slots, at most those that its swarm is to have.
    """
    left = {room.name: [room.slots, room.cpu, room.memory] for room in rooms}
    labels = {room.name: room.labels for room in rooms}
    known = {room.name: (room.cpu > 0, room.memory > 0) for room in rooms}
    found: dict[str, int] = {}
    for swarm in needed(swarms):
        held = 0
        for name in sorted(left):
            if held >= swarm.slots:
                break
            if any(labels[name].get(label) != value for label, value in swarm.labels.items()):
                continue
            slots, cpu, memory = left[name]
            many = min(int(slots), swarm.slots - held)
            if swarm.cpu and known[name][0]:
                many = min(many, int((cpu + 1e-9) / swarm.cpu))
            if swarm.memory and known[name][1]:
                many = min(many, int(memory) // swarm.memory)
            left[name] = [slots - many, cpu - many * swarm.cpu, int(memory) - many * swarm.memory]
            held += many
        found[swarm.session] = held
    return found


def health(fleet: Fleet, standings: Mapping[str, Standing], there: Iterable[str], at: int) -> Health:
    """How a fleet stands.

    Unhealthy: nodes have less than half of its slots, or nobody leads one of its swarms. Degraded: they have less than 80 %, or
    less than half of one swarm's; a node is lost; a ready task waits for longer than the fleet allows.

    Args:
        standings: by name of the swarm, `held` included.
        there: names of the nodes that are there.
        at: wall-clock ms.
    """
    word: Word = "healthy"
    causes: list[str] = []

    def found(state: Word, cause: str) -> None:
        nonlocal word
        word = state if _RANK[state] > _RANK[word] else word
        causes.append(cause)

    slots = sum(swarm.slots for swarm in fleet.swarms)
    held = sum(now.held for now in standings.values())
    if held < UNHEALTHY * slots:
        found("unhealthy", f"nodes have {held} of {slots} slots, under {UNHEALTHY:.0%}")
    elif held < DEGRADED * slots:
        found("degraded", f"nodes have {held} of {slots} slots, under {DEGRADED:.0%}")
    names = frozenset(there)
    lost = dict.fromkeys(name for name in fleet.nodes if name not in names)
    for now in standings.values():
        lost.update(dict.fromkeys(name for name, gone in now.lost.items() if name not in names and at - gone < LOST_FOR))
    for name in lost:
        found("degraded", f"node {name} is lost")
    for swarm in fleet.swarms:
        now = standings.get(swarm.name, Standing(swarm=swarm.name))
        if now.held < UNHEALTHY * swarm.slots:
            found("degraded", f"nodes have {now.held} of {swarm.slots} slots of swarm {swarm.name}, under {UNHEALTHY:.0%}")
        if not now.led:
            found("unhealthy", f"nobody leads swarm {swarm.name} (session {swarm.session})")
        if now.oldest and at - now.oldest > fleet.queue * 1000:
            waited = (at - now.oldest) / 1000
            found("degraded", f"a task of swarm {swarm.name} has waited for {waited:.0f} s, more than {fleet.queue:g} s")
    return Health(fleet=fleet.name, state=word, causes=tuple(causes), slots=slots, held=held)


def worst(states: Iterable[Word]) -> Word:
    """The state of all fleets together; healthy if there are none."""
    return max(states, key=_RANK.__getitem__, default="healthy")


def resize(swarm: Swarm, before: Used, now: Standing) -> Resize:
    """What a swarm should have: as many slots as bring what it uses to 0.7 of them, if it uses less and was watched long enough.

    Args:
        before: what it had used when it got these slots.
    """
    watched = now.used.open - before.open
    worked = max(0, now.used.worked - before.worked)
    if watched < WATCHED:
        return Resize(swarm=swarm.name, slots=swarm.slots, used=-1.0, watched=max(0, watched), to=swarm.slots)
    busy = worked / watched
    to = swarm.slots
    if busy / swarm.slots < WELL_USED:
        to = min(swarm.slots, max(1, now.running, -int(-(busy / WELL_USED - 1e-9) // 1)))
    fewer = swarm.slots - to
    return Resize(
        swarm=swarm.name,
        slots=swarm.slots,
        used=round(busy / swarm.slots, 4),
        watched=watched,
        to=to,
        cpu=fewer * swarm.cpu,
        memory=fewer * swarm.memory,
    )
