"""Prunes and dies over it, by kill -9, at a point: before what it names is done, or (with a `+` behind it) right after.

Arguments: the workspace, the point, such as Names.forget+.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import skep
from skep.runtime import requests as rq
from skep.runtime import retention
from skep.runtime.kept import PruneView
from skep.runtime.names import Names
from skep.runtime.parcel import Packing
from skep.workspace.git import GitWorkspace
from tests.runtime.ages import put_forward

HOLDERS: dict[str, Any] = {"Packing": Packing, "Names": Names, "Git": GitWorkspace, "retention": retention}


async def main() -> None:
    put_forward()
    async with skep.open(sys.argv[1]) as hive:
        point = sys.argv[2]
        holder, name = point.rstrip("+").split(".")
        done = getattr(HOLDERS[holder], name)

        def die() -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        async def later(*args: Any, **more: Any) -> None:
            if point.endswith("+"):
                await done(*args, **more)
            die()

        def now(*args: Any, **more: Any) -> None:
            if point.endswith("+"):
                done(*args, **more)
            die()

        setattr(HOLDERS[holder], name, later if asyncio.iscoroutinefunction(done) else now)
        views: list[PruneView] = await hive.call(rq.Prune(older="30d"))
        print(views)


asyncio.run(main())
