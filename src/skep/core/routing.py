"""Which swarm of a fleet a task goes to, and why: what it lacks -> score -> explain. Pure; as `core.placement` is for agents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from skep.core.clocks import Meter
from skep.core.fleet import Fleet, Ranked, Route, Standing, Swarm, Used
from skep.core.model import AgentSpec, Resources, Task
from skep.core.placement import BUILT_IN, HAND, PROFILES, may_do, requirement, success_rate, total
from skep.errors import Invalid

if TYPE_CHECKING:
    from skep.core.state import State

#: Swarms named as alternatives.
NEXT = 3
#: Kinds of agents that are no part of what a swarm is declared with.
_ASIDE = ("inprocess", HAND)


def standing(swarm: str, state: State, at: int, word: str) -> Standing:
    """What a session's state says of its swarm; `held` and `led` are for others to say.

    Args:
        at: wall-clock ms.
        word: the one word for the session.
    """
    ready = [entry.since or entry.submitted for entry in state.entries.values() if entry.state == "ready"]
    types: dict[str, tuple[int, int]] = {}
    for agent in state.agents.values():
        for kind, (done, failed) in agent.types.items():
            before = types.get(kind, (0, 0))
            types[kind] = (before[0] + done, before[1] + failed)
    worked = sum(state.clocks.get(spec, Meter()).at(at) for spec in state.specs)
    return Standing(
        swarm=swarm,
        state=word,
        running=state.running,
        waiting=len(ready),
        oldest=min(ready, default=0),
        done=sum(agent.done for agent in state.agents.values()),
        failed=sum(agent.failed for agent in state.agents.values()),
        types=types,
        used=Used(worked, max(0, at - state.opened)),
        lost={node.id: node.gone for node in state.nodes.values() if node.lost and node.gone},
    )


def kinds(swarm: Swarm) -> tuple[AgentSpec, ...]:
    """The kinds of agents of a swarm: its own, and the built-in ones unless its runtimes leave them out."""
    own = {spec.name for spec in swarm.agents}
    built_in = (name for name in BUILT_IN.values() if name not in own and (not swarm.runtimes or name in swarm.runtimes))
    return (*swarm.agents, *(AgentSpec(name=name, runtime=name, count=0) for name in built_in))


def lacks(swarm: Swarm, task: Task) -> str:
    """What the swarm does not have that the task demands, in words; empty if it has all of it."""
    need = requirement(task)
    able = [spec for spec in kinds(swarm) if spec.name not in _ASIDE and may_do(spec, need)]
    if not able:
        wants = f"agent '{need.agent}'" if need.agent else f"agent for {need.kind} tasks"
        return f"it has no {wants}" + (f" with {', '.join(need.capabilities)}" if need.capabilities else "")
    for name, value in task.constraints.items():
        if swarm.labels.get(name) != value:
            return f"it does not carry {name}={value}"
    asked = task.resources
    if asked is not None and swarm.cpu and asked.cpu > swarm.cpu:
        return f"its slots have {swarm.cpu:g} cpu, {asked.cpu:g} are asked for"
    if asked is not None and swarm.memory and asked.memory > swarm.memory:
        return f"its slots have {swarm.memory} bytes of memory, {asked.memory} are asked for"
    return ""


def fitted(swarm: Swarm, task: Task) -> Task:
    """The task as the swarm's session gets it: bound to its nodes, with the room of its slots."""
    room = Resources(swarm.cpu, swarm.memory) if swarm.cpu or swarm.memory else None
    if room is not None and task.resources is not None:
        asked = task.resources
        room = Resources(asked.cpu or room.cpu, asked.memory or room.memory, asked.storage)
    return replace(task, constraints={**swarm.labels, **task.constraints}, resources=room or task.resources)


def free(standing: Standing) -> int:
    """Slots that nobody has and nobody waits for."""
    return max(0, standing.held - standing.running - standing.waiting)


def factors(swarm: Swarm, now: Standing, task: Task) -> dict[str, float]:
    """Every factor of the score, each between 0 and 1."""
    need = requirement(task)
    able = [spec for spec in kinds(swarm) if may_do(spec, need)]
    wanted = need.capabilities + need.wished
    shares = (sum(one in spec.capabilities for one in wanted) / max(len(wanted), 1) for spec in able if spec.capabilities)
    share = max(shares, default=0.5)
    reliability = max(spec.reliability for spec in able)
    performance = success_rate(now.done, now.failed, reliability)
    record = now.types.get(task.type)
    goes_on = now.led and now.state in ("", "active", "completed", "failed")
    return {
        "availability": min(1.0, free(now) / swarm.slots) if goes_on else 0.0,
        "expertise": share if wanted else 1.0,
        "workload": swarm.slots / (swarm.slots + now.waiting),
        "performance": performance,
        "affinity": len(task.constraints) / len(swarm.labels) if swarm.labels else 1.0,
        "cost": 1.0 / (1.0 + min(spec.cost for spec in able)),
        "history": performance if record is None else success_rate(*record, reliability),
    }


def route(fleet: Fleet, standings: Mapping[str, Standing], task: Task, key: str) -> Route:
    """The best swarm for a task, with the numbers that decided; where scores are equal the one that is named first.

    Args:
        standings: by name of the swarm; one that is not there is taken to be empty.
        key: of the submission.

    Raises:
        Invalid: no swarm of the fleet has what the task demands; says of each what it lacks.
    """
    weights = PROFILES[fleet.placement.profile] | fleet.placement.weights
    ranked: list[tuple[float, int, Swarm]] = []
    refused: dict[str, str] = {}
    for number, swarm in enumerate(fleet.swarms):
        now = standings.get(swarm.name, Standing(swarm=swarm.name))
        why = "its session is closed" if now.state == "closed" else lacks(swarm, task)
        if why:
            refused[swarm.name] = why
        else:
            ranked.append((-round(total(weights, factors(swarm, now, task)), 9), number, swarm))
    if not ranked:
        said = "; ".join(f"{name}: {why}" for name, why in refused.items()) or "it has no swarms"
        fix = "Ask for less, or add a swarm to the fleet file and `skep fleet init` it."
        raise Invalid(f"no swarm of fleet {fleet.name} takes this task: {said}", fix)
    ranked.sort(key=lambda one: one[:2])
    score, _, best = ranked[0]
    now = standings.get(best.name, Standing(swarm=best.name))
    values = factors(best, now, task)
    return Route(
        key=key,
        swarm=best.name,
        session=best.session,
        score=round(-score, 4),
        factors={name: round(values[name], 4) for name in weights},
        weights=weights,
        reasons=_reasons(best, now, values, task),
        alternatives=tuple(Ranked(swarm.name, round(-other, 4)) for other, _, swarm in ranked[1 : 1 + NEXT]),
        refused=refused,
        queued=_queued(best, now),
        task=fitted(best, task),
    )


def _reasons(swarm: Swarm, now: Standing, values: Mapping[str, float], task: Task) -> tuple[str, ...]:
    words = [f"{free(now)} of {swarm.slots} slots free"]
    if now.waiting:
        words.append(f"{now.waiting} waiting")
    if task.constraints:
        words.append(f"carries {', '.join(f'{name}={value}' for name, value in sorted(task.constraints.items()))}")
    elif swarm.labels:
        words.append(f"kept for tasks that ask for {', '.join(sorted(swarm.labels))}")
    need = requirement(task)
    if wanted := need.capabilities + need.wished:
        words.append(f"has {values['expertise']:.0%} of {', '.join(wanted)}")
    tried = now.done + now.failed
    words.append(f"succeeded in {now.done} of {tried} attempts" if tried else "no attempts yet")
    if not now.led:
        words.append("nobody carries it out now")
    return tuple(words)


def _queued(swarm: Swarm, now: Standing) -> str:
    if not now.led:
        return "nobody carries its session out"
    if now.state == "paused":
        return "its session is paused"
    if not now.held:
        labels = ", ".join(f"{name}={value}" for name, value in sorted(swarm.labels.items()))
        return f"no node is there that carries {labels}" if labels else "no node is there for it"
    return "" if free(now) else f"all {now.held} of its slots are taken, {now.waiting} wait before it"


def needed(swarms: Iterable[Swarm]) -> Sequence[Swarm]:
    """Swarms in the order in which nodes are counted for them: those that demand the most labels first."""
    return sorted(swarms, key=lambda swarm: -len(swarm.labels))
