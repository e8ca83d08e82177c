"""LangGraph: a state graph in one process, checkpointed in memory or in SQLite.

Variants: `memory` (not durable, durability="exit") and `sqlite` (WAL, synchronous=FULL, durability="sync"). Independent tasks
are one `Send` each; the graph of layers is its own, edge by edge. What was tried to make it fast: `invoke` against `ainvoke`
with their savers, `max_concurrency` against none.
"""

from __future__ import annotations

import asyncio
import operator
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Send

from bench.shape import COMMAND, LAYERS, PROCESSES, PROCESSES_AT_ONCE, SINGLES, TASKS, WIDTH, Clock, median, needs, serve

DURABILITY = {"memory": "exit", "sqlite": "sync"}


class State(TypedDict):
    """What the graph carries: how many of its tasks are done."""

    done: Annotated[int, operator.add]


def one(_state: Any) -> dict[str, int]:
    """The no-op task."""
    return {"done": 1}


async def one_async(_state: Any) -> dict[str, int]:
    """The no-op task, for `ainvoke`."""
    return {"done": 1}


def spread(node: Callable[[Any], Any], count: int) -> Any:
    """A graph that runs one node `count` times, independently."""
    graph = StateGraph(State)
    graph.add_node("one", node)
    graph.add_conditional_edges(START, lambda _: [Send("one", {}) for _ in range(count)], ["one"])
    return graph


def layers(node: Callable[[Any], Any]) -> Any:
    """The graph of layers."""
    graph = StateGraph(State)
    for layer in range(LAYERS):
        for index in range(WIDTH):
            graph.add_node(f"{layer}-{index}", node)
            above = [f"{layer - 1}-{need}" for need in needs(index)]
            graph.add_edge(above if layer else START, f"{layer}-{index}")
    return graph


def invoke(graph: Any, variant: str, folder: Path, tasks: int) -> Clock:
    """Compiles the graph, runs it once, and returns the clock that was started before the run."""
    if variant == "memory":
        compiled = graph.compile(checkpointer=InMemorySaver())
    else:
        compiled = graph.compile(checkpointer=SqliteSaver(sqlite3.connect(folder / "graph.db", check_same_thread=False)))
    clock = Clock()
    state = compiled.invoke({"done": 0}, {"configurable": {"thread_id": "1"}}, durability=DURABILITY[variant])
    assert state["done"] == tasks
    return clock


@asynccontextmanager
async def saver(variant: str, folder: Path) -> AsyncIterator[Any]:
    """A checkpointer for `ainvoke`."""
    if variant == "memory":
        yield InMemorySaver()
    else:
        async with AsyncSqliteSaver.from_conn_string(str(folder / "graph.db")) as opened:
            await opened.setup()
            yield opened


def noop(variant: str, folder: Path) -> float:
    return invoke(spread(one, TASKS), variant, folder, TASKS).rate(TASKS)


def graph(variant: str, folder: Path) -> float:
    return invoke(layers(one), variant, folder, LAYERS * WIDTH).ms()


def single(variant: str, folder: Path) -> float:
    async def run() -> float:
        times = []
        async with saver(variant, folder) as opened:
            compiled = spread(one_async, 1).compile(checkpointer=opened)
            for turn in range(SINGLES):
                clock = Clock()
                await compiled.ainvoke({"done": 0}, {"configurable": {"thread_id": str(turn)}}, durability=DURABILITY[variant])
                times.append(clock.ms())
        return median(times)

    return asyncio.run(run())


def spawn(variant: str, folder: Path) -> float:
    async def run() -> float:
        slots = asyncio.Semaphore(PROCESSES_AT_ONCE)

        async def child(_state: Any) -> dict[str, int]:
            async with slots:
                quiet = asyncio.subprocess.DEVNULL
                process = await asyncio.create_subprocess_exec(
                    *COMMAND, stdin=quiet, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                )
                await process.communicate()
            return {"done": int(process.returncode == 0)}

        async with saver(variant, folder) as opened:
            compiled = spread(child, PROCESSES).compile(checkpointer=opened)
            clock = Clock()
            state = await compiled.ainvoke({"done": 0}, {"configurable": {"thread_id": "1"}}, durability=DURABILITY[variant])
            rate = clock.rate(PROCESSES)
        assert state["done"] == PROCESSES
        return rate

    if sys.version_info < (3, 12):  # what later versions do by themselves: no thread per child
        asyncio.get_event_loop_policy().set_child_watcher(asyncio.PidfdChildWatcher())
    return asyncio.run(run())


if __name__ == "__main__":
    serve({"noop": noop, "single": single, "graph": graph, "spawn": spawn})
