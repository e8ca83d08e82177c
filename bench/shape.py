"""The shapes that every workload has, for Skep and for each peer alike, and the way a peer says what it measured."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

TASKS = 10_000
#: Tasks under way at once in the workload of independent tasks.
TASKS_AT_ONCE = 64
SINGLES = 300
LAYERS, WIDTH = 10, 100
PROCESSES, PROCESSES_AT_ONCE = 200, 50
COMMAND = ("/bin/true",)
#: Tasks that rest so many seconds each; when results of so many are known, a worker is killed. Seconds after which the tasks of a
#: worker that says nothing are given to others, where a runner lets its user say so.
RESTS, REST, KILLED_AFTER, GIVEN_UP = 1_000, 0.01, 100, 5
#: Runs of an agent, one after the other, and at once.
LOOPS, LOOPS_AT_ONCE = 100, 100

#: What one measurement found: metric -> number.
Numbers = dict[str, float]
#: Measures one workload, given its variant and an empty folder on a real disk. A peer's workload has one number.
Measure = Callable[[str, Path], Numbers | float]


def needs(index: int) -> tuple[int, int, int]:
    """The three tasks of the layer before that task `index` of a layer needs."""
    return index, (index + 1) % WIDTH, (index + 37) % WIDTH


def median(values: Iterable[float]) -> float:
    """The middle one (the upper of two)."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


class Clock:
    """Seconds since it was made: what every measurement is taken with."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def rate(self, count: int) -> float:
        """How many a second, `count` of them having been done."""
        return count / (time.perf_counter() - self._start)

    def ms(self) -> float:
        """Milliseconds so far."""
        return (time.perf_counter() - self._start) * 1000


def peak_memory() -> float:
    """The most memory that this process and its children had, together, in MB (Linux)."""
    me = os.getpid()
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except OSError:  # it has just ended
            continue
        if me in (int(fields["Pid"]), int(fields["PPid"])):
            total += int(fields.get("VmHWM", "0 kB").split()[0])
    return total / 1024


def serve(measures: dict[str, Measure]) -> None:
    """The main of a measuring module: `python -m MODULE VARIANT WORKLOAD FOLDER` prints what it found as one JSON line."""
    variant, workload, folder = sys.argv[1:4]
    found = measures[workload](variant, Path(folder))
    print(json.dumps(found if isinstance(found, dict) else {"value": found}), flush=True)
