"""Agents at work write to each other, so many messages a second, each recorded durably: how many arrive, and how late.

Every agent is a process of its own, as shell agents and the tool servers of coding clients are, and reaches its session through
the door of its attempt. A message is late from the moment at which it should have been sent.

`python -m bench.messages _ messages FOLDER` measures; `python -m bench.messages talk NAME FOLDER` is one agent.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path

import skep
from bench.shape import Numbers, serve
from skep.agents.door import Read, Send
from skep.agents.door.client import Door
from skep.core.topology import Shape

#: As many as talk in one mesh, what all of them send a second, and for how long (seconds): longer than what a door takes at once.
AGENTS, RATE, SECONDS = 7, 1_050, 8
#: What each sends, and so gets: the same number from each of the others.
EACH = RATE * SECONDS // AGENTS // (AGENTS - 1) * (AGENTS - 1)
NAMES = tuple(f"a{number}-1" for number in range(AGENTS))


def talk(name: str, folder: Path) -> None:
    """One agent: sends at its pace to each of the others in turn, reads what comes, and writes down how late that was."""
    door, late = Door.here(), list[float]()

    def hear() -> None:
        read: tuple[str, ...] = ()
        while len(late) < EACH:
            found = door.ask(Read(wait=10, ack=read))["messages"]
            now = time.time()
            late.extend((now - message["payload"]) * 1000 for message in found)
            read = tuple(message["id"] for message in found)

    me, others = NAMES.index(name), len(NAMES) - 1
    (folder / f"{name}.ready").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    reader = threading.Thread(target=hear)
    reader.start()
    begin = float((folder / "go").read_text())
    for number in range(EACH):
        due = begin + (number + me / AGENTS) * AGENTS / RATE
        time.sleep(max(0.0, due - time.time()))
        # In turn, begun so that each gets as many as it sends.
        door.ask(Send(to=NAMES[(me + 1 + number % others) % AGENTS], text=due))
    reader.join()
    (folder / f"{name}.draft").write_text(json.dumps({"late": late, "end": time.time()}))
    (folder / f"{name}.draft").rename(folder / f"{name}.json")


def gather(notes: Path) -> None:
    """Waits until all agents are there. Raises RuntimeError if they do not come."""
    deadline = time.monotonic() + 60
    while len(list(notes.glob("*.ready"))) < AGENTS:
        if time.monotonic() > deadline:
            raise RuntimeError("not all agents came")
        time.sleep(0.05)


async def measure(folder: Path) -> Numbers:
    """Starts the agents, lets them talk, and adds up."""
    os.environ["SKEP_SANDBOX"] = "off"
    notes = folder.resolve() / "notes"
    notes.mkdir()
    env = {"PYTHONPATH": str(Path(__file__).parents[1])}
    agents, tasks = [], []
    for name in NAMES:
        run = [sys.executable, "-m", "bench.messages", "talk", name, str(notes)]
        agents.append(skep.AgentSpec(name=name[:-2], runtime="shell", options={"run": run}))
        tasks.append(skep.Task(prompt="Talk.", agent=name[:-2], mode="none", outputs={}, env=env))
    plan = skep.Plan(
        name="talk", agents=tuple(agents), tasks=tuple(tasks), topology=Shape(kind="mesh"), limits=skep.Limits(agents=AGENTS)
    )
    async with skep.open(folder) as hive:
        session = await hive.start(plan)
        await asyncio.to_thread(gather, notes)
        begin = time.time() + 0.5
        (notes / "draft").write_text(str(begin))
        (notes / "draft").rename(notes / "go")
        view = await session.settled()
    bad = [(task.id, task.detail) for task in view.tasks if task.state != "done"]
    if bad:
        raise RuntimeError(f"agents that did not end well: {bad}")
    found = [json.loads((notes / f"{name}.json").read_text()) for name in NAMES]
    late = sorted(value for one in found for value in one["late"])
    if len(late) != EACH * AGENTS:
        raise RuntimeError(f"{len(late)} of {EACH * AGENTS} messages arrived")
    return {"throughput": len(late) / (max(one["end"] for one in found) - begin), "p99": late[len(late) * 99 // 100]}


if __name__ == "__main__":
    if sys.argv[1] == "talk":
        talk(sys.argv[2], Path(sys.argv[3]))
    else:
        serve({"messages": lambda _variant, folder: asyncio.run(measure(folder))})
