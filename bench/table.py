"""What is measured, what must be reached, and who else is measured in the same run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

#: Name of a peer -> its number in one workload; None = it did not finish.
Found = Mapping[str, float | None]
#: The number to reach, which may depend on what peers reached in the same run; None = that is not known.
Target = Callable[[Found], float | None]


class Peer(Struct, frozen=True):
    """Somebody else's runner: `python -m MODULE VARIANT WORKLOAD FOLDER`.

    Args:
        durable: what it acknowledged survives a power cut.
        ours: needs nothing but Python, so it runs without `make bench-peers`; the floors.
        venv: its folder in `.venv-bench`; its lock has the same name.
    """

    module: str
    variant: str
    durable: bool = True
    ours: bool = False
    venv: str = "others"


class Metric(Struct, frozen=True):
    """One number of a workload. `peers`: whether theirs is the same number."""

    unit: str
    target: Target
    more: bool = False
    peers: bool = False


class Workload(Struct, frozen=True):
    """Something to measure: `python -m MODULE - MEASURE FOLDER`.

    Args:
        peers: names of the peers to measure, or all.
        long: left out by `--quick` unless named.
        once: one repetition is enough.
    """

    module: str
    measure: str
    metrics: dict[str, Metric]
    peers: tuple[str, ...] = ()
    long: bool = False
    once: bool = False


PEERS = {
    "disk": Peer("bench.peers.bare", "-", ours=True),
    "bare": Peer("bench.peers.bare", "free", durable=False, ours=True),
    "bare, gated": Peer("bench.peers.bare", "gated", ours=True),
    "pydantic-ai": Peer("bench.peers.pydantic_loop", "-", durable=False),
    "dramatiq+redis": Peer("bench.peers.dramatiq_redis", "always", venv="dramatiq"),
    "dramatiq+redis everysec": Peer("bench.peers.dramatiq_redis", "everysec", durable=False, venv="dramatiq"),
    "huey+redis": Peer("bench.peers.huey_queue", "redis", venv="huey"),
    "huey+redis everysec": Peer("bench.peers.huey_queue", "redis-everysec", durable=False, venv="huey"),
    "huey+sqlite": Peer("bench.peers.huey_queue", "sqlite", venv="huey"),
    "langgraph+sqlite": Peer("bench.peers.langgraph_graph", "sqlite"),
    "langgraph in memory": Peer("bench.peers.langgraph_graph", "memory", durable=False),
    "dbos+sqlite": Peer("bench.peers.dbos_workflow", "sqlite"),
    "ray": Peer("bench.peers.ray_actors", "actors", durable=False),
    "arq": Peer("bench.peers.arq_jobs", "always", venv="arq"),
    "celery": Peer("bench.peers.celery_redis", "always", venv="celery"),
    "pydocket": Peer("bench.peers.pydocket_streams", "always", venv="pydocket"),
    "taskiq": Peer("bench.peers.taskiq_streams", "always", venv="taskiq"),
}
#: Those over a Redis that syncs each write, as Skep's in the rows that are named after it.
QUEUES = ("huey+redis", "dramatiq+redis", "arq", "celery", "pydocket", "taskiq")
RUNNERS = tuple(
    name for name, peer in PEERS.items() if not peer.ours and name not in ("pydantic-ai", "arq", "celery", "pydocket", "taskiq")
)


def fixed(number: float) -> Target:
    """A number that depends on nobody."""
    return lambda _found: number


def several_times(number: float, factor: float) -> Target:
    """At least `number`, and at least `factor` times the fastest durable peer."""

    def target(found: Found) -> float:
        durable = (value for name, value in found.items() if value is not None and PEERS[name].durable)
        return max(number, factor * max(durable, default=0.0))

    return target


def over_the_disk(syncs: int, more: float) -> Target:
    """So many fdatasyncs of the same run, and `more` milliseconds."""

    def target(found: Found) -> float | None:
        disk = found.get("disk")
        return None if disk is None else syncs * disk + more

    return target


def of_the_floor(gated: float, free: float) -> Target:
    """These shares of the bare loops of the same run."""

    def target(found: Found) -> float | None:
        floor, gate = found.get("bare"), found.get("bare, gated")
        return None if floor is None or gate is None else max(free * floor, gated * gate)

    return target


def of_bare_loops(factor: float) -> Target:
    """So many times what pydantic-ai alone reached in the same run."""

    def target(found: Found) -> float | None:
        theirs = found.get("pydantic-ai")
        return None if theirs is None else factor * theirs

    return target


WORKLOADS = {
    "noop": Workload(
        "bench.sessions",
        "noop",
        {
            "throughput": Metric("tasks/s", several_times(15_000, 5), more=True, peers=True),
            "cpu": Metric("µs/task", fixed(60)),
        },
        RUNNERS,
    ),
    "single": Workload("bench.sessions", "single", {"p50": Metric("ms", over_the_disk(2, 0.4), peers=True)}, ("disk", *RUNNERS)),
    "graph": Workload("bench.sessions", "graph", {"duration": Metric("ms", fixed(120), peers=True)}, RUNNERS),
    "spawn": Workload(
        "bench.sessions",
        "spawn",
        {"throughput": Metric("processes/s", of_the_floor(0.9, 0.7), more=True, peers=True)},
        ("bare", "bare, gated", *RUNNERS),
    ),
    "spawn-pty": Workload(
        "bench.sessions",
        "spawn",
        {"throughput": Metric("processes/s", of_the_floor(0.9, 0.7), more=True, peers=True)},
        ("bare", "bare, gated"),
    ),
    "placement": Workload(
        "bench.placement",
        "placement",
        {"growth": Metric("times", fixed(1.5)), "cost": Metric("µs/task", lambda _: None)},
    ),
    "loop": Workload("bench.loops", "loop", {"p50": Metric("ms", of_bare_loops(1.5), peers=True)}, ("pydantic-ai",)),
    "loops": Workload("bench.loops", "loops", {"duration": Metric("ms", of_bare_loops(1.5), peers=True)}, ("pydantic-ai",)),
    "redis noop": Workload(
        "bench.machines",
        "noop",
        {"throughput": Metric("tasks/s", several_times(10_000, 3), more=True, peers=True)},
        QUEUES,
    ),
    "redis single": Workload("bench.machines", "single", {"p50": Metric("ms", fixed(2), peers=True)}, QUEUES),
    "redis graph": Workload("bench.machines", "graph", {"duration": Metric("ms", fixed(200), peers=True)}, QUEUES),
    "redis kill": Workload("bench.machines", "kill", {"all done": Metric("s", fixed(6), peers=True)}, QUEUES),
    "redis sessions": Workload(
        "bench.many",
        "sessions",
        {
            "throughput": Metric("tasks/s", lambda _: None, more=True),
            "of one": Metric("times", fixed(1), more=True),
            "p99/p50": Metric("times", fixed(5)),
        },
    ),
    "redis costs": Workload(
        "bench.many",
        "costs",
        {
            "memory": Metric("bytes/task", lambda _: None),
            "file": Metric("bytes/task", lambda _: None),
            "scripts": Metric("/task", lambda _: None),
            "commands": Metric("/task", lambda _: None),
            "writer": Metric("µs/task", lambda _: None),
            "node": Metric("µs/task", lambda _: None),
            "memory, singly": Metric("bytes/task", lambda _: None),
            "scripts, singly": Metric("/task", lambda _: None),
            "session": Metric("bytes", lambda _: None),
            "leases": Metric("µs", lambda _: None),
        },
        once=True,
    ),
    "redis idle": Workload("bench.many", "idle", {"cpu": Metric("% of a core", fixed(1))}, long=True, once=True),
    "ballots": Workload("bench.ballots", "ballots", {"decided": Metric("ms", fixed(5))}),
    "messages": Workload(
        "bench.messages",
        "messages",
        {"throughput": Metric("messages/s", fixed(1_000), more=True), "p99": Metric("ms", fixed(20))},
    ),
    "memory store": Workload(
        "bench.memories",
        "store",
        {"p50": Metric("ms", over_the_disk(1, 0.2), peers=True), "p99": Metric("ms", lambda _: None)},
        ("disk",),
    ),
    "memory stores": Workload("bench.memories", "stores", {"throughput": Metric("/s", fixed(30_000), more=True)}),
    "memory get": Workload("bench.memories", "get", {"cached": Metric("µs", fixed(5)), "from the file": Metric("µs", fixed(60))}),
    "restart": Workload(
        "bench.restart",
        "restart",
        {"from snapshot": Metric("s", fixed(1)), "full replay": Metric("s", fixed(4)), "memory": Metric("MB", fixed(300))},
        long=True,
        once=True,
    ),
    "sleepers": Workload(
        "bench.sessions",
        "sleepers",
        {"duration": Metric("s", fixed(20)), "memory": Metric("MB", fixed(250))},
        long=True,
        once=True,
    ),
    "memory words": Workload(
        "bench.finding",
        "words",
        {
            f"{share}, {length} words": Metric("ms", fixed(most))
            for length in (1, 3, 8)
            for share, most in (("p50", 5), ("p99", 25))
        }
        | {f"naive {share}, {which}": Metric("ms", lambda _: None) for which in ("all", "no common") for share in ("p50", "p99")},
        once=True,
    ),
    "memory meaning": Workload(
        "bench.finding",
        "meaning",
        {"p50": Metric("ms", fixed(6))} | {name: Metric("ms", lambda _: None) for name in ("p99", "first", "numpy alone")},
        once=True,
    ),
    "memory open": Workload(
        "bench.finding",
        "open",
        {"open": Metric("s", fixed(1)), "memory": Metric("MB", fixed(200))},
        long=True,
        once=True,
    ),
    "sandbox": Workload("bench.sandbox", "start", {"over bare": Metric("ms", fixed(15))}),
    "shell": Workload("bench.whole", "shell", {"duration": Metric("s", fixed(10))}),
    "demo": Workload("bench.whole", "demo", {"duration": Metric("s", fixed(30))}),
}
#: What a peer's own module calls a workload, where that differs: the disk alone is not a workload of anybody's.
THEIRS = dict.fromkeys((("disk", "single"), ("disk", "memory store")), "fdatasync") | {
    (peer, name): workload.measure for name, workload in WORKLOADS.items() if name.startswith("redis ") for peer in QUEUES
}
