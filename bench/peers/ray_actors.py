"""Ray, on this machine alone. Nothing of it is durable: what runs is lost with the process that owns it.

Variant `actors`: calls to one actor per core; the graph hands on object references, so that Ray itself keeps the order.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from bench.shape import COMMAND, LAYERS, PROCESSES, PROCESSES_AT_ONCE, SINGLES, TASKS, WIDTH, Clock, median, needs, serve

CORES = 2


class Worker:
    """What each actor can do."""

    def one(self, *_needs: int) -> int:
        """The no-op task."""
        return 1

    def spawn(self) -> int:
        """Runs the command."""
        return subprocess.run(COMMAND).returncode


@contextmanager
def actors(threads: int = 1) -> Iterator[list[Any]]:
    """Ray and its actors, warmed up."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # a short path: Ray's sockets lie in it
        ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False, logging_level="error", _temp_dir=folder)
        try:
            kind = ray.remote(num_cpus=0)(Worker)
            made = [kind.options(max_concurrency=threads).remote() for _ in range(CORES)]
            ray.get([actor.one.remote() for actor in made for _ in range(50)])
            yield made
        finally:
            ray.shutdown()


def noop(_variant: str, _folder: Path) -> float:
    with actors() as workers:
        clock = Clock()
        assert sum(ray.get([workers[index % CORES].one.remote() for index in range(TASKS)])) == TASKS
        return clock.rate(TASKS)


def single(_variant: str, _folder: Path) -> float:
    times = []
    with actors() as workers:
        for _ in range(SINGLES):
            clock = Clock()
            ray.get(workers[0].one.remote())
            times.append(clock.ms())
    return median(times)


def graph(_variant: str, _folder: Path) -> float:
    with actors() as workers:
        clock = Clock()
        row: list[Any] = []
        for layer in range(LAYERS):
            above = [[row[need] for need in needs(index)] if layer else [] for index in range(WIDTH)]
            row = [workers[index % CORES].one.remote(*above[index]) for index in range(WIDTH)]
        assert sum(ray.get(row)) == WIDTH
        return clock.ms()


def spawn(_variant: str, _folder: Path) -> float:
    with actors(PROCESSES_AT_ONCE // CORES) as workers:
        clock = Clock()
        assert not any(ray.get([workers[index % CORES].spawn.remote() for index in range(PROCESSES)]))
        return clock.rate(PROCESSES)


if __name__ == "__main__":
    serve({"noop": noop, "single": single, "graph": graph, "spawn": spawn})
