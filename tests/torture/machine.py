"""A machine that shares a Redis with others: `machine.py FOLDER URL KEY REPLICAS NAME SLOTS`.

Carries out attempts, and goes on with sessions whose writer is gone, until it is told to leave. Says lines of JSON: "joined", and
in the end "left".
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from skep import nodes
from skep.config import Config, SandboxConfig, StoreConfig
from skep.runtime.node import Here, Role


def settings(url: str, key: str, replicas: int) -> Config:
    """What all machines of a test are told, each of its own way to the store."""
    store = StoreConfig(url=url, key=key, replicas=replicas)
    return Config(store=store, sandbox=SandboxConfig(mode="off"), agents=1_000)


async def main(folder: str, url: str, key: str, replicas: str, name: str, slots: str) -> None:
    """The whole of it."""
    here = Here(name=name, slots=int(slots), cpu=1_000.0)
    role = Role(here=here, serves=True, leads=True, hosted=True)
    async with nodes.join(folder, settings(url, key, int(replicas)), role) as hive:
        os.write(1, json.dumps(["joined", name]).encode() + b"\n")
        await hive.door.parted()
    os.write(1, json.dumps(["left", name]).encode() + b"\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:7]))
