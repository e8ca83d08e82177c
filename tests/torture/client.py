"""A client on a machine of its own: `client.py FOLDER URL KEY REPLICAS EFFECTS SESSION`.

Hands over some tasks for each line that it hears, in one call with that line as its key, which it repeats until it is answered.
Says lines of JSON: "open" when it has the session, and the line itself, with "unknown" for a call that was not answered, and
"accepted" for one that was.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from skep.errors import Unavailable
from tests.torture.machines import FEW, Hive


async def main(folder: str, url: str, key: str, replicas: str, effects: str, name: str) -> None:
    """The whole of it."""
    async with AsyncExitStack() as stack:
        hive = Hive(url, Path(folder), Path(effects), stack, int(replicas), Path(key))
        session = await (await hive.open()).find(name)
        say("open", name)
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            while line not in hive.accepted.get(name, {}):
                try:
                    await hive.try_once(session, line, list(hive.tasks(line, FEW)))
                    say(line, "accepted")
                except Unavailable:
                    say(line, "unknown")


def say(word: str, value: str) -> None:
    """One line."""
    os.write(1, json.dumps([word, value]).encode() + b"\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:7]))
