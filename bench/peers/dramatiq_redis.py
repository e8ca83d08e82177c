"""Dramatiq over Redis: worker processes beside the client, results kept in Redis.

Variants: `always` and `everysec`, Redis' appendfsync. What was tried to make it fast: processes, threads, prefetch, and a
client that sends and collects from several threads, so that Redis shares one fsync among them. Dramatiq has no fan-in, so the
graph runs layer by layer.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench.peers.redis_server import serving
from bench.shape import (
    COMMAND,
    GIVEN_UP,
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

WORKERS = 2
THREADS = 4
PREFETCH = 128
CLIENT_THREADS = 8


def rested() -> int:
    time.sleep(REST)
    return 1


class Tasks:
    """The broker and its actors: once in the client, once in each worker."""

    def __init__(self, socket: str) -> None:
        url = f"unix://{socket}"
        self.results = RedisBackend(url=url)
        self.broker = RedisBroker(url=url, heartbeat_timeout=GIVEN_UP * 1000)
        self.broker.add_middleware(Results(backend=self.results))
        actor = dramatiq.actor(actor_name="noop", broker=self.broker, store_results=True)
        self.noop = actor(lambda: 1)
        actor = dramatiq.actor(actor_name="spawn", broker=self.broker, store_results=True)
        self.spawn = actor(lambda: subprocess.run(COMMAND).returncode)
        actor = dramatiq.actor(actor_name="rest", broker=self.broker, store_results=True)
        self.rest = actor(rested)
        self.pool = ThreadPoolExecutor(CLIENT_THREADS)
        self.workers: list[BaseProcess] = []

    def gather(self, messages: list[dramatiq.Message[int]]) -> list[int]:
        """Sends all messages and returns their results."""
        list(self.pool.map(self.broker.enqueue, messages))
        return self.known(messages)

    def known(self, messages: list[dramatiq.Message[int]]) -> list[int]:
        """The results."""
        return list(self.pool.map(lambda message: message.get_result(backend=self.results, block=True, timeout=60_000), messages))


def work(socket: str, threads: int) -> None:
    """A worker process; ends when it is killed."""
    worker = dramatiq.Worker(Tasks(socket).broker, worker_threads=threads)
    worker.queue_prefetch = PREFETCH
    worker.start()
    threading.Event().wait()


@contextmanager
def running(fsync: str, folder: Path, threads: int = THREADS) -> Iterator[Tasks]:
    """Redis and workers, warmed up."""
    with serving(folder, fsync=fsync) as socket:
        fork = multiprocessing.get_context("fork")
        workers = [fork.Process(target=work, args=(socket, threads)) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        tasks = Tasks(socket)
        tasks.workers += workers
        try:
            tasks.gather([tasks.noop.message() for _ in range(200)])
            yield tasks
        finally:
            for worker in workers:
                worker.kill()
                worker.join()
            tasks.pool.shutdown()
            tasks.broker.close()


def noop(variant: str, folder: Path) -> float:
    with running(variant, folder) as tasks:
        clock = Clock()
        assert sum(tasks.gather([tasks.noop.message() for _ in range(TASKS)])) == TASKS
        return clock.rate(TASKS)


def single(variant: str, folder: Path) -> float:
    times = []
    with running(variant, folder) as tasks:
        for _ in range(SINGLES):
            clock = Clock()
            tasks.noop.send().get_result(backend=tasks.results, block=True)
            times.append(clock.ms())
    return median(times)


def graph(variant: str, folder: Path) -> float:
    with running(variant, folder) as tasks:
        clock = Clock()
        for _ in range(LAYERS):
            tasks.gather([tasks.noop.message() for _ in range(WIDTH)])
        return clock.ms()


def spawn(variant: str, folder: Path) -> float:
    with running(variant, folder, PROCESSES_AT_ONCE // WORKERS) as tasks:
        tasks.gather([tasks.spawn.message() for _ in range(4)])
        clock = Clock()
        assert not any(tasks.gather([tasks.spawn.message() for _ in range(PROCESSES)]))
        return clock.rate(PROCESSES)


def kill(variant: str, folder: Path) -> float:
    """Seconds from the kill of a worker in the middle until all results are known."""
    with running(variant, folder) as tasks:
        messages = [tasks.rest.message() for _ in range(RESTS)]
        list(tasks.pool.map(tasks.broker.enqueue, messages))
        tasks.known(messages[:KILLED_AFTER])
        tasks.workers[0].kill()
        clock = Clock()
        assert sum(tasks.known(messages[KILLED_AFTER:])) == RESTS - KILLED_AFTER
        return clock.ms() / 1000


if __name__ == "__main__":
    serve({"noop": noop, "single": single, "graph": graph, "spawn": spawn, "kill": kill})
