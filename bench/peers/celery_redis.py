"""Celery over Redis: prefork workers beside the client, results kept in Redis and told by pub/sub.

Variant `always`: Redis' appendfsync. With `acks_late` what a worker that dies had is begun again after the visibility timeout.
What was tried to make it fast: processes, prefetch, and a client that sends from several threads. The graph runs layer by layer.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from celery import Celery
from celery.result import AsyncResult

from bench.peers.redis_server import serving
from bench.shape import GIVEN_UP, KILLED_AFTER, LAYERS, REST, RESTS, SINGLES, TASKS, WIDTH, Clock, median, serve

WORKERS, PROCESSES, PREFETCH = 2, 4, 32
CLIENT_THREADS = 8


def noop_task() -> int:
    return 1


def rest_task() -> int:
    time.sleep(REST)
    return 1


class Tasks:
    """The application and its tasks: once in the client, once in each worker."""

    def __init__(self, place: str) -> None:
        self.app = Celery("bench", broker=f"redis+socket://{place}", backend=f"redis+socket://{place}")
        self.app.conf.update(
            task_acks_late=True,
            task_reject_on_worker_lost=True,
            worker_prefetch_multiplier=PREFETCH,
            broker_transport_options={"visibility_timeout": GIVEN_UP},
            broker_connection_retry_on_startup=True,
        )
        self.noop = self.app.task(name="noop")(noop_task)
        self.app.task(name="rest")(rest_task)
        self.pool = ThreadPoolExecutor(CLIENT_THREADS)
        self.workers: list[subprocess.Popen[bytes]] = []

    def send(self, task: str, count: int) -> list[AsyncResult]:
        """Sends so many."""
        return list(self.pool.map(lambda _: self.app.tasks[task].delay(), range(count)))

    def gather(self, task: str, count: int) -> None:
        """Sends so many and has all results."""
        known(self.send(task, count))


def known(sent: list[AsyncResult]) -> None:
    """Returns when all results are known."""
    assert [result.get(timeout=60) for result in sent] == [1] * len(sent)


@contextmanager
def running(variant: str, folder: Path) -> Iterator[Tasks]:
    """Redis and workers, warmed up."""
    with serving(folder, fsync=variant) as socket:
        command = [sys.executable, "-m", "bench.peers.celery_redis", "-", "work", socket]
        tasks = Tasks(socket)
        try:
            tasks.workers = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(WORKERS)]
            tasks.gather("noop", 200)
            yield tasks
        finally:
            for worker in tasks.workers:
                if worker.poll() is None:
                    end(worker)


def end(worker: subprocess.Popen[bytes]) -> None:
    """Kills a worker with its processes."""
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    worker.kill()  # first, or it makes new ones
    for child in map(int, children):
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    worker.wait()


def noop(variant: str, folder: Path) -> float:
    with running(variant, folder) as tasks:
        clock = Clock()
        tasks.gather("noop", TASKS)
        return clock.rate(TASKS)


def single(variant: str, folder: Path) -> float:
    times = []
    with running(variant, folder) as tasks:
        for _ in range(SINGLES):
            clock = Clock()
            tasks.noop.delay().get(timeout=60)
            times.append(clock.ms())
    return median(times)


def graph(variant: str, folder: Path) -> float:
    with running(variant, folder) as tasks:
        clock = Clock()
        for _ in range(LAYERS):
            tasks.gather("noop", WIDTH)
        return clock.ms()


def kill(variant: str, folder: Path) -> float:
    """Seconds from the kill of a worker in the middle until all results are known."""
    with running(variant, folder) as tasks:
        sent = tasks.send("rest", RESTS)
        known(sent[:KILLED_AFTER])
        end(tasks.workers[0])
        clock = Clock()
        known(sent[KILLED_AFTER:])
        return clock.ms() / 1000


if __name__ == "__main__":
    if sys.argv[2] == "work":
        words = ["worker", "--concurrency", str(PROCESSES), "--without-gossip", "--without-mingle", "--loglevel", "ERROR"]
        Tasks(sys.argv[3]).app.worker_main(words)
    else:
        serve({"noop": noop, "single": single, "graph": graph, "kill": kill})
