"""Fleets: swarms, each a session, among which tasks are distributed. The nouns, and the events that record them.

All fleets of a store are recorded in one session that carries nothing out, `SYSTEM`. What a fleet is, and where each task went
and why, is recorded there before anything is done about it.
"""

from __future__ import annotations

from msgspec import Struct

from skep.core.model import AgentSpec
from skep.core.task import Task
from skep.core.terms import Placement

#: The session whose log holds the fleets. Nobody can give a session this name.
SYSTEM = ".system"
#: Fleets of one store, swarms of one fleet.
MAX_FLEETS, MAX_SWARMS = 1_000, 1_000
#: Submissions of a fleet whose keys are remembered; the oldest eighth of those that were handed over is forgotten at once.
KEEP_ROUTES = 10_000
#: Characters of a submission's key.
MAX_KEY = 100


class Swarm(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One session of a fleet, and what it must have.

    Args:
        name: unique in the fleet.
        session: the session that it is.
        slots: attempts at once.
        labels: what its nodes must carry; its tasks go to no others.
        runtimes: what carries its tasks out; empty = the built-in shell and python, and those of its agents.
        agents: kinds of agents, as in a workflow file.
        cpu, memory: what each slot has on its node: cores, bytes; 0 = not reserved.
    """

    name: str
    session: str
    slots: int
    labels: dict[str, str] = {}
    runtimes: tuple[str, ...] = ()
    agents: tuple[AgentSpec, ...] = ()
    cpu: float = 0.0
    memory: int = 0


class Fleet(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a fleet file says.

    Args:
        name: unique in the store.
        placement: how swarms are ranked, by the factors by which agents are.
        queue: seconds that a ready task may wait before the fleet is degraded.
        nodes: names of nodes that must be there.
    """

    name: str
    swarms: tuple[Swarm, ...]
    placement: Placement = Placement()
    queue: float = 600.0
    nodes: tuple[str, ...] = ()


class Ranked(Struct, frozen=True, gc=False):
    """A swarm that could have had a task, and its score."""

    swarm: str
    score: float


class Route(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a task of a fleet went, and why.

    Args:
        key: of the submission.
        task: as its session gets it; None once it was handed over.
        id: what the session calls it; empty until it was handed over.
        queued: why it must wait there first; empty if there was a free slot.
    """

    key: str
    swarm: str
    session: str
    score: float
    factors: dict[str, float]
    weights: dict[str, float]
    reasons: tuple[str, ...]
    alternatives: tuple[Ranked, ...] = ()
    refused: dict[str, str] = {}
    queued: str = ""
    task: Task | None = None
    id: str = ""


class Used(Struct, frozen=True, gc=False):
    """Working time of a swarm's attempts, added up, and the time in which it was open to them; ms."""

    worked: int = 0
    open: int = 0


class Formed(Struct, kw_only=True, omit_defaults=True):
    """A fleet as it stands: what it is, since when (ms), what its swarms had used by then, and its submissions by key."""

    fleet: Fleet
    at: int
    used: dict[str, Used] = {}
    routes: dict[str, Route] = {}


class Standing(Struct, frozen=True, kw_only=True):
    """How a swarm stands, as its session's log has it, and what is there for it.

    Args:
        state: the one word for its session; empty if there is none yet.
        held: slots that nodes have for it.
        running, waiting: attempts under way, ready tasks without one.
        oldest: since when the ready task that waits longest does, wall-clock ms; 0 = none waits.
        done, failed: attempts that ended so; `types`: the same by type of task.
        led: whether somebody writes its session, or could at once.
        lost: its nodes that were lost and did not come back, with the time (ms).
    """

    swarm: str
    state: str = ""
    held: int = 0
    running: int = 0
    waiting: int = 0
    oldest: int = 0
    done: int = 0
    failed: int = 0
    types: dict[str, tuple[int, int]] = {}
    used: Used = Used()
    led: bool = True
    lost: dict[str, int] = {}


class FleetFormed(Struct, frozen=True, array_like=True, gc=False, tag="fleet.formed"):
    """A fleet is this from here on. `used`: what its swarms had used by then."""

    at: int
    fleet: Fleet
    used: dict[str, Used]
    by: str = ""


class FleetRemoved(Struct, frozen=True, array_like=True, gc=False, tag="fleet.removed"):
    """There is no such fleet any more; the sessions of its swarms stay."""

    at: int
    fleet: str
    by: str = ""


class FleetRouted(Struct, frozen=True, array_like=True, gc=False, tag="fleet.routed"):
    """A task of the fleet goes to one of its swarms: it is to be handed over to that session."""

    at: int
    fleet: str
    route: Route
    by: str = ""


class FleetHanded(Struct, frozen=True, array_like=True, gc=False, tag="fleet.handed"):
    """The session has the task, as `id`; or, with `refused`, it does not take it: then the key means nothing any more."""

    at: int
    fleet: str
    key: str
    id: str
    refused: str = ""


#: What the log of `SYSTEM` holds beside what every session's holds.
FleetEvent = FleetFormed | FleetRemoved | FleetRouted | FleetHanded
