"""What users of a simulated world hand over: plans and graphs of tasks, of a random mixture per seed."""

from __future__ import annotations

from random import Random
from typing import Any

from skep.core.model import AgentSpec, Budget, Foreach, Limits, Plan, Resources, Retries, Task, Vote
from skep.core.terms import Proposals
from skep.core.topology import Shape
from skep.store import chain
from tests.simulation.leaves import RULES

FEATURES = (
    "needs",
    "foreach",
    "conditions",
    "locks",
    "shared",
    "resources",
    "priorities",
    "deadlines",
    "retries",
    "writes",
    "approve",
    "merge ask",
    "verify",
    "hangs",
    "kills",
    "recovery ask",
    "calls",
    "prompts",
    "candidates",
    "votes",
    "conflict tasks",
    "proposals",
    "budgets",
    "limits of providers",
)
#: Files that attempts write; few, so that they collide.
FILES = ("a", "b", "c", "d")


def make_plan(random: Random) -> Plan:
    """Agents of every kind; the shell as many as the session may have."""
    limit = random.choice((1, 2, 4, 6))
    limits = Limits(
        agents=limit,
        time=random.choice((0.0, 0.0, 0.0, 120.0)),
        cost_usd=random.choice((0.0, 0.0, 2.0, 10.0)),
        tokens=random.choice((0, 0, 0, 30_000)),
        reserve_usd=random.choice((0.0, 0.5)),
        answer_within=random.choice((10.0, 60.0)),
    )
    agents = (
        AgentSpec(name="shell", runtime="shell", count=random.choice((0, 2))),
        AgentSpec(name="python", runtime="python", count=2, max_load=random.choice((1, 2))),
        AgentSpec(
            name="coder",
            runtime="claude",
            count=2,
            max_load=random.choice((1, 2)),
            capabilities=("code", "docs"),
            budget=random.choice((None, None, Budget(usd=3.0), Budget(time=40.0))),
        ),
        AgentSpec(name="judge", runtime="claude", count=random.choice((1, 3, 4))),
        AgentSpec(
            name="heavy",
            runtime="codex",
            capabilities=("code",),
            strict=random.random() < 0.5,
            resources=Resources(cpu=3.0, memory=64 << 30),
        ),
    )
    rule: Any = random.choice(("ask", "auto", "auto", "never"))
    proposals = Proposals(rule=rule, max_tasks=random.choice((4, 20)), most=random.choice((6, 100)), depth=random.choice((1, 2)))
    shape: Any = random.choice(("", "mesh", "ring", "star"))
    return Plan(name="sim", limits=limits, agents=agents, rules=RULES, proposals=proposals, topology=Shape(shape))


class Workload:
    """Makes tasks with about half of the features.

    Args:
        random: of the world.
        plan: what its session is opened with.
    """

    def __init__(self, random: Random, plan: Plan) -> None:
        self._random = random
        self._plan = plan
        self._has = {feature for feature in FEATURES if random.random() < 0.6}
        self._made = 0

    def _chance(self, feature: str, chance: float) -> bool:
        return feature in self._has and self._random.random() < chance

    def graph(self, user: str, known: list[str], now: int) -> tuple[Task, ...]:
        """A few tasks that need each other and, sometimes, ones that are known already."""
        tasks: list[Task] = []
        for _ in range(self._random.choice((1, 1, 2, 3, 5))):
            names = known[-12:] + [task.id for task in tasks if task.id]
            tasks += self._one(user, names, now)
        return tuple(tasks)

    def _one(self, user: str, names: list[str], now: int) -> list[Task]:
        if self._chance("foreach", 0.25):
            return self._foreach(user, names, now)
        if self._chance("candidates", 0.4):
            return self._rivals(user, names, now)
        self._made += 1
        name = f"{user}-{self._made}" if self._random.random() < 0.8 else ""
        return [Task(id=name, **self._work(), **self._order(names, now), **self._bounds())]

    def _foreach(self, user: str, names: list[str], now: int) -> list[Task]:
        """A task that makes a list, and one that is repeated for each item of it."""
        random = self._random
        self._made += 1
        source, each = f"{user}-{self._made}", f"{user}-{self._made}-each"
        items: Any = [f"i{n}" for n in range(random.randrange(5))]
        if random.random() < 0.1:
            items = [{"no": "key"}, {"no": "key"}]
        maker = Task(id=source, run="list", outputs={"list": "list.json"}, metadata={"items": items, "seconds": 2.0})
        fields = self._order([source, *names], now) | self._work() | self._bounds()
        fields["needs"] = tuple(dict.fromkeys((source, *fields.get("needs", ()))))
        foreach = Foreach(
            source=f"needs.{source}.outputs.list", max_parallel=random.choice((0, 1, 2)), fail_fast=random.random() < 0.5
        )
        return [maker, Task(id=each, foreach=foreach, **fields)]

    def _rivals(self, user: str, names: list[str], now: int) -> list[Task]:
        """A task that several carry out, and mostly a vote on what they made."""
        random, kind = self._random, self._plan.topology.kind
        self._made += 1
        fields = self._work() | self._order(names, now) | self._bounds()
        fields |= {"mode": "", "prompt": "do it", "call": None, "run": None, "capabilities": ()}
        fields["metadata"].setdefault("writes", [random.choice((FILES[0], f"own-{self._made}"))])
        if self._chance("votes", 0.9) and kind != "star":
            rule: Any = "quorum" if kind == "ring" else random.choice(("quorum", "quorum", "unanimous", "weighted"))
            fields["vote"] = Vote(
                by=random.choice(("judge", "judge", "coder")),
                rule=rule,
                weights={"judge-1": 3, "coder-1": 2} if rule == "weighted" else {},
                otherwise=random.choice(("ask", "fail")),
                timeout=random.choice((0.0, 0.0, 6.0)),
            )
        candidates = random.choice((("coder", "coder"), ("coder", "judge", "coder"), ("", "heavy", "")))
        return [Task(id=f"{user}-{self._made}", candidates=candidates, **fields)]

    def _work(self) -> dict[str, Any]:
        """What it does, and what will come of it."""
        random = self._random
        nature: dict[str, Any] = {"seconds": random.choice((0.2, 2.0, 8.0))}
        if self._chance("retries", 0.4):
            nature["fails"] = random.choice((0.3, 0.6, 1.0))
        if self._chance("writes", 0.6):
            # Files that others write too, so that merges conflict, or one of its own, so that many are merged at once.
            nature["writes"] = random.choice((random.sample(FILES, random.choice((1, 1, 2))), [f"own-{self._made}"]))
        if self._chance("kills", 0.05):
            nature["kills"] = True
        if self._chance("proposals", 0.2):
            nature["proposes"] = 0.7
        fields: dict[str, Any] = {"metadata": nature}
        if self._chance("hangs", 0.1):
            nature["hangs"] = random.choice((0.3, 1.0))
            fields["timeout"] = random.choice((5.0, 10.0))
        if self._chance("calls", 0.2):
            fields["call"] = "module:function"
        elif self._chance("prompts", 0.4):
            fields["prompt"] = "do it"
            fields["capabilities"] = random.choice(((), ("code",), ("docs",)))
            if self._chance("limits of providers", 0.3):
                nature["limited"] = 0.3
            if self._chance("budgets", 0.3):
                fields["budget"] = random.choice((Budget(usd=0.3), Budget(usd=1.0), Budget(tokens=2_000), Budget(time=3.0)))
        else:
            fields["run"] = "work"
        if self._chance("verify", 0.4):
            fields["verify"] = "check"
            nature["unverified"] = random.choice((0.0, 0.3, 1.0))
        return fields

    def _order(self, names: list[str], now: int) -> dict[str, Any]:
        random = self._random
        fields: dict[str, Any] = {}
        if names and self._chance("needs", 0.6):
            fields["needs"] = tuple(random.sample(names, min(len(names), random.choice((1, 1, 2, 3)))))
            if self._chance("conditions", 0.3):
                first = fields["needs"][0]
                fields["condition"] = random.choice(
                    ("always()", "failure()", "success()", f"needs.{first}.state == 'done'", f"needs.{first}.cause != 'exit'")
                )
        if self._chance("priorities", 0.5):
            fields["priority"] = random.choice(("low", "high", "critical"))
        if self._chance("deadlines", 0.15):
            fields["deadline"] = now + random.randrange(5_000, 200_000)
        if self._chance("approve", 0.15):
            fields["approve"] = random.choice(("before", "after"))
        if self._chance("recovery ask", 0.2):
            fields["recovery"] = "ask"
        return fields

    def _bounds(self) -> dict[str, Any]:
        random = self._random
        fields: dict[str, Any] = {}
        if self._chance("retries", 0.6):
            fields["retries"] = random.choice(
                (1, 3, Retries(max=2, backoff=random.choice((0.5, 5.0)), feedback=False), Retries(max=2, start="last"))
            )
        if self._chance("locks", 0.3):
            fields["locks"] = random.choice((("db",), ("port",), ("db", "port"), ("port", "db")))
        if self._chance("shared", 0.15):
            fields["mode"] = "shared"
        if self._chance("resources", 0.3):
            fields["resources"] = Resources(cpu=random.choice((0.5, 1.3, 4.0)), memory=random.choice((0, 3 << 30)))
        if self._chance("merge ask", 0.2):
            fields["merge"] = random.choice(("ask", "never"))
        if random.random() < 0.3:
            fields["on_conflict"] = "ask"
        elif self._chance("conflict tasks", 0.8):
            fields["on_conflict"] = "task"
        return fields


def nonsense(random: Random, name: str) -> tuple[Task, ...]:
    """A submission that must be refused, and leave nothing behind."""
    other = name + "-b"
    return random.choice(
        (
            (Task(id=name, run="x", needs=("nobody",)),),
            (Task(id=name, run="x", needs=(other,)), Task(id=other, run="x", needs=(name,))),
            (Task(id=name, run="x"), Task(id=name, run="x")),
            (Task(id=name, run="x", call="m:f"),),
            (Task(id=name, run="x", resources=Resources(cpu=64.0)),),
            (Task(id=name, prompt="x", agent="nobody"),),
            (Task(id=name, run="x", condition="success(("),),
            (Task(id=name, call="m:f", args={"too large for the log": 1 << 70}),),
            (Task(id=name, prompt="x" * (chain.LARGEST_APPEND + 1)),) if chain.LARGEST_APPEND < 1 << 20 else (Task(id=name),),
        )
    )
