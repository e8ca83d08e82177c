"""A plan made complete: the built-in agents, the limits and the placement that the configuration gives. Also its rehearsal."""

from __future__ import annotations

import os.path
import tempfile
from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from skep.agents import Runtime, types
from skep.config import Config, MemoryConfig
from skep.core import inputs as inp
from skep.core.decide import decide
from skep.core.model import AgentSpec, Plan, Resources, Task
from skep.core.placement import INPROCESS, Explanation, explain
from skep.core.rules import ToolRule
from skep.core.state import State
from skep.core.terms import MemoryGrant, Placement
from skep.errors import SkepError
from skep.runtime.attempt import mode_of
from skep.runtime.bounds import at_work, settled
from skep.runtime.confined import would
from skep.runtime.node import cores
from skep.runtime.views import confinement_of
from skep.security.choice import choose


def complete(plan: Plan, config: Config, inprocess: bool = False) -> Plan:
    """Fills in what the plan leaves to Skep.

    Args:
        inprocess: callables run in this process, because the caller's own code hands them over.

    Raises:
        Invalid: an agent's type is none, or one of the configuration's own types is not right.
    """
    known = types.load(config.types)
    declared = {spec.name: spec for spec in plan.agents}
    built_in = (
        AgentSpec(name="shell", runtime="shell", count=0, reliability=0.9),
        AgentSpec(name="python", runtime="python", count=0, reliability=0.9),
        *([AgentSpec(name=INPROCESS, runtime="inprocess", count=0, reliability=0.9)] if inprocess else []),
    )
    agents = (*(spec for spec in built_in if spec.name not in declared), *(types.fill(spec, known) for spec in plan.agents))
    limits = msgspec.structs.replace(plan.limits, agents=plan.limits.agents or config.agents or 2 * cores())
    placement = plan.placement
    if placement == Placement():
        placement = Placement(profile=config.placement.profile, weights=config.placement.weights)
    rules = (*plan.rules, *(ToolRule(**msgspec.structs.asdict(one)) for one in config.rules))
    agents = tuple(msgspec.structs.replace(spec, rules=_at_home(spec.rules)) for spec in agents)
    memory = plan.memory or _remembering(config.memory)
    return replace(plan, agents=agents, limits=limits, placement=placement, rules=_at_home(rules), memory=memory)


def _remembering(said: MemoryConfig) -> MemoryGrant | None:
    """What the configuration grants; None if it says nothing: then commands of tasks have no door for it."""
    usual = MemoryConfig()
    if (said.read, said.write, said.prompt) == (usual.read, usual.write, usual.prompt):
        return None
    return MemoryGrant(read=said.read, write=said.write, prompt=said.prompt)


def _at_home(rules: Iterable[ToolRule]) -> tuple[ToolRule, ...]:
    """Rules whose paths begin at / in place of ~/."""
    return tuple(msgspec.structs.replace(rule, path=os.path.expanduser(rule.path)) for rule in rules)


def mute(plan: Plan, runtimes: Mapping[str, Runtime]) -> tuple[str, ...]:
    """A sentence for every agent of the plan that has rules that ask and a runtime that cannot: to be said before it starts."""
    return tuple(
        f"agent {spec.name}: the runtime {spec.runtime} cannot wait for an answer, so what its rules ask about is refused"
        for spec in plan.agents
        if spec.runtime in runtimes
        and "spends" in runtimes[spec.runtime].can
        and "asks" not in runtimes[spec.runtime].can
        and any(rule.do == "ask" for rule in (*spec.rules, *plan.rules))
    )


def exposed(plan: Plan, config: Config) -> tuple[str, ...]:
    """A sentence if the plan has services that are confined: what then is not, to be said before they start."""
    said = settled(config.sandbox, plan.sandbox)
    names = ", ".join(service.name for service in plan.services)
    return (f"confined but on this machine's network: the services {names}",) if names and said.mode != "off" else ()


def scaled(plan: Plan, config: Config, has: Resources) -> tuple[str, ...]:
    """A sentence for every agent type of the plan that weighs more than this machine has: to be said once."""
    known, used = types.load(config.types), {spec.type for spec in plan.agents}
    return tuple(types.scaled({name: known[name] for name in known if name in used}, has)[1])


class Step(Struct, frozen=True):
    """A task of a plan as it would begin: how many tasks come before it one after the other, where it works, who would do it.

    Of a task with candidates it says who would do each of them, and who would vote.
    """

    task: str
    level: int
    needs: tuple[str, ...]
    mode: str
    explanation: Explanation | None
    candidates: tuple[Explanation | None, ...] = ()
    voters: tuple[str, ...] = ()


def preview(plan: Plan, join: inp.JoinNode) -> list[Step]:
    """What carrying out a plan would begin with, by level, then as written. Raises as `rehearse`.

    Args:
        plan: complete.
        join: the node it would run on.
    """
    state = rehearse(plan, join)
    tasks = {task.id: task for task in plan.tasks}
    levels: dict[str, int] = {}
    for name in TopologicalSorter({task.id: task.needs for task in plan.tasks}).static_order():
        levels[name] = 1 + max((levels[need] for need in tasks[name].needs), default=0)
    order = {task.id: number for number, task in enumerate(plan.tasks)}
    return [_step(state, tasks[name], levels[name]) for name in sorted(levels, key=lambda name: (levels[name], order[name]))]


def _step(state: State, task: Task, level: int) -> Step:
    kind = state.specs.get(task.vote.by) if task.vote is not None else None
    voters = tuple(f"{kind.name}-{seat}" for seat in range(1, kind.count + 1)) if kind is not None else ()
    if not task.candidates:
        return Step(task.id, level, task.needs, mode_of(task), explain(state, task), voters=voters)
    # Tasks of their own, which the state does not know.
    rivals = (replace(task, id=f"{task.id}[{n}]", agent=name or task.agent) for n, name in enumerate(task.candidates, 1))
    return Step(task.id, level, task.needs, mode_of(task), None, tuple(explain(state, rival) for rival in rivals), voters)


def foretold(plan: Plan, config: Config) -> str:
    """How a plan's programs would be confined on this machine, for people. Raises Invalid as `settled`."""
    whole = complete(plan, config)
    with tempfile.TemporaryDirectory(prefix="skep-trial-") as folder:
        here = choose(Path(folder))
    said = at_work(config.sandbox, whole, whole.agents, plan.tasks)
    return confinement_of(State(), {name: would(here, one) for name, one in said.items()})


def needs_place(tasks: Iterable[Task]) -> bool:
    """Whether any of the tasks works in a worktree."""
    return any(mode_of(task) != "none" for task in tasks)


def rehearse(plan: Plan, join: inp.JoinNode) -> State:
    """What the session would be right after its start, computed without touching anything.

    Args:
        plan: complete.
        join: the node it would run on.

    Raises:
        Invalid, Conflict, Exhausted: the plan can never work; with the reason.
    """
    state = State().rebuild()
    tasks = inp.Submit(at=join.at, tasks=plan.tasks)
    opened = inp.OpenSession(at=join.at, session="rehearsal", plan=plan)
    decision = decide(state, [opened, join, tasks], join.at, bytes(16), hands=False)
    for answer in decision.answers:
        if isinstance(answer, SkepError):
            raise answer
    return state
