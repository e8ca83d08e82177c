"""Who may talk to whom, who coordinates whom, and by which rules a swarm of that shape decides.

A topology is drawn from the agents in their order, so the same agents always stand in the same places:

- mesh: everyone with everyone.
- hierarchical: workers under coordinators, coordinators under coordinators while there are too many for one; talk goes up, down
  and between the coordinators of one level.
- star: everything goes through the centre.
- ring: everyone with the two neighbours.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

from msgspec import Struct

from skep.core.consensus import Rule
from skep.errors import Denied, Invalid

Kind = Literal["mesh", "hierarchical", "star", "ring"]
#: Agents up to which a swarm is a mesh if nothing else is said; and whom one coordinator coordinates.
MESH_MOST = 7
#: Who speaks for a person: may always send, and may always be asked.
PERSON = "you"
#: The rules by which each kind decides; the first is its own choice.
RULES: dict[str, tuple[Rule, ...]] = {
    "mesh": ("quorum", "unanimous", "weighted"),
    "hierarchical": ("delegated", "distributed"),
    "star": ("centralized",),
    "ring": ("quorum",),
}


class Shape(Struct, frozen=True, omit_defaults=True, gc=False):
    """What a plan says about its topology.

    Args:
        kind: empty = mesh for up to seven agents, hierarchical for more.
        depth: levels that work is delegated down, and votes are passed up, at most.
        escalation: whether what is not decided goes up by itself, or a person is asked at once.
    """

    kind: Kind | Literal[""] = ""
    depth: int = 3
    escalation: Literal["automatic", "manual"] = "automatic"


class Topology(Struct, frozen=True, gc=False):
    """A shape with its agents in their places.

    Args:
        place: agent -> its number in the order.
        above: agent -> who coordinates it; who is not in it is coordinated by nobody.
        level: agent -> 0 for those who coordinate nobody, one more for each level above (hierarchical and star).
    """

    kind: Kind
    place: dict[str, int]
    above: dict[str, str]
    level: dict[str, int]
    depth: int
    escalation: Literal["automatic", "manual"]


def draw(shape: Shape, agents: Sequence[str], coordinators: Collection[str] = ()) -> Topology:
    """Puts agents in their places.

    Args:
        agents: their ids, in order.
        coordinators: those of them that coordinate by their type; without any the first ones do.

    Raises:
        Invalid: an agent is there twice, or the depth is less than one.
    """
    place = {agent: number for number, agent in enumerate(agents)}
    if len(place) != len(agents):
        raise Invalid("an agent is in the topology twice", "Name each agent once.")
    if shape.depth < 1:
        raise Invalid(f"work is to be delegated {shape.depth} levels down", "Use a depth of at least 1.")
    kind = shape.kind or ("mesh" if len(agents) <= MESH_MOST else "hierarchical")
    above: dict[str, str] = {}
    level = dict.fromkeys(agents, 0)
    leading = [agent for agent in agents if agent in coordinators]
    if kind == "star" and agents:
        centre = (leading or list(agents))[0]
        above = {agent: centre for agent in agents if agent != centre}
        level[centre] = 1
    elif kind == "hierarchical":
        _rank(list(agents), leading, above, level)
    return Topology(kind, place, above, level, shape.depth, shape.escalation)


def _rank(agents: list[str], leading: list[str], above: dict[str, str], level: dict[str, int]) -> None:
    """Fills in who is above whom, level by level: groups of at most seven, until one group or one agent is left at the top."""
    height, below = 0, agents
    while len(below) > 1:
        if not (height == 0 and leading):
            # One of eight coordinates the other seven.
            leading = below[: -(-len(below) // (MESH_MOST + 1))]
        workers = [agent for agent in below if agent not in leading]
        for number, worker in enumerate(workers):
            above[worker] = leading[number % len(leading)]
        height += 1
        level.update(dict.fromkeys(leading, height))
        if len(leading) <= MESH_MOST or not workers:
            return
        below = leading


def refusal(topology: Topology, source: str, target: str) -> str:
    """Why a message from source to target has no edge to go along; empty if it has one."""
    if PERSON in (source, target):
        return ""
    for agent in (source, target):
        if agent not in topology.place:
            return f"'{agent}' is no agent of this session"
    if source == target:
        return f"'{source}' would write to itself"
    kind, above = topology.kind, topology.above
    if kind == "mesh" or above.get(source) == target or above.get(target) == source:
        return ""
    if kind == "ring":
        apart = abs(topology.place[source] - topology.place[target])
        return "" if apart in (1, len(topology.place) - 1) else f"in a ring '{source}' talks to its two neighbours only"
    if kind == "star":
        return f"in a star '{source}' talks to the centre, '{above[source]}', only"
    if topology.level[source] == topology.level[target] > 0:
        return ""
    via = f": through '{above[source]}'" if source in above else ""
    return f"in a hierarchy '{source}' talks to those above and below it{via}"


def send(topology: Topology, source: str, target: str) -> None:
    """Raises Denied, with the reason, where a message has no edge to go along."""
    why = refusal(topology, source, target)
    if why:
        raise Denied(f"'{source}' may not write to '{target}': {why}", "Write to somebody it may talk to, or change `topology`.")


def neighbours(topology: Topology, agent: str) -> tuple[str, ...]:
    """The agents that an agent may write to, in order."""
    return tuple(other for other in topology.place if not refusal(topology, agent, other))


def may_delegate(topology: Topology, source: str, target: str) -> bool:
    """Whether an agent may hand work to another: downwards, at most `depth` levels; among equals where nobody is above."""
    if topology.kind in ("mesh", "ring"):
        return not refusal(topology, source, target) and PERSON not in (source, target)
    agent = target
    for _ in range(topology.depth):
        agent = topology.above.get(agent, "")
        if agent == source:
            return bool(source)
    return False


def asks(topology: Topology, agent: str) -> str:
    """Whom an agent turns to with what it cannot decide: who is above it, or a person."""
    return topology.above.get(agent, PERSON) if topology.escalation == "automatic" else PERSON


def seats(topology: Topology, electors: Sequence[str]) -> dict[str, Any]:
    """How these electors stand to each other, as a `consensus.Ballot` takes it: delegates, depth, groups, centre.

    A vote passes to the nearest elector above; a group is who has the same coordinator, itself counted with those it coordinates.
    """
    voting = frozenset(electors)
    delegates: dict[str, str] = {}
    groups: dict[str, tuple[str, ...]] = {}
    for elector in electors:
        higher = topology.above.get(elector, "")
        while higher and higher not in voting:
            higher = topology.above.get(higher, "")
        if higher:
            delegates[elector] = higher
        leads = topology.level.get(elector, 0) > 0
        group = elector if leads else topology.above.get(elector, "")
        groups[group] = (*groups.get(group, ()), elector)
    centre = next((elector for elector in electors if elector not in topology.above), "") if topology.kind == "star" else ""
    return {"delegates": delegates, "depth": topology.depth, "groups": groups, "centre": centre}


def check_rule(kind: Kind, rule: Rule) -> None:
    """Raises Invalid for a rule by which a swarm of that kind does not decide."""
    if rule not in RULES[kind]:
        raise Invalid(f"a {kind} topology does not decide by rule {rule}", f"Use {' or '.join(RULES[kind])}.")
