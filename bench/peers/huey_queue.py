"""Huey: worker processes beside the client, over SQLite or Redis.

Variants: `sqlite` (WAL, fsync), `redis` (appendfsync always), `redis-everysec`. What was tried to make it fast: processes,
threads, client threads, polling against notified results. Huey takes a task off its queue before it runs: what is under way
when a worker dies is lost. It has no fan-in for a graph like this one, so the graph runs layer by layer.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

from huey import Huey, RedisHuey, SqliteHuey
from huey.api import Result
from huey.consumer import Consumer

from bench.peers.redis_server import serving
from bench.shape import (
    COMMAND,
    KILLED_AFTER,
    LAYERS,
    PROCESSES,
    PROCESSES_AT_ONCE,
    REST,
    RESTS,
    SINGLES,
    TASKS,
    WIDTH,
    Clock,
    median,
    serve,
)

#: SQLite lets one connection write at a time, so more workers only wait; Redis shares one fsync among those that wait.
WORKERS = {"sqlite": 1, "redis": 2, "redis-everysec": 2}
THREADS = {"sqlite": 1, "redis": 16, "redis-everysec": 16}
CLIENT_THREADS = {"sqlite": 2, "redis": 16, "redis-everysec": 16}
#: Seconds between looks at an empty queue or a missing result.
POLL = 0.001


def rested() -> int:
    time.sleep(REST)
    return 1


class Tasks:
    """The queue and its tasks: once in the client, once in each worker."""

    def __init__(self, variant: str, place: Path | str, notify: bool) -> None:
        if variant == "sqlite":
            self.huey: Huey = SqliteHuey(filename=f"{place}/huey.db", fsync=True)
        else:
            self.huey = RedisHuey(url=f"unix://{place}", notify_result=notify)
        self.noop = self.huey.task(name="noop")(lambda: 1)
        self.spawn = self.huey.task(name="spawn")(lambda: subprocess.run(COMMAND).returncode)
        self.rest = self.huey.task(name="rest")(rested)
        self.pool = ThreadPoolExecutor(CLIENT_THREADS[variant])
        self.workers: list[BaseProcess] = []

    def gather(self, task: Callable[[], Result], count: int) -> list[int]:
        """Sends a task `count` times and returns the results."""
        return self.known(self.send(task, count))

    def send(self, task: Callable[[], Result], count: int) -> list[Result]:
        """Sends a task `count` times."""
        return list(self.pool.map(lambda _: task(), range(count)))

    def known(self, sent: list[Result]) -> list[int]:
        """The results."""
        return list(self.pool.map(lambda result: result.get(blocking=True, timeout=60, backoff=1.15, max_delay=0.01), sent))


def work(variant: str, place: Path | str, notify: bool, threads: int) -> None:
    """A worker process; ends when it is killed."""
    huey = Tasks(variant, place, notify).huey
    Consumer(huey, workers=threads, worker_type="thread", periodic=False, initial_delay=POLL, max_delay=5 * POLL).run()


@contextmanager
def running(variant: str, folder: Path, threads: int = 0, notify: bool = False) -> Iterator[Tasks]:
    """The queue and its workers, warmed up. `threads`: of each worker; 0 = what was fastest."""
    with ExitStack() as stack:
        place: Path | str = folder
        if variant != "sqlite":
            place = stack.enter_context(serving(folder, fsync="everysec" if variant == "redis-everysec" else "always"))
        fork = multiprocessing.get_context("fork")
        work_as = (variant, place, notify, threads or THREADS[variant])
        workers = [fork.Process(target=work, args=work_as) for _ in range(WORKERS[variant])]
        for worker in workers:
            worker.start()
        tasks = Tasks(variant, place, notify)
        tasks.workers += workers
        try:
            tasks.gather(tasks.noop, 200)
            yield tasks
        finally:
            for worker in workers:
                worker.kill()
                worker.join()
            tasks.pool.shutdown()


def noop(variant: str, folder: Path) -> float:
    with running(variant, folder) as tasks:
        clock = Clock()
        assert sum(tasks.gather(tasks.noop, TASKS)) == TASKS
        return clock.rate(TASKS)


def single(variant: str, folder: Path) -> float:
    times = []
    with running(variant, folder, notify=True) as tasks:
        for _ in range(SINGLES):
            clock = Clock()
            tasks.noop().get(blocking=True, backoff=1, max_delay=POLL)
            times.append(clock.ms())
    return median(times)


def graph(variant: str, folder: Path) -> float:
    with running(variant, folder) as tasks:
        clock = Clock()
        for _ in range(LAYERS):
            tasks.gather(tasks.noop, WIDTH)
        return clock.ms()


def spawn(variant: str, folder: Path) -> float:
    with running(variant, folder, PROCESSES_AT_ONCE // WORKERS[variant]) as tasks:
        tasks.gather(tasks.spawn, 4)
        clock = Clock()
        assert not any(tasks.gather(tasks.spawn, PROCESSES))
        return clock.rate(PROCESSES)


def kill(variant: str, folder: Path) -> float:
    """Seconds from the kill of a worker in the middle until all results are known."""
    with running(variant, folder) as tasks:
        sent = tasks.send(tasks.rest, RESTS)
        tasks.known(sent[:KILLED_AFTER])
        tasks.workers[0].kill()
        clock = Clock()
        assert tasks.known(sent[KILLED_AFTER:]) == [1] * (RESTS - KILLED_AFTER)
        return clock.ms() / 1000


if __name__ == "__main__":
    serve({"noop": noop, "single": single, "graph": graph, "spawn": spawn, "kill": kill})
