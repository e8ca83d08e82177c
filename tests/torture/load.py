"""A client under load: `load.py WORKSPACE NOTES EFFECTS SEED COUNT`.

Opens the workspace (as owner or guest), submits COUNT groups of tasks of every kind in all, waits until all have ended. Every
call is noted outside of the system before and after it is made; what a predecessor left unknown is asked again with the same
key. Every task notes when it begins and ends. Says lines of JSON: "open", "event" for each event, "settled".
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import skep
from skep.runtime import loop

#: Whether a log that cannot be written is the end of it, at once.
GIVE_UP = os.environ.get("GIVE_UP") == "1"
#: Notes begin and end of an attempt, and does something in between.
SCRIPT = """
echo "begin $SKEP_ATTEMPT $(date +%s%N)" >> "$EFFECTS/$SKEP_TASK"
{what}
echo "end $SKEP_ATTEMPT $(date +%s%N)" >> "$EFFECTS/$SKEP_TASK"
"""


def say(word: str, value: Any = None) -> None:
    """Tells the test."""
    os.write(1, json.dumps([word, value]).encode() + b"\n")


def leave(effects: str, task: str) -> str:
    """A callable that notes when it begins and ends."""
    with open(f"{effects}/{task}", "a") as file:
        file.write(f"begin 0 {time.time_ns()}\n")
        file.flush()
        file.write(f"end 0 {time.time_ns()}\n")
    return task


def tasks_of(key: str, effects: str, calls: bool) -> list[skep.Task]:
    """The tasks of a group: the same for the same key, whoever asks."""
    dice = random.Random(key)
    env = {"EFFECTS": effects}
    tasks: list[skep.Task] = []
    kinds = ("write", "none", "verified", "shared", "again") + (("call",) if calls else ())
    for number in range(dice.randrange(1, 5)):
        name = f"{key}-{number}"
        needs = (dice.choice(tasks).id,) if tasks and dice.random() < 0.6 else ()
        kind = dice.choice(kinds)
        common = {"id": name, "needs": needs, "env": env, "retries": 30, "timeout": 600.0}
        if kind == "call":
            tasks.append(
                skep.Task(id=name, needs=needs, call="tests.torture.load:leave", args={"effects": effects, "task": name})
            )
        elif kind == "none":
            tasks.append(skep.Task(run=SCRIPT.format(what="true"), mode="none", **common))  # type: ignore[arg-type]  # keyword arguments of many kinds
        elif kind == "again":
            what = 'test "$SKEP_ATTEMPT" -gt 1'
            tasks.append(skep.Task(run=SCRIPT.format(what=what), mode="none", **common))  # type: ignore[arg-type]  # keyword arguments of many kinds
        else:
            run = SCRIPT.format(what='echo "$SKEP_ATTEMPT" > "file-$SKEP_TASK"')
            verify = f"test -s 'file-{name}'" if kind == "verified" else None
            tasks.append(skep.Task(run=run, verify=verify, mode="shared" if kind == "shared" else "", **common))  # type: ignore[arg-type]  # keyword arguments of many kinds
    return tasks


class Notes:
    """What was asked and answered, a line each, kept where no fault of the system can reach it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.asked: list[str] = []
        self.answered: set[str] = set()
        for line in path.read_text().splitlines():
            what, key = line.split(" ", 1)
            if what == "ask":
                self.asked.append(key)
            elif what == "ok":
                self.answered.add(key)

    def note(self, what: str, key: str) -> None:
        """Notes `ask`, `ok`, `unknown` or `failed` for a key."""
        with self._path.open("a") as file:
            file.write(f"{what} {key}\n")


async def submit(session: skep.Session, notes: Notes, key: str, effects: str, calls: bool) -> None:
    """Asks until there is an answer."""
    while True:
        try:
            await session.submit_many(tasks_of(key, effects, calls), key=key)
        except skep.Unavailable:
            notes.note("unknown", key)
            if GIVE_UP:
                raise
        except skep.SkepError:
            notes.note("failed", key)
            raise
        notes.note("ok", key)
        return


async def follow(session: skep.Session) -> None:
    """Says every event."""
    async for number, _ in session.follow():
        say("event", number)


async def main(folder: str, notes_path: str, effects: str, seed: str, count: str) -> None:
    """The whole of it."""
    notes = Notes(Path(notes_path))
    calls = os.environ.get("CALLS") == "1"
    if GIVE_UP:
        loop.PATIENCE = 0.1
    async with skep.open(folder, agents=4) as hive:
        session = await hive.session("load")
        say("open", hive.owner)
        following = asyncio.ensure_future(follow(session))
        for key in notes.asked:
            if key not in notes.answered:
                await submit(session, notes, key, effects, calls)
        for number in range(len(dict.fromkeys(notes.asked)), int(count)):
            key = f"{Path(notes_path).name}-{seed}-{number}"
            notes.note("ask", key)
            await submit(session, notes, key, effects, calls)
        while (view := await session.settled()).state == "paused":
            await session.resume()
        say("settled", view.counts)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:6]))
