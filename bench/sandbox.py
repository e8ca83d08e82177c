"""What confinement costs: `true` started and ended by Skep's terminals, bare and in the sandbox, one after the other."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from pathlib import Path

from bench.shape import COMMAND, Clock, Numbers, median, serve
from skep.runtime.confined import Wards
from skep.security import Bounds, Limits
from skep.security.choice import choose
from skep.security.tools import tools
from skep.terminals import Profile
from skep.terminals.native import Native

#: Starts of each kind.
STARTS = 60


async def _start(wards: Wards, folder: Path, bounds: Bounds | None) -> float:
    """Milliseconds from the wish to the end."""
    nonce = secrets.token_hex(16)
    env = {"PATH": os.environ["PATH"], "HOME": str(folder / "home")}
    profile = Profile(name="true", argv=COMMAND, cwd=str(folder), env=env, nonce=nonce)
    with wards.of(nonce, bounds):
        clock = Clock()
        terminal = await wards.create(profile, lambda data: None)
        terminal.release()
        ended = await terminal.wait()
        await terminal.end()
        took = clock.ms()
    if ended.code:
        raise RuntimeError(f"{COMMAND} ended with {ended}")
    return took


async def start(folder: Path) -> Numbers:
    """The medians of both kinds, measured in turns so that both meet the same machine."""
    sandbox = await asyncio.to_thread(choose, folder / "sandbox")
    if isinstance(sandbox, str):
        raise RuntimeError(sandbox)
    (folder / "home").mkdir()
    limits = Limits(memory=1 << 30, processes=1_000, disk=1 << 30)
    reads = tools({"PATH": os.environ["PATH"], "HOME": str(Path.home())})
    bounds = Bounds(write=(str(folder),), read=reads, home=str(folder / "home"), limits=limits)
    wards = Wards(Native(), sandbox)
    pairs = [(await _start(wards, folder, None), await _start(wards, folder, bounds)) for _ in range(STARTS)]
    await wards.close()
    bare, confined = median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
    print(f"{sandbox.name}: bare {bare:.1f} ms, confined {confined:.1f} ms", file=sys.stderr)
    return {"over bare": confined - bare}


if __name__ == "__main__":
    serve({"start": lambda _variant, folder: asyncio.run(start(folder))})
