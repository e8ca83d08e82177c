"""Which agent a task goes to, and why: feasible -> fits -> score -> explain. Who is next, and when, is `core.queue`'s part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import Struct

from skep.core import resources
from skep.core.model import Agent, AgentSpec, Cause, Entry, Node, Plan, Resources, Task

if TYPE_CHECKING:
    from skep.core.state import State

#: Weights of the factors by profile (feature list, B3).
PROFILES: dict[str, dict[str, float]] = {
    "balanced": {"availability": 0.30, "expertise": 0.25, "workload": 0.20, "performance": 0.15, "affinity": 0.10},
    "routing": {"expertise": 0.30, "performance": 0.25, "availability": 0.20, "cost": 0.15, "history": 0.10},
}
#: A spec's reliability counts like this many observed attempts.
PRIOR_WEIGHT = 5
#: Names of the built-in agents, which take any task of that kind that names no agent.
BUILT_IN = {"run": "shell", "call": "python"}
#: The built-in agent of callables that a program hands over for its own process; takes what names it.
INPROCESS = "inprocess"
#: The kind of agent, and the runtime, of tasks that somebody claims by hand; the queue gives it nothing.
HAND = "hand"
#: Why a session is paused in which nothing is carried out but what is claimed.
BY_HAND = "only what is claimed by hand is carried out"


class Requirement(NamedTuple):
    """What makes two tasks alike for placement."""

    kind: str
    agent: str
    type: str
    capabilities: tuple[str, ...]
    wished: tuple[str, ...]
    resources: Resources | None
    constraints: tuple[tuple[str, str], ...]
    seat: int = 0
    avoids: tuple[str, ...] = ()


class Alternative(Struct, frozen=True):
    """An agent that could have had the task, and its score."""

    agent: str
    score: float


class Explanation(Struct, frozen=True):
    """Why a task goes to an agent: the numbers that decided, the reasons in words, and who came next."""

    target: str
    score: float
    method: str
    factors: dict[str, float]
    weights: dict[str, float]
    reasons: tuple[str, ...]
    alternatives: tuple[Alternative, ...] = ()


def kind_of(task: Task) -> str:
    """`run`, `call` or `prompt`; empty for a gate that nobody carries out."""
    if task.run is not None:
        return "run"
    return "call" if task.call is not None else "" if task.gate else "prompt"


def requirement(task: Task) -> Requirement:
    """The class of a task. Capabilities that were only inferred are a wish, the others a condition."""
    hard, wished = task.capabilities, ()
    if hard and "capabilities" in task.inferred:
        hard, wished = (), hard
    constraints = tuple(sorted(task.constraints.items())) if task.constraints else ()
    return Requirement(kind_of(task), task.agent, task.type, hard, wished, task.resources, constraints, task.seat)


def need_of(state: State, entry: Entry) -> Requirement:
    """The class of a task as it stands: away from agents whose provider refuses it, as long as there are others."""
    need = requirement(entry.task)
    if not entry.avoids:
        return need
    away = need._replace(avoids=tuple(sorted(entry.avoids)))
    return away if any(may_do(spec, away) for spec in state.specs.values()) else need


def refusing(state: State, spec: str, cause: Cause) -> tuple[str, ...]:
    """The kinds of agents that refuse a task when one does: at a limit that kind, without a login all that have its runtime."""
    runtime = state.specs[spec].runtime if cause == "login" and spec in state.specs else ""
    alike = tuple(other.name for other in state.specs.values() if other.runtime == runtime)
    return alike or ((spec,) if cause in ("limit", "login") else ())


def elsewhere(state: State, entry: Entry, refusing: Sequence[str]) -> bool:
    """Whether agents of other kinds than these, and than those that it avoids, may take the task, on a node that there is."""
    need = requirement(entry.task)._replace(avoids=(*refusing, *(entry.avoids or {})))
    if not any(on_node(node, need) for node in state.nodes.values() if not node.lost):
        return False
    for agent in state.agents.values():
        other = state.specs.get(agent.spec)
        if other is not None and may_do(other, need) and need.seat in (0, agent.number):
            return True
    return False


def may_do(spec: AgentSpec, need: Requirement) -> bool:
    """Whether agents of this kind can ever take tasks of this class."""
    if spec.name in need.avoids:
        return False
    if need.agent:
        if spec.name != need.agent or spec.runtime == HAND:
            return False
    elif need.kind == "prompt":
        if spec.name in (*BUILT_IN.values(), INPROCESS) or spec.runtime == HAND:
            return False
    elif spec.name != BUILT_IN.get(need.kind):
        return False
    return not spec.capabilities or all(c in spec.capabilities for c in need.capabilities)


def on_node(node: Node, need: Requirement) -> bool:
    """Whether the node carries the labels that the class demands."""
    return all(node.labels.get(name) == value for name, value in need.constraints)


def impossible(state: State, task: Task, specs: Mapping[str, AgentSpec]) -> str:
    """Why no agent and node here could ever run the task; empty if some could.

    Args:
        specs: the kinds of agents that are, or will be, declared. While no node has joined, nodes are not judged.
    """
    need = requirement(task)
    if not need.kind:
        return ""
    able = [spec for spec in specs.values() if may_do(spec, need)]
    if not able:
        if need.agent and need.agent not in specs:
            return f"no agent is called '{need.agent}' (declared: {', '.join(specs) or 'none'})"
        who = f"agent '{need.agent}'" if need.agent else f"every declared agent for {need.kind} tasks"
        wants = ", ".join(need.capabilities)
        return f"{who} lacks one of {wants}" if wants else f"no declared agent takes {need.kind} tasks"
    if not state.nodes or state.plan.elastic:
        return ""
    nodes = [node for node in state.nodes.values() if on_node(node, need)]
    if not nodes:
        return f"no node carries the labels {', '.join(f'{name}={value}' for name, value in need.constraints)}"
    if not any(resources.could_fit(node, resources.reservation(need.resources, spec, node)) for node in nodes for spec in able):
        most = max(nodes, key=lambda n: (n.capacity.cpu, n.capacity.memory)).capacity
        return (
            "it asks for more than any node has "
            f"(the largest: {most.cpu:g} cpu, {most.memory} bytes memory, {most.storage} bytes storage)"
        )
    return ""


def success_rate(done: int, failed: int, reliability: float) -> float:
    """Observed success rate with the spec's reliability as prior."""
    return (done + reliability * PRIOR_WEIGHT) / (done + failed + PRIOR_WEIGHT)


def factors(agent: Agent, spec: AgentSpec, need: Requirement) -> dict[str, float]:
    """Every factor of the score but affinity, which depends on the single task. All lie between 0 and 1."""
    wanted = need.capabilities + need.wished
    if not wanted:
        expertise = 1.0
    elif not spec.capabilities:
        expertise = 0.5
    else:
        expertise = sum(c in spec.capabilities for c in wanted) / len(wanted)
    record = agent.types.get(need.type)
    performance = success_rate(agent.done, agent.failed, spec.reliability)
    return {
        "availability": 1.0 if agent.load == 0 else 0.5,
        "expertise": expertise,
        "workload": 1.0 - agent.load / agent.max_load,
        "performance": performance,
        "cost": 1.0 / (1.0 + spec.cost),
        "history": performance if record is None else success_rate(record[0], record[1], spec.reliability),
        "affinity": 0.0,
    }


def weights_of(plan: Plan) -> dict[str, float]:
    """The weights in force: the profile's, with the plan's own in place of theirs."""
    return PROFILES[plan.placement.profile] | plan.placement.weights


def total(weights: Mapping[str, float], values: Mapping[str, float]) -> float:
    """The weighted sum of factors."""
    score = 0.0
    for name, weight in weights.items():
        score += weight * values[name]
    return score


def affinity(state: State, entry: Entry) -> dict[str, float]:
    """Agents that carried out what this task needs -> the share of the needs that they did."""
    needs = entry.task.needs
    shares: dict[str, float] = {}
    for need in needs:
        before = state.entries.get(need)
        if before is not None and before.agent:
            shares[before.agent] = shares.get(before.agent, 0.0) + 1.0 / len(needs)
    return shares


def explain(state: State, task: Task) -> Explanation | None:
    """Ranks every agent that could take the task now, as the queue does; None if none could.

    Returns the winner with each factor, the reasons in words, and up to three alternatives.
    """
    entry = state.entries.get(task.id) or Entry(task=task, seq=state.counter + 1, submitted=state.at)
    need, weights = need_of(state, entry), weights_of(state.plan)
    bonus = weights.get("affinity", 0.0)
    shares = affinity(state, entry)
    ranked: list[tuple[float, int, str]] = []
    queue, nodes = state.queue, [node for node in state.nodes.values() if on_node(node, need)]
    for agent, spec in _free(state, need):
        asked = [(node, resources.reservation(task.resources, spec, node)) for node in nodes]
        if any(resources.fits(*room) and not queue.kept_for(entry, *room) for room in asked):
            score = total(weights, factors(agent, spec, need)) + bonus * shares.get(agent.id, 0.0)
            ranked.append((-score, agent.number, agent.id))
    if not ranked:
        return None
    ranked.sort()
    agent = state.agents[ranked[0][2]]
    spec = state.specs[agent.spec]
    values = factors(agent, spec, need) | {"affinity": shares.get(agent.id, 0.0)}
    return Explanation(
        target=agent.id,
        score=round(-ranked[0][0], 4),
        method="scoring",
        factors={name: round(values[name], 4) for name in weights},
        weights=weights,
        reasons=reasons(agent, spec, need, values),
        alternatives=tuple(Alternative(name, round(-score, 4)) for score, _, name in ranked[1:4]),
    )


def _free(state: State, need: Requirement) -> Iterator[tuple[Agent, AgentSpec]]:
    """The agents that may take tasks of the class and do not carry all they can."""
    for agent in state.agents.values():
        spec = state.specs.get(agent.spec)
        if spec is None or agent.load >= agent.max_load or need.seat not in (0, agent.number):
            continue
        if may_do(spec, need):
            yield agent, spec


def lacks(state: State, entry: Entry) -> str:
    """Why a ready task that no agent can have now must wait, in words."""
    words, need, queue = "all agents that could take it are at work", need_of(state, entry), state.queue
    nodes = [node for node in state.nodes.values() if on_node(node, need) and not node.lost]
    if not nodes:
        return "no node that could take it is there"
    for spec in {spec.name: spec for _, spec in _free(state, need)}.values():
        words, others = "what runs leaves no room for it", False
        for node in nodes:
            asked = resources.reservation(entry.task.resources, spec, node)
            if resources.fits(node, asked):
                kept = queue.kept_for(entry, node, asked)
                return f"{kept} goes first: it waits for that room for more than a minute" if kept else "it is its turn"
            others = others or (node.credit is not None and resources.fits(msgspec.structs.replace(node, credit=None), asked))
        if others:
            return "other sessions use the room that it needs"
    return words


def reasons(agent: Agent, spec: AgentSpec, need: Requirement, values: dict[str, float]) -> tuple[str, ...]:
    """The factors in words."""
    wanted = need.capabilities + need.wished
    words = ["idle" if agent.load == 0 else f"carries {agent.load} of {agent.max_load} tasks"]
    if need.agent:
        words.append(f"the task names agent '{need.agent}'")
    elif wanted:
        words.append(f"has {values['expertise']:.0%} of {', '.join(wanted)}")
    tried = agent.done + agent.failed
    words.append(f"succeeded in {agent.done} of {tried} attempts" if tried else f"no attempts yet, prior {spec.reliability:g}")
    if values["affinity"]:
        words.append(f"did {values['affinity']:.0%} of what the task needs")
    if spec.cost:
        words.append(f"relative cost {spec.cost:g}")
    return tuple(words)
