"""Backs a session up and dies over it, by kill -9, when it comes to a point.

Arguments: the workspace, the point: Packing.write, os.fsync, Path.rename, Path.unlink.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import skep
from skep.runtime.parcel import Packing

HOLDERS = {"Packing": Packing, "os": os, "Path": Path}


def die(*args: Any, **more: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    async with skep.open(sys.argv[1]) as hive:
        holder, name = sys.argv[2].split(".")
        setattr(HOLDERS[holder], name, die)
        await hive.backup("bench", keep=1)


asyncio.run(main())
