"""What users of a simulated world hand over: plans and graphs of tasks, of a random mixture per seed."""

from __future__ import annotations

from random import Random
from typing import Any

from skep.core.model import AgentSpec, Foreach, Limits, Plan, Resources, Retries, Task
from skep.store import chain

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
)
#: Files that attempts write; few, so that they collide.
FILES = ("a", "b", "c", "d")


def make_plan(random: Random) -> Plan:
    """Agents of every kind; the shell as many as the session may have."""
    limit = random.choice((1, 2, 4, 6))
    agents = (
        AgentSpec(name="shell", runtime="shell", count=random.choice((0, 2))),
        AgentSpec(name="python", runtime="python", count=2, max_load=random.choice((1, 2))),
        AgentSpec(name="coder", runtime="claude", count=2, max_load=random.choice((1, 2)), capabilities=("code", "docs")),
        AgentSpec(
            name="heavy",
            runtime="codex",
            capabilities=("code",),
            strict=random.random() < 0.5,
            resources=Resources(cpu=3.0, memory=64 << 30),
        ),
    )
    return Plan(name="sim", limits=Limits(agents=limit, time=random.choice((0.0, 0.0, 0.0, 120.0))), agents=agents)


class Workload:
    """Makes tasks with about half of the features.

    Args:
        random: of the world.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
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
        fields: dict[str, Any] = {"metadata": nature}
        if self._chance("hangs", 0.1):
            nature["hangs"] = random.choice((0.3, 1.0))
            fields["timeout"] = random.choice((5.0, 10.0))
        if self._chance("calls", 0.2):
            fields["call"] = "module:function"
        elif self._chance("prompts", 0.4):
            fields["prompt"] = "do it"
            fields["capabilities"] = random.choice(((), ("code",), ("docs",)))
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
