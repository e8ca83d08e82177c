"""A Skep to be killed: `python owning.py HOME FOLDER` starts programs that do not want to end, says their numbers, and waits."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from skep.terminals import Profile
from skep.terminals.native import Native

#: Each prints the number of the process that tries to stay.
STUBBORN = {
    "plain": "echo $$; exec sleep 600",
    "deaf": "trap '' TERM HUP INT; echo $$; while :; do sleep 600; done",
    "group": "sh -c 'echo $$; exec sleep 600' & wait",
    "nohup": "nohup sh -c 'echo $$; exec sleep 600' & wait",
    "session": "setsid sh -c 'echo $$; exec sleep 600' & wait",
    "daemon": "(setsid sh -c 'sh -c \"trap : TERM; echo \\$\\$; while :; do sleep 600; done\" &' &) & sleep 600",
    "nameless": "(env -i setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 600; done' &) & sleep 600",
    "stopped": "echo $$; kill -STOP $$",
}


async def main(home: str, folder: str) -> None:
    native = Native(home)
    said: dict[str, asyncio.Queue[bytes]] = {name: asyncio.Queue() for name in STUBBORN}
    pids: dict[str, int] = {}
    for name, line in STUBBORN.items():
        what = Profile(name=name, argv=("sh", "-c", line), cwd=folder, env={"PATH": os.defpath}, nonce=name, tty=name != "nohup")
        terminal = await native.create(what, said[name].put_nowait)
        terminal.release()
        pids[f"{name} itself"] = terminal.pid
        pids[name] = int(await said[name].get())
    gated = Profile(name="gated", argv=("touch", "ran"), cwd=folder, env={"PATH": os.defpath}, nonce="gated")
    pids["gated"] = (await native.create(gated, lambda data: None)).pid
    pids["keeper"] = native.keeper
    print(json.dumps(pids), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
